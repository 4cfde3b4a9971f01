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
    made = subprocess.run(
        ["bash", str(script), *arguments],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"} | variables,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


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
