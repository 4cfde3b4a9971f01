"""Honest programs get the resources they ask for; hostile ones take none from other programs."""

import fcntl
import os
import time

import pytest
from observing import PROGRAM, RIGHT, SQUARE

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import AssertTest, CallTest, StdioTest

P = Status.PASSED

# Each returns its argument, under the default limits.
HONEST = {
    "a larger stack": """
import resource
def f(x):
    resource.setrlimit(resource.RLIMIT_STACK, (2**29, resource.RLIM_INFINITY))
    return x
""",
    "threads and data": """
import threading, time
def f(x):
    data = bytearray(500 << 20)
    threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(12)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return x
""",
    "a file of 20 MiB": """
def f(x):
    with open('data', 'wb') as file:
        file.write(bytes([x]) * (20 << 20))
    with open('data', 'rb') as file:
        return max(file.read())
""",
    "a database in a file": """
import sqlite3
def f(x):
    base = sqlite3.connect('a.db')
    base.execute('create table t (a)')
    base.execute('insert into t values (?)', (x,))
    base.commit()
    return base.execute('select a from t').fetchone()[0]
""",
    "locks on a file of its own": """
import fcntl
def f(x):
    with open('lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
    return x
""",
    "time zones": """
from datetime import datetime
from zoneinfo import ZoneInfo
def f(x):
    utc = datetime(2024, 1, x, tzinfo=ZoneInfo('UTC'))
    return utc.astimezone(ZoneInfo('Asia/Tokyo')).hour - 9 + x
""",
    "processes and signals of its own": """
import os, signal
def f(x):
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    return x if os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM else 0
""",
    "an event loop": """
import asyncio
async def g(x):
    await asyncio.sleep(0.01)
    return x
def f(x):
    return asyncio.run(g(x))
""",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_get_what_they_ask_for(name: str, pool: ExecutionPool) -> None:
    assert pool.passing_matrix(SQUARE, [HONEST[name]], [CallTest((7,), 7)]).tolist() == [[P]]


def test_standard_input_of_any_length_arrives_whole() -> None:
    text = "123456789\n" * 4_000_000  # more than any file of a run may have
    program = "import sys\nprint(sum(map(len, sys.stdin)))"
    with ExecutionPool(1, Limits(seconds=20.0), "rlimits") as pool:
        matrix = pool.passing_matrix(PROGRAM, [program], [StdioTest(text, str(len(text)))])
    assert matrix.tolist() == [[P]]


def test_values_nested_deeply_are_judged_and_more_deeply_refused_in_words(
    pool: ExecutionPool,
) -> None:
    def nested(depth: int) -> list[object]:
        value: list[object] = []
        for _ in range(depth):
            value = [value]
        return value

    source = "def f(n):\n    value = []\n    for _ in range(n): value = [value]\n    return value"
    tests = [CallTest((300,), nested(300)), CallTest((300,), nested(299))]
    assert pool.passing_matrix(SQUARE, [source], tests).tolist() == [[P, Status.FAILED]]
    with pytest.raises(UserError, match="nested too deeply"):
        pool.passing_matrix(SQUARE, [source], [CallTest((2000,), nested(2000))])


def test_a_limit_is_wall_clock_time_whatever_the_other_tests_of_a_job() -> None:
    """A pause of a quarter more than the limit is too long, with and without a loop beside it."""
    source = "import time\ndef f(x):\n    time.sleep(60 if x == 0 else x)\n    return 1"
    tests = [AssertTest(f"assert f({x}) == 1") for x in (0, 0.1, 1.0)]
    with ExecutionPool(1, Limits(seconds=0.8), "rlimits") as pool:
        together = pool.passing_matrix(SQUARE, [source], tests)
        apart = [pool.passing_matrix(SQUARE, [source], [test])[0, 0] for test in tests]
    assert together.tolist() == [apart] == [[Status.TIMEOUT, P, Status.TIMEOUT]]


def test_time_that_a_run_waits_for_a_processor_does_not_count() -> None:
    """Beside loops that share its processor, a program with half of its limit to do gets done."""
    loop = "def f(x):\n    while True: pass"
    work = (
        "import time\ndef f(x):\n    while time.process_time() < 0.5:\n        pass\n    return 1\n"
    )
    tests = [AssertTest(f"assert f({x}) == 1") for x in range(3)]
    with ExecutionPool(1, Limits(seconds=1.0), "rlimits") as pool:
        loops = [pool.submit_matrix(SQUARE, [loop + f"\na = {i}"], tests) for i in range(2)]
        assert (pool.passing_matrix(SQUARE, [work], tests) == P).all()
        assert all((future.result() == Status.TIMEOUT).all() for future in loops)


PIPES = """
import os, time
def f(x):
    for _ in range(6):
        if os.fork() == 0: break
    kept = []
    try:
        while True: kept += os.pipe()
    except OSError: pass
    time.sleep(0.5)
    return x
"""
PIPE = """
import fcntl, os, time
def f(x):
    sizes = set()
    for _ in range(40):
        ends = os.pipe()
        sizes.add(fcntl.fcntl(ends[1], 1032))  # F_GETPIPE_SZ
        for end in ends: os.close(end)
        time.sleep(0.01)
    return sorted(sizes)
"""


def test_pipes_of_one_run_leave_those_of_its_neighbours_as_large() -> None:
    with ExecutionPool(2, Limits(seconds=5.0)) as pool:
        greedy = pool.submit_matrix(SQUARE, [PIPES], [CallTest((1,), 1)])
        assert pool.passing_matrix(SQUARE, [PIPE], [CallTest((1,), [65536])]).tolist() == [[P]]
        assert greedy.result().tolist() == [[P]]


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_no_run_locks_a_file_of_the_host(call: str, pool: ExecutionPool) -> None:
    kind = "LOCK_EX" if call == "flock" else "LOCK_SH"  # of a file that is open for reading
    hold = (
        f"import fcntl, os, time\ndef f(x):\n    library = open(os.__file__)\n"
        f"    fcntl.{call}(library, fcntl.{kind})\n    time.sleep(0.4)\n    return x"
    )
    future = pool.submit_matrix(SQUARE, [hold], [CallTest((1,), 1)])
    with open(os.__file__, "r+" if os.access(os.__file__, os.W_OK) else "r") as library:
        while not future.done():
            getattr(fcntl, call)(library, (fcntl.LOCK_EX if library.writable() else 1) | 4)
            getattr(fcntl, call)(library, fcntl.LOCK_UN)
            time.sleep(0.005)
    assert future.result().tolist() == [[P]]


LEFT_IN_FLIGHT = """
import os, socket
def f(x):
    try:
        for number in range(200):
            file = os.open(f'/tmp/{number}', os.O_CREAT | os.O_RDWR)
            os.write(file, b'x' * 60000)
            os.unlink(f'/tmp/{number}')
            a, b = socket.socketpair()
            socket.send_fds(a, [b'x'], [file, a.fileno(), b.fileno()])
            os.close(file)
    except OSError:
        pass
    return x
"""
LOOK = """
import os
space = os.statvfs('/tmp')
def f(x):
    return [space.f_blocks - space.f_bfree, space.f_files - space.f_ffree]
"""


def test_the_scratch_space_of_a_run_is_whole(pool: ExecutionPool) -> None:
    if pool.isolation != "namespaces":
        pytest.skip("elsewhere the scratch space is the host's")
    tests = [CallTest((x,), [0, 1]) for x in range(4)]
    with ExecutionPool(1) as single:
        assert (single.passing_matrix(SQUARE, [LOOK], tests) == P).all()
        matrix = single.passing_matrix(SQUARE, [LEFT_IN_FLIGHT, LOOK], [CallTest((1,), 1), *tests])
    assert (matrix[1, 1:] == P).all()


def test_runs_of_a_worker_have_equal_process_ids(strict_pool: ExecutionPool) -> None:
    if "equal process ids" in strict_pool.isolation_notes:
        pytest.skip(strict_pool.isolation_notes)
    source = (
        "import os\ndef f(x):\n    child = os.fork()\n    if child == 0:\n        os._exit(0)\n"
        "    os.wait()\n    return [os.getpid(), child]"
    )
    tests = [CallTest((x,), [2, 3]) for x in range(8)]
    assert (strict_pool.passing_matrix(SQUARE, [source, source + "\n#"], tests) == P).all()


# ---- originals and mutants ---------------------------------------------------------------------

BRANCHES = "def f(x):\n    if x > 1000:\n        return 7 - x\n    return x * x + 1\n"


@pytest.mark.parametrize("name", ["RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS"])
def test_a_limit_does_not_tell_a_mutants_run_from_the_originals(
    name: str, pool: ExecutionPool
) -> None:
    honest = AssertTest("assert f(3) == 10")
    result = pool.submit_mutation(SQUARE, BRANCHES, [honest]).result()
    kills = int(result.killed.sum())
    assert 0 < kills < len(result.mutants)
    source = BRANCHES + f"import resource\nlimit = resource.getrlimit(resource.{name})[0]\n"
    for bound in (3, 1 << 20, 1 << 25):
        # A solution that shows its limits, in a test that asks for them beside what is right.
        asks = AssertTest(f"assert f(3) == 10 and limit >= {bound}")
        told = pool.submit_mutation(SQUARE, source, [asks]).result()
        assert told.original[0] != P or int(told.killed.sum()) == kills


def test_a_solution_near_its_time_limit_does_not_kill_its_mutants() -> None:
    slow = "import time\n" + BRANCHES.replace("    if", "    time.sleep(0.7)\n    if")
    with ExecutionPool(2, Limits(seconds=1.0), "rlimits") as pool:
        plain = pool.submit_mutation(SQUARE, BRANCHES, [AssertTest("assert f(3) == 10")]).result()
        late = pool.submit_mutation(SQUARE, slow, [AssertTest("assert f(3) == 10")]).result()
    by_source = dict(zip(plain.mutants, plain.killed[:, 0]))
    assert late.original.tolist() == [P]
    for source, status in zip(late.mutants, late.statuses[:, 0]):
        same = source.replace("import time\n", "").replace("    time.sleep(0.7)\n", "")
        if same in by_source:
            assert by_source[same] or status in (P, Status.NOT_RUN)


def test_a_test_that_goes_by_the_time_kills_no_mutant(pool: ExecutionPool) -> None:
    """It passes at first and for a while, which the original would use up before its mutants."""
    until = time.time() + 1.5
    test = AssertTest(f"import time\nassert f(3) == 10\nassert time.time() < {until}")
    slow = "import time\ntime.sleep(0.3)\n" + RIGHT
    with ExecutionPool(1, min_isolation="rlimits") as single:
        result = single.submit_mutation(SQUARE, slow, [test]).result()
    assert result.mutants
    if result.original[0] == P:
        assert not result.killed.any()
