"""One command measures every part, whatever becomes of one of them, and goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zerocoder_jax.benchmarks.everything import Part, measure_all, parts

SELECTORS = ("--config=configs/toy.py", "--matrices=8", "--repeats=2")
GOOD = Part("good", "selectors", SELECTORS)


def test_a_part_that_fails_or_hangs_takes_only_its_own_figures(tmp_path):
    wrong = Part("wrong", "selectors", ("--config=configs/missing.py",))
    slow = Part("slow", "verifier", SELECTORS[:1])
    results = measure_all([wrong, GOOD], tmp_path, seconds=200)
    results |= measure_all([slow], tmp_path, seconds=0.5)
    assert "there is no file" in results["wrong"]["error"]
    assert results["good"]["grid_pairs"] == 35
    assert results["slow"]["error"].startswith("ended after")
    tables = (tmp_path / "tables.md").read_text()
    assert "- slow: ended after" in tables


def test_the_same_command_measures_only_what_is_missing(tmp_path):
    first = measure_all([GOOD], tmp_path, seconds=200)
    written = (tmp_path / "results.jsonl").read_text()
    # No second is enough to measure again.
    assert measure_all([GOOD], tmp_path, seconds=0.1) == first
    assert (tmp_path / "results.jsonl").read_text() == written
    assert (
        f"| good | {first['good']['calibration_ms']:.2f} |" in (tmp_path / "tables.md").read_text()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def alive(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_stopped_command_leaves_no_part_behind(tmp_path, repository):
    command = [sys.executable, "launch/benchmark.py", "all", "--smallest", f"--output={tmp_path}"]
    with subprocess.Popen(
        command,
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    ) as process:
        for line in process.stdout:
            if line.startswith("=="):
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 60
        while not (started := children.read_text().split()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    deadline = time.monotonic() + 30  # who is dead is buried when its new parent gets to it
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started and not any(map(alive, started))


def test_one_command_holds_every_size_that_is_to_be_measured():
    wanted = parts("configs/qwen2_5_1_5b.py", ["--config.seed=3"])
    shapes = [word for one in wanted for word in one.arguments if word.startswith("--shape")]
    assert set(shapes) == {"--shape=0.5b", "--shape=1.5b", "--shape=4b", "--shape=7b"}
    assert {one.benchmark for one in wanted} == {
        "rollout", "update", "selectors", "verifier", "step"
    }  # fmt: skip
    [step] = [one for one in wanted if one.benchmark == "step"]
    assert step.arguments == ("--config=configs/qwen2_5_1_5b.py", "--config.seed=3")
    assert any("--config.policy.lora.rank=32" in one.arguments for one in wanted)
    assert len({one.name for one in wanted}) == len(wanted)
