"""Levels of isolation: found by trying, refused below the minimum, never lowered in silence."""

import errno
import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from observing import RIGHT, SQUARE, WRONG

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Limits, Status, isolation, process
from zerocoder_jax.execution.worker import seccomp, system_calls
from zerocoder_jax.problems import AssertTest

P, F = Status.PASSED, Status.FAILED
TESTS = [
    AssertTest("assert f(3) == 10"),
    AssertTest("def check(g):\n    assert g(3) == 10\ncheck(f)"),
]


def _pool_at(level: str) -> ExecutionPool:
    """A pool at exactly this level, or a skip with what the host lacks for it."""
    try:
        limits = Limits(seconds=0.6, memory_mb=256)
        return ExecutionPool(1, limits, min_isolation=level, max_isolation=level)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("level", ["namespaces", "landlock", "rlimits"])
def test_every_level_gives_the_same_verdicts_and_ends_what_does_not_end(level: str) -> None:
    daemon = (
        "import os, time\ndef f(x):\n    if os.path.exists('mark'):\n        return -1\n"
        "    open('mark', 'w').close()\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0:\n            time.sleep(60)\n        os._exit(0)\n"
        "    return x * x + 1"
    )
    sources = [RIGHT, WRONG, "def f(x):\n    while True: pass", daemon]
    sources += ["import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return 0"]
    with _pool_at(level) as pool:
        assert pool.isolation == level
        matrix = pool.passing_matrix(SQUARE, sources, TESTS)
        assert (matrix[[0, 3]] == P).all()
        assert (matrix[1] == F).all()
        assert (matrix[2] == Status.TIMEOUT).all()
        assert not (matrix[4] == P).any()
        assert pool.statistics["restarts"] == 0


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_both_upper_levels_keep_files_and_sockets_away(level: str, repository: Path) -> None:
    sources = [
        "def f(x):\n    return open('/etc/passwd').read()",
        f"import os\ndef f(x):\n    return os.listdir({str(repository)!r})",
        "import socket\ndef f(x):\n    return bool(socket.socket())",
        "import os\ndef f(x):\n    return os.listdir('/root')",
        "def f(x):\n    return open('/proc/1/environ').read()",
    ]
    with _pool_at(level) as pool:
        matrix = pool.passing_matrix(SQUARE, sources, [AssertTest("assert f(1)")])
        assert all(Status(s) in (Status.FORBIDDEN, Status.ERROR) for s in matrix[:, 0]), matrix.T


