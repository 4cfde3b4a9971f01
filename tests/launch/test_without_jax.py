"""What only reads or explains starts no JAX: it would take an accelerator that is not its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zerocoder_jax.command_line import write_config_json
from zerocoder_jax.configuration import load_config

# Runs a script of launch/ as a person would, and says at the end whether JAX was imported.
PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as leaving:
    assert not leaving.code, leaving.code
print("JAX started:", "jax" in sys.modules)
"""
SCRIPTS = sorted(path.name for path in (Path(__file__).parents[2] / "launch").glob("*.py"))


def starts_jax(repository: Path, *arguments: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=repository,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] == "JAX started: True"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_starts_no_jax(repository: Path, script: str) -> None:
    assert not starts_jax(repository, f"launch/{script}", "--help")


def test_the_list_of_experiments_starts_no_jax(repository: Path) -> None:
    assert not starts_jax(repository, "launch/train.py", "--list")


def test_loading_any_config_starts_no_jax(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "load.py"
    script.write_text(
        "import sys\n"
        "from zerocoder_jax.configuration import load_config\n"
        "for name in sys.argv[1:]:\n"
        "    load_config(name)\n"
    )
    configs = [f"configs/{path.name}" for path in (repository / "configs").glob("q*.py")]
    assert len(configs) >= 4
    names = [*configs, "configs/toy.py:dynamic_b4,dapo"]
    assert not starts_jax(repository, str(script), *names)


@pytest.mark.parametrize(("script", "argument"), [("report.py", "--workdir="), ("tables.py", "")])
def test_reading_a_run_starts_no_jax(
    repository: Path, tmp_path: Path, script: str, argument: str
) -> None:
    write_config_json(tmp_path, load_config(f"{repository}/configs/toy.py"))
    line = {"step": 0, "role": "coder", "seconds/total": 1.0, "evaluation/toy/pass_at_1": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert not starts_jax(repository, f"launch/{script}", f"{argument}{tmp_path}")
