"""Prompts into the cache: the keys and values of all their tokens but the last, in one pass.

The last token of a prompt is the first that is fed to decoding, so a prompt needs no output head
here, and a prompt of one token needs no pass at all. The beginning that a prompt shares with one in
the cache is copied from there, and only the tokens after it are computed.

Shape letters: N prompts, T computed tokens of each, C shared tokens of each at most, K key-value
heads, h head size, S slots.
"""

from typing import Any

import jax
import jax.numpy as jnp

from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.policy.attention import AttentionName, attend
from zerocoder_jax.rollout.cache import Cache, read_beginnings, write_prompts
from zerocoder_jax.rollout.layers import run_layers
from zerocoder_jax.rollout.weights import DecodeWeights


def prefill(
    weights: DecodeWeights,
    cache: Cache,
    tokens: jax.Array,
    rows: jax.Array,
    starts: jax.Array,
    sources: jax.Array,
    source_starts: jax.Array,
    shared: jax.Array,
    count: jax.Array,
    *,
    config: PolicyConfig,
    compute_dtype: Any,
    capacity: int = 0,
    attention: AttentionName = "xla",
    tensor_axis: str | None = None,
) -> Cache:
    """The cache with prompts written into some of its rows.

    Args:
        cache: donated; see ``cache``.
        tokens: int32 [N, T], prompts without their last tokens and without what they share, padded
            on the right: a token sees only what stands before it, so padding changes nothing that
            is kept.
        rows, starts: int32 [N], where and when each prompt stands in the ring.
        sources, source_starts: int32 [N], where and when the prompt stands whose beginning is
            shared.
        shared: int32 [N], the tokens of that beginning, at most ``capacity``; 0 shares nothing.
        count: int32, how many of the N prompts are real.
        capacity: C; with 0 nothing is shared, and attention is that of whole sequences.
    """
    keys: list[jax.Array] = []
    values: list[jax.Array] = []

    def attend_and_keep(
        layer: int, query: jax.Array, key: jax.Array, value: jax.Array
    ) -> jax.Array:
        own_key, own_value = jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2)  # [N, K, T, h]
        if not capacity:
            keys.append(own_key)
            values.append(own_value)
            everything = jnp.ones(tokens.shape, bool)
            return attend(query, key, value, everything, implementation=attention)
        before = [
            read_beginnings(ring[layer], sources, source_starts, capacity).astype(key.dtype)
            for ring in (cache.keys, cache.values)
        ]  # [N, K, C, h]
        keys.append(_joined(before[0], own_key, shared))
        values.append(_joined(before[1], own_value, shared))
        return _attend_behind(query, key, value, before, shared, implementation=attention)

    with jax.named_scope("prefill"):
        positions = shared[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)  # [N, T]
        run_layers(
            weights,
            config,
            tokens,
            positions,
            attend_and_keep,
            compute_dtype=compute_dtype,
            tensor_axis=tensor_axis,
        )
        return write_prompts(cache, keys, values, rows, starts, count)


def _attend_behind(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    before: list[jax.Array],
    shared: jax.Array,
    *,
    implementation: AttentionName,
) -> jax.Array:
    """Causal attention [N, T, H, h] over a shared beginning and the tokens behind it.

    Args:
        query: [N, T, H, h]; key, value: [N, T, K, h].
        before: keys and values [N, K, C, h], of which the first ``shared`` [N] are real.
    """
    length, capacity = query.shape[1], before[0].shape[2]
    within = jnp.arange(capacity) < shared[:, None]  # [N, C]
    within = jnp.broadcast_to(within[:, None], (len(shared), length, capacity))
    causal = jnp.tril(jnp.ones((length, length), bool))
    causal = jnp.broadcast_to(causal, (len(shared), length, length))
    return jax.nn.dot_product_attention(
        query,
        jnp.concatenate([jnp.swapaxes(before[0], 1, 2), key], axis=1),
        jnp.concatenate([jnp.swapaxes(before[1], 1, 2), value], axis=1),
        mask=jnp.concatenate([within, causal], axis=-1)[:, None],  # [N, 1, T, C + T]
        implementation="cudnn" if implementation == "cudnn" else "xla",
    )


def _joined(beginning: jax.Array, own: jax.Array, shared: jax.Array) -> jax.Array:
    """[N, K, C + T, h]: the first ``shared`` [N] of the beginning, then what is a prompt's own."""
    room = jnp.pad(beginning, ((0, 0), (0, 0), (0, own.shape[2]), (0, 0)))
    return jax.vmap(lambda all, new, at: jax.lax.dynamic_update_slice(all, new, (0, at, 0)))(
        room, own, shared
    )
