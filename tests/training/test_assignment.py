"""Who is rewarded with which evidence, with programs that really run."""

import dataclasses
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training.assignment import reward_solutions, reward_tests
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.sampling import Execution, ProblemSamples, Sample

PROBLEM = Problem("mine/1", "The larger of two numbers.", "larger", "function")
SOLUTION = "def larger(a, b):\n    return a if a > b else b\n"
TESTS = (
    "assert larger(1, 2) == 2",  # right
    "assert larger(5, 1) == 1",  # wrong: fails on the solution, passes on its opposite
    "assert larger(1, 2) == 7",  # wrong everywhere
    None,
)


def sample(parsed) -> Sample:
    return Sample(np.zeros(1, np.int32), np.zeros(1, np.float32), True, "", parsed, "")


def judged(pool: ExecutionPool) -> Judged:
    tests = [AssertTest(code) if code else None for code in TESTS]
    samples = ProblemSamples(PROBLEM, ([], []), [sample(SOLUTION)], [sample(one) for one in tests])
    samples.statuses = pool.passing_matrix(PROBLEM, [SOLUTION], tests)
    solutions, tests_mask = samples.masks()
    chosen = np.ones(1, bool)
    return Judged(samples, solutions, tests_mask, 1, chosen, tests_mask, 1.0, 1.0, False)


def rewards(pool: ExecutionPool, gated: bool, copied_tests: str = "paid") -> list[float]:
    reward = SimpleNamespace(
        mutation=True,
        gated=gated,
        tester_form="additive",
        format_penalty=-1.0,
        copied_tests=copied_tests,
    )
    config = SimpleNamespace(reward=reward, seed=0, mutation=SimpleNamespace(limit=0))
    one = judged(pool)
    one.samples.tests[0].copied = True
    reward_tests([one], pool, config, step=1, weight=1.0)
    assert one.mutation is not None and len(one.mutation.mutants) > 2
    return one.rewards.tolist()


def test_a_test_that_copies_an_example_is_paid_like_others_or_not_at_all() -> None:
    with ExecutionPool(2) as pool:
        paid, unpaid = rewards(pool, True), rewards(pool, True, "unpaid")
    assert paid[0] > 1 and unpaid[0] == 0
    assert paid[1:] == unpaid[1:]


def test_a_wrong_test_kills_nothing_where_killing_is_gated_and_the_most_where_it_is_not() -> None:
    with ExecutionPool(2) as pool:
        gated, ungated = rewards(pool, True), rewards(pool, False)
    right, opposite, nonsense, unparsed = gated
    assert 1 < right < 2
    assert (opposite, nonsense, unparsed) == (0, 0, -1)
    assert ungated[0] == pytest.approx(right)
    assert 0 < ungated[1] < 1
    # This is why gating is the default: the best killer is a test that nothing can pass.
    assert ungated[2] == 1
    assert ungated[3] == -1


def test_without_consensus_the_reference_solution_judges_the_tests_of_a_supervised_problem() -> (
    None
):
    """With mutants and without; the sampled solution, which is wrong, plays no part."""
    for mutation in (True, False):
        reward = SimpleNamespace(
            mutation=mutation,
            gated=True,
            tester_form="additive",
            format_penalty=-1.0,
            copied_tests="paid",
        )
        config = SimpleNamespace(reward=reward, seed=0, mutation=SimpleNamespace(limit=0))
        with ExecutionPool(2) as pool:
            one = judged(pool)
            one.samples.problem = dataclasses.replace(
                PROBLEM, reference_solution="def larger(a, b):\n    return min(a, b)\n"
            )
            one.supervised = True
            reward_tests([one], pool, config, step=1, weight=0.0)
        # The reference says "the smaller": now the second test is the right one.
        assert one.rewards.tolist() == [0, 1, 0, -1]
        assert one.reward_mask.all()


# ---- where the verifier could give no verdict ------------------------------------------------

