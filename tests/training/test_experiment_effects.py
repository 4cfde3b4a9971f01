"""No named experiment is without effect: it changes data, advantages, loss or what is trained.

The stations of a step are asked one by one, on verdicts drawn at random, so nothing is sampled.
"""

import functools
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from configs.base import get_config
from configs.experiments import EXPERIMENTS, apply_experiments
from zerocoder_jax.execution import MutationResult, Status
from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.policy.lora import abstract_lora, lora_settings
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training import prefilter
from zerocoder_jax.training.assignment import (
    reward_solutions,
    reward_tests,
    training_sequences,
    treat_truncated,
)
from zerocoder_jax.training.coevolution import CoEvolution, role_of_step
from zerocoder_jax.training.grpo import grpo_loss
from zerocoder_jax.training.problem_order import problems_of_step
from zerocoder_jax.training.sampling import CODER, TESTER, ProblemSamples, Sample

SAMPLES, LONGEST, DRAWN = 8, 100, 96
PROBLEMS = [
    Problem(
        f"t/{number}",
        f"Problem {number}.",
        "f",
        "function",
        reference_solution="def f(x):\n    return x\n",
        reference_tests=(AssertTest("assert f(1) == 1"),),
    )
    for number in range(480)
]
# What the config without a name is already is compared with its sibling.
ALREADY = {"b4_4_3": "b4_5_3", "delta_2": "delta_3", "calibration_10": "calibration_5"}
POLICY = PolicyConfig(
    vocab_size=8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=1, head_dim=8,
    num_kv_heads=1,
)  # fmt: skip


class RecordedVerdicts:
    """In the place of a pool: verdicts on mutants and reference solutions, by the problem."""

    def submit_mutation(self, problem: Problem, proxy: str, tests: list, *_: Any) -> Future:
        random = generator(problem)
        result: Future[MutationResult] = Future()
        statuses = random.integers(0, 2, (5, len(tests))).astype(np.uint8)
        original = random.integers(0, 2, len(tests)).astype(np.uint8)
        result.set_result(MutationResult(["m"] * 5, original, statuses))
        return result

    def submit_matrix(self, problem: Problem, solutions: list, tests: list) -> Future:
        result: Future[np.ndarray] = Future()
        shape = (len(solutions), len(tests))
        result.set_result(generator(problem).integers(0, 2, shape).astype(np.uint8))
        return result


def generator(problem: Problem) -> np.random.Generator:
    return np.random.default_rng(int(problem.task_id.partition("/")[2]))


def sampled(problem: Problem) -> ProblemSamples:
    """Replies of all lengths, some without a program, and their verdicts: fixed by the problem."""
    random = generator(problem)

    def samples() -> list[Sample]:
        lengths = random.integers(1, LONGEST + 1, SAMPLES)
        return [
            Sample(
                np.full(n, i), np.zeros(n, np.float32), bool(n < LONGEST), "",
                f"code {i}" if random.random() < 0.9 else None, "",
            )
            for i, n in enumerate(lengths)
        ]  # fmt: skip

    number = int(problem.task_id.partition("/")[2])
    one = ProblemSamples(problem, ([number, 0], [number, 1]), samples(), samples())
    # Solutions share their mistakes: a few ways to behave, of which each solution has one.
    kinds = int(random.integers(1, 5))
    behaviours = random.random((kinds, SAMPLES)) < random.choice([0.3, 0.5, 0.8], (kinds, 1))
    passes = behaviours[random.integers(0, kinds, SAMPLES)]
    one.statuses = np.where(passes, Status.PASSED, Status.FAILED).astype(np.uint8)
    solutions, tests = one.masks()
    one.statuses[~solutions] = one.statuses[:, ~tests] = Status.UNPARSABLE
    one.correct = solutions & (random.random(SAMPLES) < 0.5)
    one.undecided = np.zeros(SAMPLES, bool)
    return one


