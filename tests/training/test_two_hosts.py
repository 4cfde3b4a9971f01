"""A run of two hosts is the run of one: its samples, selections, rewards, figures and updates."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# Three problems a step and three for the calibration: the hosts' shares are uneven.
SMALL = (
    "--config.steps=2",
    "--config.problems.per_step=3",
    "--config.problems.limit=24",
    "--config.rollout.solutions=4",
    "--config.rollout.tests=4",
    "--config.rollout.max_new_tokens=32",
    "--config.rollout.rows=8",
    "--config.training.length_buckets=(112,)",
    "--config.selector.calibration.problems=3",
    "--config.execution.workers=1",
    "--config.mutation.limit=2",
    "--config.grpo.kl_coefficient=0.1",
    "--config.evaluation.limit=4",
)
# Figures that say how long something took or how rows lay, not what came out.
MACHINE = ("seconds", "memory/", "recompil", "tokens_per_second", "rollout/overlap")
LAYOUT = (
    "rollout/wasted_rows",
    "rollout/read_ratio",
    "rollout/steps",
    "rollout/searched_steps",
)

HOST = """
import sys
from pathlib import Path
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import run_command
from zerocoder_jax.parallel import exchange, start_hosts

def main():
    experiment, workdir, *changes = sys.argv[1:]
    config = load_config(f"configs/toy.py:{experiment}", changes)
    start_hosts(config.distributed)
    from zerocoder_jax.evaluation import training_evaluation
    from zerocoder_jax.training.coevolution import CoEvolution
    from zerocoder_jax.training.training_problems import training_problems
    folder = Path(workdir)
    evaluate = training_evaluation(config, folder)
    CoEvolution(config, folder, training_problems(config, folder), evaluate=evaluate).run()
    exchange("done")  # process 0 hosts the coordination service: it leaves last

run_command(main)
"""


def start(repository: Path, experiment: str, workdir: Path, *changes: str) -> subprocess.Popen:
    workdir.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", HOST, experiment, str(workdir), *SMALL, *changes],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]


def run_on_two_hosts(repository: Path, experiment: str, workdir: Path, *changes: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    hosts = [
        start(
            *(repository, experiment, workdir, *changes),
            "--config.distributed.mode=explicit",
            f"--config.distributed.coordinator=127.0.0.1:{port}",
            "--config.distributed.processes=2",
            f"--config.distributed.process={process}",
            "--config.distributed.timeout=300",
        )
        for process in range(2)
    ]
    # Both are read at once: one that waits for a reader keeps the other from leaving.
    with ThreadPoolExecutor(2) as readers:
        list(readers.map(finish, hosts))


def figures(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def rollouts(workdir: Path) -> dict[tuple[int, str], dict]:
    """Records by step and problem: they stand in another order where hosts wrote them."""
    records = [
        json.loads(line)
        for path in sorted((workdir / "rollouts").glob("step_*.jsonl"))
        for line in path.open()
    ]
    return {(record["step"], record["task_id"]): record for record in records}


@pytest.fixture(scope="module")
def runs(repository: Path, tmp_path_factory) -> tuple[Path, Path]:
    """A run on one host, and the same on two. Labelled problems train in the same batch."""
    folder = tmp_path_factory.mktemp("hosts")
    finish(start(repository, "dynamic_b4", folder / "one"))
    run_on_two_hosts(repository, "dynamic_b4", folder / "two")
    return folder / "one", folder / "two"


def test_two_hosts_sample_judge_and_reward_what_one_does(runs: tuple[Path, Path]) -> None:
    one, two = map(rollouts, runs)
    assert len(one) == 2 * (3 + 3)
    assert one == two


def test_figures_and_updates_of_two_hosts_are_those_of_one(runs: tuple[Path, Path]) -> None:
    for ours, theirs in zip(figures(runs[1]), figures(runs[0]), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if name == "time":
                continue
            if isinstance(value, str):
                assert ours[name] == value
            elif not any(word in name for word in MACHINE) and name not in LAYOUT:
                assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_every_host_knows_the_whole_run(runs: tuple[Path, Path]) -> None:
    other = runs[1] / "hosts" / "1"
    ours, theirs = figures(runs[1]), figures(other)
    for line in [*ours, *theirs]:
        line.pop("evaluation/seconds", None)  # its own: both measured the same policy
        line.pop("time")
    assert theirs == ours
    assert rollouts(other) == rollouts(runs[1])
    for workdir in (runs[1], other):
        lines = (workdir / "evaluation" / "step_000002" / "toy.jsonl").read_text().splitlines()
        assert len(lines) == 1 + 4 and all(map(json.loads, lines))


def test_what_two_hosts_saved_one_goes_on_with(runs: tuple[Path, Path], repository: Path) -> None:
    """The last checkpoint, of a state cut in two; and it is the one host's own."""
    script = """
import sys, jax, numpy as np
from zerocoder_jax.configuration import load_config
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import load_policy
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.update import PolicyUpdate
config = load_config("configs/toy.py:dynamic_b4", sys.argv[3:])
weights = []
for workdir in sys.argv[1:3]:
    mesh = make_mesh(config.mesh)
    policy = load_policy(config.policy.source, dtype="float32", mesh=mesh)
    update = PolicyUpdate(policy, config, mesh)
    with Checkpoints(f"{workdir}/checkpoints", config) as checkpoints:
        state, meta = checkpoints.restore(update.init(policy.params))
    assert meta["step"] == 2 and int(state.step) == 2
    weights.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)]))
moved = np.abs(weights[0] - weights[1])
assert moved.max() < 1e-3 and moved.mean() < 1e-6, (moved.max(), moved.mean())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, runs), *SMALL],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.endurance
def test_the_offline_baselines_tests_are_written_once_for_all_hosts(
    repository: Path, tmp_path: Path
) -> None:
    run_on_two_hosts(repository, "offline", tmp_path, "--config.steps=1")
    written = [json.loads(line)["task_id"] for line in (tmp_path / "offline_tests.jsonl").open()]
    assert len(written) == len(set(written)) == 24
    assert not list((tmp_path / "hosts").rglob("offline_tests.jsonl"))
