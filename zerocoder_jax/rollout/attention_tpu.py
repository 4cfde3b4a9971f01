"""Decode attention on TPUs: a Pallas kernel (Mosaic) over blocks of the ring, newest first.

The grid walks tiles of rows and, for each, blocks of slots. The block index of a step that lies
beyond the tile's longest row repeats the one before, and a block that is already there is not
fetched again: steps without work cost no memory traffic.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

UNSEEN = -1e30
# Heads of one query group are padded to a register's sublanes.
SUBLANES = 8
TILE_ROWS = 8
# Bytes of keys in one block: large enough to hide the cost of a grid step.
BLOCK_BYTES = 1 << 20


def tpu_decode_attention(
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
        interpret: run the kernel's operations with XLA, for tests without a TPU.
    """
    rows, kv_heads, group, size = query.shape
    slots = keys.shape[2]
    tile, block = tpu_tile(rows, slots, kv_heads * size * keys.dtype.itemsize)
    heads = -(-group // SUBLANES) * SUBLANES
    padded = jnp.pad(query, ((0, 0), (0, 0), (0, heads - group), (0, 0)))
    num_blocks = slots // block
    longest = jnp.max(lengths.reshape(-1, tile), axis=1)  # [R / r]

    def ring(i: Any, back: Any, clock: Any, lengths: Any, longest: Any) -> tuple[Any, ...]:
        newest, blocks = _blocks(clock[0], longest[i], block, num_blocks)
        return i, 0, (newest - jnp.minimum(back, blocks - 1)) % num_blocks, 0

    def whole(i: Any, back: Any, *_: Any) -> tuple[Any, ...]:
        return i, 0, 0, 0

    mixed = pl.pallas_call(
        functools.partial(_kernel, slots=slots, block=block),
        grid_spec=tpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(rows // tile, num_blocks),
            in_specs=[
                pl.BlockSpec((tile, kv_heads, heads, size), whole),
                pl.BlockSpec((tile, kv_heads, block, size), ring),
                pl.BlockSpec((tile, kv_heads, block, size), ring),
            ],
            out_specs=pl.BlockSpec((tile, kv_heads, heads, size), whole),
            scratch_shapes=[
                tpu.VMEM((tile * kv_heads, heads, size), jnp.float32),
                tpu.VMEM((tile * kv_heads, heads, 1), jnp.float32),
                tpu.VMEM((tile * kv_heads, heads, 1), jnp.float32),
            ],
        ),
        out_shape=jax.ShapeDtypeStruct(padded.shape, jnp.float32),
        compiler_params=tpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="decode_attention",
    )(clock.reshape(1), lengths, longest, padded, keys, values)
    return mixed[:, :, :group]


def tpu_tile(rows: int, slots: int, slot_bytes: int) -> tuple[int, int]:
    """Rows and slots of a block; the slots are a divisor of the ring, in whole lanes.

    Args:
        rows: in the batch.
        slot_bytes: of the keys of one row's slot.
    """
    tile = TILE_ROWS if rows % TILE_ROWS == 0 else 1
    block = 128
    while slots % (2 * block) == 0 and 2 * block * tile * slot_bytes <= BLOCK_BYTES:
        block *= 2
    return tile, block


def _blocks(clock: Any, length: Any, block: int, num_blocks: int) -> tuple[Any, Any]:
    """The newest block, and how many back from it a row of this length reaches."""
    newest, oldest = clock // block, (clock - length + 1) // block
    return newest, jnp.minimum(newest - oldest + 1, num_blocks)


def _kernel(
    clock_ref: Any,
    lengths_ref: Any,
    longest_ref: Any,
    query_ref: Any,
    keys_ref: Any,
    values_ref: Any,
    mixed_ref: Any,
    sum_ref: Any,
    largest_ref: Any,
    total_ref: Any,
    *,
    slots: int,
    block: int,
) -> None:
    i, back = pl.program_id(0), pl.program_id(1)
    tile, kv_heads, heads, size = query_ref.shape
    clock = clock_ref[0]
    newest, blocks = _blocks(clock, longest_ref[i], block, slots // block)

    @pl.when(back == 0)
    def _() -> None:
        sum_ref[...] = jnp.zeros_like(sum_ref)
        largest_ref[...] = jnp.full_like(largest_ref, UNSEEN)
        total_ref[...] = jnp.zeros_like(total_ref)

    @pl.when(back < blocks)
    def _() -> None:
        first = (newest - back) % (slots // block) * block
        lane = jax.lax.broadcasted_iota(jnp.int32, (heads, block), 1)
        # The clock is ahead of every slot by less than two turns once slots are added.
        age = jax.lax.rem(clock - first - lane + slots, slots)  # [G', s]
        for row in range(tile):
            seen = age < lengths_ref[i * tile + row]
            for head in range(kv_heads):
                place = row * kv_heads + head
                logits = jax.lax.dot_general(
                    query_ref[row, head],
                    keys_ref[row, head],
                    (((1,), (1,)), ((), ())),
                    preferred_element_type=jnp.float32,
                )  # [G', s]
                logits = jnp.where(seen, logits, UNSEEN)
                before = largest_ref[place]  # [G', 1]
                largest = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
                shrink = jnp.exp(before - largest)
                weights = jnp.exp(logits - largest)
                value = values_ref[row, head]
                mixed = jnp.dot(
                    weights.astype(value.dtype), value, preferred_element_type=jnp.float32
                )
                largest_ref[place] = largest
                total_ref[place] = total_ref[place] * shrink + jnp.sum(
                    weights, axis=1, keepdims=True
                )
                sum_ref[place] = sum_ref[place] * shrink + mixed

    @pl.when(back == slots // block - 1)
    def _() -> None:
        mixed_ref[...] = (sum_ref[...] / total_ref[...]).reshape(tile, kv_heads, heads, size)