@functools.cache
def effects(names: str, workdir: Path) -> dict[str, Any]:
    """What one step of each role would learn from, and how."""
    config = apply_experiments(get_config(), names)
    config.rollout.max_new_tokens, config.problems.per_step = LONGEST, DRAWN
    config.prefilter.path = str(workdir)
    problems = prefilter.filtered_problems(PROBLEMS, config, workdir, say=lambda text: None)
    loop = CoEvolution(config, workdir, problems)
    found: dict[str, Any] = {"filtered": len(problems)}
    drawn = problems_of_step(loop._problems, 0, loop._drawn_per_step, config.seed)
    found["data"] = [one.task_id for one in [*drawn, *loop._calibration]]
    samples = [sampled(problem) for problem in [*drawn, *loop._calibration]]
    hyperparameters, _ = loop._calibrate(samples[len(drawn) :])
    for role in {role_of_step(step, config.method) for step in (0, 1)}:
        judged = loop._judge(samples, len(drawn), hyperparameters)
        rewarded = judged if config.supervision == "calibration" else judged[: len(drawn)]
        if role == CODER:
            reward_solutions(rewarded, config)
        else:
            reward_tests(rewarded, RecordedVerdicts(), config, step=1, weight=0.5)  # type: ignore[arg-type]
        treat_truncated(rewarded, role, config)
        found[f"advantages {role}"] = [
            (*one.prompt.tolist(), len(one.response), one.advantage)
            for one in training_sequences(rewarded, role, config)
        ]
    random = np.random.default_rng(0)
    old, reference, new = random.normal(-2, 1, (3, 4, 6)).astype(np.float32)
    mask = np.arange(6) < np.array([[2], [6], [3], [5]])

    def loss(log_probs: jax.Array) -> jax.Array:
        return grpo_loss(
            log_probs, old, reference, np.array([1.0, -1.0, 0.5, -0.5], np.float32), mask, None,
            None, settings=config.grpo, total_tokens=16, total_sequences=4, max_new_tokens=6,
        )[0]  # fmt: skip

    found["loss"] = [np.asarray(one).tolist() for one in jax.value_and_grad(loss)(new)]
    if settings := lora_settings(config.policy.lora):
        found["trained"] = str(
            jax.tree.map(lambda leaf: leaf.shape, abstract_lora(POLICY, settings))
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(autouse=True)
def recorded_ranks(monkeypatch) -> None:
    """A filter that was made before: ranks 0 to 4, in turn."""
    ranks = {problem.task_id: number % 5 for number, problem in enumerate(PROBLEMS)}
    monkeypatch.setattr(prefilter, "read_prefilter", lambda *_: ranks)


@pytest.fixture
def plain(folder: Path) -> dict[str, Any]:
    return effects("", folder)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_changes_data_advantages_or_loss(
    name: str, plain: dict[str, Any], folder: Path
) -> None:
    expected = effects(ALREADY[name], folder) if name in ALREADY else plain
    assert effects(name, folder) != expected


SELECTORS = ("max_pass", "codet", "b4_4_3", "b4_5_3", "dynamic_b4", "dynamic_b4_unsupervised")


def test_every_selector_trains_on_other_advantages_than_every_other(folder: Path) -> None:
    """With labels and without: none of them silently is another one."""
    static = SELECTORS[:4]
    names = [*SELECTORS, *(f"calibration,{one}" for one in static), "oracle"]
    seen = {name: repr(effects(name, folder)[f"advantages {CODER}"]) for name in names}
    assert len(set(seen.values())) == len(names)
    for name in static:
        swapped = effects(f"{name},calibration", folder)
        assert repr(swapped[f"advantages {CODER}"]) == seen[f"calibration,{name}"]


def test_labelled_problems_are_trained_on_where_the_name_says_so(folder: Path) -> None:
    for name, sampled_problems, trained_problems in (
        ("dynamic_b4", DRAWN + 10, DRAWN + 10),
        ("max_pass,calibration", DRAWN + 10, DRAWN + 10),
        ("dynamic_b4_unsupervised", DRAWN + 10, DRAWN),
        ("max_pass", DRAWN, DRAWN),
    ):
        found = effects(name, folder)
        assert len(found["data"]) == sampled_problems, name
        assert len({prompt for prompt, *_ in found[f"advantages {CODER}"]}) == trained_problems


def test_without_the_mutation_term_the_tester_has_other_advantages(
    plain: dict[str, Any], folder: Path
) -> None:
    found = effects("no_mutation", folder)
    assert found[f"advantages {TESTER}"] != plain[f"advantages {TESTER}"]
    assert found[f"advantages {CODER}"] == plain[f"advantages {CODER}"]