P, F, U, N = Status.PASSED, Status.FAILED, Status.UNAVAILABLE, Status.UNPARSABLE


def judged_with(statuses: list[list[Status]]) -> Judged:
    """Verdicts as the pool might give them; a row or a column of N had nothing to run."""
    matrix = np.array(statuses, np.uint8)
    samples = ProblemSamples(
        PROBLEM,
        ([], []),
        [sample(None if (row == N).all() else "code") for row in matrix],
        [sample(None if (column == N).all() else "test") for column in matrix.T],
    )
    samples.statuses = matrix
    solutions, tests = samples.masks()
    return Judged(samples, solutions, tests, 1, solutions.copy(), tests, 1.0, 1.0, False)


COEVOLUTION = SimpleNamespace(
    method="coevolution", reward=SimpleNamespace(confidence_weighted=False)
)


def test_a_test_that_the_verifier_cannot_judge_costs_no_solution_its_reward() -> None:
    one = judged_with([[P, U], [F, U], [N, N]])
    reward_solutions([one], COEVOLUTION)
    assert one.reward_mask.tolist() == [True, True, True]
    assert one.rewards.tolist() == [1, 1, 0]


def test_a_solution_that_the_verifier_cannot_judge_has_no_reward() -> None:
    one = judged_with([[P, P], [P, U]])
    reward_solutions([one], COEVOLUTION)
    assert one.reward_mask.tolist() == [True, False]


def supervised(reference: list[list[Status]]) -> Judged:
    """A supervised problem whose own tests say nothing, with verdicts of its reference tests."""
    one = judged_with([[U]] * len(reference))
    one.supervised = True
    matrices = Future(), Future()
    matrices[0].set_result(one.samples.statuses)
    matrices[1].set_result(np.array(reference, np.uint8))
    Execution(one.samples, *matrices).wait()
    return one


def test_a_label_that_the_verifier_could_not_decide_is_no_reward_of_zero() -> None:
    one = supervised([[P, P], [P, U], [F, U], [N, N]])
    reward_solutions([one], COEVOLUTION)
    assert one.rewards.tolist() == [1, 0, 0, 0]
    # Passing the rest leaves the second open; the third is wrong whatever else it passes.
    assert one.reward_mask.tolist() == [True, False, True, True]


def test_a_test_whose_kills_the_verifier_cannot_judge_has_no_reward() -> None:
    """Unlike its siblings: a score of nothing would say that it kills nothing."""
    with ExecutionPool(1) as pool:
        one = judged(pool)

        class Failing:
            def submit_mutation(self, *arguments: object) -> Future:
                result = pool.submit_mutation(*arguments).result()
                result.statuses[:, 0] = Status.UNAVAILABLE
                future: Future = Future()
                future.set_result(result)
                return future

        reward = SimpleNamespace(
            mutation=True,
            gated=True,
            tester_form="additive",
            format_penalty=-1.0,
            copied_tests="paid",
        )
        config = SimpleNamespace(reward=reward, seed=0, mutation=SimpleNamespace(limit=0))
        reward_tests([one], Failing(), config, step=1, weight=1.0)
    assert one.reward_mask.tolist() == [False, True, True, True]


def test_a_test_that_passes_whatever_a_solution_returns_is_a_reply_without_a_test() -> None:
    tests = [AssertTest("assert larger(1, 2) == 2"), AssertTest("assert larger(1, 2) or True")]
    samples = ProblemSamples(PROBLEM, ([], []), [sample(SOLUTION)], [sample(one) for one in tests])
    with ExecutionPool(2) as pool:
        Execution(samples, pool.submit_matrix(PROBLEM, [SOLUTION], tests), None).wait()
    assert [one.reason for one in samples.tests] == ["", "vacuous"]
    assert samples.tests[1].parsed is None
    assert samples.masks()[1].tolist() == [True, False]
    assert not samples.passing[:, 1].any()
