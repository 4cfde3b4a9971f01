"""Whole numbers of more than 4300 digits, which Python by itself refuses to read or print."""

import pytest

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import AssertTest, CallTest, Problem, StdioTest, Test

DIGITS = 6000
NINES = 10**DIGITS - 1
SQUARE = "9" * (DIGITS - 1) + "8" + "0" * (DIGITS - 1) + "1"

PROGRAM = Problem("long/1", "Print the square of the number.", None, "stdio")
FUNCTION = Problem("long/2", "Return the square of the number.", "f", "function")


def status(pool: ExecutionPool, problem: Problem, solution: str, *tests: Test) -> list[Status]:
    return [Status(value) for value in pool.passing_matrix(problem, [solution], tests)[0]]


def test_a_program_reads_and_prints_them(pool: ExecutionPool) -> None:
    test = StdioTest("9" * DIGITS + "\n", SQUARE + "\n")
    wrong = StdioTest("9" * DIGITS + "\n", SQUARE[:-1] + "2\n")
    found = status(pool, PROGRAM, "print(int(input()) ** 2)", test, wrong)
    assert found == [Status.PASSED, Status.FAILED]


def test_a_call_takes_and_returns_them(pool: ExecutionPool) -> None:
    right = CallTest((NINES,), NINES**2)
    wrong = CallTest((NINES,), NINES**2 + 1)
    inside = CallTest(([NINES, {"a": 1}],), {"b": [NINES]})
    assert status(pool, FUNCTION, "def f(x): return x * x", right, wrong, right) == [
        Status.PASSED,
        Status.FAILED,
        Status.PASSED,
    ]
    assert status(pool, FUNCTION, "def f(x): return {'b': x[:1]}", inside) == [Status.PASSED]


@pytest.mark.parametrize(
    "test",
    [
        # Judged outside of the run, in a process of its own, and beside the solution.
        f"assert len(f(10 ** {DIGITS})) == {2 * DIGITS + 1}",
        f"for x in [10 ** {DIGITS}]:\n    assert int(f(x)) == x * x",
        f"assert f({'9' * DIGITS}) == '{SQUARE}'",
    ],
)
def test_an_assert_may_be_about_them(pool: ExecutionPool, test: str) -> None:
    solution = "def f(x): return str(x * x)"
    assert status(pool, FUNCTION, solution, AssertTest(test)) == [Status.PASSED]


def test_a_solution_may_be_written_with_one(pool: ExecutionPool) -> None:
    solution = f"def f(x): return x * {'9' * DIGITS}"
    assert status(pool, FUNCTION, solution, CallTest((2,), 2 * NINES)) == [Status.PASSED]


def test_what_they_cost_is_bounded_by_the_time_limit(strict_pool: ExecutionPool) -> None:
    # Python checks for nothing while it converts; ten million digits take minutes.
    endless = "print(len(str(7 ** 12_000_000)))"
    assert status(strict_pool, PROGRAM, endless, StdioTest("", "1")) == [Status.TIMEOUT]
    assert status(strict_pool, PROGRAM, "print(1)", StdioTest("", "1")) == [Status.PASSED]
