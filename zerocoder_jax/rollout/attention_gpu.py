"""Decode attention on NVIDIA GPUs: a Pallas kernel (Triton) that reads only a row's own slots.

One program per row, key-value head and split. A split takes a share of the row's blocks, so that a
small batch keeps all of a GPU's cores reading; the shares meet afterwards by their softmax sums.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

# Slots that one program reads at a time, and the fewest rows of a tensor-core product.
BLOCK_SLOTS = 64
LEAST_HEADS = 16
# Programs that keep every core of a large GPU busy; splits are added up to it.
PROGRAMS = 528
UNSEEN = -1e30


def gpu_decode_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    clock: jax.Array,
    lengths: jax.Array,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Mixed values float32 [R, K, G, h]; arguments as in ``attention``, the query already scaled.

    Args:
        interpret: run the kernel's operations with XLA, for tests without a GPU.
    """
    rows, kv_heads, group, size = query.shape
    slots = keys.shape[2]
    heads = max(LEAST_HEADS, pl.next_power_of_2(group))
    padded = jnp.pad(query, ((0, 0), (0, 0), (0, heads - group), (0, 0)))
    splits = max(1, min(PROGRAMS // (rows * kv_heads), slots // (4 * BLOCK_SLOTS)))

    def ring(row: Any, head: Any, split: Any) -> tuple[Any, ...]:
        return row, head, 0, 0

    def partial_result(row: Any, head: Any, split: Any) -> tuple[Any, ...]:
        return row, head, split, 0

    mixed, largest, total = pl.pallas_call(
        functools.partial(_kernel, slots=slots, splits=splits),
        grid=(rows, kv_heads, splits),
        in_specs=[
            pl.BlockSpec((1,), lambda row, head, split: (0,)),
            pl.BlockSpec((1,), lambda row, head, split: (row,)),
            pl.BlockSpec((None, None, heads, size), ring),
            # Whole rows: only the blocks that the kernel asks for are read.
            pl.BlockSpec((None, None, slots, size), ring),
            pl.BlockSpec((None, None, slots, size), ring),
        ],
        out_specs=[
            pl.BlockSpec(
                (None, None, None, heads, size), lambda row, head, split: (row, head, split, 0, 0)
            ),
            pl.BlockSpec((None, None, None, heads), partial_result),
            pl.BlockSpec((None, None, None, heads), partial_result),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((rows, kv_heads, splits, heads, size), jnp.float32),
            jax.ShapeDtypeStruct((rows, kv_heads, splits, heads), jnp.float32),
            jax.ShapeDtypeStruct((rows, kv_heads, splits, heads), jnp.float32),
        ],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="decode_attention",
    )(clock.reshape(1), lengths, padded, keys, values)
    weight = jnp.exp(largest - jnp.max(largest, axis=2, keepdims=True))  # [R, K, splits, G']
    mixed = jnp.sum(mixed * weight[..., None], axis=2) / jnp.sum(total * weight, axis=2)[..., None]
    return mixed[:, :, :group]


def _kernel(
    clock_ref: Any,
    length_ref: Any,
    query_ref: Any,
    keys_ref: Any,
    values_ref: Any,
    mixed_ref: Any,
    largest_ref: Any,
    total_ref: Any,
    *,
    slots: int,
    splits: int,
) -> None:
    clock, length, split = clock_ref[0], length_ref[0], pl.program_id(2)
    query = query_ref[...]  # [G', h]
    newest, oldest = clock // BLOCK_SLOTS, (clock - length + 1) // BLOCK_SLOTS
    # Where the row fills the ring, its oldest slots share the newest block.
    blocks = jnp.minimum(newest - oldest + 1, slots // BLOCK_SLOTS)

    def accumulate(back: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        mixed, largest, total = carry
        slot = (newest - back) % (slots // BLOCK_SLOTS) * BLOCK_SLOTS
        age = (clock - slot - jnp.arange(BLOCK_SLOTS)) % slots
        seen = age < length  # [s]
        place = (pl.ds(slot, BLOCK_SLOTS), slice(None))
        key = triton.load(keys_ref.at[place], mask=seen[:, None], other=0.0)  # [s, h]
        value = triton.load(values_ref.at[place], mask=seen[:, None], other=0.0)
        logits = triton.dot(query, key, trans_b=True)  # [G', s]
        logits = jnp.where(seen[None, :], logits.astype(jnp.float32), UNSEEN)
        new_largest = jnp.maximum(largest, jnp.max(logits, axis=-1))
        shrink = jnp.exp(largest - new_largest)
        weights = jnp.exp(logits - new_largest[:, None])
        mixed = mixed * shrink[:, None] + triton.dot(weights.astype(value.dtype), value)
        return mixed, new_largest, total * shrink + jnp.sum(weights, axis=-1)

    heads = query.shape[0]
    start = (
        jnp.zeros(query.shape, jnp.float32),
        jnp.full((heads,), UNSEEN, jnp.float32),
        jnp.zeros((heads,), jnp.float32),
    )
    first, end = blocks * split // splits, blocks * (split + 1) // splits
    mixed, largest, total = jax.lax.fori_loop(first, end, accumulate, start)
    mixed_ref[...] = mixed
    largest_ref[...] = largest
    total_ref[...] = total
