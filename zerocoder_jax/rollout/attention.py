"""Attention of one new token per row over that row's cached tokens, by three implementations.

``decode_attention`` is the one door. What they have in common: rows differ in length, the cache is
the ring of ``cache``, and no more of it is read than the longest row near by needs. XLA's runs
everywhere; on GPUs and TPUs a Pallas kernel of our own does, because XLA would cut tiles out of the
cache and write them down before it used them.

Shape letters: R rows, K key-value heads, G query heads that share one, h head size, S slots.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zerocoder_jax.rollout.attention_gpu import gpu_decode_attention
from zerocoder_jax.rollout.attention_tpu import TILE_ROWS, tpu_decode_attention
from zerocoder_jax.rollout.cache import is_cached

DecodeAttentionName = Literal["xla", "gpu", "tpu", "reference"]

# Slots of a tile of the XLA implementation, and the bytes of keys that a tile may have: a tile's
# keys and values stay in a processor's second-level cache between being cut out and being used.
TILE_SLOTS = 64
TILE_BYTES = 1 << 20
# The logit of a slot that is not seen: finite, so that a tile without any seen slot stays finite.
UNSEEN = -1e30


def decode_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    clock: jax.Array,
    lengths: jax.Array,
    *,
    implementation: DecodeAttentionName = "xla",
) -> jax.Array:
    """Mixture [R, H, h] of each row's cached values, in the query's dtype.

    Args:
        query: [R, H, h], rotated; H is a multiple of K, and R at most the cache's rows.
        keys, values: [R', K, S, h]; row r of the query belongs to row r of the cache.
        clock: int32, the time at which the newest key and value were written.
        lengths: int32 [R], how many tokens each row has in the ring, the newest included.
        implementation: "xla", or the Pallas kernels "gpu" and "tpu"; "reference" is the definition
            and reads all slots.
    """
    rows, heads, size = query.shape
    kv_heads = keys.shape[1]
    grouped = (query * size**-0.5).reshape(rows, kv_heads, heads // kv_heads, size)
    functions = {
        "reference": _reference,
        "xla": _tiled,
        "gpu": gpu_decode_attention,
        "tpu": tpu_decode_attention,
    }
    if implementation not in functions:
        raise ValueError(f"unknown decode attention {implementation!r}; known: {list(functions)}")
    mixed = functions[implementation](grouped, keys, values, clock, lengths)
    return mixed.reshape(rows, heads, size).astype(query.dtype)


def attention_for(platform: str, head_dim: int) -> DecodeAttentionName:
    """The implementation for JAX's platform name; the kernels want heads of whole vectors."""
    if platform in ("gpu", "cuda") and head_dim in (64, 128, 256):
        return "gpu"
    if platform == "tpu" and head_dim % 128 == 0:
        return "tpu"
    return "xla"


class Tile(NamedTuple):
    """What an implementation reads at once, needed or not: so many slots of so many rows."""

    rows: int
    slots: int


def slots_read(clock: int, lengths: np.ndarray, slots: int, tile: Tile) -> int:
    """How many slots ``decode_attention`` reads, for accounts; ``lengths`` is int [steps, R].

    Tiles from the newest token's back to that of the oldest of their rows' tokens.
    """
    steps = len(lengths)
    newest = clock + np.arange(steps)[:, None]  # [steps, 1]
    oldest = (newest - lengths + 1) // tile.slots
    blocks = np.minimum(newest // tile.slots - oldest + 1, slots // tile.slots)
    longest = blocks.reshape(steps, -1, tile.rows).max(axis=-1)
    return int(longest.sum()) * tile.rows * tile.slots


def tile_read(
    implementation: DecodeAttentionName, rows: int, kv_heads: int, size: int, itemsize: int
) -> Tile:
    """The tile of an implementation for a batch of ``rows``."""
    if implementation == "gpu":
        # Its loads are masked: of a block, only the slots that are the row's own are fetched.
        return Tile(1, 1)
    if implementation == "tpu":
        return Tile(TILE_ROWS if rows % TILE_ROWS == 0 else 1, TILE_SLOTS)
    return Tile(tile_rows(rows, kv_heads * TILE_SLOTS * size * itemsize), TILE_SLOTS)


def _reference(
    query: jax.Array, keys: jax.Array, values: jax.Array, clock: jax.Array, lengths: jax.Array
) -> jax.Array:
    rows, slots = query.shape[0], keys.shape[2]
    seen = is_cached(jnp.arange(slots), clock, lengths[:, None], slots)  # [R, S]
    logits = jnp.einsum("rkgh,rksh->rkgs", query, keys[:rows], preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(seen[:, None, None, :], logits, UNSEEN), axis=-1)
    return jnp.einsum("rkgs,rksh->rkgh", weights.astype(values.dtype), values[:rows])


def tile_rows(rows: int, row_bytes: int) -> int:
    """Rows of a tile: a power of two that divides ``rows`` and keeps the tile small.

    Args:
        rows: in the batch.
        row_bytes: of ``TILE_SLOTS`` keys of one row.
    """
    tile = 1
    while rows % (2 * tile) == 0 and 2 * tile * row_bytes <= TILE_BYTES:
        tile *= 2
    return tile


def _tiled(
    query: jax.Array, keys: jax.Array, values: jax.Array, clock: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Softmax accumulated over tiles, newest slots first, as far back as the tile's rows reach."""
    rows, kv_heads, _, size = query.shape
    slots = keys.shape[2]
    width = min(TILE_SLOTS, slots)
    tile = tile_rows(rows, kv_heads * width * size * keys.dtype.itemsize)
    newest = clock // width

    def rows_of_tile(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        first, query, lengths = inputs  # [], [r, K, G, h], [r]
        oldest = (clock - jnp.max(lengths) + 1) // width
        # Where a row fills the ring, its oldest slots share the newest block.
        blocks = jnp.minimum(newest - oldest + 1, slots // width)

        def accumulate(
            back: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            mixed, largest, total = carry
            slot = (newest - back) % (slots // width) * width
            corner, shape = (first, 0, slot, 0), (tile, kv_heads, width, size)
            key = jax.lax.dynamic_slice(keys, corner, shape)
            value = jax.lax.dynamic_slice(values, corner, shape)
            logits = jnp.einsum("rkgh,rksh->rkgs", query, key, preferred_element_type=jnp.float32)
            seen = is_cached(slot + jnp.arange(width), clock, lengths[:, None], slots)  # [r, s]
            logits = jnp.where(seen[:, None, None, :], logits, UNSEEN)
            new_largest = jnp.maximum(largest, jnp.max(logits, axis=-1))
            shrink = jnp.exp(largest - new_largest)
            weights = jnp.exp(logits - new_largest[..., None])
            mixed = mixed * shrink[..., None] + jnp.einsum(
                "rkgs,rksh->rkgh",
                weights.astype(value.dtype),
                value,
                preferred_element_type=jnp.float32,
            )
            return mixed, new_largest, total * shrink + jnp.sum(weights, axis=-1)

        start = (
            jnp.zeros(query.shape, jnp.float32),
            jnp.full(query.shape[:-1], UNSEEN, jnp.float32),
            jnp.zeros(query.shape[:-1], jnp.float32),
        )
        mixed, _, total = jax.lax.fori_loop(0, blocks, accumulate, start)
        return mixed / total[..., None]

    firsts = jnp.arange(0, rows, tile, dtype=jnp.int32)
    split = (firsts, query.reshape(-1, tile, *query.shape[1:]), lengths.reshape(-1, tile))
    return jax.lax.map(rows_of_tile, split).reshape(query.shape)