def test_a_level_that_cannot_be_had_is_refused_with_what_is_missing() -> None:
    """In a process that may not make namespaces any more, the same pool says so and stops."""
    code = (
        "import resource, sys\nsys.path[:0] = " + repr(sys.path) + "\n"
        "from zerocoder_jax.execution.worker import seccomp, syscalls\n"
        "import struct\n"
        "syscalls.prctl(38, 1)\n"
        "number = {'x86_64': 272, 'aarch64': 97}[syscalls.MACHINE]  # unshare\n"
        "pack = lambda *i: struct.pack('=HBBI', *i)\n"
        "seccomp.install(pack(0x20,0,0,0) + pack(0x15,0,1,number) + pack(6,0,0,0x50001) + "
        "pack(6,0,0,0x7fff0000))\n"
        "from zerocoder_jax.errors import run_command\n"
        "from zerocoder_jax.execution import ExecutionPool\n"
        "run_command(lambda: ExecutionPool(1))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert "unshare: Operation not permitted" in line
    assert "execution.min_isolation" in line and "user.max_user_namespaces" in line


def test_a_host_with_too_few_descriptors_is_refused_in_one_line() -> None:
    code = (
        "import resource, sys\nsys.path[:0] = " + repr(sys.path) + "\n"
        "from zerocoder_jax.errors import run_command\n"
        "from zerocoder_jax.execution import ExecutionPool\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "run_command(lambda: ExecutionPool(1))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert "open files are limited to 40" in line and "ulimit -n" in line


@pytest.mark.parametrize(
    ("problem", "number", "remedy"),
    [
        ("unshare: Operation not permitted", errno.EPERM, "user.max_user_namespaces > 0"),
        ("unshare: No space left on device", errno.ENOSPC, "all namespaces that the host allows"),
        ("mount /tmp: Operation not permitted", errno.EPERM, "allow mount and pivot_root"),
        ("an ordinary user cannot read /private/lib", errno.EACCES, "install Python where"),
        ("landlock: Function not implemented", errno.ENOSYS, "5.13"),
        ("Resource temporarily unavailable", errno.EAGAIN, "ulimit -u"),
        ("the worker ended while it was set up", None, "docs/execution.md"),
    ],
)
def test_each_cause_of_a_refusal_has_its_own_remedy(
    problem: str, number: int | None, remedy: str
) -> None:
    class Refusing:
        done, readable, writable, has_unsent = False, 0, 0, False

        def flush(self) -> None: ...

        def kill(self) -> None: ...

        def messages(self) -> list[dict[str, object]]:
            return [{"missing": problem, "errno": number}]

    reading, writing = os.pipe()
    os.close(writing)  # readable at once
    Refusing.readable = reading
    with pytest.raises(UserError, match="min_isolation") as refused:
        isolation.reach_level(lambda level: Refusing(), "landlock", "namespaces")
    os.close(reading)
    assert str(refused.value).count(remedy) == 2


def test_a_verifier_that_judges_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: here its judge finds that everything passes."""
    lenient = (
        "from worker import judge; judge.judge = lambda *a: 0; "
        "judge.judge_shared = lambda plans, *a: [0] * len(plans); "
    )
    start = process._START_WORKER.replace("from worker.main", lenient + "from worker.main")
    monkeypatch.setattr(process, "_START_WORKER", start)
    with pytest.raises(UserError, match="must be FAILED is PASSED"):
        ExecutionPool(1, min_isolation="rlimits")


def test_a_pool_says_what_it_reached_and_warns_of_more_memory_than_there_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        ExecutionPool(3, Limits(memory_mb=1_000_000), "rlimits").close()
    reached, warning = [record.getMessage() for record in caplog.records]
    assert reached.startswith("verifier: 3 workers, isolation level ")
    assert "execution.memory_mb" in warning


def test_levels_must_be_in_order() -> None:
    with pytest.raises(UserError, match="above max_isolation"):
        ExecutionPool(1, min_isolation="namespaces", max_isolation="rlimits")


# ---- the filter of system calls, run here by an interpreter of its few instructions --------------

_KILL, _ALLOW, _SUCCESS, _EPERM, _ENOSYS = 0x80000000, 0x7FFF0000, 0x50000, 0x50001, 0x50026
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _answer(program: bytes, number: int, architecture: int, *arguments: int) -> int:
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    instructions = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            place += if_true if holds else if_false


_CPU, _STACK, _POINTER = 0, 3, 0x7F0000000000
_BY_ARGUMENT = [
    # A child that tells its parent of its end with SIGCHLD, a thread; any other signal; namespaces.
    (system_calls.CLONE, (17,), _ALLOW),
    (system_calls.CLONE, (0x3D0F00,), _ALLOW),
    (system_calls.CLONE, (9,), _EPERM),
    *((system_calls.CLONE, (17 | flag,), _EPERM) for flag in (0x80, 0x20000, 0x2000000, 0x4000000)),
    *((system_calls.CLONE, (17 | 1 << bit,), _EPERM) for bit in (27, 28, 29, 30)),
    (system_calls.SOCKETPAIR, (1,), _ALLOW),
    (system_calls.SOCKETPAIR, (2,), _EPERM),
    (system_calls.PRCTL, (4,), _EPERM),  # PR_SET_DUMPABLE
    (system_calls.FCNTL, (0, 4), _ALLOW),  # F_SETFL
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ
    *((system_calls.FCNTL, (0, command), _EPERM) for command in (8, 10, 15, 1024, 1026, 1031)),
    *((system_calls.FCNTL, (0, command), _SUCCESS) for command in (6, 7, 37, 38)),  # locks
    *((system_calls.FUTEX, (0, operation), _ALLOW) for operation in (0, 9, 128, 129, 137, 265)),
    *((system_calls.FUTEX, (0, operation), _EPERM) for operation in (1, 3, 4, 5, 6, 10, 12)),
    (system_calls.AFFINITY, (0,), _ALLOW),
    (system_calls.AFFINITY, (1,), _EPERM),
    (system_calls.PRLIMIT, (0, _STACK, _POINTER), _ALLOW),
    (system_calls.PRLIMIT, (0, _CPU, 0), _ALLOW),  # asks
    (system_calls.PRLIMIT, (0, _CPU, _POINTER), _EPERM),
    (system_calls.PRLIMIT, (0, _CPU, 1 << 32), _EPERM),
    (system_calls.PRLIMIT, (1, _STACK, 0), _EPERM),
    (system_calls.SETRLIMIT, (_STACK,), _ALLOW),
    (system_calls.SETRLIMIT, (_CPU,), _EPERM),
    # SIGKILL, in all ways
    ("kill:62:129", (1, 15), _ALLOW),
    ("kill:62:129", (1, 9), _EPERM),
    ("kill:62:129", (1, 9 | 1 << 32), _EPERM),
    ("tgkill:234:131", (9, 9, 15), _ALLOW),
    ("tgkill:234:131", (1, 1, 9), _EPERM),
    (system_calls.PIDFD_SEND_SIGNAL, (63, 15), _EPERM),
    (system_calls.PIDFD_SEND_SIGNAL, (seccomp.FIRST_PIDFD, 9), _ALLOW),
]


@pytest.mark.parametrize("machine", _ARCHITECTURES)
def test_the_filter_answers_every_call_as_its_list_says(machine: str) -> None:
    program, architecture = seccomp.build_filter(machine), _ARCHITECTURES[machine]
    assert len(program) // 8 <= 4096
    for group, expected in (
        (system_calls.ALLOWED, _ALLOW),
        (system_calls.SIGNALS, _ALLOW),
        (system_calls.SIGNALS_TO_THREADS, _ALLOW),
        (system_calls.PRETENDED, _SUCCESS),
        (system_calls.REFUSED, _EPERM),
        (system_calls.DEADLY, _KILL),
    ):
        numbers = system_calls.numbers(group, machine)
        assert {_answer(program, n, architecture) for n in numbers} == {expected}
    for entry, arguments, expected in _BY_ARGUMENT:
        number = system_calls.number(entry, machine)
        if number is not None:
            answer = _answer(program, number, architecture, *arguments)
            assert answer == expected, (entry, arguments)
    assert _answer(program, 435, architecture) == _ENOSYS  # clone3
    assert _answer(program, 999, architecture) == _ENOSYS
    assert _answer(program, 0, 0x40000003) == _KILL  # the 32-bit table


def test_without_a_pid_namespace_nobody_may_send_signals() -> None:
    program = seccomp.build_filter("x86_64", may_signal=False)
    assert _answer(program, 62, _ARCHITECTURES["x86_64"]) == _EPERM


def test_the_other_table_of_x86_is_closed() -> None:
    program = seccomp.build_filter("x86_64")
    assert _answer(program, 0x40000000 + 59, _ARCHITECTURES["x86_64"]) == _KILL


def test_a_run_has_its_own_processes_only(strict_pool: ExecutionPool) -> None:
    source = (
        "import os\ndef f(x):\n    return os.getpid() < 30000 and os.getuid() != 0 or os.getuid()"
    )
    assert strict_pool.passing_matrix(SQUARE, [source], [AssertTest("assert f(1)")])[0, 0] == P
    assert os.getuid() >= 0
