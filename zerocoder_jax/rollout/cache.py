"""Keys and values of the rows: a ring of slots, in which every row writes at the same place.

Decoding advances a clock by one per token, and at time t *every* row writes its key and value into
slot ``t % S``: one contiguous update a layer instead of a scatter. A row is told apart by the time
at which its prompt's first token would have been written, its ``start``; its token at position p
lies in slot ``(start + p) % S``. A new row takes its place at any time by having its prompt written
as if it had been there before: the prompt's last token but one ends just before the clock.

With S = 8 and the clock at 10, a row of a three-token prompt has its first two tokens cached at
times 8 and 9, so its start is 8 and the third token, the next to be fed, is written at time 10:

>>> start, clock, slots = 8, 10, 8
>>> [(start + position) % slots for position in range(3)]
[0, 1, 2]

Two tokens later (time 12) a row that started at 8 sees slots 0 to 4, one that started at 3 sees
all: ``age`` counts back from the clock, and slots younger than the row are the row's own.

>>> [bool(seen) for seen in is_cached(jnp.arange(8), 12, jnp.array(12 - 8 + 1), 8)]
[True, True, True, True, True, False, False, False]
>>> [bool(seen) for seen in is_cached(jnp.arange(8), 12, jnp.array(12 - 5 + 1), 8)]
[True, True, True, True, True, True, True, True]

Shape letters: R rows, K key-value heads, S slots, h head size, T tokens of a prompt, N prompts.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from zerocoder_jax.policy import PolicyConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Cache:
    """One array a layer, never stacked, so that a layer's update touches that layer alone.

    Attributes:
        keys: L arrays [R, K, S, h], rotated.
        values: L arrays [R, K, S, h].
    """

    keys: list[jax.Array]
    values: list[jax.Array]

    @property
    def slots(self) -> int:
        return self.keys[0].shape[2]


def cache_shape(config: PolicyConfig, rows: int, slots: int) -> tuple[int, int, int, int]:
    """[R, K, S, h] of one layer's keys, and of its values."""
    return rows, config.num_kv_heads, slots, config.head_dim


def empty_cache(config: PolicyConfig, rows: int, slots: int, dtype: DTypeLike) -> Cache:
    """Zeros: slots that no row has written hold finite numbers, which masks then hide."""
    shape = cache_shape(config, rows, slots)
    layers = range(config.num_layers)
    return Cache(
        [jnp.zeros(shape, dtype) for _ in layers], [jnp.zeros(shape, dtype) for _ in layers]
    )


def is_cached(slot: jax.Array, clock: jax.Array | int, length: jax.Array, slots: int) -> jax.Array:
    """Whether a slot belongs to a row of ``length`` tokens, the newest written at ``clock``."""
    age = (clock - slot) % slots
    return age < length


def write_token(cache_layer: jax.Array, new: jax.Array, clock: jax.Array) -> jax.Array:
    """One layer [R', K, S, h] with the newest key or value [R, K, h] of its first R rows."""
    slot = clock % cache_layer.shape[2]
    update = new[:, :, None, :].astype(cache_layer.dtype)
    return jax.lax.dynamic_update_slice(cache_layer, update, (0, 0, slot, 0))


def write_prompts(
    cache: Cache,
    keys: list[jax.Array],
    values: list[jax.Array],
    rows: jax.Array,
    starts: jax.Array,
    count: jax.Array,
) -> Cache:
    """Put the first ``count`` prompts into the ring.

    Args:
        keys, values: L arrays [N, K, T, h]; T may exceed a prompt: what follows its end is
            overwritten or hidden before anybody looks.
        rows: int32 [N], the row that takes each prompt.
        starts: int32 [N], the time of each prompt's first token.
    """
    slots = cache.slots

    def place(layer: jax.Array, prompts: jax.Array, n: jax.Array) -> jax.Array:
        prompt = jax.lax.dynamic_index_in_dim(prompts, n, 0, keepdims=True)  # [1, K, T, h]
        prompt = prompt[:, :, :slots].astype(layer.dtype)
        padded = jnp.pad(prompt, ((0, 0), (0, 0), (0, slots - prompt.shape[2]), (0, 0)))
        turned = _turn(padded, starts[n])
        return jax.lax.dynamic_update_slice(layer, turned, (rows[n], 0, 0, 0))

    def one_prompt(n: jax.Array, cache: Cache) -> Cache:
        return Cache(
            [place(layer, prompts, n) for layer, prompts in zip(cache.keys, keys)],
            [place(layer, prompts, n) for layer, prompts in zip(cache.values, values)],
        )

    with jax.named_scope("write_prompts"):
        return jax.lax.fori_loop(0, count, one_prompt, cache)


def read_beginnings(ring: jax.Array, rows: jax.Array, starts: jax.Array, length: int) -> jax.Array:
    """The first ``length`` slots of prompts in one layer's ring, [N, K, length, h].

    Args:
        ring: [R, K, S, h].
        rows, starts: int32 [N], where and when the prompts stand in the ring.
    """
    slots = (starts[:, None] + jnp.arange(length)) % ring.shape[2]  # [N, length]
    return jax.vmap(lambda row, slot: jnp.take(ring[row], slot, axis=1))(rows, slots)


def copy_rows(
    cache: Cache,
    sources: jax.Array,
    targets: jax.Array,
    turns: jax.Array,
    count: jax.Array,
) -> Cache:
    """The first ``count`` copies, one after the other, each turned by so many slots.

    A sample whose prompt another row holds takes it from there, turned by the difference of their
    starts. A row that moves to another place keeps its slots: it is turned by 0.

    Args:
        sources, targets, turns: int32 [M].
    """

    def copy(layer: jax.Array, m: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_index_in_dim(layer, sources[m], 0, keepdims=True)
        return jax.lax.dynamic_update_slice(layer, _turn(row, turns[m]), (targets[m], 0, 0, 0))

    def one_copy(m: jax.Array, cache: Cache) -> Cache:
        return jax.tree.map(lambda layer: copy(layer, m), cache)

    with jax.named_scope("copy_rows"):
        return jax.lax.fori_loop(0, count, one_copy, cache)


def _turn(row: jax.Array, turn: jax.Array) -> jax.Array:
    """A row [1, K, S, h] whose slot s moves to ``(s + turn) % S``."""
    slots = row.shape[2]
    twice = jnp.concatenate([row, row], axis=2)
    return jax.lax.dynamic_slice_in_dim(twice, -turn % slots, slots, axis=2)
