"""What PyTorch computed for tiny and real models, recorded by make_goldens.py, comes out here."""

from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from zerocoder_jax.policy import (
    Params,
    Policy,
    decoder_graphdef,
    forward,
    load_policy,
    vocabulary_logits,
)
from zerocoder_jax.policy.config import config_from_hugging_face
from zerocoder_jax.policy.loading import check_tensors, read_params
from zerocoder_jax.policy.safetensors_checkpoint import SafetensorsCheckpoint
from zerocoder_jax.policy.saving import tensor_of
from zerocoder_jax.policy.weight_names import checkpoint_tensors

GOLDENS = Path(__file__).parent / "goldens"


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def test_logits_and_every_gradient_equal_pytorchs(
    tiny_name: str, make_goldens: ModuleType, tmp_path: Path
) -> None:
    golden = np.load(GOLDENS / f"{tiny_name}.npz")
    config = config_from_hugging_face(make_goldens.tiny_fields(tiny_name), tiny_name)
    weights = {n.removeprefix("weight/"): golden[n] for n in golden if n.startswith("weight/")}
    save_file(weights, tmp_path / "model.safetensors")
    checkpoint = SafetensorsCheckpoint(tmp_path)
    check_tensors(checkpoint, config)
    params = read_params(checkpoint, config, "float32")
    graphdef = decoder_graphdef(config)

    @jax.jit
    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        hidden = forward(graphdef, params, golden["tokens"], golden["positions"], golden["mask"])
        logits = vocabulary_logits(params, hidden)
        return jnp.sum(logits * golden["cotangent"]), logits

    gradients, logits = jax.grad(loss, has_aux=True)(params)
    masked = np.asarray(logits) * golden["mask"][..., None]
    assert relative_error(masked, golden["logits"]) < 1e-5
    for tensor in checkpoint_tensors(config):
        found = np.asarray(tensor_of(gradients, tensor))
        assert relative_error(found, golden[f"gradient/{tensor.name}"]) < 1e-4, tensor.name


@pytest.fixture(scope="module")
def real_policy(real_weights: Path) -> Policy:
    return load_policy(f"gguf:{real_weights}")


@pytest.mark.real_weights
def test_real_weights_give_pytorchs_logits_and_greedy_tokens(real_policy: Policy) -> None:
    """A continuation is greedy when each of its tokens is the most probable after those before it;
    so one pass over the recorded continuation proves what decoding token by token would."""
    golden = np.load(GOLDENS / "real.npz")
    assert real_policy.tokenizer is not None
    count = len(golden.files) // 3
    length = max(len(golden[f"{i}/prompt"]) + len(golden[f"{i}/reply"]) for i in range(count))
    tokens, mask = np.zeros((count, length), np.int32), np.zeros((count, length), bool)
    for row in range(count):
        text = np.concatenate([golden[f"{row}/prompt"], golden[f"{row}/reply"]])
        tokens[row, : len(text)], mask[row, : len(text)] = text, True

    @jax.jit
    def most_probable(params: Params) -> tuple[jax.Array, jax.Array]:
        positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
        hidden = forward(real_policy.graphdef, params, tokens, positions, mask)
        best = jax.lax.map(lambda row: jnp.argmax(vocabulary_logits(params, row), -1), hidden)
        ends = jnp.array([len(golden[f"{row}/prompt"]) - 1 for row in range(count)])
        return best, vocabulary_logits(params, hidden[jnp.arange(count), ends])

    best, logits = most_probable(real_policy.params)
    for row in range(count):
        start, reply = len(golden[f"{row}/prompt"]), golden[f"{row}/reply"]
        assert np.abs(logits[row, ::37] - golden[f"{row}/logits"]).max() < 1e-3
        assert np.array_equal(best[row, start - 1 : start - 1 + len(reply)], reply)


@pytest.mark.real_weights
def test_real_tokenizer_renders_the_recorded_prompts(
    real_policy: Policy, make_goldens: ModuleType
) -> None:
    golden = np.load(GOLDENS / "real.npz")
    assert real_policy.tokenizer is not None
    for row, prompt in enumerate(make_goldens.REAL_PROMPTS):
        ids = real_policy.tokenizer.chat_tokens([{"role": "user", "content": prompt}])
        assert ids == golden[f"{row}/prompt"].tolist()
