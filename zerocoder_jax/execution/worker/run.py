"""What happens inside a forked run: the functions that share a process with a solution.

Nothing here decides a verdict that the code beside it could gain from: a run reports values (or
prints), and the comparison is made elsewhere. The exceptions that are reported by name can only
lower a verdict.

Each function here ends the process, and keeps no reference to what it does not need: what a
solution finds by walking frames or ``gc`` is its own code, the arguments of its calls, and tools
to report a value that it does not know.
"""

import atexit
import builtins
import contextlib
import errno
import gc
import json
import marshal
import os
import resource
import signal
import sys
import types
from typing import Any, NoReturn

from . import compiling, values
from .assertions import SHAPING

__builtins__ = dict(vars(builtins))  # type: ignore[assignment]  # see values.py

# Descriptors of every run: 0 and 1 are the standard streams, 2 is /dev/null.
REPORT = 3
CHANNEL = 4
_FIRST_PRIVATE = 4
_MOST_DESCRIPTORS = 64


def kind_of_exception(error: BaseException) -> str:
    """The name under which an exception is reported; ``judge.py`` maps it to a status."""
    if isinstance(error, AssertionError):
        return "assertion"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError):
        if error.errno == errno.EFBIG:
            return "output"
        if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS):
            return "forbidden"
    return "error"


def begin(keep_channel: bool = False) -> None:
    """Cuts a forked process off from its worker, before it sees any of the solution."""
    os.closerange(_FIRST_PRIVATE + keep_channel, _MOST_DESCRIPTORS)
    os.setsid()  # a signal to "my process group" must not reach the worker or the judge
    # Of runs alone: judge and runner hold the descriptors of runs to come.
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_DESCRIPTORS, _MOST_DESCRIPTORS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Whole numbers of any length are read and printed: the limits above bound what that costs. The
    # judge and the runner, which nothing else would stop, keep Python's limit of 4300 digits.
    sys.set_int_max_str_digits(0)
    gc.enable()


def new_module(name: str) -> dict[str, Any]:
    """The namespace of a fresh module, found under its name by ``dataclasses`` and ``pickle``."""
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    return module.__dict__


def resolve(namespace: dict[str, Any], entry_point: str) -> Any:
    """The callable that ``function`` or ``Class.method`` names."""
    owner, _, name = entry_point.rpartition(".")
    if not owner:
        return namespace[name]
    return getattr(namespace[owner](), name)


def report_values(
    entry_point: str | None, code: bytes, token: str, tests: list[list[list[Any]]]
) -> NoReturn:
    """Loads the solution and takes the steps of each test, reporting every value there is.

    One line for each: the token, the test's number, and ``=`` with a value or ``!`` with the kind
    of an exception, which ends the test; at the end of all, the token and a full stop.
    """
    leave, write, dumps, load = os._exit, os.write, values.dumps, marshal.loads
    decode = values.decode
    mark = token.encode()
    namespace = new_module("solution")
    # What a test means by these names, whatever the solution calls ``max`` or ``list``.
    shaping = {name: getattr(builtins, name) for name in SHAPING if name != entry_point}
    try:
        exec(load(code), namespace)
    except BaseException as error:
        failure = kind_of_exception(error).encode()
        for number in range(len(tests)):
            write(REPORT, b"%s%d!%s\n" % (mark, number, failure))
        tests = []
    for number, steps in enumerate(tests):
        try:
            for mode, content in steps:
                if mode == "exec":
                    exec(content, namespace)
                    continue
                if mode == "eval":
                    value = eval(content, namespace, dict(shaping))
                else:
                    value = resolve(namespace, entry_point or "")(*decode(content))
                write(REPORT, b"%s%d=%s\n" % (mark, number, dumps(value)))
        except BaseException as error:
            write(REPORT, b"%s%d!%s\n" % (mark, number, kind_of_exception(error).encode()))
    write(REPORT, mark + b".\n")
    leave(0)


def run_program(entry_point: None, code: bytes, token: str) -> NoReturn:
    """A whole program: what counts is its standard output and that it ends well."""
    leave, write, load = os._exit, os.write, marshal.loads
    mark = token.encode()
    output, collect = sys.stdout, gc.collect
    try:
        try:
            exec(load(code), new_module("__main__"))
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
        # What an interpreter does at its end, and programs rely on: waiting for threads, functions
        # that write the collected output, flushing, and the end of every object, which closes files
        # on descriptor 1 and runs ``__del__``.
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        _flush(sys.stdout)
        sys.modules.pop("__main__", None)
        collect()
        _flush(output)
    except BaseException as error:
        write(REPORT, mark + b"!" + kind_of_exception(error).encode() + b"\n")
        leave(1)
    leave(0)


def _flush(stream: Any) -> None:
    """Writes what a stream still holds; one that was closed or taken apart holds nothing."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.flush()


def compile_sources(sources: list[str]) -> NoReturn:
    """Compiles solutions that nobody has looked at; one line of JSON for each."""
    for source in sources:
        line = json.dumps(compiling.compiled(source)) + "\n"
        os.write(REPORT, line.encode())
    os._exit(0)


def read_all(descriptor: int) -> bytes:
    """The whole content of a file in memory; its offset, which runs share, stays."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
