"""Every implementation of decode attention mixes exactly a row's own tokens."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu

from zerocoder_jax.rollout import attention, attention_tpu, cache, prompt_packing, schedule
from zerocoder_jax.rollout.attention import (
    Tile,
    attention_for,
    decode_attention,
    slots_read,
    tile_read,
)
from zerocoder_jax.rollout.attention_gpu import gpu_decode_attention
from zerocoder_jax.rollout.attention_tpu import PIECE_SLOTS, tpu_decode_attention, tpu_tile

SLOTS = 512


def by_hand(query, keys, values, clock, lengths):
    """In float64, a row at a time, walking back through the ring."""
    result = np.zeros(query.shape)
    group = query.shape[1] // keys.shape[1]
    for row, length in enumerate(lengths):
        slots = [(clock - age) % SLOTS for age in range(length)]
        for head in range(query.shape[1]):
            key, value = (array[row, head // group, slots] for array in (keys, values))
            logits = key.astype(np.float64) @ query[row, head] / np.sqrt(query.shape[-1])
            weights = np.exp(logits - logits.max())
            result[row, head] = weights @ value / weights.sum()
    return result


def inputs(rows, heads, kv_heads, size, seed=0):
    random = np.random.default_rng(seed)
    query = random.normal(size=(rows, heads, size)).astype(np.float32)
    ring = (rows + 2, kv_heads, SLOTS, size)
    keys, values = (random.normal(size=ring).astype(np.float32) for _ in range(2))
    lengths = random.integers(1, SLOTS + 1, size=rows).astype(np.int32)
    lengths[:2] = (1, SLOTS)[-rows:]
    return query, keys, values, lengths


def interpreted(kernel, interpret=True):
    def attend(query, keys, values, clock, lengths):
        rows, _, size = query.shape
        grouped = (query * size**-0.5).reshape(rows, keys.shape[1], -1, size)
        mixed = kernel(grouped, keys, values, clock, lengths, interpret=interpret)
        return mixed.reshape(query.shape)

    return jax.jit(attend)


IMPLEMENTATIONS = {
    "reference": jax.jit(functools.partial(decode_attention, implementation="reference")),
    "xla": jax.jit(functools.partial(decode_attention, implementation="xla")),
    "gpu": interpreted(gpu_decode_attention),
    # Copies are made when they are awaited, and memory that nobody has written holds no numbers.
    "tpu": interpreted(tpu_decode_attention, tpu.InterpretParams()),
}


@pytest.mark.parametrize("rows", [1, 2, 8, 11])
@pytest.mark.parametrize("clock", [SLOTS, 700, 2 * SLOTS - 1])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_rows_of_different_lengths_see_their_own_tokens_and_no_others(name, clock, rows):
    query, keys, values, lengths = inputs(rows, 6, 2, 16)
    expected = by_hand(query, keys, values, clock, lengths)
    mixed = IMPLEMENTATIONS[name](query, keys, values, jnp.int32(clock), lengths)
    np.testing.assert_allclose(mixed, expected, atol=2e-5)


def test_slots_that_are_not_a_rows_own_may_hold_anything_finite():
    query, keys, values, _ = inputs(2, 4, 2, 8)
    lengths = np.array([3, 100], np.int32)
    before = IMPLEMENTATIONS["xla"](query, keys, values, jnp.int32(600), lengths)
    keys[0, :, (600 - 3) % SLOTS], values[0, :, (600 - 3) % SLOTS] = 1e6, 1e6
    after = IMPLEMENTATIONS["xla"](query, keys, values, jnp.int32(600), lengths)
    np.testing.assert_array_equal(before, after)


def test_an_unknown_implementation_is_refused():
    query, keys, values, lengths = inputs(2, 4, 2, 8)
    with pytest.raises(ValueError, match="known:"):
        decode_attention(query, keys, values, jnp.int32(5), lengths, implementation="flash")


def test_each_platform_gets_the_kernel_that_takes_its_heads():
    assert attention_for("cpu", 64) == "xla"
    assert attention_for("cuda", 128) == "gpu"
    assert attention_for("tpu", 128) == "tpu"
    assert attention_for("tpu", 64) == "xla"


def test_accounts_of_slots_cover_what_rows_need_and_never_more_than_the_ring():
    lengths = np.array([[1, 30, 200, 512]] * 3)
    read = slots_read(600, lengths, SLOTS, Tile(rows=1, slots=64))
    assert lengths.sum() <= read <= lengths.sum() + 3 * 4 * 2 * 63
    assert slots_read(600, lengths, SLOTS, tile_read("reference", 4, 2, 8, 4, SLOTS)) == 12 * SLOTS
    assert slots_read(600, lengths, SLOTS, Tile(rows=1, slots=1)) == lengths.sum()
    by_length = Tile(rows=2, slots=64, by_length=True)
    read = slots_read(600, lengths[:, [0, 3, 1, 2]], SLOTS, by_length)
    assert read == slots_read(600, lengths, SLOTS, by_length)
    assert read < slots_read(600, lengths, SLOTS, Tile(rows=4, slots=64, by_length=True))


@pytest.mark.parametrize("rows", [2, 6, 48])
@pytest.mark.parametrize("clock", [SLOTS, 700, 2 * SLOTS - 1])
def test_accounts_of_the_xla_way_are_what_it_reads(clock, rows, monkeypatch):
    """Counted in the loop itself, once for every block that is cut out of the cache."""
    query, keys, values, lengths = inputs(rows, 4, 2, 8, seed=rows)
    tile = tile_read("xla", rows, 2, 8, 4, SLOTS)
    read = []
    original = attention.is_cached

    def spy(slot, clock, length, slots):
        jax.debug.callback(lambda slot, length: read.append((slot.size, len(length))), slot, length)
        return original(slot, clock, length, slots)

    monkeypatch.setattr(attention, "is_cached", spy)
    # Not by the jitted function, which may have been traced before.
    decode_attention.__wrapped__(query, keys, values, jnp.int32(clock), lengths).block_until_ready()
    jax.effects_barrier()
    accounted = slots_read(clock, lengths[None], SLOTS, tile)
    assert sum(width * members for width, members in read) == accounted


@pytest.mark.parametrize("clock", [SLOTS, 700, 2 * SLOTS - 20])
def test_accounts_of_the_tpu_kernel_are_what_it_fetches(clock):
    """Slots that hold no number show in the result if, and only if, they were fetched."""
    query, keys, values, lengths = inputs(8, 6, 2, 16)
    lengths[2:] = 100, SLOTS - 40, 37, 129, 250, 2
    times = [
        np.arange((clock + 1 - length) // PIECE_SLOTS, clock // PIECE_SLOTS + 1)[:, None]
        * PIECE_SLOTS
        + np.arange(PIECE_SLOTS)
        for length in lengths
    ]
    tile = tile_read("tpu", 8, 2, 16, 4, SLOTS)
    assert slots_read(clock, lengths[None], SLOTS, tile) == sum(time.size for time in times)

    def mixed_if_poisoned(poisoned):
        holed = np.where(poisoned[:, None, :, None], np.nan, values).astype(np.float32)
        return np.asarray(IMPLEMENTATIONS["tpu"](query, keys, holed, jnp.int32(clock), lengths))

    fetched = np.zeros((len(values), SLOTS), bool)
    for row, time in enumerate(times):
        fetched[row, time.ravel() % SLOTS] = True
    expected = by_hand(query, keys, values, clock, lengths)
    np.testing.assert_allclose(mixed_if_poisoned(~fetched), expected, atol=2e-5)
    row = 4  # Its pieces reach beyond its tokens at both ends.
    for slot in (times[row][0, 0], times[row][-1, -1]):
        poisoned = np.zeros_like(fetched)
        poisoned[row, slot % SLOTS] = True
        assert np.isnan(mixed_if_poisoned(poisoned)[row]).all()


@pytest.mark.parametrize("cores", [1, 2])
def test_tiles_follow_one_another_on_the_cores_of_a_tpu(cores, monkeypatch, capfd):
    """Three tiles of two rows for each core, the last of them without a row."""
    monkeypatch.setattr(attention_tpu, "BLOCK_BYTES", 2 * 128 * 2 * 16 * 4)
    assert tpu_tile(9, 2 * 16 * 4) == 2
    query, keys, values, lengths = inputs(9, 6, 2, 16)
    attend = interpreted(
        tpu_decode_attention,
        tpu.InterpretParams(num_cores_or_threads=cores, detect_races=True),
    )
    mixed = attend(query, keys, values, jnp.int32(700), lengths)
    expected = by_hand(query, keys, values, 700, lengths)
    np.testing.assert_allclose(mixed, expected, atol=2e-5)
    assert "race" not in capfd.readouterr().out.lower()


def test_narrow_numbers_take_the_same_way_through_the_tpu_kernel():
    query, keys, values, lengths = inputs(3, 6, 2, 16)
    query, keys, values = (jnp.asarray(array, jnp.bfloat16) for array in (query, keys, values))
    narrow = query, keys, values, jnp.int32(700), lengths
    mixed = IMPLEMENTATIONS["tpu"](*narrow).astype(jnp.float32)
    expected = IMPLEMENTATIONS["reference"](*narrow).astype(jnp.float32)
    np.testing.assert_allclose(mixed, expected, atol=2e-2)


def test_rows_are_dealt_to_the_cores_of_a_tpu_in_even_shares():
    assert [tpu_tile(256, heads * 128 * 2) for heads in (2, 4, 8)] == [8, 4, 2]
    assert [tpu_tile(rows, 2 * 128 * 2) for rows in (1, 2, 3, 12)] == [1, 1, 2, 8]
    lengths = np.random.default_rng(0).lognormal(5, 1, size=250).astype(np.int32)
    members = np.asarray(attention_tpu._deal(jnp.asarray(lengths), 8))
    assert sorted(members[members < 250]) == list(range(250)) and len(members) == 256
    shares = np.append(lengths, 0)[members].reshape(2, -1, 8)
    # Rows of a tile are alike, its first the longest, and cores begin with their longest tile.
    assert (shares[:, :, :1] == shares.max(axis=2, keepdims=True)).all()
    assert (np.diff(shares[:, :, 0]) <= 0).all()
    walked = shares.max(axis=2).sum(axis=1)
    assert abs(walked[0] - walked[1]) < shares.max()


def test_a_copied_row_turns_with_its_start():
    shape = (4, 1, 8, 2)
    ring = cache.Cache([jnp.arange(64.0).reshape(shape)], [jnp.zeros(shape)])
    one = jnp.array([1, 0]), jnp.array([3, 0]), jnp.array([3, 0]), jnp.int32(1)
    copied = cache.copy_rows(ring, *one)
    np.testing.assert_array_equal(copied.keys[0][3], jnp.roll(ring.keys[0][1], 3, axis=1))
    np.testing.assert_array_equal(copied.keys[0][:3], ring.keys[0][:3])


@pytest.mark.parametrize(
    "module", [attention, cache, prompt_packing, schedule], ids=lambda one: one.__name__
)
def test_the_worked_examples_hold(module):
    results = doctest.testmod(module)
    assert results.failed == 0 and results.attempted > 0
