"""Against PyTorch, live: models, exports, tokenizers and adapters. Run by `make parity`."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy import (
    LoraSettings,
    Params,
    Policy,
    forward,
    init_lora,
    save_lora,
    save_policy,
    vocabulary_logits,
)
from zerocoder_jax.policy.saving import tensor_of
from zerocoder_jax.policy.weight_names import checkpoint_tensors

pytestmark = pytest.mark.parity

TinyPolicy = Callable[[str], Policy]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def torch_copy(policy: Policy, directory: Path, **options: Any) -> Any:
    """The policy as transformers loads what `save_policy` wrote."""
    from transformers import AutoModelForCausalLM

    if not directory.exists():
        save_policy(policy, directory)
    return AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager", **options
    ).eval()


def make_batch(policy: Policy, rows: int, length: int, padding: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows * 100 + length)
    mask = np.ones((rows, length), bool)
    for row in range(1, rows):
        cut = int(random.integers(1, length))
        mask[row, slice(None, cut) if padding == "left" else slice(length - cut, None)] = False
    vocabulary = policy.config.vocab_size
    return {
        "tokens": random.integers(0, vocabulary, (rows, length)).astype(np.int32),
        "mask": mask,
        "positions": np.maximum(np.cumsum(mask, 1) - 1, 0).astype(np.int32),
        "cotangent": (random.normal(size=(rows, length, vocabulary)) * mask[..., None]).astype(
            np.float32
        ),
    }


def jax_results(
    policy: Policy, inputs: dict[str, np.ndarray], **options: Any
) -> tuple[np.ndarray, Params]:
    """Logits at real tokens and the gradient of their product with the cotangent."""

    @jax.jit
    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        hidden = forward(
            policy.graphdef,
            params,
            inputs["tokens"],
            inputs["positions"],
            inputs["mask"],
            **options,
        )
        logits = vocabulary_logits(params, hidden)
        return jnp.sum(logits * inputs["cotangent"]), logits

    gradients, logits = jax.grad(loss, has_aux=True)(policy.params)
    return np.asarray(logits) * inputs["mask"][..., None], gradients


def test_recorded_goldens_are_what_pytorch_computes_today(
    tiny_name: str, make_goldens: ModuleType
) -> None:
    recorded = np.load(make_goldens.GOLDENS / f"{tiny_name}.npz")
    today = make_goldens.tiny_golden(tiny_name)
    assert set(recorded.files) == set(today)
    for name, values in today.items():
        # Another processor sums in another order: entries near 0 carry the rounding of large terms.
        near = 1e-5 * max(1.0, np.abs(recorded[name]).max(initial=0.0))
        np.testing.assert_allclose(values, recorded[name], rtol=1e-4, atol=near, err_msg=name)


@pytest.mark.parametrize(
    ("rows", "length", "padding"),
    [(1, 1, "left"), (1, 13, "left"), (5, 11, "left"), (5, 7, "right")],
)
def test_logits_and_every_gradient_equal_pytorchs(
    tiny_name: str,
    rows: int,
    length: int,
    padding: str,
    tiny_policy: TinyPolicy,
    make_goldens: ModuleType,
    tmp_path: Path,
) -> None:
    policy = tiny_policy(tiny_name)
    inputs = make_batch(policy, rows, length, padding)
    expected = make_goldens.torch_results(torch_copy(policy, tmp_path / "model"), inputs)
    logits, gradients = jax_results(policy, inputs)
    assert relative_error(logits, expected["logits"]) < 1e-5
    for tensor in checkpoint_tensors(policy.config):
        found = np.asarray(tensor_of(gradients, tensor))
        wanted = expected[f"gradient/{tensor.name}"]
        if length == 1 and tensor.path[2:3] in (
            ("query",),
            ("key",),
            ("query_norm",),
            ("key_norm",),
        ):
            # One token attends to itself alone: nothing depends on its query and key.
            assert np.max(np.abs(found)) == np.max(np.abs(wanted)) == 0.0
        else:
            assert relative_error(found, wanted) < 1e-4, tensor.name


def test_bfloat16_is_as_close_to_float32_as_pytorchs(
    tiny_name: str, tiny_policy: TinyPolicy, make_goldens: ModuleType, tmp_path: Path
) -> None:
    import torch

    policy = tiny_policy(tiny_name)
    policy = policy.with_params(
        jax.tree.map(lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), policy.params)
    )
    inputs = make_batch(policy, 5, 11, "right")
    exact = make_goldens.torch_results(torch_copy(policy, tmp_path / "model"), inputs)["logits"]
    with torch.no_grad():
        model = torch_copy(policy, tmp_path / "model", dtype=torch.bfloat16)
        theirs = model(
            input_ids=torch.tensor(inputs["tokens"]).long(),
            attention_mask=torch.tensor(inputs["mask"]).long(),
            position_ids=torch.tensor(inputs["positions"]).long(),
        ).logits.float().numpy() * inputs["mask"][..., None]  # fmt: skip
    ours, _ = jax_results(policy, inputs, compute_dtype=jnp.bfloat16)

    def error(logits: np.ndarray) -> float:
        return float(np.sqrt(np.mean((logits - exact) ** 2)))

    assert error(ours) < 2 * error(theirs)


def test_an_export_loads_in_transformers_and_computes_the_same(
    tiny_name: str, tiny_policy: TinyPolicy, make_goldens: ModuleType, tmp_path: Path
) -> None:
    """Shards, configuration, generation config and tokenizer, all as transformers reads them."""
    from transformers import AutoTokenizer, GenerationConfig

    policy = tiny_policy(tiny_name)
    save_policy(policy, tmp_path / "model", max_shard_bytes=8_000)
    assert (tmp_path / "model" / "model.safetensors.index.json").exists()
    inputs = make_batch(policy, 2, 9, "right")
    expected = make_goldens.torch_results(torch_copy(policy, tmp_path / "model"), inputs)
    assert relative_error(jax_results(policy, inputs)[0], expected["logits"]) < 1e-5

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert policy.tokenizer is not None
    messages = [{"role": "user", "content": "f(1)+a"}]
    assert tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    ) == policy.tokenizer.chat_tokens(messages)
    generation = GenerationConfig.from_pretrained(tmp_path / "model")
    assert generation.eos_token_id == list(policy.stop_token_ids)
    assert generation.pad_token_id == policy.pad_token_id


@pytest.mark.parametrize("targets", [LoraSettings(1, 1.0).targets, ("query", "value")])
def test_adapters_give_the_same_logits_in_peft(
    targets: tuple[str, ...], tiny_policy: TinyPolicy, make_goldens: ModuleType, tmp_path: Path
) -> None:
    from peft import PeftModel

    policy = tiny_policy("qwen3")
    settings = LoraSettings(rank=4, alpha=10.0, targets=targets)
    random = np.random.default_rng(0)
    lora = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.3, jnp.float32),
        init_lora(policy.config, settings, jax.random.key(0)),
    )
    save_lora(lora, settings, tmp_path / "adapter", base_model=str(tmp_path / "model"))
    base = torch_copy(policy, tmp_path / "model")
    inputs = make_batch(policy, 3, 9, "right")
    without = make_goldens.torch_results(base, inputs)["logits"]
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True).eval()
    for parameter in adapted.parameters():
        parameter.requires_grad_(True)
    expected = make_goldens.torch_results(adapted, inputs)["logits"]
    ours, _ = jax_results(policy, inputs, lora=lora, lora_scale=settings.scale)
    assert relative_error(ours, expected) < 1e-5
    assert relative_error(without, expected) > 0.1
