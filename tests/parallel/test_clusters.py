"""The cluster templates start training with the words they were given, each once and whole."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

ARGUMENTS = [
    "launch/train.py",
    "--config=configs/qwen2_5_coder_7b.py:dynamic_b4",
    "--workdir=/mnt/my runs/7b",
    "--config.distributed.mode=auto",
]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def start(script: Path, folder: Path, *arguments: str, **variables: str) -> list[str]:
    """The lines printed when the cluster's own command is the one in ``folder``."""
    made = ended(script, folder, *arguments, **variables)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


def ended(
    script: Path, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *arguments],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"} | variables,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )


@pytest.mark.parametrize("extra", [[], ["--config.seed=3", "--config.problems.source=apps:a b"]])
def test_every_host_of_a_tpu_slice_runs_the_command(repository, tmp_path, extra):
    # gcloud hands the command to a shell on the host.
    program(tmp_path / "gcloud", 'for word; do [[ $word != --command=* ]] || break; done\n'
            'bash -c "${word#--command=}"')  # fmt: skip
    program(tmp_path / "zerocoder_jax/.venv/bin/python", "printf '%s\\n' \"$@\"")
    script = repository / "launch/clusters/tpu_slice.sh"
    assert start(script, tmp_path, "slice", "zone", "/mnt/my runs/7b", *extra) == ARGUMENTS + extra


@pytest.mark.parametrize("extra", [[], ["--config.seed=3"]])
def test_a_slurm_task_has_all_its_processors(repository, tmp_path, extra):
    program(tmp_path / "srun", "printf '%s\\n' \"$@\"")
    script = repository / "launch/clusters/slurm_a100.sh"
    words = start(script, tmp_path, "/mnt/my runs/7b", *extra, SLURM_CPUS_PER_TASK="64")
    assert words[:2] == ["--cpus-per-task=64", "--kill-on-bad-exit=1"]
    assert words[2:] == [".venv/bin/python", *ARGUMENTS, *extra]


CODES = {0: False, 2: False, 129: False, 130: False, 1: True, 75: True, 134: True, 143: True}


@pytest.mark.parametrize("code", CODES)
def test_slurm_queues_the_job_again_by_its_exit_code(repository, tmp_path, code):
    program(tmp_path / "srun", f"exit {code}")
    program(tmp_path / "scontrol", 'echo "scontrol $@"')
    script = repository / "launch/clusters/slurm_a100.sh"
    variables = {"SLURM_CPUS_PER_TASK": "64", "SLURM_JOB_ID": "7"}
    made = ended(script, tmp_path, "/mnt/run", **variables)
    assert made.returncode == code
    assert ("scontrol requeue 7" in made.stdout) == CODES[code]
    made = ended(script, tmp_path, "/mnt/run", **variables, SLURM_RESTART_COUNT="20")
    assert made.returncode == code and "scontrol" not in made.stdout


def test_a_mistake_of_one_host_is_not_hidden_by_those_that_were_stopped_for_it(
    repository, tmp_path
):
    program(tmp_path / "srun", "exit 143")
    program(tmp_path / "scontrol", "echo scontrol")
    other = tmp_path / "run" / "hosts" / "1"
    other.mkdir(parents=True)
    (tmp_path / "run" / "events.jsonl").write_text('{"event": "stop", "exit_code": 143}\n')
    (other / "events.jsonl").write_text('{"event": "stop", "exit_code": 2}\n')
    script = repository / "launch/clusters/slurm_a100.sh"
    made = ended(script, tmp_path, str(tmp_path / "run"), SLURM_CPUS_PER_TASK="64")
    assert made.returncode == 2 and "scontrol" not in made.stdout


def test_a_job_that_is_queued_again_is_not_rolled_back_again(repository, tmp_path):
    program(tmp_path / "srun", "printf '%s\\n' \"$@\"")
    script = repository / "launch/clusters/slurm_a100.sh"
    arguments = ("/mnt/my runs/7b", "--step=8", "--config.seed=3")
    first = start(script, tmp_path, *arguments, SLURM_CPUS_PER_TASK="64")
    again = start(script, tmp_path, *arguments, SLURM_CPUS_PER_TASK="64", SLURM_RESTART_COUNT="1")
    assert "--step=8" in first and [word for word in first if word != "--step=8"] == again


def test_a_tpu_host_starts_again_by_the_exit_code_and_rolls_back_once(repository, tmp_path):
    program(tmp_path / "gcloud", 'for word; do [[ $word != --command=* ]] || break; done\n'
            'bash -c "${word#--command=}"')  # fmt: skip
    program(tmp_path / "sleep", "")
    codes = tmp_path / "codes"
    # Ends with the next of the codes, each time that it is started.
    program(
        tmp_path / "zerocoder_jax/.venv/bin/python",
        f'echo "$@"; read code < {codes}; sed -i 1d {codes}; exit $code',
    )
    script = repository / "launch/clusters/tpu_slice.sh"
    for ends, code in (([75, 134, 0], 0), ([1, 2, 0], 2), ([130, 0], 130)):
        codes.write_text("".join(f"{one}\n" for one in ends))
        made = ended(script, tmp_path, "slice", "zone", "/mnt/run", "--step=8")
        assert made.returncode == code
        started = made.stdout.splitlines()
        assert len(started) == ends.index(code) + 1
        assert ["--step=8" in line for line in started] == [True] + [False] * (len(started) - 1)
