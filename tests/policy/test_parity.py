"""Against PyTorch, live: models, exports, tokenizers and adapters. Run by `make parity`."""

import dataclasses
import json
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
    load_policy,
    save_lora,
    save_policy,
    vocabulary_logits,
)
from zerocoder_jax.policy.saving import tensor_of
from zerocoder_jax.policy.weight_names import checkpoint_tensors
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings, sample_key

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
        np.testing.assert_allclose(values, recorded[name], rtol=1e-4, atol=1e-5, err_msg=name)


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


# ---- real weights -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_torch(real_weights: Path) -> tuple[Any, Any]:
    """transformers' model and tokenizer of the real file, dequantized by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = {"pretrained_model_name_or_path": str(real_weights.parent)}
    location["gguf_file"] = real_weights.name
    model = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(**location)


@pytest.fixture(scope="module")
def real_policy(real_weights: Path) -> Policy:
    return load_policy(f"gguf:{real_weights}")


@pytest.fixture(scope="module")
def mbpp_prompts(
    real_torch: tuple[Any, Any], real_policy: Policy, shared_data: Path
) -> list[list[int]]:
    """Twenty statements in the chat template, tokenized as transformers does."""
    assert real_policy.tokenizer is not None
    lines = (shared_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()[600:620]
    prompts = []
    for line in lines:
        messages = [{"role": "user", "content": json.loads(line)["text"]}]
        prompts.append(list(real_policy.tokenizer.chat_tokens(messages)))
        assert prompts[-1] == real_torch[1].apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
    return prompts


@pytest.mark.real_weights
def test_real_logits_differ_from_pytorchs_by_less_than_a_thousandth(
    real_torch: tuple[Any, Any], real_policy: Policy, mbpp_prompts: list[list[int]]
) -> None:
    """On ten MBPP prompts, at every position."""
    import torch

    model, _ = real_torch
    worst = 0.0
    for prompt in mbpp_prompts[:10]:
        length = len(prompt)
        hidden = forward(
            real_policy.graphdef,
            real_policy.params,
            jnp.asarray([prompt]),
            jnp.arange(length)[None],
            jnp.ones((1, length), bool),
        )
        found = np.asarray(vocabulary_logits(real_policy.params, hidden))
        with torch.no_grad():
            expected = model(torch.tensor([prompt])).logits.numpy()
        worst = max(worst, float(np.abs(found - expected).max()))
    print(f"largest logit difference {worst:.2e}")
    assert worst < 1e-3


@pytest.mark.real_weights
def test_the_engine_decodes_real_weights_greedily_as_transformers_does(
    real_torch: tuple[Any, Any],
    real_policy: Policy,
    mbpp_prompts: list[list[int]],
    make_goldens: ModuleType,
) -> None:
    """20 MBPP prompts of unequal lengths, 128 tokens each, both by their own key-value caches."""
    import torch

    model, _ = real_torch
    count, limit = len(mbpp_prompts), 128
    longest = max(len(prompt) for prompt in mbpp_prompts)
    # transformers decodes them as one batch, padded on the left: one by one takes ten minutes.
    tokens = np.zeros((count, longest), np.int64)
    mask = np.zeros((count, longest), np.int64)
    for row, prompt in enumerate(mbpp_prompts):
        tokens[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    with torch.no_grad():
        generated = model.generate(
            torch.tensor(tokens),
            attention_mask=torch.tensor(mask),
            max_new_tokens=limit,
            **make_goldens.GREEDY,
            output_logits=True,
            return_dict_in_generate=True,
        )
    expected = generated.sequences[:, longest:].numpy()
    # Nothing stops a reply, so that each of the 128 tokens is compared.
    endless = dataclasses.replace(real_policy, stop_token_ids=())
    greedy = SamplingSettings(temperature=0.0, max_new_tokens=limit)
    engine = RolloutEngine(
        endless, greedy, EngineSettings(rows=count, window=16, max_prompt_tokens=longest)
    )
    engine.load(endless.params)
    keys = np.array([sample_key(0, 0, index, 0, 0) for index in range(count)], np.uint32)
    replies = {
        rollout.prompt_index: rollout.tokens
        for rollout in engine.generate(mbpp_prompts, [1] * count, keys)
    }
    top = torch.stack(generated.logits, dim=1).topk(2).values  # [20, 128, 2]
    margins = (top[..., 0] - top[..., 1]).numpy()
    print(f"smallest margin between the two most probable tokens {margins.min():.2e}")
    for index in range(count):
        assert len(replies[index]) == limit
        differing = np.flatnonzero(replies[index] != expected[index])
        assert not differing.size, (
            f"MBPP prompt {index} differs at token {differing[0]}, where the two most probable "
            f"tokens are {margins[index, differing[0]]:.2e} apart"
        )
