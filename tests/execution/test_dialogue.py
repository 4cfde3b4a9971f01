"""A free-form test meets a solution's values as if both were in one process.

Its verdict is its own all the same: nothing that the solution says of its objects decides it.
"""

import numpy as np
import pytest
from dialogues import DISHONEST, FORMS, HONEST, NEVER_ASK
from observing import RIGHT, SQUARE, WRONG

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import AssertTest, Problem

P, F, E = Status.PASSED, Status.FAILED, Status.ERROR
METHOD = Problem("test/method", "Count.", "Solution.f", "function")


def _statuses(
    pool: ExecutionPool, source: str, tests: list[str], of: Problem = SQUARE
) -> list[str]:
    row = pool.passing_matrix(of, [source], [AssertTest(test) for test in tests])[0]
    return [Status(status).name for status in row]


@pytest.mark.parametrize("name", HONEST)
def test_a_right_solution_passes_whatever_its_values_are(name: str, pool: ExecutionPool) -> None:
    source, tests = HONEST[name]
    assert _statuses(pool, source, tests) == ["PASSED"] * len(tests)


@pytest.mark.parametrize("name", DISHONEST)
def test_a_wrong_solution_gains_nothing_by_its_objects(name: str, pool: ExecutionPool) -> None:
    source, tests = DISHONEST[name]
    assert not {"PASSED", "UNAVAILABLE"} & {*_statuses(pool, source, tests)}


def test_a_test_that_never_calls_the_solution_does_not_pass(pool: ExecutionPool) -> None:
    assert not {"PASSED", "UNAVAILABLE"} & {*_statuses(pool, RIGHT, NEVER_ASK)}


def test_tests_that_are_left_to_a_runner_are_run(pool: ExecutionPool) -> None:
    matrix = pool.passing_matrix(SQUARE, [RIGHT, WRONG], [AssertTest(form) for form in FORMS])
    assert (matrix[0] == P).all()
    assert (matrix[1] == F).all()


def test_each_call_of_a_method_gets_an_object_of_its_own(pool: ExecutionPool) -> None:
    source = (
        "class Solution:\n    def __init__(self):\n        self.seen = []\n"
        "    def f(self, n):\n        self.seen.append(n)\n        return self.seen"
    )
    tests = [
        "for n in (1, 2):\n    assert Solution().f(n) == [n]",
        "def check(g):\n    assert g(1) == [1]\n    assert g(2) == [2]\ncheck(f)",
        "s = Solution()\nassert s.f(1) == [1]\nassert s.f(2) == [1, 2]\nassert s.f(3) is s.seen",
        "def check(candidate):\n    assert candidate(1) == [1] and candidate(2) == [2]",
    ]
    assert _statuses(pool, source, tests, METHOD) == ["PASSED"] * len(tests)


def test_arrays_are_values_that_both_sides_share() -> None:
    change = "def f(a):\n    a[0] = 7\n    return a"
    give = (
        "import numpy as np\ndef f(n):\n"
        "    return {'a': np.eye(n), 'b': [np.float32(0.5)], 'c': (np.arange(n), np.bool_(True))}"
    )
    lie = (
        "import numpy as np\nclass A(np.ndarray):\n    def __eq__(self, o): return np.array(True)\n"
        "    def __array__(self, *a, **k): return np.eye(2)\n    def tolist(self): return [[1]]\n"
        "def f(n):\n    return {'a': np.zeros((n, n)).view(A), 'c': ([0, 1], True)}"
    )
    changed = (
        "import numpy as np\na = np.zeros(3, np.int32)\n"
        "assert f(a) is a and a.tolist() == [7, 0, 0]"
    )
    given = [
        "import numpy\nr = f(2)\nassert numpy.array_equal(r['a'], [[1, 0], [0, 1]])",
        "import pytest\nr = f(2)\nassert r['a'] == pytest.approx([[1, 0], [0, 1]]) and r['c'][1]",
        "r = f(2)\nassert (r['a'] == r['a'].T).all() and r['a'].tolist() == [[1, 0], [0, 1]]",
    ]
    with ExecutionPool(2, min_isolation="rlimits", packages=("numpy",)) as pool:
        assert _statuses(pool, change, [changed]) == ["PASSED"]
        assert _statuses(pool, give, given) == ["PASSED"] * 3
        assert "PASSED" not in _statuses(pool, lie, given[:2])


def test_names_mean_in_a_test_what_they_mean_in_python(pool: ExecutionPool) -> None:
    source = "list = dict = sum = sorted = len = max = str = None\ndef f(x):\n    return (x, 1)"
    tests = [
        "assert list(f(3)) == [3, 1]",
        "assert sorted(f(3)) == [1, 3] and max(f(3)) == 3",
        "r = f(3)\nassert len(r) == 2",
        "for x in (3,):\n    assert sum(f(x)) == x + 1 and str(f(x)) == '(3, 1)'",
    ]
    assert _statuses(pool, source, tests) == ["PASSED"] * len(tests)
    largest = Problem("test/max", "The largest.", "max", "function")
    assert _statuses(pool, "def max(x):\n    return 7", ["assert max([1]) == 7"], largest) == [
        "PASSED"
    ]


def test_what_a_test_holds_back_never_enters_the_candidates_process(pool: ExecutionPool) -> None:
    look = (
        "import gc, sys\ndef f(x):\n    found = [v for v in globals().values() if v == 987654]\n"
        "    frame = sys._getframe()\n    while frame:\n"
        "        found += [v for v in frame.f_locals.values() if v == 987654]\n"
        "        frame = frame.f_back\n    return 987654 if found else 0"
    )
    tests = [
        "expected = 987654\nassert f(3) == 987654",
        "expected = 987654\nr = f(3)\nassert r == expected",
        "def check(g, expected=987654):\n    assert g(3) == expected\ncheck(f)",
    ]
    assert not {"PASSED", "UNAVAILABLE"} & {*_statuses(pool, look, tests)}


def test_an_error_of_the_candidate_has_its_own_status_in_a_dialogue(pool: ExecutionPool) -> None:
    sources = {
        "def f(x):\n    return 'a' * 10**11": Status.MEMORY,
        "import ctypes\ndef f(x):\n    return ctypes.string_at(0)": Status.CRASHED,
        "import os\ndef f(x):\n    os._exit(0)": E,
        "def f(x):\n    assert x > 9": F,
        "assert False\ndef f(x): pass": F,
    }
    test = AssertTest("for x in (3,):\n    assert f(x) == 10")
    matrix = pool.passing_matrix(SQUARE, list(sources), [test])
    assert matrix[:, 0].tolist() == list(sources.values())
    assert np.isin(matrix, list(Status)).all()
