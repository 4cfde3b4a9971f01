"""What the pool promises to those who use it: verdicts, order, streaming, shortcuts, errors."""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from observing import PROGRAM, RIGHT, SQUARE, WRONG

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Limits, Status, open_pool
from zerocoder_jax.execution.worker import verdicts
from zerocoder_jax.problems import AssertTest, CallTest, Problem, StdioTest

P, F, E, U = Status.PASSED, Status.FAILED, Status.ERROR, Status.UNPARSABLE


def test_the_worker_and_the_pool_number_statuses_alike() -> None:
    names = [status.name for status in Status if status < Status.UNPARSABLE]
    assert [getattr(verdicts, name) for name in names] == list(range(len(names)))


def test_a_matrix_has_a_row_for_each_solution_and_a_column_for_each_test(
    pool: ExecutionPool,
) -> None:
    solutions = [RIGHT, None, WRONG, "def f(x:", "def g(x): return 1", RIGHT]
    tests = [
        AssertTest("assert f(2) == 5"),
        None,
        CallTest((0,), 1),
        AssertTest("assert f(2) == 4"),
    ]
    expected = [[P, U, P, F], [U] * 4, [F, U, F, P], [E, U, E, E], [E, U, E, E], [P, U, P, F]]
    np.testing.assert_array_equal(pool.passing_matrix(SQUARE, solutions, tests), expected)


def test_no_solutions_or_no_tests_make_an_empty_matrix(pool: ExecutionPool) -> None:
    assert pool.passing_matrix(SQUARE, [], [CallTest((0,), 1)]).shape == (0, 1)
    assert pool.passing_matrix(SQUARE, [RIGHT], []).shape == (1, 0)
    assert (pool.passing_matrix(SQUARE, [None], [None]) == U).all()


ASSERTS = {
    # the common form, and what belongs to it
    "assert f(3) == 10": P,
    "assert 10 == f(3)": P,
    "assert f(3) == 10, 'a message'": P,
    "assert f(3) == 10.0": P,
    "assert f(3) != 10": F,
    "assert f(3) > 9 and True": P,
    "assert not f(3) == 9": P,
    "assert 9 < f(3) < 11": P,
    "assert f(3) in [1, 10]": P,
    "assert f(3) is not None": P,
    "assert isinstance(f(3), int)": P,
    "assert isinstance(f(3), str)": F,
    "assert abs(f(3) - 10.0) < 1e-6": P,
    "assert math.isclose(f(3), 10.0)": P,
    "import math\nassert math.isclose(f(3), 10.1, rel_tol=0.1)": P,
    "assert round(f(3) / 3, 2) == 3.33": P,
    "assert str(f(3)) == '10'": P,
    "assert f(3)": P,
    "assert f(3) == 10\nassert f(4) == 17": P,
    "assert f(3) == 10\nassert f(4) == 18": F,
    "assert f(4) == 18\nassert f('no') == 1": F,
    "assert f('no') == 1\nassert f(4) == 18": E,
    "assert f(x=3) == 10": P,
    "x = 3\nassert f(x) == 10": P,
    "assert f(3) == f(-3)": P,
    "assert list(map(f, [1, 2])) == [2, 5]": P,
    "assert f(3) + 'a' == 1": E,
    "assert f(3) == ten": E,
    # free-form, answered by another process
    "result = f(3)\nassert result == 10": P,
    "result = f(3)\nassert result == 11": F,
    "for x in range(5):\n    assert f(x) == x * x + 1": P,
    "try:\n    f('a')\nexcept TypeError:\n    pass\nelse:\n    assert False": P,
    "import random\nfor _ in range(3):\n    x = random.random()\n    assert f(x) == x * x + 1": P,
    "assert all(f(x) > 0 for x in range(9))": P,
    "class T:\n    def test(self):\n        assert f(3) == 10\nT().test()": P,
    "raise ValueError": E,
    # with other objects of the solution; a test that calls nothing tests nothing
    "assert f(helper) == 5": P,
    "assert helper == 2": E,
    "assert f(Odd()) == 10": P,
    "assert f(helper) == 6": F,
}


@pytest.mark.parametrize("code", ASSERTS)
def test_asserts_mean_what_python_says(code: str, pool: ExecutionPool) -> None:
    solution = RIGHT + "\nhelper = 2\nclass Odd(int):\n    def __mul__(self, other): return 9\n"
    matrix = pool.passing_matrix(SQUARE, [solution], [AssertTest(code)], trusted=True)
    assert matrix[0, 0] == ASSERTS[code]


