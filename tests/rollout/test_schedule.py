"""Rows are refilled and closed up, prompts computed once, and little is decoded for nothing."""

import types

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from zerocoder_jax.benchmarks.recorded import recorded_lengths
from zerocoder_jax.rollout.attention import tile_read
from zerocoder_jax.rollout.prompt_packing import prefill_calls
from zerocoder_jax.rollout.schedule import FREE, Prefill, Schedule, batch_sizes
from zerocoder_jax.rollout.statistics import RolloutStatistics

# Key-value heads, their size and the bytes of a number: the 0.5B policy in float32, others in
# bfloat16.
SHAPES = {"0.5B": (2, 64, 4), "1.5B": (2, 128, 2), "4B": (8, 128, 2), "7B": (4, 128, 2)}
# An implementation, and the policy for which it reads.
WAYS = [("xla", "0.5B"), ("gpu", "1.5B"), ("tpu", "1.5B"), ("tpu", "4B"), ("tpu", "7B")]


def play(
    prompts,
    prompt_lengths,
    lengths,
    *,
    rows,
    slots,
    window,
    devices=1,
    way=("gpu", "1.5B"),
    prefixes=None,
):
    """Run a schedule against a device that writes down what each slot of its ring holds."""
    schedule = Schedule(
        prompts,
        prompt_lengths,
        rows=rows,
        slots=slots,
        devices=devices,
        prompt_prefixes=prefixes,
    )

    def token(prompt, position):
        """What stands at a position of a prompt: of prompts with one prefix, the same there."""
        shared = prefixes and position < len(prefixes[prompt])
        return (prefixes[prompt] if shared else prompt, position)

    statistics = RolloutStatistics()
    # ring[d, r, s] = (prompt, position), or None; produced by sample.
    ring = np.full((devices, rows, slots), None, object)
    produced, prefilled = np.zeros(len(prompts), int), []
    for _ in range(100_000):
        prefills, copies = schedule.fill()
        for one in prefills:
            prefilled.append((one.device, one.prompt, one.shared))
            for position in range(prompt_lengths[one.prompt] - 1):
                written = token(one.prompt, position)
                if position < one.shared:
                    slot = (one.source_start + position) % slots
                    written = ring[one.device, one.source, slot]
                ring[one.device, one.row, (one.start + position) % slots] = written
        for copy in [*copies, *schedule.shrink()]:
            row = ring[copy.device, copy.source].copy()
            ring[copy.device, copy.target] = np.roll(row, copy.turn)
        if not schedule.live.any():
            return produced, statistics, prefilled
        batch, least = schedule.batch, schedule.least_live()
        occupant = schedule.occupant[:, :batch].copy()
        before = np.where(occupant == FREE, 0, produced[occupant])
        after, live = before.copy(), occupant != FREE
        steps = np.zeros(devices, int)
        for device in range(devices):
            clock, sample = schedule.clock[device], occupant[device]
            while steps[device] < window and live[device].sum() >= least[device]:
                after[device] += live[device]
                steps[device] += 1
                live[device] &= after[device] < lengths[sample]
            for row in np.flatnonzero(sample != FREE):
                prompt = prompts[sample[row]]
                start, fed = schedule.start[device, row], prompt_lengths[prompt] - 1
                # The row's prompt stands where its start says, before its first token is fed.
                if before[device, row] == 0 and fed:
                    held = [ring[device, row, (start + at) % slots] for at in range(fed)]
                    assert held == [token(prompt, at) for at in range(fed)]
                assert clock - start == fed + before[device, row]
            for slot in range(clock, clock + steps[device]):
                ring[device, :batch, slot % slots] = None
        outcome = types.SimpleNamespace(steps=steps, produced=after, searched=np.zeros(devices))
        implementation, policy = way
        tile = tile_read(implementation, batch, *SHAPES[policy], slots)
        statistics.count_window(schedule, outcome, before, tile)
        taken = occupant != FREE
        produced[occupant[taken]] = after[taken]
        schedule.advance(steps, live)
    raise AssertionError("the schedule does not end")


@settings(max_examples=60, deadline=None)
@given(
    counts=strategies.lists(strategies.integers(0, 9), max_size=6),
    rows=strategies.integers(1, 9),
    window=strategies.integers(1, 7),
    devices=strategies.integers(1, 3),
    seed=strategies.integers(0, 99),
)
def test_every_sample_gets_its_tokens_beside_its_own_prompt(counts, rows, window, devices, seed):
    random = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(len(counts)), counts).tolist()
    prompt_lengths = random.integers(1, 12, size=len(counts)).tolist()
    lengths = random.integers(1, 20, size=max(1, len(prompts)))
    produced, statistics, _ = play(
        prompts, prompt_lengths, lengths, rows=rows, slots=32, window=window, devices=devices
    )
    np.testing.assert_array_equal(produced, lengths[: len(prompts)])
    assert statistics.tokens == sum(produced)


