"""Whatever is not finite, and wherever it comes from: no checkpoint ever holds it."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.loading import refuse_non_finite
from zerocoder_jax.problems import read_problems
from zerocoder_jax.training import coevolution
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.health import Unhealthy
from zerocoder_jax.training.update import PolicyUpdate

SMALL = (
    "--config.steps=4",
    "--config.problems.per_step=3",
    "--config.rollout.solutions=4",
    "--config.rollout.tests=4",
    "--config.rollout.max_new_tokens=32",
    "--config.rollout.rows=8",
    "--config.training.length_buckets=(112,)",
    "--config.execution.workers=2",
    "--config.mutation.limit=2",
    "--config.checkpoint.every=1",
)


def run(repository: Path, workdir: Path, *changes: str) -> list[dict]:
    """Train; returns the metrics, and fails where the newest checkpoint is not finite."""
    config = load_config(f"{repository}/configs/toy.py", [*SMALL, *changes])
    problems = read_problems("toy:train", limit=12)
    loop = coevolution.CoEvolution(config, workdir, problems)
    try:
        loop.run()
    finally:
        with Checkpoints(workdir / "checkpoints", config) as checkpoints:
            if checkpoints.steps:
                state, _ = checkpoints.restore(loop._state)
                refuse_non_finite(state, "the newest checkpoint")
    return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def spoiling(monkeypatch, steps: range, spoil) -> None:
    """Let ``spoil(self, state, sequences)`` prepare the updates of these steps."""
    update, count = PolicyUpdate.__call__, iter(range(100))

    def spoiled(self, state, sequences):
        if next(count) in steps:
            return spoil(update, self, state, sequences)
        return update(self, state, sequences)

    monkeypatch.setattr(PolicyUpdate, "__call__", spoiled)


def nan_gradient(update, self, state, sequences):
    """A single sequence makes the gradient of the whole batch a NaN."""
    spoiled = dataclasses.replace(sequences[0], advantage=float("nan"))
    return update(self, state, [spoiled, *sequences[1:]])


def test_a_gradient_that_is_not_finite_costs_one_update(repository, tmp_path, monkeypatch) -> None:
    spoiling(monkeypatch, range(1, 2), nan_gradient)
    metrics = run(repository, tmp_path)
    assert [line["policy/skipped_updates"] for line in metrics] == [0, 1, 0, 0]


def test_gradients_that_are_never_finite_stop_the_run_by_name(
    repository, tmp_path, monkeypatch
) -> None:
    spoiling(monkeypatch, range(1, 100), nan_gradient)
    with pytest.raises(Unhealthy, match=r"after step 2: for 2 .*health\.skipped_updates"):
        run(repository, tmp_path, "--config.health.skipped_updates=2")


def test_weights_that_are_not_finite_stop_the_run_and_replace_no_checkpoint(
    repository, tmp_path, monkeypatch
) -> None:
    def nan_weight(update, self, state, sequences):
        state, metrics = update(self, state, sequences)
        table = state.params["embedding"]["table"]
        state.params["embedding"]["table"] = table.at[0, 0].set(jnp.nan)
        return state, metrics

    spoiling(monkeypatch, range(1, 2), nan_weight)
    with pytest.raises(UserError, match=r"after 2 steps, tensor params.embedding.table has values"):
        run(repository, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")) == ["1"]


def test_a_reward_that_is_not_finite_trains_nothing(repository, tmp_path, monkeypatch) -> None:
    rewarding = coevolution.reward_solutions

    def spoiled(judged, config):
        rewarding(judged, config)
        for one in judged:
            one.rewards[:] = np.nan

    monkeypatch.setattr(coevolution, "reward_solutions", spoiled)
    metrics = run(repository, tmp_path, "--config.steps=2")
    assert metrics[0]["signal/sequences"] == 0