VALUES = {
    "(1, 2)": ["(1, 2)"],
    "[1, 2]": ["[1, 2]"],
    "{1, 2}": ["{1, 2}", "frozenset({2, 1})", "{1: 0, 2: 0}.keys()"],
    "{'a': [1, (2,)]}": ["{'a': [1, (2,)]}", "__import__('collections').OrderedDict(a=[1, (2,)])"],
    "{'a': 2, 'b': 1}": ["__import__('collections').Counter('aab')"],
    "1.5": [
        "1.5",
        "__import__('fractions').Fraction(3, 2)",
        "__import__('decimal').Decimal('1.5')",
    ],
    "(1+2j)": ["1+2j"],
    "b'\\x00a'": ["b'\\x00a'", "bytearray(b'\\x00a')"],
    "'\\ud800'": ["'\\ud800'"],
    "None": ["None"],
    "True": ["True", "1", "1.0"],
    "10 ** 30": ["10 ** 30"],
    "float('inf')": ["1e999"],
    "(3, 4)": ["__import__('collections').namedtuple('Point', 'x y')(3, 4)"],
}


@pytest.mark.parametrize("expected", VALUES)
def test_values_arrive_as_what_they_are(expected: str, pool: ExecutionPool) -> None:
    right = [f"def f():\n    return {value}" for value in VALUES[expected]]
    others = [v for e, values in VALUES.items() if e != expected for v in values]
    wrong = [f"def f():\n    return {value}" for value in others]
    matrix = pool.passing_matrix(SQUARE, right + wrong, [AssertTest(f"assert f() == {expected}")])
    assert (matrix[: len(right)] == P).all(), matrix.T
    assert (matrix[len(right) :] == F).all(), matrix.T


def test_arguments_that_a_free_form_test_passes_are_changed_in_place(pool: ExecutionPool) -> None:
    solution = "def f(items, table):\n    items.sort()\n    table['n'] = len(items)"
    test = AssertTest(
        "items, table = [3, 1, 2], {}\n"
        "assert f(items, table) is None\nassert items == [1, 2, 3] and table == {'n': 3}"
    )
    assert pool.passing_matrix(SQUARE, [solution], [test])[0, 0] == P


def test_methods_are_called_on_a_new_object_each_time(pool: ExecutionPool) -> None:
    problem = Problem("test/method", "", "Solution.add", "function")
    solution = "class Solution:\n    def add(self, a, b):\n        return (a + b, a)"
    tests = [CallTest((1, 2), [3, 1]), CallTest((1, 2), [3, 2])]
    tests += [AssertTest("assert Solution().add(1, 2) == (3, 1)")]
    assert pool.passing_matrix(problem, [solution], tests).tolist() == [[P, F, P]]


@pytest.mark.parametrize(
    ("printed", "expected", "status"),
    [
        ("6", "6\n", P),
        ("  6  \n\n", "6", P),
        ("6.0", "6", P),
        ("6.000001", "6", F),
        ("6\n7", "6\n7\n", P),
        ("6 7", "6\n7", F),
        ("6  7", "6 7", P),
        ("YES", "yes", F),
        ("", "", P),
        ("nan", "nan", P),
    ],
)
def test_outputs_are_compared_line_by_line_and_as_decimals(
    printed: str, expected: str, status: Status, pool: ExecutionPool
) -> None:
    program = f"print({printed!r})"
    assert pool.passing_matrix(PROGRAM, [program], [StdioTest("", expected)])[0, 0] == status


def test_output_may_be_as_long_as_the_test_expects(pool: ExecutionPool) -> None:
    tests = [StdioTest("", "x" * 300_000), StdioTest("", "x")]
    matrix = pool.passing_matrix(PROGRAM, ["print('x' * 300_000)"], tests)
    assert matrix.tolist() == [[P, Status.OUTPUT]]


def test_shortcuts_change_no_verdict() -> None:
    solutions = [
        RIGHT,
        "# the same\n" + RIGHT.replace(":\n", ":\n    'with a docstring'\n"),
        RIGHT.replace("x * x + 1", "len(f.__doc__ or '')"),
        RIGHT.replace(":\n    return", ":\n    'ten chars!'\n    return").replace(
            "x * x + 1", "len(f.__doc__ or '')"
        ),
        WRONG,
        "def f(x):\n    if x == 3:\n        while True: pass\n    return x * x + 1",
        "def f(x):\n    if x == 3:\n        raise ValueError\n    return x * x + 1",
        "def f(x):\n    return 'a' * 10**12 if x == 3 else x * x + 1",
        "def f(x):\n    print('a' * 50_000)\n    return x * x + 1",
        "def f(x):\n    return 'a' * 50_000 if x == 3 else x * x + 1",
        "memory = {}\ndef f(x):\n    memory[x] = 1\n    return x * x + len(memory)",
        "def f(x, seen=[]):\n    seen.append(x)\n    return x * x + len(seen)",
        "import undefined\n" + RIGHT,
        "def f(x):\n    return f(x)",
    ]
    tests = [AssertTest(f"assert f({x}) == {x * x + 1}") for x in (1, 3, 5, 1)]
    tests += [CallTest((3,), 10), AssertTest("for x in (1, 2):\n    assert f(x) == x * x + 1")]
    limits = Limits(seconds=0.5, memory_mb=256)
    with ExecutionPool(2, limits, "rlimits") as quick:
        short = quick.passing_matrix(SQUARE, solutions, tests, trusted=True)
        assert quick.statistics["deduplicated"] > 0
    with ExecutionPool(2, limits, "rlimits", shortcuts=False) as plain:
        long = plain.passing_matrix(SQUARE, solutions, tests, trusted=True)
        assert plain.statistics["deduplicated"] == 0
        assert plain.statistics["runs"] == len(solutions) * len(tests)
    np.testing.assert_array_equal(short, long)


