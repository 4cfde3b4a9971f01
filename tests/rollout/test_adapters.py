"""Adapters beside a kernel: what they add is not lost in the kernel's precision."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy import (
    LoraSettings,
    Params,
    PolicyConfig,
    abstract_lora,
    forward,
    init_policy,
    merge_lora,
    vocabulary_logits,
)
from zerocoder_jax.policy.attention import attend
from zerocoder_jax.rollout.layers import run_layers
from zerocoder_jax.rollout.weights import decode_weights

# About rounding, which the optimizer changes.
pytestmark = pytest.mark.optimized

CONFIG = PolicyConfig(
    vocab_size=64,
    hidden_size=256,
    intermediate_size=64,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    tie_embeddings=False,
)
LORA = LoraSettings(1, 3.0, ("value", "gate", "up"))
TOKENS = np.arange(60).reshape(3, 20)


def rollout_logits(params: Params, adapters: Params | None = None) -> jax.Array:
    """[3, 20, V] as the rollout computes them in bfloat16."""

    @jax.jit
    def logits(params: Params, adapters: Params | None) -> jax.Array:
        weights = decode_weights(
            params, CONFIG, adapters, dtype=jnp.bfloat16, lora_scale=LORA.scale
        )
        hidden = run_layers(
            weights,
            CONFIG,
            TOKENS,
            positions(),
            lambda _, *qkv: attend(*qkv, jnp.ones(TOKENS.shape, bool)),
            compute_dtype=jnp.bfloat16,
        )
        return jnp.matmul(hidden, weights["head"]["kernel"], preferred_element_type=jnp.float32)

    return logits(params, adapters)


def positions() -> jax.Array:
    return jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)


def test_in_bfloat16_what_adapters_change_is_not_rounded_away() -> None:
    policy = init_policy(CONFIG, jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), policy.params)
    # What all tokens have in common is what the adapters answer to: each of the numbers that they
    # add to a weight is small, their sum over the inputs is not.
    table = params["embedding"]["table"] * 50 + 1
    params = params | {"embedding": {"table": table}}
    random = np.random.default_rng(0)
    adapters = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jnp.full(leaf.shape, 1 / leaf.shape[1])
            if path[-1].key == "a"
            else jnp.asarray(random.normal(size=leaf.shape) * 1e-3, jnp.float32)
        ),
        abstract_lora(CONFIG, LORA),
    )

    @functools.partial(jax.jit, static_argnums=1)
    def trained(adapters: Params | None, dtype: Any) -> jax.Array:
        """As the training pass computes them."""
        options = {"lora": adapters, "lora_scale": LORA.scale, "compute_dtype": dtype}
        mask = np.ones(TOKENS.shape, bool)
        hidden = forward(policy.graphdef, params, TOKENS, positions(), mask, **options)
        return vocabulary_logits(params, hidden)

    exact = trained(adapters, jnp.float32) - trained(None, jnp.float32)

    def share(change: jax.Array) -> float:
        """How much of the exact change of the logits is there; rounding errors cancel out."""
        return float(jnp.sum(change * exact) / jnp.sum(exact * exact))

    base = rollout_logits(params)
    merged = merge_lora(params, adapters, LORA.scale)
    found = share(rollout_logits(params, adapters) - base)
    wanted = share(trained(adapters, jnp.bfloat16) - trained(None, jnp.bfloat16))
    assert wanted > 0.8 and found == pytest.approx(wanted, abs=0.1)
    assert share(rollout_logits(merged) - base) < 0.4
