"""Whatever is killed in the middle of a batch: the results are complete, or the processes gone."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from observing import RIGHT, SQUARE, WRONG, alive, own_descriptors, processes_below, wait_until

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import AssertTest

P, F = Status.PASSED, Status.FAILED
TESTS = [AssertTest(f"assert f({x}) == {x * x + 1}") for x in range(1, 9)]
SLOW = "import time\n{}\ng = f\ndef f(x):\n    time.sleep(0.05)\n    return g(x)"
SOLUTIONS = [SLOW.format(source) + f"\nn = {i}" for i in range(6) for source in (RIGHT, WRONG)]


def _with_killer(pool: ExecutionPool, kill: Callable[[], None]) -> np.ndarray:
    """The matrix of a batch during which ``kill`` runs every 0.3 seconds, five times."""
    stop = threading.Event()

    def killing() -> None:
        for _ in range(5):
            if stop.wait(0.3):
                return
            kill()

    killer = threading.Thread(target=killing)
    killer.start()
    try:
        return pool.passing_matrix(SQUARE, SOLUTIONS, TESTS)
    finally:
        stop.set()
        killer.join()


def _check(matrix: np.ndarray) -> None:
    """Every pair has a verdict; a pair that was hit thrice may be unavailable, none is wrong."""
    expected = np.array([[P] * 8, [F] * 8] * 6)
    known = matrix != Status.UNAVAILABLE
    assert (matrix == expected)[known].all()
    assert known.mean() > 0.9


@pytest.mark.parametrize("victims", ["one judge", "all judges", "one sandbox", "all sandboxes"])
def test_work_of_killed_workers_is_done_again(victims: str) -> None:
    with ExecutionPool(2, min_isolation="rlimits") as pool:
        pool.passing_matrix(SQUARE, [RIGHT], TESTS)

        def kill() -> None:
            judges = pool.worker_pids()
            sandboxes = [pid for judge in judges for pid in _children(judge)]
            chosen = judges if "judge" in victims else sandboxes
            for pid in chosen[:1] if "one" in victims else chosen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        _check(_with_killer(pool, kill))
        assert pool.statistics["restarts"] >= 1  # a busy machine starts few in this time
        assert pool.statistics["retried"] >= 1
        # The pool is as good as new.
        assert (pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()


SLEEPER = "import time\ndef f(x):\n    time.sleep(0.4)\n    return x * x + 1"


@pytest.mark.parametrize(("times", "verdict"), [(1, P), (99, Status.UNAVAILABLE)])
def test_a_run_that_something_outside_kills_is_made_again_alone_or_has_no_verdict(
    times: int, verdict: Status
) -> None:
    """As the kernel does where memory ends; the program is not to blame."""
    with ExecutionPool(1, min_isolation="rlimits") as pool:
        future = pool.submit_matrix(SQUARE, [SLEEPER], TESTS[:1])
        killed: set[int] = set()
        while not future.done():
            runners = [pid for judge in pool.worker_pids() for pid in _children(judge)]
            for run in {pid for runner in runners for pid in _children(runner)} - killed:
                time.sleep(0.05)  # not the compiler, which is done before
                if len(killed) < times and run in (c for r in runners for c in _children(r)):
                    killed.add(run)
                    os.kill(run, signal.SIGKILL)
            time.sleep(0.01)
        assert future.result().tolist() == [[verdict]]
        assert pool.statistics["retried"] == 1
        assert pool.statistics["restarts"] == 0
        assert (pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()


def test_the_machine_ends_workers_and_runs_before_the_process_that_they_work_for() -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    with ExecutionPool(1, min_isolation="rlimits") as pool:
        pool.submit_matrix(SQUARE, [SLEEPER], TESTS[:2])
        for judge in pool.worker_pids():
            below = {judge, *processes_below(judge)}
            scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in below]
            assert len(scores) >= 2
            assert min(scores) > own


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def test_a_stopped_worker_dies_with_its_pool() -> None:
    others = processes_below(os.getpid())
    pool = ExecutionPool(1, min_isolation="rlimits")
    pool.submit_matrix(SQUARE, [SOLUTIONS[0]], TESTS)
    assert wait_until(lambda: len(pool.worker_pids()) > 0, 10)
    for pid in pool.worker_pids():
        os.kill(pid, signal.SIGSTOP)
    pool.close()
    assert wait_until(lambda: processes_below(os.getpid()) <= others, 2)


PARENT = """
import sys
sys.path[:0] = {path!r}
from observing import RIGHT, SQUARE
from zerocoder_jax.execution import ExecutionPool
from zerocoder_jax.problems import AssertTest
pool = ExecutionPool(2, min_isolation="rlimits")
loop = "import os\\nos.fork()\\ndef f(x):\\n    while True: pass"
future = pool.submit_matrix(SQUARE, [loop, RIGHT], [AssertTest("assert f(1) == 1")] * 1)
mutation = pool.submit_mutation(SQUARE, RIGHT, [AssertTest("assert f(1) == 2")])
mutation.result()
print("running", flush=True)
sys.stdin.readline()  # lives until it has been looked at
{then}
"""


def _start_parent(then: str) -> tuple[subprocess.Popen[str], set[int]]:
    path = [str(Path(__file__).parent), *sys.path]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(path=path, then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None and parent.stdout is not None
    assert parent.stdout.readline() == "running\n"
    below = processes_below(parent.pid)
    assert len(below) >= 3  # judges, sandboxes, the mutant maker, runs
    parent.stdin.write("go on\n")
    parent.stdin.flush()
    return parent, below


@pytest.mark.parametrize(
    ("then", "number"),
    [
        ("import time; time.sleep(60)", signal.SIGKILL),
        ("import time; time.sleep(60)", signal.SIGTERM),
        ("", None),  # forgets to close its pool
        ("raise ValueError", None),
        ("import os; os._exit(1)", None),
    ],
)
def test_no_process_outlives_the_parent(then: str, number: signal.Signals | None) -> None:
    parent, below = _start_parent(then)
    if number is not None:
        parent.send_signal(number)
    parent.wait(timeout=20)
    assert wait_until(lambda: not any(map(alive, below)), 2), [p for p in below if alive(p)]


def test_pools_come_and_go_without_a_trace() -> None:
    def once() -> None:
        with ExecutionPool(2, min_isolation="rlimits") as pool:
            pool.passing_matrix(SQUARE, [RIGHT, WRONG], TESTS)

    once()
    descriptors, processes = own_descriptors(), processes_below(os.getpid())
    for _ in range(5):
        once()
    assert own_descriptors() == descriptors
    assert wait_until(lambda: processes_below(os.getpid()) <= processes, 2)


def test_an_error_in_the_middle_of_the_items_leaves_the_pool_usable(pool: ExecutionPool) -> None:
    def items():  # type: ignore[no-untyped-def]
        yield SQUARE, [RIGHT], TESTS
        raise RuntimeError("no more problems")

    with pytest.raises(RuntimeError, match="no more"):
        list(pool.passing_matrices(items()))
    started = time.monotonic()
    assert (pool.passing_matrix(SQUARE, [RIGHT], TESTS) == P).all()
    assert time.monotonic() - started < 10
