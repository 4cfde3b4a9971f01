"""Nothing gets out, no verdict is forged, no neighbour notices: at full isolation."""

import os
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from attacks import (
    CARRIERS,
    FORGERIES,
    PROBES,
    SABOTAGE,
    SELF_KNOWLEDGE,
    TESTER_CHEATS,
    both_texts,
    probe_source,
)
from observing import PROGRAM, RIGHT, SQUARE, WRONG, processes_below, wait_until

from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import AssertTest, CallTest, StdioTest

P, F = Status.PASSED, Status.FAILED

# One test of each way to run one: values reported, compared outside; a call; a free-form test
# whose calls are answered by another process.
TESTS = [
    AssertTest("assert f(3) == 10"),
    CallTest((5,), 26),
    AssertTest(
        "def check(g):\n    for x, y in ((3, 10), (5, 26)):\n        assert g(x) == y\ncheck(f)"
    ),
]


@pytest.mark.parametrize("name", FORGERIES)
def test_a_wrong_solution_passes_nothing_and_its_neighbours_keep_their_verdicts(
    name: str, strict_pool: ExecutionPool
) -> None:
    matrix = strict_pool.passing_matrix(
        SQUARE, [RIGHT, FORGERIES[name], WRONG, RIGHT + "\n"], TESTS
    )
    assert (matrix[[0, 3]] == P).all()
    assert (matrix[2] == F).all()
    assert not np.isin(matrix[1], [P, Status.UNAVAILABLE]).any(), matrix[1]


def test_how_a_run_ended_is_told_apart(strict_pool: ExecutionPool) -> None:
    expected = {
        "exit inside": Status.ERROR,
        "_exit inside": Status.ERROR,
        "kill itself inside": Status.FORBIDDEN,
        "exec inside": Status.FORBIDDEN,
        "endless output": Status.OUTPUT,
        "null pointer": Status.CRASHED,
        "deep recursion": Status.ERROR,
        "catches everything": Status.TIMEOUT,
        "ignores signals": Status.TIMEOUT,
        "hangs in C": Status.TIMEOUT,
        "sleeps": Status.TIMEOUT,
        "null byte": Status.ERROR,
        "lying equality": Status.FAILED,
        "lying int": Status.FAILED,
    }
    sources = [FORGERIES[name] for name in expected]
    matrix = strict_pool.passing_matrix(SQUARE, sources, TESTS[:1])
    assert {name: Status(row[0]) for name, row in zip(expected, matrix)} == expected


def test_what_takes_too_much_memory_is_told_apart() -> None:
    """With time enough to take it, on a busy machine too."""
    names = ("memory at once", "memory bit by bit", "memory in children")
    sources = [FORGERIES[name] for name in names]
    with ExecutionPool(2, Limits(seconds=5.0, memory_mb=256)) as pool:
        matrix = pool.passing_matrix(SQUARE, sources, TESTS[:1])
    assert (matrix == Status.MEMORY).all(), matrix


def test_a_system_call_that_only_attacks_make_is_forbidden(strict_pool: ExecutionPool) -> None:
    source = "import ctypes\ndef f(x):\n    return ctypes.CDLL(None).ptrace(0, 0, 0, 0)"
    assert strict_pool.passing_matrix(SQUARE, [source], TESTS[:1])[0, 0] == Status.FORBIDDEN


@pytest.mark.parametrize("name", PROBES)
def test_a_run_is_contained(name: str, strict_pool: ExecutionPool, repository: Path) -> None:
    libraries = (sysconfig.get_path("stdlib"), "/lib", "/usr/lib", "/usr/share/zoneinfo")
    source = probe_source(name, str(repository), libraries)
    test = AssertTest("assert f(0) == 'contained'")
    status = strict_pool.passing_matrix(SQUARE, [source], [test])[0, 0]
    # A probe that the sandbox ends is contained too.
    assert status in (P, Status.FORBIDDEN), Status(status)


def test_a_probe_that_reaches_something_is_noticed(strict_pool: ExecutionPool) -> None:
    source = probe_source("repository", "/tmp", ()).replace("os.listdir", "str")
    test = AssertTest("assert f(0) == 'contained'")
    assert strict_pool.passing_matrix(SQUARE, [source], [test])[0, 0] == F


@pytest.mark.parametrize("name", CARRIERS)
def test_no_run_sees_another_ones_traces(name: str, strict_pool: ExecutionPool) -> None:
    tests = [AssertTest(f"assert f({x}) == {x}") for x in range(4)]
    tests += [AssertTest(f"def check(g):\n    assert g({x}) == {x}\ncheck(f)") for x in (7, 8)]
    source = CARRIERS[name]
    matrix = strict_pool.passing_matrix(SQUARE, [source, source + "\nother = 1"], tests)
    assert (matrix == P).all(), matrix


