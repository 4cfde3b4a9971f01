"""The decoder's layers over decode weights: one function for prompts and for single tokens.

The same mathematics as ``policy.decoder`` (a test holds them together), written for inference: no
modules, no scan, and attention left to the caller, who knows where keys and values are kept.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zerocoder_jax.policy import PolicyConfig, apply_rotary, rms_norm, rotary_tables
from zerocoder_jax.rollout.weights import DecodeWeights, project

# (layer, query [..., H, h], key [..., K, h], value [..., K, h]) -> mixed [..., H, h]
Attend = Callable[[int, jax.Array, jax.Array, jax.Array], jax.Array]


def run_layers(
    weights: DecodeWeights,
    config: PolicyConfig,
    tokens: jax.Array,
    positions: jax.Array,
    attend: Attend,
    *,
    compute_dtype: Any,
    tensor_axis: str | None = None,
) -> jax.Array:
    """Normalized hidden states [..., D] of tokens [...] at rotary positions [...].

    Args:
        tokens, positions: int32, [R] for one token a row or [N, T] for prompts.
        attend: called once per layer with rotated queries and keys.
        tensor_axis: the mapped mesh axis over which heads and feed-forward width are split; the
            weights are then this device's shard.
    """

    def sum_of_shards(x: jax.Array) -> jax.Array:
        return jax.lax.psum(x, tensor_axis) if tensor_axis else x

    shape = tokens.shape
    head = config.head_dim
    cos, sin = rotary_tables(positions, config)  # [..., h / 2]
    with jax.named_scope("embedding"):
        x = jnp.take(weights["embedding"], tokens, axis=0).astype(compute_dtype)  # [..., D]
    group = config.num_heads // config.num_kv_heads
    for index, layer in enumerate(weights["layers"]):
        with jax.named_scope("attention"):
            qkv = project(rms_norm(x, layer["attention_norm"], config.rms_norm_eps), layer["qkv"])
            heads = qkv.reshape(*shape, -1, head)  # [..., H + 2 K, h] of this shard
            kv_heads = heads.shape[-2] // (group + 2)
            query, key, value = jnp.split(heads, [group * kv_heads, (group + 1) * kv_heads], -2)
            if config.qk_norm:
                query = rms_norm(query, layer["query_norm"], config.rms_norm_eps)
                key = rms_norm(key, layer["key_norm"], config.rms_norm_eps)
            query, key = apply_rotary(query, cos, sin), apply_rotary(key, cos, sin)
            mixed = attend(index, query, key, value).reshape(*shape, -1)
            x = x + sum_of_shards(project(mixed, layer["output"]))
        with jax.named_scope("mlp"):
            fused = project(rms_norm(x, layer["mlp_norm"], config.rms_norm_eps), layer["gate_up"])
            gate, up = jnp.split(fused, 2, axis=-1)  # [..., F]
            x = x + sum_of_shards(project(jax.nn.silu(gate) * up, layer["down"]))
    return rms_norm(x, weights["final_norm"], config.rms_norm_eps)
