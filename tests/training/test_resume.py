"""A run that is killed, or asked to stop, goes on as if nothing had happened."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zerocoder_jax import __version__
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import read_problems
from zerocoder_jax.training.coevolution import CoEvolution

# Figures that say how long something took or where, not what came out.
MACHINE = (
    *("seconds/", "time", "memory/", "rollout/tokens_per_second", "rollout/overlap"),
    *("execution/", "recompil"),
)
SMALL = (
    "--config.steps=4",
    "--config.problems.per_step=4",
    "--config.rollout.solutions=4",
    "--config.rollout.tests=4",
    "--config.rollout.max_new_tokens=32",
    "--config.rollout.rows=8",
    "--config.training.length_buckets=(112,)",
    "--config.selector.calibration.problems=3",
    "--config.evaluation.benchmarks=",
    "--config.execution.workers=2",
    "--config.logging.report_every=0",
)


def start(repository: Path, workdir: Path, *extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "launch/train.py", "--config=configs/toy.py:dynamic_b4"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *SMALL, *extra],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def lines(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def outcome(workdir: Path) -> list[dict]:
    """What came out of each step, without what the machine did meanwhile."""
    return [
        {k: v for k, v in line.items() if not any(word in k for word in MACHINE)}
        for line in lines(workdir)
    ]


def wait_for_steps(process: subprocess.Popen[str], workdir: Path, steps: int) -> None:
    deadline = time.monotonic() + 240
    while len(lines(workdir)) < steps:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no step finished in time"
        time.sleep(0.02)


def test_a_killed_run_ends_like_one_that_was_never_interrupted(
    repository: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(repository, whole))
    for steps in (1, 3):
        process = start(repository, killed)
        wait_for_steps(process, killed, steps)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(repository, killed))
    assert [line["step"] for line in lines(killed)] == [0, 1, 2, 3]
    assert outcome(killed) == outcome(whole)
    for step in range(4):
        name = f"rollouts/step_{step:06d}.jsonl"
        assert (killed / name).read_text() == (whole / name).read_text()


def test_sigterm_saves_and_the_same_command_continues(repository: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    process = start(repository, workdir, "--config.checkpoint.every=100")
    wait_for_steps(process, workdir, 2)
    process.send_signal(signal.SIGTERM)
    output = finish(process, code=143)
    assert "saved, the same command continues the run" in output
    done = len(lines(workdir))
    assert done >= 2
    finish(start(repository, workdir, "--config.checkpoint.every=100"))
    assert [line["step"] for line in lines(workdir)] == [0, 1, 2, 3]


def test_a_run_begins_without_what_a_longer_one_left_and_does_not_go_on_with_other_problems(
    repository: Path, tmp_path: Path
) -> None:
    config = load_config(
        f"{repository}/configs/toy.py", [*SMALL, "--config.steps=2", "--config.checkpoint.every=1"]
    )
    problems = read_problems("toy:train", limit=24)
    # As if the checkpoints of a longer run had been removed, and nothing else.
    left = ("rollouts/step_000009.jsonl", "evaluation/step_000009/toy.jsonl", "summary.json")
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    CoEvolution(config, tmp_path, problems).run()
    assert not [name for name in left if (tmp_path / name).exists()]
    assert {path.name for path in (tmp_path / "rollouts").iterdir()} == {
        "step_000000.jsonl",
        "step_000001.jsonl",
    }
    kept = (tmp_path / "config.json").read_text()
    fields = json.loads(kept)
    assert fields.pop("written_by") == {"program": f"zerocoder_jax {__version__}", "schema": 1}
    assert fields == json.loads(config.to_json_best_effort())
    # As if a rank filter had appeared since.
    other = load_config(f"{repository}/configs/toy.py", [*SMALL, "--config.steps=2"])
    assert other.checkpoint.every != config.checkpoint.every
    with pytest.raises(UserError, match="other problems"):
        CoEvolution(other, tmp_path, problems[:-1]).run()
    assert (tmp_path / "config.json").read_text() == kept


@pytest.mark.endurance
def test_twenty_kills_at_random_moments_change_nothing(repository: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = "--config.steps=12"
    began = time.monotonic()
    finish(start(repository, whole, longer))
    duration = time.monotonic() - began
    moments = random.Random(0)
    for kill in range(20):
        process = start(repository, killed, longer)
        # From the first import to a few steps on, so that every stage of a step is hit.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, duration))
        print(f"kill {kill + 1}: {len(lines(killed))} of 12 steps done", flush=True)
        if process.poll() == 0:
            # It was done: from the start again.
            assert outcome(killed) == outcome(whole)
            shutil.rmtree(killed)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(repository, killed, longer))
    assert outcome(killed) == outcome(whole)


@pytest.mark.endurance
def test_a_run_goes_on_with_another_mesh(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    finish(start(repository, whole))
    process = start(repository, moved)
    wait_for_steps(process, moved, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    finish(start(repository, moved, "--config.mesh.fsdp=2", "--config.mesh.data=2"))
    for ours, theirs in zip(outcome(moved), outcome(whole), strict=True):
        numbers = {name for name, value in theirs.items() if isinstance(value, float)}
        # Rows lie elsewhere on another mesh.
        numbers -= {"rollout/wasted_rows", "rollout/read_ratio"}
        for name in numbers:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4, nan_ok=True), name


def test_a_run_is_extended_rolled_back_and_continued_with_another_learning_rate(
    repository: Path, tmp_path: Path
) -> None:
    """Twelve steps become twenty; back at eight another rate is tried, and nothing is lost."""
    keep = (
        "--config.checkpoint.every=4",
        "--config.checkpoint.keep=100",
        "--config.problems.per_step=2",
        "--config.selector.calibration.enabled=false",
        "--config.rollout.solutions=2",
        "--config.rollout.tests=2",
        "--config.rollout.max_new_tokens=16",
    )
    finish(start(repository, tmp_path, "--config.steps=12", *keep))
    twelve = outcome(tmp_path)
    finish(start(repository, tmp_path, "--config.steps=20", *keep))
    twenty = outcome(tmp_path)
    assert [line["step"] for line in twenty] == list(range(20))
    assert twenty[:12] == twelve

    rate = "--config.optimizer.learning_rate=1e-4"
    refused = finish(start(repository, tmp_path, "--config.steps=20", *keep, rate), code=2)
    assert "learning_rate: 0.0003 then, 0.0001 now" in refused and "--accept-changes" in refused
    assert outcome(tmp_path) == twenty
    arguments = ("--config.steps=20", *keep, rate, "--step=8", "--accept-changes")
    finish(start(repository, tmp_path, *arguments))
    after = outcome(tmp_path)
    assert after[:8] == twenty[:8]
    # The step from 8 on samples the same policy; what it becomes is another one.
    assert after[8]["matrix/pass_rate"] == twenty[8]["matrix/pass_rate"]
    assert [line["step"] for line in after] == list(range(20)) and after[9:] != twenty[9:]
    aside = tmp_path / "rolled_back" / "0"
    assert outcome(aside) == twenty[8:]
    assert {path.name for path in (aside / "rollouts").iterdir()} == {
        f"step_{step:06d}.jsonl" for step in range(8, 20)
    }
    assert {int(path.name) for path in (aside / "checkpoints").iterdir()} == {12, 16, 20}

    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    begun = [event for event in events if event["event"] in ("start", "resume")]
    assert [(event["step"], event["steps"], event["rolled_back"]) for event in begun] == [
        (0, 12, False),
        (12, 20, False),
        (8, 20, True),
    ]
    assert begun[1]["changed"] == ["config.steps: 12 then, 20 now"]
    # The checkpoint of step 8 is of the run of twelve.
    assert begun[2]["changed"] == [
        "config.optimizer.learning_rate: 0.0003 then, 0.0001 now",
        "config.steps: 12 then, 20 now",
    ]
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 1e-4


def test_ctrl_c_saves_what_is_finished_and_names_itself(repository: Path, tmp_path: Path) -> None:
    number = signal.SIGINT
    process = start(repository, tmp_path, "--config.checkpoint.every=100", "--config.steps=400")
    wait_for_steps(process, tmp_path, 1)
    process.send_signal(number)
    output = finish(process, code=128 + number)
    done = len(lines(tmp_path))
    assert f"stopped by SIGINT: {done} steps are finished and saved" in output
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(done)]
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["exit_code"]) == ("stop", done, 128 + number)


def test_the_same_command_started_twice_is_refused_and_the_first_one_loses_nothing(
    repository: Path, tmp_path: Path
) -> None:
    first = start(repository, tmp_path)
    wait_for_steps(first, tmp_path, 1)
    refused = finish(start(repository, tmp_path), code=2)
    assert f"is being written by process {first.pid} on host" in refused
    finish(first)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3]
    assert len(list((tmp_path / "rollouts").glob("step_*"))) == 4
