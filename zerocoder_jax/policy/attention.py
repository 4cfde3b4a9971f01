"""Causal attention of whole sequences, for training and scoring, by three implementations.

``xla`` runs everywhere and holds [B, H, T, T] scores. ``cudnn`` is NVIDIA's flash attention and
``splash`` the TPU kernel of JAX; neither holds the scores. The rollout's cached decoding is another
computation and lives with the rollout.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

AttentionName = Literal["xla", "cudnn", "splash"]


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    *,
    implementation: AttentionName = "xla",
    mesh: Mesh | None = None,
    batch_axes: tuple[str, ...] = (),
    head_axes: tuple[str, ...] = (),
) -> jax.Array:
    """Each token's mixture of the values at real tokens up to itself, [B, T, H, h].

    Args:
        query: [B, T, H, h], rotated.
        key: [B, T, K, h], rotated; H is a multiple of K.
        value: [B, T, K, h].
        mask: bool [B, T], true at real tokens. ``cudnn`` reads only how many there are, because
            cuDNN through JAX ignores segment ids in silence: padding must stand on the right.
        implementation: "xla" any dtype; "cudnn" bfloat16 or float16 on NVIDIA GPUs; "splash" on
            TPUs, T a multiple of 128.
        mesh: where the arrays live, needed by "splash" alone: a Pallas kernel is not partitioned
            by the compiler, so it is mapped over the shards of rows (``batch_axes``) and heads
            (``head_axes``).

    Rows of padding see nothing and return something finite that means nothing.
    """
    if implementation == "xla":
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask[:, None, None, :], is_causal=True, implementation="xla"
        )
    if implementation == "cudnn":
        lengths = jnp.sum(mask, axis=-1, dtype=jnp.int32)  # [B]
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            query_seq_lengths=lengths,
            key_value_seq_lengths=lengths,
            implementation="cudnn",
        )
    if implementation == "splash":
        return _splash(query, key, value, mask, mesh, batch_axes, head_axes)
    raise ValueError(f"unknown attention {implementation!r}; known are xla, cudnn, splash")


def _splash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    mesh: Mesh | None,
    batch_axes: tuple[str, ...],
    head_axes: tuple[str, ...],
) -> jax.Array:
    if mesh is None:
        return _splash_shard(query, key, value, mask)
    arrays = PartitionSpec(batch_axes or None, None, head_axes or None, None)
    mapped: Any = jax.shard_map(
        _splash_shard,
        mesh=mesh,
        in_specs=(arrays, arrays, arrays, PartitionSpec(batch_axes or None, None)),
        out_specs=arrays,
        # The kernel does not say over which axes its result varies.
        check_vma=False,
    )
    return mapped(query, key, value, mask)


def _splash_shard(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    _, length, heads, size = query.shape
    group = heads // key.shape[2]
    kernel = _splash_kernel(length, group)
    # The kernel wants heads before tokens and leaves the softmax scale to the caller; the group
    # of query heads that shares a key head is one multi-query problem.
    grouped = jnp.swapaxes(query * size**-0.5, 1, 2)  # [B, H, T, h]
    grouped = grouped.reshape(-1, key.shape[2], group, length, size)  # [B, K, G, T, h]
    # Real tokens are one segment and padding another, so neither sees the other.
    segments = splash.SegmentIds(q=mask.astype(jnp.int32), kv=mask.astype(jnp.int32))
    over_heads = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    mixed = jax.vmap(over_heads)(
        grouped, jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2), segments
    )  # [B, K, G, T, h]
    return jnp.swapaxes(mixed.reshape(-1, heads, length, size), 1, 2).astype(query.dtype)


@functools.cache
def _splash_kernel(length: int, group: int) -> Any:
    """The causal multi-query kernel for ``group`` query heads; its block table is built once."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    causal = splash.MultiHeadMask([splash.CausalMask((length, length)) for _ in range(group)])
    # The table is made of concrete arrays even while a caller is being traced.
    with jax.ensure_compile_time_eval():
        return splash.make_splash_mqa_single_device(causal)
