"""The command itself: what it refuses in one line, and a whole evaluation of the toy policy."""

import json
import subprocess
import sys

import pytest


def evaluate(repository, *arguments):
    return subprocess.run(
        [sys.executable, str(repository / "launch" / "evaluate.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=repository,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--benchmarks=toy:test"], "--policy or --config is missing"),
        (["--policy=nowhere", "--benchmarks=toy:test"], "nowhere is no run directory"),
        (["--config=configs/nowhere.py"], "configs/nowhere.py"),
        (["--config=configs/toy.py", "--benchmarks=toys:test"], "problem source 'toys:test'"),
        (["--config=configs/toy.py", "--step=3"], "--step=3: toy is no run directory"),
    ],
)
def test_a_mistake_ends_in_one_line(repository, arguments, words):
    done = evaluate(repository, *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_toy_policy_is_measured_and_measuring_again_changes_nothing(repository, tmp_path):
    arguments = (
        "--config=configs/toy.py",
        "--benchmarks=toy:test",
        "--limit=12",
        "--samples=4",
        f"--output={tmp_path}",
        "--config.execution.workers=1",
        "--config.rollout.rows=8",
    )
    first = evaluate(repository, *arguments)
    assert first.returncode == 0, first.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    for score in ("pass_at_1", "test_accuracy", "mutation_score"):
        assert 0 <= summary["toy"][score] <= 1
    assert summary["toy"]["scores"]["pass_at_4"]["problems"] == 12
    lines = (tmp_path / "toy.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 2 * 12  # settings, greedy and sampled
    assert "| CAvg |" in first.stdout

    again = evaluate(repository, *arguments)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    other = evaluate(repository, *arguments, "--samples=2")
    assert other.returncode == 2
    assert "samples: 4 there, 2 now" in other.stderr
