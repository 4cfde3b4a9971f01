"""Adapters beside a kernel: what they add is not lost in the kernel's precision."""

import jax
import jax.numpy as jnp
import numpy as np

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

    def trained(adapters: Params | None) -> jax.Array:
        """As the training pass computes them, in float32."""
        options = {"lora": adapters, "lora_scale": LORA.scale}
        mask = np.ones(TOKENS.shape, bool)
        hidden = forward(policy.graphdef, params, TOKENS, positions(), mask, **options)
        return vocabulary_logits(params, hidden)

    wanted = trained(adapters) - trained(None)

    def kept(changed: jax.Array) -> float:
        """Which share of the wanted change of the logits is there."""
        change = changed - rollout_logits(params)
        return float(jnp.sum(change * wanted) / jnp.sum(wanted * wanted))

    print(
        kept(rollout_logits(params, adapters)),
        kept(rollout_logits(merge_lora(params, adapters, LORA.scale))),
    )
    assert 0.9 < kept(rollout_logits(params, adapters)) < 1.1
    assert kept(rollout_logits(merge_lora(params, adapters, LORA.scale))) < 0.7
