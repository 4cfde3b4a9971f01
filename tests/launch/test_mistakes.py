"""A person's mistake ends in one line that says what and where, exit code 2, and no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def launch(repository: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "launch" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=repository,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=configs/toy.py"], ["--workdir"]),
        (["--workdir=RUN"], ["--config"]),
        (["--config=configs/nowhere.py", "--workdir=RUN"], ["configs/nowhere.py"]),
        (["--config=configs/toy.py:codte", "--workdir=RUN"], ["codte", "codet"]),
        (["--config=configs/toy.py", "--workdir=RUN", "--config.grpo.klip=1"], ["grpo.klip"]),
        (["--config=configs/toy.py", "--workdir=RUN", "--config.seed=x"], ["config.seed", "x"]),
        (
            ["--config=configs/toy.py", "--workdir=RUN", "--config.grpo.ratio=both"],
            ["config.grpo.ratio", "both", "sequence"],
        ),
        (["--config=configs/toy.py", "--workdir=RUN", "--cofnig.seed=1"], ["cofnig"]),
    ],
)
def test_a_wrong_command_line_is_refused_by_name(
    repository: Path, arguments: list[str], words: list[str]
) -> None:
    line = refusal(launch(repository, "train.py", *arguments))
    for word in words:
        assert word in line


def test_a_config_that_names_a_missing_file_says_which(repository: Path, tmp_path: Path) -> None:
    line = refusal(
        launch(
            repository,
            "train.py",
            "--config=configs/toy.py",
            f"--workdir={tmp_path / 'run'}",
            "--config.problems.source=jsonl:no_such_file.jsonl",
        )
    )
    assert "no_such_file.jsonl" in line


def test_a_malformed_problem_is_named_by_file_and_line(repository: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    good = {"task_id": "a", "prompt": "add one", "entry_point": "f"}
    problems.write_text(json.dumps(good) + "\n" + json.dumps({"task_id": "b"}) + "\n")
    line = refusal(
        launch(
            repository,
            "train.py",
            "--config=configs/toy.py",
            f"--workdir={tmp_path / 'run'}",
            f"--config.problems.source=jsonl:{problems}",
        )
    )
    assert "problems.jsonl" in line
    assert "line 2" in line or ":2" in line


def test_a_truncated_gguf_file_is_named(repository: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(40))
    line = refusal(
        launch(
            repository,
            "train.py",
            "--config=configs/toy.py",
            f"--workdir={tmp_path / 'run'}",
            f"--config.policy.source=gguf:{broken}",
        )
    )
    assert "broken.gguf" in line


def test_every_script_explains_itself(repository: Path) -> None:
    scripts = sorted((repository / "launch").glob("*.py"))
    assert {script.name for script in scripts} >= {"train.py", "evaluate.py", "benchmark.py"}
    for script in scripts:
        done = launch(repository, script.name, "--help")
        assert done.returncode == 0, f"{script.name}: {done.stderr}"
        assert "--help" in done.stdout, script.name


def test_the_named_experiments_are_listed_with_the_fields_they_change(repository: Path) -> None:
    done = launch(repository, "train.py", "--list")
    assert done.returncode == 0, done.stderr
    assert "no_mutation" in done.stdout
    assert "reward.mutation=False" in done.stdout
