"""Decode attention on TPUs: a Pallas kernel (Mosaic) that fetches each row's own slots, no others.

Each core takes tiles of rows that are similar in length, wherever they are in the batch, and walks
back through blocks of the ring as far as the longest of them reaches. While it works on one block,
the next is on its way from memory, be it the next tile's first: of every row those pieces of the
block that hold its tokens, in one copy. So there are no steps without work, and no idle memory.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

# Whether a copy is to be made, and the copy.
Copies = Iterator[tuple[Any, Any]]

UNSEEN = -1e30
# Heads of one query group are padded to a register's sublanes.
SUBLANES = 8
# Slots of a block: the lanes of a register of logits.
BLOCK_SLOTS = 128
# A row's share of a block comes in whole pieces: the sublanes of a register of the narrowest dtype.
PIECE_SLOTS = 32
# The most bytes of keys in a tile's block. With as many of values, they take the memory about as
# long as the work on them takes a core.
BLOCK_BYTES = 1 << 19
# Some chips have two cores that share a memory; on others one does the work of both.
CORES = 2


def tpu_decode_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    clock: jax.Array,
    lengths: jax.Array,
    *,
    interpret: Any = False,
) -> jax.Array:
    """Mixed values float32 [R, K, G, h]; arguments as in ``attention``, the query already scaled.

    Args:
        interpret: ``tpu.InterpretParams``, to run the kernel on a simulated TPU in tests.
    """
    rows, kv_heads, group, size = query.shape
    if keys.shape[2] % BLOCK_SLOTS:
        raise ValueError(f"a ring of {keys.shape[2]} slots has no whole blocks of {BLOCK_SLOTS}")
    tile = tpu_tile(rows, kv_heads * size * keys.dtype.itemsize)
    heads = -(-group // SUBLANES) * SUBLANES
    padded = jnp.pad(query, ((0, 0), (0, 0), (0, heads - group), (0, 0)))
    members = _deal(lengths, tile)  # [R']
    # The time of each member's oldest token. Nobody's lies beyond the newest block.
    oldest = jnp.append(clock + 1 - lengths, clock + BLOCK_SLOTS)[members]
    in_memory = pl.BlockSpec(memory_space=pl.ANY)
    block = (2, tile, kv_heads, BLOCK_SLOTS, size)
    mixed = pl.pallas_call(
        functools.partial(_kernel, slots=keys.shape[2]),
        grid_spec=tpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(CORES,),
            in_specs=[in_memory, in_memory, in_memory],
            out_specs=in_memory,
            scratch_shapes=[
                tpu.VMEM((2, tile, kv_heads, heads, size), query.dtype),
                tpu.VMEM(block, keys.dtype),
                tpu.VMEM(block, values.dtype),
                tpu.VMEM((tile, kv_heads, heads, size), jnp.float32),
                tpu.SemaphoreType.DMA((2,)),
                tpu.SemaphoreType.DMA((2,)),
                tpu.SemaphoreType.DMA,
            ],
        ),
        out_shape=jax.ShapeDtypeStruct(padded.shape, jnp.float32),
        compiler_params=tpu.CompilerParams(
            dimension_semantics=("parallel",),
            # To check a copy takes as long as to start it.
            disable_bounds_checks=True,
        ),
        interpret=interpret,
        name="decode_attention",
    )(clock.reshape(1), members, oldest, padded, keys, values)
    return mixed[:, :, :group]


def tpu_tile(rows: int, slot_bytes: int) -> int:
    """Rows of a tile: a power of two that leaves no core idle.

    Args:
        rows: in the batch.
        slot_bytes: of the keys of one row's slot.
    """
    tile = 1
    while CORES * tile < rows and 2 * tile * BLOCK_SLOTS * slot_bytes <= BLOCK_BYTES:
        tile *= 2
    return tile


def _deal(lengths: jax.Array, tile: int) -> jax.Array:
    """Rows int32 [R'] by cores, their tiles and places in a tile; R stands for nobody.

    The longest come first. Cores take turns in choosing a tile, so that their shares are alike.
    """
    rows = len(lengths)
    order = jnp.argsort(-lengths).astype(jnp.int32)
    order = jnp.pad(order, (0, -rows % (CORES * tile)), constant_values=rows)
    tiles = order.reshape(-1, CORES, tile)
    turned = jnp.arange(len(tiles))[:, None, None] % 2 == 1
    return jnp.where(turned, tiles[:, ::-1], tiles).swapaxes(0, 1).reshape(-1)


def _round_down(time: Any, unit: int) -> Any:
    """To a multiple of ``unit``, which is a power of two."""
    return time & -unit


def _kernel(
    clock_ref: Any,
    members_ref: Any,
    oldest_ref: Any,
    queries: Any,
    keys: Any,
    values: Any,
    results: Any,
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    result_ref: Any,
    block_arrived: Any,
    query_arrived: Any,
    result_left: Any,
    *,
    slots: int,
) -> None:
    """One core's share. Plural names are in memory, for all rows; others at hand, for a tile."""
    tile, kv_heads, heads, size = result_ref.shape
    tiles = len(members_ref) // (CORES * tile)
    einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    clock, newest = clock_ref[0], _round_down(clock_ref[0], BLOCK_SLOTS)

    def places(i: Any) -> list[Any]:
        return [(pl.program_id(0) * tiles + i) * tile + row for row in range(tile)]

    # What tile i of this core has copied.
    def query_copies(i: Any) -> Copies:
        for row, place in enumerate(places(i)):
            member, target = members_ref[place], query_ref.at[i & 1, row]
            copy = tpu.make_async_copy(queries.at[member], target, query_arrived.at[i & 1])
            yield member < len(queries), copy

    def block_copies(i: Any, back: Any, buffer: Any) -> Copies:
        # In times, not slots: a row that fills the ring meets its newest block again at its end.
        begin = newest - back * BLOCK_SLOTS
        end = jnp.minimum(BLOCK_SLOTS, _round_down(clock, PIECE_SLOTS) + PIECE_SLOTS - begin)
        slot = jax.lax.rem(begin, slots)
        for row, place in enumerate(places(i)):
            own = _round_down(oldest_ref[place], PIECE_SLOTS) - begin
            skipped = pl.multiple_of(jnp.maximum(own, 0), PIECE_SLOTS)
            width = pl.multiple_of(end - skipped, PIECE_SLOTS)
            start, member = pl.multiple_of(slot + skipped, PIECE_SLOTS), members_ref[place]
            for ring, ref in ((keys, key_ref), (values, value_ref)):
                source = ring.at[member, :, pl.ds(start, width)]
                target = ref.at[buffer, row, :, pl.ds(skipped, width)]
                yield width > 0, tpu.make_async_copy(source, target, block_arrived.at[buffer])

    def result_copies(i: Any) -> Copies:
        for row, place in enumerate(places(i)):
            member = members_ref[place]
            copy = tpu.make_async_copy(result_ref.at[row], results.at[member], result_left)
            yield member < len(results), copy

    def start(copies: Copies) -> None:
        for wanted, copy in copies:
            pl.when(wanted)(copy.start)

    def wait(copies: Copies) -> None:
        for wanted, copy in copies:
            pl.when(wanted)(copy.wait)

    def work_on_tile(i: jax.Array, walked: jax.Array) -> jax.Array:
        """``walked`` counts blocks, so that they use the two buffers by turns."""
        # A tile's first row is its longest.
        oldest = _round_down(oldest_ref[places(i)[0]], BLOCK_SLOTS)
        blocks = jax.lax.div(newest - oldest, BLOCK_SLOTS) + 1
        pl.when(i + 1 < tiles)(lambda: start(query_copies(i + 1)))
        wait(query_copies(i))
        query = query_ref[i & 1].reshape(-1, heads, size)  # [r * K, G', h]
        shape = (kv_heads, heads, BLOCK_SLOTS)
        begin = jnp.concatenate([jnp.full(shape, oldest_ref[place]) for place in places(i)])

        def work_on_block(back: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            mixed, largest, total = carry
            buffer, last = (walked + back) & 1, back + 1 == blocks

            @pl.when(jnp.logical_not(last) | (i + 1 < tiles))
            def _() -> None:
                following = jnp.where(last, i + 1, i), jnp.where(last, 0, back + 1)
                start(block_copies(*following, 1 - buffer))

            wait(block_copies(i, back, buffer))
            key = key_ref[buffer].reshape(-1, BLOCK_SLOTS, size)  # [r * K, s, h]
            value = value_ref[buffer].reshape(-1, BLOCK_SLOTS, size)
            logits = einsum("bgh,bsh->bgs", query, key)
            lane = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2)
            time = newest - back * BLOCK_SLOTS + lane  # [r * K, G', s]
            logits = jnp.where((time >= begin) & (time <= clock), logits, UNSEEN)
            new_largest = jnp.maximum(largest, jnp.max(logits, axis=-1, keepdims=True))
            shrink = jnp.exp(largest - new_largest)
            weights = jnp.exp(logits - new_largest)
            total = total * shrink + jnp.sum(weights, axis=-1, keepdims=True)
            mixed = mixed * shrink + einsum("bgs,bsh->bgh", weights.astype(value.dtype), value)
            return mixed, new_largest, total

        none = (
            jnp.zeros(query.shape, jnp.float32),
            jnp.full((*query.shape[:-1], 1), UNSEEN, jnp.float32),
            jnp.zeros((*query.shape[:-1], 1), jnp.float32),
        )
        mixed, _, total = jax.lax.fori_loop(0, blocks, work_on_block, none)
        pl.when(i > 0)(lambda: wait(result_copies(i - 1)))
        result_ref[...] = (mixed / total).reshape(result_ref.shape)
        start(result_copies(i))
        return walked + blocks

    # Slots that are never fetched get no weight, but must hold finite numbers.
    value_ref[...] = jnp.zeros_like(value_ref)
    start(query_copies(0))
    start(block_copies(0, 0, 0))
    jax.lax.fori_loop(0, tiles, work_on_tile, 0)
    wait(result_copies(tiles - 1))
