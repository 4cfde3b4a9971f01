"""A plan says what a run needs on a machine that is not here."""

import json
import os
import subprocess
import sys

import pytest

from configs import qwen2_5_coder_7b
from zerocoder_jax.benchmarks.plan import (
    PUBLISHED,
    ROLLOUT,
    UPDATE,
    make_plan,
    milder_changes,
)
from zerocoder_jax.parallel import parse_machine


def test_planned_bytes_are_those_that_the_toy_run_takes(repository):
    made = subprocess.run(
        [sys.executable, "tests/benchmarks/measured_bytes.py"],
        cwd=repository,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    result = json.loads(made.stdout.splitlines()[-1])
    for phase, parts in result["measured"].items():
        for name, measured in parts.items():
            planned = result["planned"][phase][name]
            assert planned == pytest.approx(measured, rel=0.1), (phase, name)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("Qwen/Qwen2.5-1.5B-Instruct", 1.54), ("Qwen/Qwen2.5-Coder-7B-Instruct", 7.07)],
)
def test_published_shapes_have_the_published_number_of_parameters(name, billions):
    # The table of an untied embedding multiplies nothing, so it is not among them.
    assert PUBLISHED[name].num_matmul_parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_changes_that_would_help_grow_from_small_to_large():
    config = qwen2_5_coder_7b.get_config()
    rows = [change["rollout.rows"] for change in milder_changes(config, ROLLOUT)]
    assert rows == sorted(rows, reverse=True) and rows[0] < config.rollout.rows
    tokens = [change["training.micro_batch_tokens"] for change in milder_changes(config, UPDATE)]
    # A micro-batch holds the longest sequence at least.
    assert tokens == [8192, 4096]


def plan_of_the_papers_7b_run(machine, names=UPDATE + ROLLOUT):
    config = qwen2_5_coder_7b.get_config()
    # Sixteen chips of 32 GB have room for the samples' cache and little else.
    if machine.startswith("v6e"):
        config.rollout.rows, config.mesh.tensor = 32, 4
        config.training.micro_batch_tokens = 4096
    policy = PUBLISHED["Qwen/Qwen2.5-Coder-7B-Instruct"]
    return make_plan(config, policy, parse_machine(machine), names)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "machine",
    [
        "a100-80:4",
        # The compiler is the A100's.
        pytest.param("h100:2x8", marks=pytest.mark.endurance),
        # libtpu takes minutes for an update.
        pytest.param("v5p:2x2x1", marks=pytest.mark.endurance),
        pytest.param("v6e:4x4", marks=pytest.mark.endurance),
    ],
)
def test_the_papers_7b_run_fits_update_and_rollout_together(machine):
    plan = plan_of_the_papers_7b_run(machine)
    assert plan.fits, plan
    assert {phase.name for phase in plan.phases} == {
        "update",
        "optimizer step",
        "decode",
        "prefill",
    }


@pytest.mark.compiled
@pytest.mark.endurance
def test_rows_that_four_tpus_share_are_planned():
    plan = plan_of_the_papers_7b_run("v6e:4x4", ("decode", "optimizer step"))
    assert plan.fits, plan
    whole = PUBLISHED["Qwen/Qwen2.5-Coder-7B-Instruct"].num_matmul_parameters * 2
    # Beside a quarter of the matrices, a chip holds the table of embeddings.
    assert whole / 4 < plan.phases[0].holds["weights sampled from"] < whole / 2


def answer_of(repository, *arguments: str) -> tuple[subprocess.CompletedProcess, dict]:
    made = subprocess.run(
        [sys.executable, "launch/plan.py", "--config=configs/qwen2_5_coder_7b.py", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    return made, json.loads(made.stdout.splitlines()[-1])


@pytest.mark.compiled
def test_a_machine_that_is_too_small_is_refused_with_what_would_help(repository):
    made, answer = answer_of(repository, "--topology=a100-80:4", "--config.rollout.rows=256")
    assert made.returncode == 2 and not answer["fits"]
    # The update fits and stays as it is.
    assert answer["change"].keys() == {"rollout.rows"} and answer["change"]["rollout.rows"] < 256
    assert made.stderr.splitlines()[-1] == "error: the run does not fit a100-80:4"


@pytest.mark.compiled
@pytest.mark.endurance
def test_what_makes_it_fit_does_make_it_fit(repository):
    """Both sides are too large, and each gets its own change."""
    machine, both = "a100-80:4", {"rollout.rows": 256, "training.micro_batch_tokens": 131_072}
    given = [f"--config.{name}={value}" for name, value in both.items()]
    _, answer = answer_of(repository, f"--topology={machine}", *given)
    assert answer["change"].keys() == both.keys()
    config = qwen2_5_coder_7b.get_config()
    config.update_from_flattened_dict(answer["change"])
    policy = PUBLISHED["Qwen/Qwen2.5-Coder-7B-Instruct"]
    assert make_plan(config, policy, parse_machine(machine)).fits


@pytest.mark.compiled
def test_a_machine_for_which_no_change_is_enough_is_refused_without_compiling(repository):
    made, answer = answer_of(repository, "--topology=v5e:2x2")
    assert made.returncode == 2 and "change" not in answer
    assert "take more devices" in made.stdout
    assert answer["bytes"]["update"] > answer["budget"]