def test_results_come_back_while_work_is_still_handed_in(pool: ExecutionPool) -> None:
    yielded: list[int] = []
    seen_while_pulling: list[int] = []

    def items() -> Iterator[tuple[Problem, list[str], list[AssertTest]]]:
        for index in range(60):
            seen_while_pulling.append(len(yielded))
            yield SQUARE, [f"{RIGHT} + {index}"], [AssertTest(f"assert f(1) == {2 + index}")]

    for index, matrix in pool.passing_matrices(items()):
        yielded.append(index)
        assert matrix.tolist() == [[P]]
    assert sorted(yielded) == list(range(60))
    assert max(seen_while_pulling) > 0


def test_futures_from_many_threads_get_their_own_answers(pool: ExecutionPool) -> None:
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        test = AssertTest(f"assert f({number}) == {number * number + 1}")
        wrong = AssertTest(f"assert f({number}) == {number * number + 2}")
        future = pool.submit_matrix(SQUARE, [f"{RIGHT} + {number % 2}"], [test, wrong])
        answers[number] = int(np.argmin(future.result(timeout=60)[0]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: number % 2 for number in range(16)}


def test_a_cancelled_future_does_not_hold_up_the_rest() -> None:
    with ExecutionPool(1, Limits(seconds=1.0), "rlimits") as pool:
        loop = "def f(x):\n    while True: pass"
        tests = [AssertTest(f"assert f({x}) == 1") for x in range(40)]
        slow = pool.submit_matrix(SQUARE, [loop], tests)
        assert slow.cancel()
        started = time.monotonic()
        assert pool.passing_matrix(SQUARE, [RIGHT], [CallTest((1,), 2)]).tolist() == [[P]]
        assert time.monotonic() - started < 10
        with pytest.raises(CancelledError):
            slow.result()


def test_closing_cancels_what_is_not_done() -> None:
    pool = ExecutionPool(1, Limits(seconds=5.0), "rlimits")
    future = pool.submit_matrix(SQUARE, ["while True: pass"], [CallTest((1,), 2)])
    pool.close()
    with contextlib.ExitStack() as files:
        # They take the numbers of the descriptors that the pool had.
        opened = [files.enter_context(tempfile.TemporaryFile()) for _ in range(16)]
        pool.close()
        assert [file.read() for file in opened] == [b""] * 16
    with pytest.raises(CancelledError):
        future.result(timeout=5)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit_matrix(SQUARE, [RIGHT], [CallTest((1,), 2)])


def test_an_endless_loop_keeps_nobody_waiting_for_all_its_tests() -> None:
    """A loop's other tests run when everything else is done, more of them at a time."""
    with ExecutionPool(1, Limits(seconds=1.0), "rlimits") as pool:
        loop = "def f(x):\n    while x: pass\n    return 1"
        tests = [AssertTest(f"assert f({x}) == 1") for x in range(1, 7)]
        slow = pool.submit_matrix(SQUARE, [loop], tests)
        started = time.monotonic()
        pool.passing_matrix(SQUARE, [RIGHT], [CallTest((1,), 2)])
        healthy = time.monotonic() - started
        assert (slow.result() == Status.TIMEOUT).all()
        everything = time.monotonic() - started
    assert healthy < everything / 2


def test_the_same_programs_get_the_same_verdicts_again(pool: ExecutionPool) -> None:
    """Random numbers and the order of sets are the same in every run, worker and pool."""
    asked = "[random.random() for _ in range(3)], list(set('abcdefgh')), hash('abc')"
    expected = subprocess.run(
        [sys.executable, "-c", f"import random\nrandom.seed(0)\nprint(({asked}))"],
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    solutions = [f"import random\ndef f(x):\n    return {asked}\n# {i}" for i in range(8)]
    test = AssertTest(f"assert f(0) == {expected}")
    with ExecutionPool(2, min_isolation="rlimits", shortcuts=False) as other:
        for each in (pool, other):
            assert (each.passing_matrix(SQUARE, solutions, [test, test]) == P).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "slurm"}, "execution.backend"),
        ({"seconds": 0.0}, "execution.seconds"),
        ({"workers": -1}, "execution.workers"),
        ({"min_isolation": "total"}, "execution.min_isolation"),
        ({"packages": "numpy"}, r"such as \('numpy',\)"),
        ({"packages": ("no_such_package",)}, "no_such_package"),
        ({"packages": (3,)}, "execution.packages has 3"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    fields = dict(
        backend="local", workers=1, seconds=2.0, memory_mb=256, output_kb=64, processes=16,
        min_isolation="rlimits", packages=(),
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        open_pool(SimpleNamespace(**{**fields, **change}))


def test_a_package_must_be_installed_to_be_offered() -> None:
    with pytest.raises(UserError, match="no_such_package"):
        ExecutionPool(1, min_isolation="rlimits", packages=("no_such_package",))


def test_numpy_is_there_on_request_only(pool: ExecutionPool) -> None:
    solution = "import numpy as np\ndef f(x):\n    return np.arange(x).sum()"
    test = AssertTest("assert f(4) == 6")
    assert pool.passing_matrix(SQUARE, [solution], [test]).tolist() == [[E]]
    with ExecutionPool(1, min_isolation="rlimits", packages=("numpy",)) as with_numpy:
        assert with_numpy.passing_matrix(SQUARE, [solution], [test]).tolist() == [[P]]


def test_the_documented_example_prints_what_it_says(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (repository / "docs" / "execution.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    source = example[1].replace("ExecutionPool()", "ExecutionPool(1, min_isolation='rlimits')")
    exec(compile(source, "docs/execution.md", "exec"), {"__name__": "__main__"})
    (promised,) = re.findall(r"^ +# (\[\[.*)$", source, re.MULTILINE)
    assert capsys.readouterr().out.strip() == promised


RIGHT_VALUES = {
    "range": ("def f(x):\n    return range(x)", "assert f(3) == range(3)"),
    "deque": (
        "from collections import deque\ndef f(x):\n    return deque([x])",
        "from collections import deque\nassert f(3) == deque([3])",
    ),
    "empty count": (
        "from collections import Counter\ndef f(x):\n    return Counter(a=0)",
        "from collections import Counter\nassert f(3) == Counter()",
    ),
    "date": (
        "import datetime\ndef f(x):\n    return datetime.date(2020, 1, x)",
        "import datetime\nassert f(3) == datetime.date(2020, 1, 3)",
    ),
    "field": (
        "class Node:\n    def __init__(self, value):\n        self.value = value\n"
        "def f(x):\n    return Node(x)",
        "assert f(3).value == 3",
    ),
    "item": (
        "class Row:\n    def __getitem__(self, place):\n        return place\n"
        "def f(x):\n    return Row()",
        "assert f(3)[2] == 2",
    ),
    "text": (
        "class Node:\n    def __str__(self):\n        return 'node'\ndef f(x):\n    return Node()",
        "assert str(f(3)) == 'node'",
    ),
    "sum of a generator": ("def f(x):\n    yield from range(x)", "assert sum(f(4)) == 6"),
    "generator in a variable": (
        "def f(x):\n    yield from range(x)",
        "numbers = f(3)\nassert list(numbers) == [0, 1, 2]",
    ),
    "message": (
        "def f(x):\n    raise KeyError('bad')",
        "try:\n    f(3)\nexcept KeyError as error:\n    assert error.args == ('bad',)\n"
        "else:\n    assert False",
    ),
}


@pytest.mark.parametrize("name", RIGHT_VALUES)
def test_right_values_of_every_kind_pass(name: str, pool: ExecutionPool) -> None:
    source, test = RIGHT_VALUES[name]
    assert pool.passing_matrix(SQUARE, [source], [AssertTest(test)]).tolist() == [[P]]


def test_an_ordered_dictionary_in_the_wrong_order_fails(pool: ExecutionPool) -> None:
    source = "from collections import OrderedDict\ndef f(x):\n    return OrderedDict(b=2, a=1)"
    test = AssertTest("from collections import OrderedDict\nassert f(3) == OrderedDict(a=1, b=2)")
    assert pool.passing_matrix(SQUARE, [source], [test]).tolist() == [[Status.FAILED]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("'é' * 40_000", "é" * 40_000), ("[(1,)] * 20_000", [[1]] * 20_000)],
)
def test_a_right_value_has_room_however_it_is_written(
    value: str, expected: object, pool: ExecutionPool
) -> None:
    source = f"def f(x):\n    return {value}"
    tests = [CallTest((3,), expected), CallTest((4,), [expected, 1])]
    assert pool.passing_matrix(SQUARE, [source], tests).tolist() == [[P, Status.FAILED]]
