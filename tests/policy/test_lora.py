"""Adapters: nothing at first, then exactly what merging them gives; kept in PEFT's layout."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import (
    LoraSettings,
    Params,
    Policy,
    forward,
    init_lora,
    load_lora,
    lora_logical_axes,
    lora_settings,
    merge_lora,
    save_lora,
)

TinyPolicy = Callable[[str], Policy]
SETTINGS = LoraSettings(rank=3, alpha=12.0)


def trained(lora: Params) -> Params:
    """Adapters after some imaginary training: none of them zero."""
    random = np.random.default_rng(5)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.2, leaf.dtype), lora
    )


def hidden_states(policy: Policy, params: Params, lora: Params | None = None) -> jax.Array:
    tokens = np.random.default_rng(0).integers(0, policy.config.vocab_size, (2, 6))
    positions = np.broadcast_to(np.arange(6), (2, 6))
    return forward(
        policy.graphdef,
        params,
        tokens,
        positions,
        np.ones((2, 6), bool),
        lora=lora,
        lora_scale=SETTINGS.scale,
    )


def test_new_adapters_change_nothing(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen3")
    lora = init_lora(policy.config, SETTINGS, jax.random.key(0))
    np.testing.assert_allclose(
        hidden_states(policy, policy.params, lora),
        hidden_states(policy, policy.params),
        atol=1e-5,  # another program rounds otherwise
    )


@pytest.mark.parametrize("targets", [SETTINGS.targets, ("value",), ("query", "down")])
def test_merged_adapters_compute_what_separate_ones_do(
    targets: tuple[str, ...], tiny_policy: TinyPolicy
) -> None:
    policy = tiny_policy("qwen2_untied")
    settings = LoraSettings(SETTINGS.rank, SETTINGS.alpha, targets)
    lora = trained(init_lora(policy.config, settings, jax.random.key(0)))
    merged = merge_lora(policy.params, lora, settings.scale)
    separate = hidden_states(policy, policy.params, lora)
    np.testing.assert_allclose(hidden_states(policy, merged), separate, atol=1e-4)
    assert float(jnp.max(jnp.abs(separate - hidden_states(policy, policy.params)))) > 0.1
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), merged, policy.params)
    assert sum(jax.tree.leaves(changed)) == len(targets)


def test_a_frozen_bfloat16_base_keeps_float32_adapters_trainable(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen3")
    base = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), policy.params)
    lora = init_lora(policy.config, SETTINGS, jax.random.key(0))

    @jax.jit
    def loss(lora: Params) -> jax.Array:
        return jnp.sum(hidden_states(policy, base, lora).astype(jnp.float32) ** 2)

    gradients = jax.grad(loss)(lora)
    assert jax.tree.all(jax.tree.map(lambda g: g.dtype == jnp.float32, gradients))
    # `b` starts at zero, so at first only `b` learns.
    for adapter in gradients["layers"]["attention"].values():
        assert float(jnp.max(jnp.abs(adapter["b"]))) > 0
    assert merge_lora(base, lora, 1.0)["layers"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16


def test_every_axis_of_every_adapter_has_a_name(tiny_policy: TinyPolicy) -> None:
    config = tiny_policy("llama").config
    ranks = jax.tree.map(jnp.ndim, init_lora(config, SETTINGS, jax.random.key(0)))
    axes = lora_logical_axes(config, SETTINGS)
    assert jax.tree.map(len, axes, is_leaf=lambda node: isinstance(node, tuple)) == ranks
    assert axes["layers"]["mlp"]["down"] == {
        "a": ("layers", "mlp", "rank"),
        "b": ("layers", "rank", "embed"),
    }


def test_saved_adapters_load_bit_for_bit(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    config = tiny_policy("qwen3").config
    settings = LoraSettings(4, 8.0, ("query", "value", "down"))
    lora = trained(init_lora(config, settings, jax.random.key(0)))
    save_lora(lora, settings, tmp_path, base_model="Qwen/Qwen3-4B")
    loaded, again = load_lora(tmp_path, config)
    assert again == settings
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, lora))
    names = load_file(tmp_path / "adapter_model.safetensors")
    first = names["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    assert first.shape == (4, config.hidden_size)


def test_defective_adapters_are_refused_by_name(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    config = tiny_policy("qwen3").config
    save_lora(init_lora(config, SETTINGS, jax.random.key(0)), SETTINGS, tmp_path)
    file, path = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    whole, fields = load_file(file), json.loads(path.read_text())
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    for change, said in (
        ({**whole, name: np.zeros((2, 2), np.float32)}, f"{name} has shape"),
        ({key: value for key, value in whole.items() if key != name}, f"{name} is missing"),
        ({**whole, "extra": np.zeros(1, np.float32)}, "tensor extra is unexpected"),
    ):
        save_file(change, file)
        with pytest.raises(UserError, match=said):
            load_lora(tmp_path, config)
    for fields_change, said in (
        ({"use_dora": True}, "use_dora is not supported"),
        ({"r": None}, "field 'r' is missing"),
        ({"r": 2.5}, "'r' is 2.5; a positive integer"),
        ({"lora_alpha": "16"}, "'lora_alpha' is \"16\"; a positive number"),
        ({"target_modules": {"q_proj": 1}}, "beyond the decoder's projections"),
        ({"target_modules": [["q_proj"]]}, "beyond the decoder's projections"),
        ({"bias": "all"}, "only plain LoRA"),
        ({"target_modules": ["q_proj", "lm_head"]}, "beyond the decoder's projections"),
    ):
        path.write_text(json.dumps(fields | fields_change))
        with pytest.raises(UserError, match=said):
            load_lora(tmp_path, config)
    save_file({**whole, name: np.full_like(whole[name], np.nan)}, file)
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=f"tensor {name} has values that are not finite"):
        load_lora(tmp_path, config)
    with pytest.raises(UserError, match=r"adapter_config\.json cannot be read"):
        load_lora(tmp_path / "nowhere", config)


def test_settings_come_from_the_config_and_name_its_fields() -> None:
    fields = ConfigDict({"rank": 8, "alpha": 16.0, "targets": "query, down"})
    settings = lora_settings(fields)
    assert settings == LoraSettings(8, 16.0, ("query", "down"))
    assert settings is not None and settings.scale == 2.0
    fields.targets = "query,q_proj"
    with pytest.raises(UserError, match=r"config\.policy\.lora\.targets: 'q_proj'"):
        lora_settings(fields)
    fields.targets = ""
    with pytest.raises(UserError, match="targets is empty"):
        lora_settings(fields)
    fields.rank = -1
    with pytest.raises(UserError, match=r"config\.policy\.lora\.rank is -1"):
        lora_settings(fields)
    fields.rank = 0
    assert lora_settings(fields) is None