@pytest.mark.parametrize("name", SABOTAGE)
def test_no_run_harms_its_worker_or_the_runs_after_it(
    name: str, strict_pool: ExecutionPool
) -> None:
    restarts = strict_pool.statistics["restarts"]
    tests = [AssertTest(f"assert f({x}) == {x}") for x in range(2)]
    tests += [AssertTest(f"def check(g):\n    assert g({x}) == {x}\ncheck(f)") for x in (7, 8)]
    matrix = strict_pool.passing_matrix(SQUARE, [SABOTAGE[name]], tests)
    assert np.isin(matrix, [P, Status.TIMEOUT]).all(), matrix
    assert (strict_pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()
    assert strict_pool.statistics["restarts"] == restarts


def test_no_run_harms_the_workers_beside_its_own() -> None:
    """What the kernel counts for a user it counts over all workers."""
    square = SABOTAGE["descriptors on their way"].replace("return x", "return x * x + 1")
    square = square.replace("sleep(0.3)", "sleep(1)")
    with ExecutionPool(workers=2, limits=Limits(seconds=5, memory_mb=256)) as pool:
        matrix = pool.passing_matrix(
            SQUARE, [square, *(f"{RIGHT}\nx{i} = 0" for i in range(9))], TESTS
        )
        assert (matrix == P).all(), matrix
        assert pool.statistics["restarts"] == 0


# Free-form tests that hand the solution what it returned, or iterate over its calls.
NESTED_TESTS = [
    "assert f(f(3)) == 101 and f(5) == 26",
    "assert all(f(f(a)) == (a * a + 1) ** 2 + 1 for a in (2, 3))",
    "def check(g):\n    assert g(g(3)) == 101\ncheck(f)",
    "assert all(map(lambda a: f(a) == a * a + 1, [2, 3]))",
    "def check(g):\n    for x, y in zip(map(g, [3, 5]), [10, 26]):\n"
    "        assert x == y\ncheck(f)",
]
NESTED_FORGERIES = {
    "lying equality": """
class Lie:
    def __eq__(self, other):
        return True
def f(x):
    return Lie()
""",
    "lying equality in a list": """
class Lie:
    def __eq__(self, other):
        return True
def f(x):
    return [Lie()]
""",
    "token of an inline test": """
import os, sys
class Other:
    pass
def f(x):
    frame = sys._getframe()
    while frame:
        if 'mark' in frame.f_locals:
            os.write(3, frame.f_locals['mark'] + b'.\\n')
            os._exit(0)
        frame = frame.f_back
    return Other()
""",
    "end of an iteration": "def f(x):\n    raise StopIteration",
    "end of an asynchronous iteration": "def f(x):\n    raise StopAsyncIteration",
    "a wrong number": "def f(x):\n    return 0",
}


@pytest.mark.parametrize("name", NESTED_FORGERIES)
def test_what_a_solution_returned_gives_it_no_power_over_the_test(
    name: str, strict_pool: ExecutionPool
) -> None:
    tests = [AssertTest(code) for code in NESTED_TESTS]
    matrix = strict_pool.passing_matrix(SQUARE, [RIGHT, NESTED_FORGERIES[name]], tests)
    assert (matrix[0] == P).all(), matrix[0]
    assert not np.isin(matrix[1], [P, Status.UNAVAILABLE]).any(), matrix[1]


@pytest.mark.parametrize("name", SELF_KNOWLEDGE)
def test_programs_that_differ_in_what_they_know_of_their_text_are_not_one(
    name: str, strict_pool: ExecutionPool
) -> None:
    matrix = strict_pool.passing_matrix(SQUARE, both_texts(name), TESTS[:1])
    assert matrix.tolist() == [[P], [F]]


BOMBS = {
    "fraction of a text": """
import os, sys
def f(x):
    frame = sys._getframe()
    while 'mark' not in frame.f_locals:
        frame = frame.f_back
    mark = frame.f_locals['mark']
    os.write(3, mark + b'0={"fraction": ["1e999999999", null]}\\n' + mark + b'.\\n')
    os._exit(0)
""",
    "decimal": "from decimal import Decimal\ndef f(x):\n    return Decimal('1E+999999999')",
    "fraction": "from fractions import Fraction\ndef f(x):\n    return Fraction(3**30000, 7)",
    "range": "def f(x):\n    return range(10**15)",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_reported_value_cannot_keep_the_judge_busy(name: str, strict_pool: ExecutionPool) -> None:
    restarts = strict_pool.statistics["restarts"]
    tests = ["f(3) == 10", "int(f(3)) == 10", "round(f(3)) == 10", "f(3) ** 4096 == 10"]
    tests += ["1.5 in f(3)", "list(f(3)) == [10]"]
    sources = [AssertTest(f"assert {test}") for test in tests]
    matrix = strict_pool.passing_matrix(SQUARE, [BOMBS[name]], sources)
    assert not np.isin(matrix, [P, Status.UNAVAILABLE]).any(), matrix
    assert strict_pool.statistics["restarts"] == restarts


def test_an_assignment_shows_the_candidate_nothing_to_learn_from(
    strict_pool: ExecutionPool,
) -> None:
    learner = """
class Learner:
    def __eq__(self, other):
        learned.append(other)
        return True
learned = []
def f(x):
    return learned[0] if learned else Learner()
"""
    test = AssertTest("same = f(3) == 10\nassert f(3) == 10")
    assert strict_pool.passing_matrix(SQUARE, [learner, RIGHT], [test]).tolist() == [[F], [P]]


@pytest.mark.parametrize("name", TESTER_CHEATS)
def test_a_cheating_test_harms_only_itself(name: str, strict_pool: ExecutionPool) -> None:
    tests = [TESTS[0], AssertTest(TESTER_CHEATS[name]), TESTS[2]]
    matrix = strict_pool.passing_matrix(SQUARE, [RIGHT, WRONG], tests)
    assert (matrix[:, [0, 2]] == [[P, P], [F, F]]).all()
    assert (matrix[:, 1] != Status.UNAVAILABLE).all()


def test_a_free_form_test_cannot_read_the_solution(strict_pool: ExecutionPool) -> None:
    cheat = (
        "import gc, sys\n"
        "found = [t for t in gc.get_objects() if type(t) in (str, bytes) and 'marker' in str(t)]\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    local = frame.f_locals.values()\n"
        "    found += [v for v in local if isinstance(v, bytes) and b'marker' in v]\n"
        "    frame = frame.f_back\n"
        "assert not found\nassert f(3) == 10"
    )
    source = RIGHT + "\n    'marker'"
    assert strict_pool.passing_matrix(SQUARE, [source], [AssertTest(cheat)])[0, 0] == P


def test_a_program_cannot_pass_by_leaving_early(strict_pool: ExecutionPool) -> None:
    programs = {
        "print(int(input()) * 2)": P,
        "import sys\nprint(int(sys.stdin.read()) * 2)\nsys.exit()": P,
        "import atexit\natexit.register(lambda: print(int(input()) * 2))": P,
        "import threading\nthreading.Thread(target=lambda: print(int(input()) * 2)).start()": P,
        "print(int(input()) * 2)\nraise SystemExit(1)": Status.ERROR,
        "print(int(input()) * 2)\nimport os\nos._exit(0)": F,  # the buffer is lost, as elsewhere
        "out = open(1, 'w')\nout.write(str(int(input()) * 2))": P,
        "class A:\n    def __del__(self):\n        print(6)\na = A()": P,
        "import io, sys\nout = sys.stdout\nsys.stdout = io.StringIO()\nout.write('6')": P,
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint(6)": P,
        "import sys\nprint(6)\nsys.stdout.close()": P,
        "import os\nos.write(1, b'6')\nos.kill(os.getpid(), 9)": Status.FORBIDDEN,
        "import os\nos.write(1, b'6')\nos.kill(os.getpid(), 6)": Status.CRASHED,
        "print(6)\nwhile True: pass": Status.TIMEOUT,
        "while True: print(6)": Status.OUTPUT,
        "import os\nfor fd in range(9):\n  try: os.write(fd, b'PASSED')\n  except OSError: pass": F,
        "print(open('/etc/passwd').read())": Status.ERROR,
    }
    tests = [StdioTest("3\n", "6\n")]
    matrix = strict_pool.passing_matrix(PROGRAM, list(programs), tests)
    assert {p: Status(row[0]) for p, row in zip(programs, matrix)} == programs


def test_a_run_may_have_as_many_processes_as_its_limit_says(pool: ExecutionPool) -> None:
    count = """
import os, time
def f(x):
    started = 0
    try:
        while started < 100:
            if os.fork() == 0:
                time.sleep(60)
            started += 1
    except BlockingIOError:
        pass
    return started + 1
"""
    if pool.isolation != "namespaces":
        pytest.skip("elsewhere the kernel counts everything that the user runs")
    # One more than the limit: there is room for the process of a dialogue's test.
    test = AssertTest(f"assert f(0) == {pool.limits.processes + 1}")
    assert pool.passing_matrix(SQUARE, [count], [test]).tolist() == [[P]]


def test_a_fork_bomb_does_not_slow_the_next_run(strict_pool: ExecutionPool) -> None:
    strict_pool.passing_matrix(SQUARE, [FORGERIES["fork bomb"]], TESTS[:1])
    started = time.monotonic()
    assert (strict_pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()
    assert time.monotonic() - started < 5


def test_nothing_survives_the_attacks() -> None:
    others = processes_below(os.getpid())  # of the pools that other tests share
    with ExecutionPool(workers=1, limits=Limits(seconds=0.6, memory_mb=256)) as pool:
        pool.passing_matrix(SQUARE, [CARRIERS["daemon"], FORGERIES["fork bomb"]], TESTS)
        assert (pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()
        # A worker is a judge and a runner; whatever else there is was left by a run.
        assert wait_until(
            lambda: len(processes_below(os.getpid()) - others) == 2 * len(pool.worker_pids()), 2
        )
    assert wait_until(lambda: processes_below(os.getpid()) <= others, 2)
