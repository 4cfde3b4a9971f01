"""Losses and gradients of every variant against PyTorch in float64: recorded, and live (parity)."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.training.grpo import grpo_loss

_script = Path(__file__).parent / "goldens" / "make_grpo.py"
_spec = importlib.util.spec_from_file_location("make_grpo", _script)
make_grpo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_grpo)

cases = pytest.mark.parametrize("case", list(make_grpo.CASES))


def loss_of_logits(logits: jax.Array, inputs: dict[str, np.ndarray], case: str, **counts):
    """The loss as a function of a policy's logits [B, T, V], in float32."""
    settings = make_grpo.settings_of(case)
    log_softmax = jax.nn.log_softmax(logits)
    targets = jnp.asarray(inputs["targets"])[..., None]
    given = {
        name: jnp.asarray(inputs[name], jnp.float32)
        for name in ("old", "reference", "rollout", "advantages")
    }
    mask = jnp.asarray(inputs["mask"])
    totals = {"total_tokens": mask.sum(), "total_sequences": mask.any(axis=1).sum()} | counts
    return grpo_loss(
        jnp.take_along_axis(log_softmax, targets, axis=-1)[..., 0],
        given["old"] if settings.old else None,
        given["reference"],
        given["advantages"],
        mask,
        -jnp.sum(jnp.exp(log_softmax) * log_softmax, axis=-1),
        given["rollout"],
        settings=settings,
        max_new_tokens=make_grpo.MAX_NEW_TOKENS,
        importance_cap=settings.importance_cap,
        **totals,
    )[0]


def loss_and_gradient(
    inputs: dict[str, np.ndarray], case: str, **counts
) -> tuple[float, np.ndarray]:
    logits = jnp.asarray(inputs["logits"], jnp.float32)
    return jax.value_and_grad(loss_of_logits)(logits, inputs, case, **counts)


def assert_close(found: tuple, expected: tuple) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


@cases
def test_loss_and_gradient_are_those_that_torch_recorded(case: str) -> None:
    goldens = np.load(make_grpo.GOLDENS)
    found = loss_and_gradient(make_grpo.make_inputs(seed=20), case)
    assert_close(found, (goldens[f"{case}/loss"], goldens[f"{case}/gradient"]))


def test_the_goldens_distinguish_the_variants() -> None:
    goldens = np.load(make_grpo.GOLDENS)
    losses = [float(goldens[f"{case}/loss"]) for case in make_grpo.CASES]
    assert len({round(loss, 6) for loss in losses}) == len(losses)


@cases
def test_micro_batches_add_up_to_the_batch(case: str) -> None:
    """Cut in three, each part padded to another length with NaN: the sums are the whole's."""
    inputs = make_grpo.make_inputs(seed=21)
    counts = {"total_tokens": inputs["mask"].sum(), "total_sequences": 4}
    whole_loss, whole_gradient = loss_and_gradient(inputs, case, **counts)
    total_loss, gradients = 0.0, []
    for rows, longer in ((slice(0, 1), 0), (slice(1, 3), 2), (slice(3, 5), 5)):
        part = {name: values[rows] for name, values in inputs.items()}
        count = len(part["mask"])
        for name in ("old", "reference", "rollout"):
            part[name] = np.hstack([part[name], np.full((count, longer), np.nan)])
        part["mask"] = np.hstack([part["mask"], np.zeros((count, longer), bool)])
        part["targets"] = np.hstack([part["targets"], np.zeros((count, longer), int)])
        padding = np.full((count, longer, make_grpo.VOCABULARY), 1.0)
        part["logits"] = np.concatenate([part["logits"], padding], axis=1)
        loss, gradient = loss_and_gradient(part, case, **counts)
        total_loss += loss
        gradients.append(gradient[:, : make_grpo.TOKENS])
        assert not np.any(np.asarray(gradient)[:, make_grpo.TOKENS :])
    assert_close((total_loss, np.concatenate(gradients)), (whole_loss, whole_gradient))


@pytest.mark.parity
@cases
def test_torch_still_says_what_was_recorded(case: str) -> None:
    pytest.importorskip("torch")
    goldens = np.load(make_grpo.GOLDENS)
    loss, gradient = make_grpo.torch_loss_and_gradient(make_grpo.make_inputs(seed=20), case)
    np.testing.assert_allclose(loss, goldens[f"{case}/loss"], rtol=1e-12)
    np.testing.assert_allclose(gradient, goldens[f"{case}/gradient"], rtol=1e-9, atol=1e-14)


@pytest.mark.parity
@cases
@pytest.mark.parametrize("seed", range(5))
def test_loss_and_gradient_agree_with_torch_on_fresh_batches(case: str, seed: int) -> None:
    pytest.importorskip("torch")
    inputs = make_grpo.make_inputs(seed)
    assert_close(loss_and_gradient(inputs, case), make_grpo.torch_loss_and_gradient(inputs, case))
