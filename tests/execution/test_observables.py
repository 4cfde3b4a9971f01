"""What a run can observe is the same whatever its test, and holds of its test nothing but inputs.

A program writes down everything that it can see around it. Under tests that differ in what they
expect, and in nothing else, it must write the same, byte for byte. What the kernel counts for the
whole host (clocks, inode numbers) is no part of this, nor is where an object lies in memory, which
depends on how long earlier runs of the worker took. What lies there is searched instead.
"""

import ast
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from observing import PROGRAM, SQUARE

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Limits, process
from zerocoder_jax.problems import AssertTest, CallTest, Problem, StdioTest, Test

# A judge that also writes down what each run printed.
RECORDING = """
import sys
sys.path.insert(0, {path!r})
from worker import judge
from worker.main import main
log = open(LOG, "a", buffering=1)
outcome_of = judge.Judge._outcome
def record(self, run, *files):
    outcome = outcome_of(self, run, *files)
    log.write(repr(outcome.output) + "\\n")
    return outcome
judge.Judge._outcome = record
main()
"""

# Everything in sight. `mark` and `token` are random in every run; addresses are those of objects.
PROBE = r'''
import fcntl, gc, os, random, re, resource, signal, sys, threading, time

def tried(function, *arguments):
    try:
        return function(*arguments)
    except BaseException as error:
        return type(error).__name__, getattr(error, "errno", None)

def largest(descriptor):
    """The size that a file can be given: what RLIMIT_FSIZE allows."""
    size, step = os.fstat(descriptor).st_size, 1 << 40
    allowed = 0
    while step:
        if tried(os.ftruncate, descriptor, allowed + step) is None:
            allowed += step
        step >>= 1
    tried(os.ftruncate, descriptor, size)
    return allowed

def plain(value):
    return re.sub("0x[0-9a-f]+", "ADDRESS", re.sub("[0-9a-f]{16}", "TOKEN", repr(value)[:2000]))

def observed():
    yield "limits", [(name, tried(resource.getrlimit, getattr(resource, name)))
                     for name in dir(resource) if name.startswith("RLIMIT")]
    yield "scratch", os.statvfs("/tmp")[:5], os.listdir(".")
    yield "directory", os.stat(".").st_mode, os.stat(".").st_mtime
    scratch = os.open("probe", os.O_CREAT | os.O_RDWR)
    yield "sizes", [tried(largest, descriptor) for descriptor in (0, 1, 2, 3, 4, scratch)]
    os.close(scratch)
    os.unlink("probe")
    for descriptor in range(64):
        yield ("descriptor", descriptor, tried(lambda: os.fstat(descriptor).st_mode),
               tried(lambda: os.fstat(descriptor).st_size),
               tried(fcntl.fcntl, descriptor, fcntl.F_GETFL),
               tried(fcntl.fcntl, descriptor, fcntl.F_GETFD),
               plain(tried(os.pread, descriptor, 1 << 16, 0)))
    yield "proc", tried(os.listdir, "/proc"), tried(os.listdir, "/proc/self")
    yield "files", tried(os.listdir, "/"), tried(os.listdir, "/dev"), os.getcwd()
    yield "environment", sorted(os.environ.items()), sys.argv, sys.path, sys.flags, os.uname()
    yield "ids", os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0)
    yield "user", os.getresuid(), os.getresgid(), os.getgroups()
    yield "processes", [pid for pid in range(1, 99) if tried(os.kill, pid, 0) is None]
    yield "scheduling", os.sched_getaffinity(0), os.getpriority(0, 0), os.sched_getscheduler(0)
    yield "threads", threading.active_count(), threading.get_native_id()
    yield "signals", [(number, plain(tried(signal.getsignal, number))) for number in range(1, 65)]
    yield "masks", signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.sigpending()
    yield "mask of files", os.umask(0)
    yield "used", resource.getrusage(resource.RUSAGE_CHILDREN)[:2], time.process_time() < 1
    yield "chance", random.random(), hash("text"), list({"a", "b", "c"})
    yield "modules", sorted(sys.modules)
    frame = sys._getframe()
    while frame:
        # The probe's own frames apart; of the clock it is known that it differs.
        if "worker" in str(frame.f_globals.get("__name__")) or frame.f_globals is not globals():
            names = {name: plain(value) for name, value in frame.f_locals.items()
                     if name not in ("started", "namespace", "__builtins__")}
            yield "frame", frame.f_code.co_name, frame.f_lineno, sorted(names.items())
        frame = frame.f_back
    kinds = {}
    for thing in gc.get_objects():
        kinds[type(thing).__name__] = kinds.get(type(thing).__name__, 0) + 1
    yield "objects", sorted(kinds.items())

def look():
    # Written at once: the next line of the probe would find it in descriptor 1.
    os.write(1, "\n".join(map(repr, observed())).encode())
'''
# Searches all memory that it can find: the C heap, and whatever lies around Python's own objects.
SEARCH = r"""
import ctypes, os, re
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
PAGE = 4096

def mapped(address):
    return libc.mincore(ctypes.c_void_p(address), PAGE, (ctypes.c_char * 1)()) == 0

def ranges():
    anchors = [id(object()), id([0] * 10), id("a" * 999), id(bytearray(1 << 20)), id(ranges)]
    anchors += [libc.sbrk(0) - PAGE, ctypes.addressof(ctypes.c_char_p(b"x"))]
    seen = set()
    for anchor in anchors:
        for step in (-PAGE, PAGE):
            address = anchor // PAGE * PAGE
            while address not in seen and mapped(address):
                seen.add(address)
                address += step
    return sorted(seen)

def look():
    found, before = set(), b""
    pages = os.open("pages", os.O_CREAT | os.O_RDWR)
    for address in ranges():
        os.lseek(pages, 0, 0)
        if libc.write(pages, ctypes.c_void_p(address), PAGE) == PAGE:
            page = os.pread(pages, PAGE, 0)
            found |= set(re.findall(rb"zq[a-z]{24}qz", before[-64:] + page))
            before = page
    os.write(1, b"%d\n" % len(found))
"""
FUNCTION = "\ndef f(x):\n    look()\n    return x\n"

