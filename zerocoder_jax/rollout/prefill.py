"""Prompts into the cache: the keys and values of all their tokens but the last, in one pass.

The last token of a prompt is the first that is fed to decoding, so a prompt needs no output head
here, and a prompt of one token needs no pass at all.
"""

from typing import Any

import jax
import jax.numpy as jnp

from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.policy.attention import AttentionName, attend
from zerocoder_jax.rollout.cache import Cache, write_prompts
from zerocoder_jax.rollout.layers import run_layers
from zerocoder_jax.rollout.weights import DecodeWeights


def prefill(
    weights: DecodeWeights,
    cache: Cache,
    tokens: jax.Array,
    rows: jax.Array,
    starts: jax.Array,
    count: jax.Array,
    *,
    config: PolicyConfig,
    compute_dtype: Any,
    attention: AttentionName = "xla",
    tensor_axis: str | None = None,
) -> Cache:
    """The cache with prompts written into some of its rows.

    Args:
        cache: donated; see ``cache``.
        tokens: int32 [N, T], prompts without their last tokens, padded on the right: a token sees
            only what stands before it, so padding changes nothing that is kept.
        rows, starts: int32 [N], where and when each prompt stands in the ring.
        count: int32, how many of the N prompts are real.
    """
    keys: list[jax.Array] = []
    values: list[jax.Array] = []

    def attend_and_keep(_: int, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        keys.append(jnp.swapaxes(key, 1, 2))  # [N, K, T, h]
        values.append(jnp.swapaxes(value, 1, 2))
        everything = jnp.ones(tokens.shape, bool)
        return attend(query, key, value, everything, implementation=attention)

    with jax.named_scope("prefill"):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
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
