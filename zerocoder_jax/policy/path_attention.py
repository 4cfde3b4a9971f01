"""Attention of a prefix tree's nodes: each node attends to the path from its root to itself.

Nodes that one sequence adds to the tree lie side by side on its path. They are laid out as rows:
their queries, against the keys of the path. So the attention of a shared prompt is computed once
too, and a row's queries are padded, never its matrix products with weights.

Rows are computed a chunk at a time, as many chunks as there are, forward and backward: neither
scores nor gathered keys exist for all rows at once, and unused room for rows costs nothing. The
gradients of keys and values are sums over all rows that read them, and are added up in float32.

Letters: S shards, each with a tree of its own, M node slots, P paths, T key slots of a row,
Q query slots, R rows, r of a chunk, H query heads, K key-value heads, h head size.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zerocoder_jax.policy.attention import AttentionName, attend


@dataclasses.dataclass(frozen=True)
class RowShape:
    """The static part of rows.

    Attributes:
        keys: T.
        queries: Q. Either T, then a node's query slot is its depth, and the kernels of whole
            sequences compute the row; or fewer, then the first slot is the row's first node.
        chunk: r.
        implementation: as in ``attention.attend``; with Q below T "xla".
    """

    keys: int
    queries: int
    chunk: int
    implementation: AttentionName


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PathRows:
    """Rows of one shape.

    Attributes:
        path: int32 [S, R], the path that a row reads its keys from.
        start, end: int32 [S, R], the row's nodes are those at depths ``start`` to ``end``; equal in
            an empty row.
        chunks: int32 scalar, how many chunks hold rows in any shard; R is a multiple of ``chunk``.
    """

    path: Any
    start: Any
    end: Any
    chunks: Any
    shape: RowShape = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Paths:
    """Where attention finds the nodes.

    Attributes:
        nodes: int32 [S, P, T'], each path's node at every depth; M where it has none.
        rows: for each key length, longest last.
    """

    nodes: Any
    rows: tuple[PathRows, ...]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Mesh axes of shards and heads; no mesh on a single device."""

    mesh: Mesh | None
    batch_axes: tuple[str, ...]
    head_axes: tuple[str, ...]

    def constrain(self, array: jax.Array) -> jax.Array:
        """Pin an array [S, M, ..., heads, h]."""
        if self.mesh is None:
            return array
        between = [None] * (array.ndim - 3)
        spec = PartitionSpec(self.batch_axes or None, *between, self.head_axes or None, None)
        return jax.lax.with_sharding_constraint(array, NamedSharding(self.mesh, spec))


def attend_paths(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    paths: Paths,
    *,
    mesh: Mesh | None = None,
    batch_axes: tuple[str, ...] = (),
    head_axes: tuple[str, ...] = (),
) -> jax.Array:
    """Each node's mixture of the values on the path to it, [S, M, H, h]; 0 in slots of no row.

    Args:
        query: [S, M, H, h], rotated.
        key: [S, M, K, h], rotated; H is a multiple of K.
        value: [S, M, K, h].
        paths: every node is in one row.
        mesh, batch_axes, head_axes: where the arrays live, as in ``attention.attend``.
    """
    layout = _Layout(mesh, batch_axes, head_axes)
    # Keys and values travel together: one gather, one sum.
    return _attend(layout, query, jnp.stack([key, value], axis=2), paths)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(layout: _Layout, query: jax.Array, key_value: jax.Array, paths: Paths) -> jax.Array:
    return _forward(layout, query, key_value, paths)[0]


def _forward(
    layout: _Layout, query: jax.Array, key_value: jax.Array, paths: Paths
) -> tuple[jax.Array, Any]:
    mixed = layout.constrain(jnp.zeros_like(query))
    for rows in paths.rows:

        def one_chunk(i: jax.Array, mixed: jax.Array, rows: PathRows = rows) -> jax.Array:
            chunk = _Chunk.of(rows, paths.nodes, i)
            made = chunk.attend(
                layout, take_nodes(query, chunk.queries), take_nodes(key_value, chunk.keys)
            )
            return layout.constrain(_put(mixed, chunk.own, made))

        mixed = jax.lax.fori_loop(0, rows.chunks, one_chunk, mixed)
    return mixed, (query, key_value, paths)


def _backward(
    layout: _Layout, residuals: Any, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    query, key_value, paths = residuals
    sums = (
        layout.constrain(jnp.zeros_like(query)),
        layout.constrain(jnp.zeros(key_value.shape, jnp.float32)),
    )
    for rows in paths.rows:

        def one_chunk(
            i: jax.Array, sums: tuple[jax.Array, jax.Array], rows: PathRows = rows
        ) -> tuple[jax.Array, jax.Array]:
            chunk = _Chunk.of(rows, paths.nodes, i)
            taken = take_nodes(query, chunk.queries), take_nodes(key_value, chunk.keys)
            _, pull = jax.vjp(functools.partial(chunk.attend, layout), *taken)
            owned = (chunk.own < query.shape[1])[..., None, None]
            # A node that another row owns is a query here only to fill the slots before its own.
            pulled = jnp.where(owned, take_nodes(cotangent, chunk.queries), 0)
            for_query, for_key_value = pull(pulled)
            return (
                layout.constrain(_put(sums[0], chunk.own, for_query)),
                layout.constrain(_add(sums[1], chunk.keys, for_key_value)),
            )

        sums = jax.lax.fori_loop(0, rows.chunks, one_chunk, sums)
    return sums[0], sums[1].astype(key_value.dtype), None


_attend.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Some rows: node numbers in every slot, M where there is none.

    Attributes:
        keys: [S, r, T].
        queries: [S, r, Q].
        own: [S, r, Q], ``queries`` where the row's own nodes are.
        depths: [S, r, Q].
    """

    keys: jax.Array
    queries: jax.Array
    own: jax.Array
    depths: jax.Array
    end: jax.Array
    shape: RowShape

    @classmethod
    def of(cls, rows: PathRows, nodes: jax.Array, i: jax.Array) -> "_Chunk":
        shape = rows.shape

        def part(array: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(array, i * shape.chunk, shape.chunk, axis=1)

        path, start, end = part(rows.path), part(rows.start), part(rows.end)  # [S, r]
        keys = take_nodes(nodes[:, :, : shape.keys], path)
        first = start if shape.queries < shape.keys else jnp.zeros_like(start)
        depths = first[..., None] + jnp.arange(shape.queries, dtype=jnp.int32)
        queries = jnp.take_along_axis(keys, jnp.minimum(depths, shape.keys - 1), axis=-1)
        owned = (depths >= start[..., None]) & (depths < end[..., None])
        nothing = jnp.iinfo(jnp.int32).max
        return cls(keys, queries, jnp.where(owned, queries, nothing), depths, end, shape)

    def attend(self, layout: _Layout, query: jax.Array, key_value: jax.Array) -> jax.Array:
        """[S, r, Q, H, h] of queries [S, r, Q, H, h] and [S, r, T, 2, K, h]."""
        shards, rows = query.shape[:2]

        def flat(array: jax.Array) -> jax.Array:
            return array.reshape(shards * rows, *array.shape[2:])

        q, key, value = flat(query), flat(key_value[:, :, :, 0]), flat(key_value[:, :, :, 1])
        slots = jnp.arange(self.shape.keys, dtype=jnp.int32)
        if self.shape.queries == self.shape.keys:
            mixed = attend(
                q,
                key,
                value,
                slots < flat(self.end)[:, None],
                implementation=self.shape.implementation,
                mesh=layout.mesh,
                batch_axes=layout.batch_axes,
                head_axes=layout.head_axes,
            )
        else:
            visible = slots <= flat(self.depths)[:, None, :, None]  # [S * r, 1, Q, T]
            mixed = jax.nn.dot_product_attention(q, key, value, mask=visible, implementation="xla")
        return mixed.reshape(query.shape)


def take_nodes(array: jax.Array, index: jax.Array) -> jax.Array:
    """``array[s, index[s, ...]]`` of an array [S, M, ...]; numbers past the end take the last."""
    return jax.vmap(lambda nodes, i: jnp.take(nodes, i, axis=0, mode="clip"))(array, index)


def _put(array: jax.Array, index: jax.Array, values: jax.Array) -> jax.Array:
    """``array`` with ``array[s, index[s, ...]]`` replaced; numbers past the end are left out."""
    return jax.vmap(lambda nodes, i, new: nodes.at[i].set(new, mode="drop"))(array, index, values)


def _add(array: jax.Array, index: jax.Array, values: jax.Array) -> jax.Array:
    """``array`` with ``values`` added at ``array[s, index[s, ...]]``, in the array's precision."""
    return jax.vmap(lambda nodes, i, new: nodes.at[i].add(new.astype(nodes.dtype), mode="drop"))(
        array, index, values
    )