KINDS: dict[str, tuple[Problem, str, Callable[[object], Test]]] = {
    "assert": (SQUARE, FUNCTION, lambda value: AssertTest(f"assert f(3) == {value!r}")),
    "call": (SQUARE, FUNCTION, lambda value: CallTest((3,), value)),
    "free-form": (
        SQUARE,
        FUNCTION,
        lambda value: AssertTest(
            f"def check(g):\n    print({value!r})\n    assert g(3) == {value!r}\ncheck(f)"
        ),
    ),
    "program": (PROGRAM, "\nlook()\n", lambda value: StdioTest("3\n", str(value))),
}


@pytest.fixture
def observe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Problem, str, list[Test]], list[bytes]]:
    """Runs a program under tests, each in a process of its own; returns what it printed there."""
    log = tmp_path / "log"
    monkeypatch.setattr(process, "_START_WORKER", RECORDING.replace("LOG", repr(str(log))))

    def run(problem: Problem, source: str, tests: list[Test]) -> list[bytes]:
        try:
            pool = ExecutionPool(1, Limits(seconds=20.0), shortcuts=False)
        except UserError as error:
            pytest.skip(f"this host forbids full isolation: {error}")
        with pool:
            pool.passing_matrix(problem, [source], tests)
        return [line for line in map(ast.literal_eval, log.read_text().splitlines()) if line]

    return run


def _expected(draw: random.Random) -> object:
    text = "".join(draw.choices(string.printable, k=draw.randrange(1, 3000)))
    return draw.choice(
        [
            draw.random() < 0.5,
            draw.randrange(10 ** draw.randrange(1, 300)),
            draw.random(),
            text,
            [text, draw.randrange(99)],
            {text[:9]: draw.random()},
            None,
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_observes_does_not_depend_on_what_is_expected(
    kind: str, observe: Callable[[Problem, str, list[Test]], list[bytes]]
) -> None:
    problem, ending, make = KINDS[kind]
    draw = random.Random(kind)
    tests = [make(_expected(draw)) for _ in range(200)]
    seen = observe(problem, PROBE + ending, tests)
    assert len(seen) == 200
    lines = [observation.splitlines() for observation in seen]
    different = [(a, b) for other in lines for a, b in zip(lines[0], other) if a != b]
    assert not different, different[:3]
    assert len(set(seen)) == 1
    assert len(lines[0]) > 80


def test_the_probe_notices_what_differs(
    observe: Callable[[Problem, str, list[Test]], list[bytes]],
) -> None:
    """Runs whose inputs differ are told apart: by a frame, by what a descriptor holds."""
    assert len(set(observe(SQUARE, PROBE + FUNCTION, [CallTest((x,), 0) for x in (3, 4)]))) == 2
    programs = observe(PROGRAM, PROBE + "\nlook()\n", [StdioTest(x, "") for x in ("3\n", "4\n")])
    assert len(set(programs[-2:])) == 2


def _secret(draw: random.Random) -> str:
    return "zq" + "".join(draw.choices(string.ascii_lowercase, k=24)) + "qz"


@pytest.mark.parametrize("kind", KINDS)
def test_no_memory_of_a_run_holds_an_expected_value(
    kind: str, observe: Callable[[Problem, str, list[Test]], list[bytes]]
) -> None:
    """Neither its own test's nor those of the tests before it."""
    problem, ending, make = KINDS[kind]
    draw = random.Random(kind)
    tests = [make(_secret(draw)) for _ in range(6)]
    assert observe(problem, SEARCH + ending, tests) == [b"0\n"] * 6


def test_the_search_finds_what_is_there(
    observe: Callable[[Problem, str, list[Test]], list[bytes]],
) -> None:
    tests: list[Test] = [CallTest((_secret(random.Random(0)),), 0)]
    assert observe(SQUARE, SEARCH + FUNCTION, tests) == [b"1\n"]
