"""Attention of one new token per row over that row's cached tokens, by three implementations.

``decode_attention`` is the one door. What they have in common: rows differ in length, the cache is
the ring of ``cache``, and of it little more is read than each row's own tokens. XLA's runs
everywhere; on GPUs and TPUs a Pallas kernel of our own does, because XLA would cut tiles out of the
cache and write them down before it used them.

Shape letters: R rows, K key-value heads, G query heads that share one, h head size, S slots.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zerocoder_jax.rollout.attention_gpu import gpu_decode_attention
from zerocoder_jax.rollout.attention_tpu import PIECE_SLOTS, tpu_decode_attention
from zerocoder_jax.rollout.cache import is_cached

DecodeAttentionName = Literal["xla", "gpu", "tpu", "reference"]

# Slots and most rows of a tile of the XLA implementation, and the bytes of keys that it may have:
# its keys and values stay in a processor's second-level cache between being cut out and being used.
# Larger tiles cost fewer steps of a loop, smaller ones read less that no row needs.
TILE_SLOTS = 64
TILE_ROWS = 8
TILE_BYTES = 1 << 20
# The logit of a slot that is not seen: finite, so that a tile without any seen slot stays finite.
UNSEEN = -1e30


# Jitted within the programs: the layers of one are alike, so Python traces one of them, not each.
@functools.partial(jax.jit, static_argnames="implementation")
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
    """What an implementation reads at once, needed or not.

    Attributes:
        rows, slots: so many slots of so many rows.
        by_length: rows of similar lengths share a tile, whatever their places in the batch, and
            blocks of slots are counted from the newest token; otherwise each row is read by
            itself, and blocks lie where they lie in the ring.
    """

    rows: int
    slots: int
    by_length: bool = False


def slots_read(clock: int, lengths: np.ndarray, slots: int, tile: Tile) -> int:
    """How many slots ``decode_attention`` reads, for accounts; ``lengths`` is int [steps, R].

    Tiles from the newest token's back to that of the oldest of their rows' tokens.
    """
    steps = len(lengths)
    newest = clock + np.arange(steps)[:, None]  # [steps, 1]
    if tile.slots == slots:  # There is nothing to choose.
        return lengths.size * slots
    if tile.by_length:
        longest = np.sort(lengths, axis=1).reshape(steps, -1, tile.rows).max(axis=-1)
        near, far = blocks_of_walk(newest, longest, slots, tile.slots)
        return int((near + far).sum()) * tile.rows * tile.slots
    # A row that fills the ring may meet its newest block again, where its oldest tokens are.
    blocks = newest // tile.slots - (newest - lengths + 1) // tile.slots + 1
    return int(blocks.sum()) * tile.slots


def tile_read(
    implementation: DecodeAttentionName,
    rows: int,
    kv_heads: int,
    size: int,
    itemsize: int,
    slots: int,
) -> Tile:
    """The tile of an implementation for a batch of ``rows`` in a ring of ``slots``."""
    if implementation == "gpu":
        # Its loads are masked: of a block, only the slots that are the row's own are fetched.
        return Tile(1, 1)
    if implementation == "tpu":
        # Rows of a tile keep step, but of each only the pieces that hold its tokens are fetched.
        return Tile(1, PIECE_SLOTS)
    if implementation == "reference":
        return Tile(1, slots)
    width = min(TILE_SLOTS, slots)
    return Tile(tile_rows(rows, kv_heads * width * size * itemsize), width, by_length=True)


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
    while rows % (2 * tile) == 0 and 2 * tile <= min(TILE_ROWS, TILE_BYTES // row_bytes):
        tile *= 2
    return tile


def blocks_of_walk(clock: Any, length: Any, slots: int, width: int) -> tuple[Any, Any]:
    """Blocks of ``width`` slots from the newest token back: down to slot 0, and on from the end.

    Counting from the newest token wastes half a block a row on average; blocks that lie at
    multiples of their width would waste a whole one.

    >>> blocks_of_walk(clock=9, length=np.array([2, 4, 7]), slots=8, width=2)
    (array([1, 1, 1]), array([0, 1, 3]))
    """
    before_turn = clock % slots + 1
    # The smaller of two by arithmetic, so that it serves NumPy and traced numbers alike.
    far = length - before_turn
    far = far * (far > 0)
    return -(-(length - far) // width), -(-far // width)


def _tiled(
    query: jax.Array, keys: jax.Array, values: jax.Array, clock: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Softmax accumulated over tiles, newest slots first, as far back as the tile's rows reach.

    Rows are tiled in the order of their lengths, so that a long row keeps few others waiting.
    """
    rows, kv_heads, _, size = query.shape
    slots = keys.shape[2]
    width = min(TILE_SLOTS, slots)
    tile = tile_rows(rows, kv_heads * width * size * keys.dtype.itemsize)
    order = jnp.argsort(lengths).astype(jnp.int32)  # [R]

    def mix_tile(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        members, query, lengths = inputs  # [r], [r, K, G, h], [r]
        near, far = blocks_of_walk(clock, jnp.max(lengths), slots, width)

        def cut(ring: jax.Array, slot: jax.Array) -> jax.Array:
            shape = (1, kv_heads, width, size)
            return jax.vmap(lambda row: jax.lax.dynamic_slice(ring, (row, 0, slot, 0), shape)[0])(
                members
            )  # [r, K, s, h]

        def accumulate(
            back: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            mixed, largest, total = carry
            turned, newest_end = back >= near, clock % slots + 1
            end = jnp.where(turned, slots - (back - near) * width, newest_end - back * width)
            first = jnp.maximum(end - width, 0)
            key, value = cut(keys, first), cut(values, first)
            slot = first + jnp.arange(width)
            # The last blocks of both ways may reach into slots that others have shown already.
            own = (slot < end) & (slot >= jnp.where(turned, newest_end, 0))
            seen = is_cached(slot, clock, lengths[:, None], slots) & own  # [r, s]
            logits = jnp.einsum("rkgh,rksh->rkgs", query, key, preferred_element_type=jnp.float32)
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
        mixed, _, total = jax.lax.fori_loop(0, near + far, accumulate, start)
        return mixed / total[..., None]

    def in_tiles(array: jax.Array) -> jax.Array:
        return array[order].reshape(-1, tile, *array.shape[1:])

    tiles = (order.reshape(-1, tile), in_tiles(query), in_tiles(lengths))
    mixed = jax.lax.map(mix_tile, tiles).reshape(query.shape)
    return jnp.zeros_like(mixed).at[order].set(mixed, unique_indices=True)
