"""A test that passes whatever a solution returns is told by running it on impostors."""

import numpy as np
import pytest
from observing import SQUARE

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import AssertTest, Problem, parse_test

RIGHT = "def f(x):\n    return x * x"
WRONG = {
    "0": "def f(*x):\n    return 0",
    "None": "def f(*x):\n    return None",
    "text": "def f(*x):\n    return 'a text'",
    "list": "def f(*x):\n    return [x, [x]]",
    "new object": "class New:\n    pass\ndef f(*x):\n    return New()",
    "number": "def f(*x):\n    return -17.25",
}

EMPTY = [
    "f(3) == 9 or 1",
    "f(3) == f(3)",
    "f(3) in [f(3)]",
    "[f(3)]",
    "(f(3), 'message')",
    "f'{f(3)}x'",
    "isinstance(f(3), object)",
    "f(3) is not Ellipsis",
    "f(3) != object()",
    "f(3) != 'never this'",
    "f(3) != 10",
    "(lambda y: True)(f(3))",
    "[f(3), True][1]",
    "f(3) == 9 if f(3) == 9 else True",
    "all(True for _ in [f(3)])",
    "max([1, 2], key=lambda _: bool(f(3)))",
    "(y := f(3)) == y",
    "(f(3) == 9) in (True, False)",
    "(f(3) == 9) is not None",
    "-(f(3) == 9) <= 0",
    "f(3) == 9 or f(3) != 9",
    "len(str(f(3))) >= 0",
    "{f(3) == 9: 1}",
    "any(f(n) != n for n in range(5)) or True",
    "sorted([f(3)], key=repr) != []",
    "not (f(1) == 1 and f(2) == 7 and f(3) == 9)",
    "f(3) == f(3) == f(3)",
    "f(3) == 9 or f",
    "not f(3) or f(3)",
    "any([f(3) == 9, True])",
    "f(3) is not []",
    "f(3) != f",
    "isinstance(f(3), type(f(3)))",
    "hasattr(f(3), '__class__')",
    "bool([f(3)])",
    "[f(n) for n in [1, 2]]",
    "(f(3) == f(3)) is True",
    "True if f(3) else True",
]
WEAK = [
    "f(3)",
    "f(3) > 0",
    "f(0) == 0",
    "f(3) is not None",
    "isinstance(f(3), int)",
    "type(f(3)) is int",
    "f(2) != f(3)",
    "f(-2) == f(2)",
    "f(f(2)) == 16",
    "0 <= f(3) <= 100",
    "f(3) - f(3) == 0",
    "f(3) == 9 or f(3) == 10",
    "not isinstance(f(3), str)",
    "str(f(3)).isdigit()",
    "bool(f(0)) is False",
    "all(f(n) >= n for n in range(4))",
    "f(3) == sorted([1, 9])[-1]",
]


@pytest.mark.parametrize("condition", EMPTY)
def test_what_passes_arbitrary_wrong_programs_passes_none(
    condition: str, pool: ExecutionPool
) -> None:
    tests = [AssertTest(f"assert {condition}")]
    plain = pool.passing_matrix(SQUARE, [*WRONG.values()], tests, trusted=True)
    assert (plain == Status.PASSED).sum() >= len(WRONG) - 1  # new objects tell two calls apart
    assert (pool.passing_matrix(SQUARE, [RIGHT, *WRONG.values()], tests) == Status.VACUOUS).all()


@pytest.mark.parametrize("condition", WEAK)
def test_a_weak_test_is_judged_like_any_other(condition: str, pool: ExecutionPool) -> None:
    test = AssertTest(f"assert {condition}")
    assert pool.passing_matrix(SQUARE, [RIGHT], [test])[0, 0] == Status.PASSED


@pytest.mark.parametrize(
    "code",
    [
        "def check(g):\n    assert g(3) == g(3)\ncheck(f)",
        "class Any:\n    def __eq__(self, other):\n        return True\nassert f(3) == Any()",
        "Any = type('Any', (), {'__eq__': lambda *_: True})\nassert f(3) == Any()",
        "try:\n    assert f(3) == 7\nexcept AssertionError:\n    pass",
        "x = [3]\nassert f(x) != 9 or x == [3]",
        "n = 3\nassert f(n) == 9 or n == 3",
        "result = [f(3)]\nassert len(result) == 1",
        "result = f(3)\nassert result == f(3)",
    ],
)
def test_statements_are_judged_by_what_they_do_too(code: str, pool: ExecutionPool) -> None:
    assert pool.passing_matrix(SQUARE, [RIGHT], [AssertTest(code)])[0, 0] == Status.VACUOUS


