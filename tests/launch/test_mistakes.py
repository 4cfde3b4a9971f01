"""A person's mistake ends in one line that says what and where, exit code 2, and no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zerocoder_jax.command_line import write_config_json
from zerocoder_jax.configuration import load_config
from zerocoder_jax.training.checkpoints import Checkpoints


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
        (["--config=configs/toy.py", "--workdir=gs://bucket/run"], ["gs://", "mount the bucket"]),
        (["--config=configs/toy.py", "--workdir=RUN", "--step=-3"], ["--step", "best"]),
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


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Each path with when it was changed and what it holds."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_a_run_of_another_config_is_refused_and_finds_its_directory_as_it_was(
    repository: Path, tmp_path: Path
) -> None:
    # The rank filter would be the first to write.
    command = ("--config=configs/toy.py", f"--workdir={tmp_path}", "--config.prefilter.make=true")
    config = load_config(f"{repository}/configs/toy.py", [command[2]])
    write_config_json(tmp_path, config)
    with Checkpoints(tmp_path / "checkpoints", config) as checkpoints:
        checkpoints.save(1, {"weights": np.zeros(3, np.float32)}, {"step": 1})
    before = everything_in(tmp_path)
    line = refusal(launch(repository, "train.py", *command, "--config.grpo.clip_low=0.1"))
    assert "config.grpo.clip_low: 0.2 then, 0.1 now" in line and "choose another --workdir" in line
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    "changes",
    [
        ["--config.policy.source=hf:Qwen/Qwen3-4B"],
        ["--config.problems.source=jsonl:mine.jsonl"],
        '{"policy": "toy"}',
        "[]",
        None,
    ],
    ids=["other policy", "other problems", "another file", "a list", "no config"],
)
def test_a_demo_does_not_replace_results_that_are_none_of_its_own(
    repository: Path, tmp_path: Path, changes: list[str] | str | None
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    if isinstance(changes, str):
        (tmp_path / "config.json").write_text(changes)
    elif changes is not None:
        write_config_json(tmp_path, load_config(f"{repository}/configs/toy.py", changes))
    before = everything_in(tmp_path)
    assert str(tmp_path) in refusal(launch(repository, "demo.py", f"--workdir={tmp_path}"))
    assert everything_in(tmp_path) == before


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


@pytest.mark.parametrize(
    "command",
    [
        "evaluate.py --config=configs/toy.py --benchmarks=toy:test --output={file}",
        "prefilter.py --config=configs/toy.py --workdir={file}",
        "pretrain_toy.py --output={file}/toy",
        "tables.py {run} --output={file}/tables",
    ],
)
def test_a_place_that_cannot_be_written_is_named(
    repository: Path, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 0, "role": "coder"}\n')
    line = refusal(launch(repository, *command.format(file=file, run=run).split()))
    assert str(file) in line and "cannot be written" in line


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate.py --config=configs/toy.py --limit=-1", "--limit=-1"),
        ("evaluate.py --config=configs/toy.py --samples=0", "--samples=0"),
        ("evaluate.py --config=configs/toy.py --top-p=0", "--top-p=0"),
        ("evaluate.py --config=configs/toy.py --temperature=-1", "--temperature=-1"),
        ("evaluate.py --config=configs/toy.py --temperature=nan", "--temperature=nan"),
        ("report.py --workdir=RUN --samples-megabytes=inf", "--samples-megabytes=inf"),
        ("report.py --workdir=RUN --samples-megabytes=nan", "--samples-megabytes=nan"),
        ("selection_noise.py --workdir=RUN --problems-per-point=0", "--problems-per-point"),
        ("pretrain_toy.py --output=build/nowhere --steps=1", "--steps"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(
    repository: Path, command: str, words: str
) -> None:
    assert words in refusal(launch(repository, *command.split()))


def test_an_interrupted_command_says_so_in_one_line(repository: Path) -> None:
    program = """
import signal, threading, time
from zerocoder_jax.errors import run_command

def main():
    threading.Thread(target=time.sleep, args=(600,)).start()  # nobody waits for it
    # A shell starts what runs in its background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)

run_command(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=repository
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted: what is finished is kept, the same command continues\n"


def test_a_benchmark_explains_its_own_arguments(repository: Path) -> None:
    assert "--rounds" in launch(repository, "benchmark.py", "rollout", "--help").stdout
    assert "NAME --help" in launch(repository, "benchmark.py", "--help").stdout


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


@pytest.mark.parametrize("script", ["evaluate.py", "export.py", "report.py", "prefilter.py"])
def test_a_bucket_is_refused_wherever_a_folder_is_asked_for(repository: Path, script: str) -> None:
    name = {"evaluate.py": "--output", "export.py": "--output"}.get(script, "--workdir")
    arguments = [f"{name}=s3://bucket/run"]
    if script != "report.py":
        arguments += ["--config=configs/toy.py"] if script != "export.py" else ["--policy=toy"]
    line = refusal(launch(repository, script, *arguments))
    assert "s3://" in line and "mount the bucket" in line
    assert not (repository / "s3:").exists()