@settings(max_examples=60, deadline=None)
@given(
    families=strategies.lists(strategies.integers(0, 3), min_size=1, max_size=8),
    rows=strategies.integers(1, 6),
    devices=strategies.integers(1, 3),
    seed=strategies.integers(0, 99),
)
def test_a_prompt_behind_a_shared_beginning_is_the_prompt(families, rows, devices, seed):
    random = np.random.default_rng(seed)
    # Family 0 shares nothing; the others share 3, 4, 5 tokens and go on for at least two.
    prefixes = [tuple(range(100 * one, 101 * one + 2)) if one else () for one in families]
    prompt_lengths = [len(prefix) + int(random.integers(2, 6)) for prefix in prefixes]
    prompts = np.repeat(np.arange(len(families)), 2).tolist()
    lengths = random.integers(1, 12, size=len(prompts))
    produced, _, prefilled = play(
        prompts,
        prompt_lengths,
        lengths,
        rows=rows,
        slots=32,
        window=4,
        devices=devices,
        prefixes=prefixes,
    )
    np.testing.assert_array_equal(produced, lengths)
    for _, prompt, shared in prefilled:
        assert shared in (0, len(prefixes[prompt]))


def test_a_shared_beginning_is_computed_once_on_each_device():
    prefixes = [(1, 2, 3)] * 10 + [(7, 8)] * 10
    _, _, prefilled = play(
        list(range(20)),
        [9] * 20,
        np.full(20, 5),
        rows=10,
        slots=64,
        window=8,
        devices=2,
        prefixes=prefixes,
    )
    whole = [(device, prefixes[prompt]) for device, prompt, shared in prefilled if not shared]
    assert sorted(whole) == sorted({(device, prefix) for device in (0, 1) for prefix in prefixes})


def test_prefills_fill_their_calls_whole_prompts_first():
    prefills = [
        Prefill(0, row, prompt=row, start=0, shared=shared)
        for row, shared in enumerate([0, 0, 90, 90, 90, 90, 90])
    ]
    calls = prefill_calls(prefills, [300, 100, 130, 60, 20, 70, 10], devices=1)
    rows = [[one.row for one in queue] for (queue,) in calls]
    # Padded to 512, to 128, to 256 and to 64 tokens; a call has 512 in all.
    assert rows == [[0], [1], [2, 5], [3, 4, 6]]


def test_a_prompt_is_computed_once_for_all_its_samples():
    prompts = np.repeat(np.arange(10), 8).tolist()
    lengths = np.random.default_rng(0).integers(5, 60, size=80)
    _, _, prefilled = play(prompts, [20] * 10, lengths, rows=32, slots=128, window=8)
    assert len(prefilled) == len(set(prefilled)) == 10


# Lengths of policies that explain themselves: most replies are short, some go on and on.
@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("median, spread", [(150, 0.8), (300, 0.7)])
def test_with_long_tailed_lengths_few_rows_idle_and_little_is_read_in_vain(median, spread, way):
    random = np.random.default_rng(1)
    lengths = np.minimum(random.lognormal(np.log(median), spread, size=512).astype(int) + 1, 2048)
    prompts = np.repeat(np.arange(64), 8).tolist()
    prompt_lengths = random.integers(60, 250, size=64).tolist()
    _, statistics, _ = play(
        prompts, prompt_lengths, lengths, rows=256, slots=2304, window=32, way=way
    )
    assert statistics.wasted_rows <= 0.10
    assert statistics.read_ratio <= 1.25


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("rows", [64, 256])
def test_the_same_holds_for_the_lengths_of_replies_that_were_recorded(rows, way):
    recorded = recorded_lengths(prompts=64, samples=8)
    prompts = np.repeat(np.arange(64), 8).tolist()
    _, statistics, _ = play(
        prompts,
        recorded.prompts.tolist(),
        recorded.replies.ravel(),
        rows=rows,
        slots=2432,  # The longest prompt and 2048 tokens, in whole tiles.
        window=32,
        way=way,
    )
    assert statistics.tokens == recorded.replies.sum()
    assert statistics.wasted_rows <= 0.10
    assert statistics.read_ratio <= 1.25


def test_batches_shrink_through_few_sizes():
    assert batch_sizes(256)[-1] == 256 and len(batch_sizes(256)) == 12
    for larger, smaller in zip(batch_sizes(256)[1:], batch_sizes(256)):
        assert larger <= 2 * smaller
