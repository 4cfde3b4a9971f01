"""Every implementation of decode attention mixes exactly a row's own tokens."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.rollout import attention, cache, programs, schedule
from zerocoder_jax.rollout.attention import (
    Tile,
    attention_for,
    decode_attention,
    slots_read,
    tile_read,
)
from zerocoder_jax.rollout.attention_gpu import gpu_decode_attention
from zerocoder_jax.rollout.attention_tpu import tpu_decode_attention, tpu_tile

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
    lengths[:2] = 1, SLOTS
    return query, keys, values, lengths


def interpreted(kernel):
    def attend(query, keys, values, clock, lengths):
        rows, _, size = query.shape
        grouped = (query * size**-0.5).reshape(rows, keys.shape[1], -1, size)
        return kernel(grouped, keys, values, clock, lengths, interpret=True).reshape(query.shape)

    return jax.jit(attend)


IMPLEMENTATIONS = {
    "reference": jax.jit(functools.partial(decode_attention, implementation="reference")),
    "xla": jax.jit(functools.partial(decode_attention, implementation="xla")),
    "gpu": interpreted(gpu_decode_attention),
    "tpu": interpreted(tpu_decode_attention),
}


@pytest.mark.parametrize("rows", [2, 8])
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
    assert lengths.sum() <= read <= 3 * 4 * SLOTS
    together = slots_read(600, lengths, SLOTS, Tile(rows=4, slots=64))
    assert read < together == 3 * 4 * SLOTS
    assert slots_read(600, lengths, SLOTS, Tile(rows=1, slots=1)) == lengths.sum()
    by_length = Tile(rows=2, slots=64, by_length=True)
    shuffled = lengths[:, [0, 3, 1, 2]]
    read = slots_read(600, shuffled, SLOTS, by_length)
    assert read == slots_read(600, lengths, SLOTS, by_length)
    assert read < slots_read(600, shuffled, SLOTS, Tile(rows=2, slots=64))


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
    decode_attention(query, keys, values, jnp.int32(clock), lengths).block_until_ready()
    jax.effects_barrier()
    accounted = slots_read(clock, lengths[None], SLOTS, tile)
    assert sum(width * members for width, members in read) == accounted


def test_accounts_of_the_tpu_kernel_name_the_block_that_it_fetches():
    assert tile_read("tpu", 256, 2, 128, 2, 2560) == Tile(*tpu_tile(256, 2560, 2 * 128 * 2))
    rows, block = tpu_tile(256, 2560, 2 * 128 * 2)
    assert (rows, block) == (8, 256)
    assert tpu_tile(3, 2560, 2 * 128 * 2) == (1, 512)


def test_a_copied_row_turns_with_its_start():
    shape = (4, 1, 8, 2)
    ring = cache.Cache([jnp.arange(64.0).reshape(shape)], [jnp.zeros(shape)])
    one = jnp.array([1, 0]), jnp.array([3, 0]), jnp.array([3, 0]), jnp.int32(1)
    copied = cache.copy_rows(ring, *one)
    np.testing.assert_array_equal(copied.keys[0][3], jnp.roll(ring.keys[0][1], 3, axis=1))
    np.testing.assert_array_equal(copied.keys[0][:3], ring.keys[0][:3])


@pytest.mark.parametrize(
    "module", [attention, cache, programs, schedule], ids=lambda one: one.__name__
)
def test_the_worked_examples_hold(module):
    results = doctest.testmod(module)
    assert results.failed == 0 and results.attempted > 0
