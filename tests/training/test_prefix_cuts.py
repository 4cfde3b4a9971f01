"""Cut into trees, the sequences of a step take few slots."""

import doctest
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.benchmarks.recorded import recorded_tokens
from zerocoder_jax.training import prefix_cuts as module
from zerocoder_jax.training.prefix_cuts import cuts
from zerocoder_jax.training.prefix_tree import depth_first, own_nodes, shared_lengths

few_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def shapes(largest: int, shards: int = 1, most: int = 256) -> SimpleNamespace:
    sizes = tuple(largest // 2**i for i in reversed(range(6)) if largest // 2**i)
    return SimpleNamespace(sizes=sizes, shards=shards, sequences=most)


def in_order(groups):
    """Sequences of (prompt, replies) in lexicographic order, and the keys of their groups."""
    sequences = [np.concatenate([prompt, reply]) for prompt, group in groups for reply in group]
    keys = [np.asarray(prompt).tobytes() for prompt, group in groups for _ in group]
    order = depth_first(sequences)
    return [sequences[i] for i in order], [keys[i] for i in order]


def nodes_of(sequences) -> int:
    return int(own_nodes(sequences, shared_lengths(sequences)).sum())


def slots_and_nodes(groups, largest: int, shards: int = 1) -> tuple[int, int, int]:
    """Tokens of all sequences, slots of all micro-batches, and distinct prefixes of the batch."""
    sequences, keys = in_order(groups)
    made = cuts(sequences, keys, shapes(largest, shards))
    slots = shards * sum(cut.size for cut in made)
    return sum(map(len, sequences)), slots, nodes_of(sequences)


def test_the_worked_example_holds():
    assert doctest.testmod(module).failed == 0


@given(
    st.lists(st.tuples(few_tokens, st.lists(few_tokens, min_size=1, max_size=4)), max_size=6),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([16, 64]),
    st.sampled_from([1, 3, 64]),
)
@settings(deadline=None)
def test_every_sequence_is_in_one_tree_and_no_tree_is_too_large(groups, shards, largest, most):
    sequences, keys = in_order(groups)
    made = cuts(sequences, keys, shapes(largest, shards, most))
    for cut in made:
        assert len(cut.trees) == shards
        for tree in cut.trees:
            assert list(tree) == sorted(tree) and len(tree) <= most
            assert nodes_of([sequences[place] for place in tree]) <= cut.size
    places = [place for cut in made for tree in cut.trees for place in tree]
    assert sorted(places) == list(range(len(sequences)))


@pytest.mark.parametrize("largest", [4096, 16384])
@pytest.mark.parametrize(("role", "fewer"), [("solutions", 8), ("tests", 12)])
def test_recorded_replies_take_many_times_fewer_slots_than_they_have_tokens(role, fewer, largest):
    tokens, slots, nodes = slots_and_nodes(recorded_tokens(role), largest)
    assert tokens / slots >= fewer
    # The rest is padding, and what a second tree repeats.
    assert nodes / slots > 0.9


def independent_replies(role: str, average: int, seed: int):
    """32 problems with 8 replies each, gamma-distributed around exact averages; prompts of 600
    tokens, of which as many are the role's own as in recorded ones."""
    random = np.random.default_rng(seed)
    prompts = sorted((prompt for prompt, _ in recorded_tokens(role)), key=lambda one: one.tolist())
    common = int(shared_lengths([prompts[0], prompts[-1]])[1])

    def tokens(count: int) -> np.ndarray:
        return random.integers(0, 150_000, count, dtype=np.int32)

    def lengths(mean: int, count: int) -> np.ndarray:
        drawn = random.gamma(4, 1, count)
        return np.ceil(drawn * mean * count / drawn.sum()).astype(int)

    first = tokens(common)
    return [
        (np.concatenate([first, tokens(own)]), [tokens(length) for length in replies])
        for own, replies in zip(
            lengths(600 - common, 32), lengths(average, 256).reshape(32, 8), strict=True
        )
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("role", "average", "fewer"), [("solutions", 380, 2), ("tests", 120, 4)])
def test_replies_as_long_as_those_to_apps_take_several_times_fewer(role, average, fewer, seed):
    tokens, slots, nodes = slots_and_nodes(independent_replies(role, average, seed), 16384)
    assert tokens / slots >= fewer
    assert nodes / slots > 0.9


def test_four_devices_have_nearly_equal_shares():
    _, slots, nodes = slots_and_nodes(independent_replies("solutions", 380, 0), 8192, shards=4)
    assert nodes / slots > 0.9
