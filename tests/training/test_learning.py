"""The whole loop learns: a shortened toy run, without labels, measured on held-out problems.

Everything is real here: the toy policy, sampled Python programs, isolated execution, consensus,
mutants, GRPO. It takes a minute or two and turns red when rewards do not reach the weights, when
they reach them with the wrong sign, and when the sampler does not follow the policy.
"""

import json
import re
from pathlib import Path

import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.evaluation import training_evaluation
from zerocoder_jax.problems import read_problems
from zerocoder_jax.training.coevolution import CoEvolution

pytestmark = pytest.mark.optimized

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "toy.py"
# Fewer rows than samples: they take turns, and half of the programs need no compiling.
SHORTER = (
    *("steps=20", "evaluation.limit=104", "checkpoint.every=20", "logging.report_every=0"),
    "rollout.rows=32",
    # What stays in a CPU's caches takes a quarter less time.
    "training.micro_batch_tokens=1024",
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The lines of ``metrics.jsonl``, one a step and one for the evaluation after the last."""
    config = load_config(str(CONFIG), [f"--config.{change}" for change in SHORTER])
    workdir = tmp_path_factory.mktemp("learning")
    problems = read_problems(config.problems.source)
    run = CoEvolution(config, workdir, problems, evaluate=training_evaluation(config, workdir))
    run.run()
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def gain(lines, score: str) -> float:
    name = f"evaluation/toy/{score}"
    measured = [line[name] for line in lines if name in line]
    assert len(measured) == 2, sorted(lines[0])
    return measured[1] - measured[0]


def test_the_coder_solves_more_problems_that_it_was_never_trained_on(lines):
    assert gain(lines, "pass_at_1") > 0.05


def test_the_tester_is_right_more_often_about_them(lines):
    assert gain(lines, "test_accuracy") > 0.1


def test_the_testers_tests_kill_more_mutants_of_them(lines):
    assert gain(lines, "mutation_score") > 0.05


def test_the_sampler_follows_the_policy(lines):
    """Tokens are as probable to the policy in training as they were when they were sampled."""
    gaps = [line["policy/sampling_gap"] for line in lines if "policy/sampling_gap" in line]
    assert len(gaps) == 20
    assert max(gaps) < 0.01, gaps


# One row for all verdicts, reasons and scores.
FAMILIES = ("status/", "refused/", "evaluation/")
# What this run has no reason to write: it calibrates nothing, has no KL term and no accelerator.
ELSEWHERE = {"calibration/score", "policy/kl", "memory/device_peak_gb"}


def explained(page: str) -> set[str]:
    """The names in the page's table, ``/last`` of a row written out."""
    names = set()
    table = page[page.index("## metrics.jsonl") : page.index("## rollouts/")]
    for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE):
        group = ""
        for name in re.findall(r"`([^`]+)`", row):
            group = group if name.startswith("/") else name.rpartition("/")[0]
            names.add(group + name if name.startswith("/") else name)
    return {name for name in names if not name.startswith(FAMILIES)}


def test_every_figure_is_explained_and_every_explained_figure_is_there(lines, repository):
    page = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    written = {name for line in lines for name in line if not name.startswith(FAMILIES)}
    assert written <= explained(page)
    assert explained(page) - written == ELSEWHERE