@pytest.mark.parametrize(
    ("solution", "code"),
    [
        (RIGHT, "try:\n    f('a')\n    assert False\nexcept TypeError:\n    pass"),
        ("def f(x):\n    return x", "x = [3]\nf(x)\nassert x == [3]"),
        ("def f(x):\n    x.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
        ("def f(x):\n    return sorted(x)", "x = [3, 1]\nassert sorted(f(x)) == sorted(x)"),
        ("def f(x):\n    return sorted(x)", "x = [3, 1]\nassert f(f(x)) == f(x)"),
        ("def f(*x):\n    return sum(x)", "assert f(1, 2) == f(2, 1)"),
        ("def f(*x):\n    return [n for n in x]", "assert list(f(1, 2))[0] == 1"),
    ],
)
def test_exceptions_arguments_and_properties_are_something_to_test(
    solution: str, code: str, pool: ExecutionPool
) -> None:
    assert pool.passing_matrix(SQUARE, [solution], [AssertTest(code)])[0, 0] == Status.PASSED


def test_methods_have_impostors_too(pool: ExecutionPool) -> None:
    problem = Problem("test/method", "", "Solution.f", "function")
    solution = "class Solution:\n    def f(self, x):\n        return x * x"
    tests = [
        AssertTest("assert Solution().f(3) == 9 or 1"),
        AssertTest("s = Solution()\nassert s.f(3) == s.f(3)"),
        AssertTest("assert Solution().f(3) == 9"),
        AssertTest("s = Solution()\nassert s.f(3) > 0"),
    ]
    assert pool.passing_matrix(problem, [solution], tests)[0].tolist() == [
        *(Status.VACUOUS, Status.VACUOUS, Status.PASSED, Status.PASSED)
    ]


def test_a_vacuous_test_kills_no_mutant_and_is_asked_of_none(pool: ExecutionPool) -> None:
    tests = [AssertTest("assert f(3) == 9"), AssertTest("assert f(3) or 1"), None]
    result = pool.submit_mutation(SQUARE, "def f(x):\n    return x * x\n", tests).result()
    assert result.original.tolist() == [Status.PASSED, Status.VACUOUS, Status.UNPARSABLE]
    assert result.killed[:, 0].any() and not result.killed[:, 1].any()
    assert not result.valid[:, 1].any() and result.failing == []


def test_trusted_tests_are_taken_as_they_are(pool: ExecutionPool) -> None:
    """EvalPlus accepts every answer to one of its problems."""
    tests = [AssertTest("assert f(3) or True")]
    assert pool.passing_matrix(SQUARE, [RIGHT], tests, trusted=True)[0, 0] == Status.PASSED
    items = [(SQUARE, [RIGHT], tests)]
    ((_, trusted),) = pool.passing_matrices(items, trusted=True)
    ((_, sampled),) = pool.passing_matrices(items)
    assert (trusted[0, 0], sampled[0, 0]) == (Status.PASSED, Status.VACUOUS)


def test_a_comparison_with_a_value_needs_no_run_and_no_test_needs_a_second_one() -> None:
    plain = [AssertTest(f"assert f({n}) == {n * n}") for n in range(4)]
    other = [AssertTest(f"assert f({n}) in ({n * n},)") for n in range(4)]
    with ExecutionPool(1, min_isolation="rlimits") as pool:
        runs = []
        for tests in (plain, other, other):
            before = pool.statistics["runs"]
            np.testing.assert_array_equal(pool.passing_matrix(SQUARE, [RIGHT], tests), 0)
            runs.append(pool.statistics["runs"] - before)
    assert runs == [4, 8, 4]  # one impostor is enough for what is no tautology


def test_what_a_tester_is_refused_for_and_what_the_pool_finds_leave_no_tautology(
    pool: ExecutionPool,
) -> None:
    for condition in EMPTY:
        test = parse_test(f"```python\nassert {condition}\n```", SQUARE).test
        if test is not None:
            assert pool.passing_matrix(SQUARE, [RIGHT], [test])[0, 0] == Status.VACUOUS
