"""Who is rewarded with which evidence, with programs that really run."""

from types import SimpleNamespace

import numpy as np
import pytest

from zerocoder_jax.execution import ExecutionPool
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training.assignment import reward_tests
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.sampling import ProblemSamples, Sample

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


def rewards(pool: ExecutionPool, gated: bool) -> list[float]:
    reward = SimpleNamespace(
        mutation=True, gated=gated, tester_form="additive", format_penalty=-1.0
    )
    config = SimpleNamespace(reward=reward, seed=0, mutation=SimpleNamespace(limit=0))
    one = judged(pool)
    reward_tests([one], pool, config, step=1, weight=1.0)
    assert one.mutation is not None and len(one.mutation.mutants) > 2
    return one.rewards.tolist()


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
