"""The path that the README shows to a stranger: own problems, train, watch, evaluate, export."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = (
    "--config.steps=2",
    "--config.problems.per_step=2",
    "--config.rollout.solutions=2",
    "--config.rollout.tests=2",
    "--config.rollout.max_new_tokens=16",
    "--config.rollout.max_prompt_tokens=256",
    "--config.rollout.rows=4",
    "--config.training.length_buckets=(288,)",
    "--config.evaluation.benchmarks=",
    "--config.execution.workers=2",
)


def command(repository: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, f"launch/{script}.py", *arguments],
        cwd=repository,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on the README's own example of a problem."""
    folder = tmp_path_factory.mktemp("stranger")
    shown = re.search(r"```json\n(.*?)\n```", (repository / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    record = json.loads(shown[1])
    labels = {
        "reference_solution": "def digit_sum(n):\n    return sum(map(int, str(n)))\n",
        "reference_tests": ["assert digit_sum(123) == 6"],
    }
    records = [record, record | labels | {"task_id": "mine/2"}]
    lines = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "my_problems.jsonl").write_text(lines)
    command(
        repository,
        "train",
        "--config=configs/toy.py",
        f"--workdir={folder / 'run'}",
        f"--config.problems.source=jsonl:{folder / 'my_problems.jsonl'}",
        *SMALL,
    )
    return folder / "run"


def test_training_leaves_figures_samples_and_a_page(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["isolation"] == "namespaces" for line in lines)
    samples = [json.loads(line) for line in (run / "rollouts" / "step_000000.jsonl").open()]
    assert {sample["task_id"] for sample in samples} == {"mine/1", "mine/2"}
    assert (run / "report.html").stat().st_size > 100_000


# Figures that only other settings than this run's have: KL, calibration, accelerators, mutants of
# a consensus.
OF_OTHER_SETTINGS = {
    "policy/kl",
    "calibration/score",
    "memory/device_peak_gb",
    "tester/mutation",
    "status/unavailable",
    # Of steps in which a sequence had an advantage.
    "policy/entropy",
    "policy/clip_fraction",
    "policy/sampling_gap",
}


def test_the_page_asks_for_figures_that_a_run_writes(repository: Path, run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    written = {key for line in lines for key in line} | OF_OTHER_SETTINGS
    for source in ("plots.py", "overview.py"):
        text = (repository / "zerocoder_jax" / "report" / source).read_text()
        asked = set(re.findall(r'"([a-z]+/[a-z_0-9]+)"', text))
        assert len(asked) > 3 and asked <= written, asked - written


def test_the_run_is_evaluated_on_labelled_problems(repository: Path, run: Path) -> None:
    problems = run.parent / "my_problems.jsonl"
    labelled = run.parent / "labelled.jsonl"
    labelled.write_text(problems.read_text().splitlines()[1] + "\n")
    output = command(
        repository,
        "evaluate",
        f"--policy={run}",
        f"--benchmarks=jsonl:{labelled}",
        f"--output={run.parent / 'results'}",
    )
    assert "pass_at_1" in output
    summary = json.loads((run.parent / "results" / "summary.json").read_text())
    assert summary["step"] == 2
    # Beside the paper's rows it stands where the run stands.
    assert summary["run"]["method"] == "B4(4,3)" and summary["run"]["model"] == "toy"
    assert "| B4(4,3) |" in command(repository, "tables", str(run.parent / "results"))


def test_the_run_is_exported_as_a_model(repository: Path, run: Path) -> None:
    command(repository, "export", f"--policy={run}", f"--output={run.parent / 'model'}")
    config = json.loads((run.parent / "model" / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert (run.parent / "model" / "tokenizer.json").is_file()
