"""Where a worker starts: reads its settings, builds the sandbox, says hello, serves."""

import fcntl
import math
import os
import socket
import sys
from typing import Any, NoReturn

from . import isolation
from .frames import receive, send
from .preloaded import freeze, preload
from .runner import Runner


def main() -> None:
    """Serves the pool on descriptors 0 and 1 until either side is gone."""
    settings = receive(0)
    if settings is None:
        return
    parent = os.getppid()
    sandbox = isolation.Sandbox(settings["level"], settings["scratch"], settings["packages"])
    preload(sandbox.packages)
    try:
        isolation.allow_descriptors()
        isolation.be_first_when_memory_ends()
        if sandbox.level == "namespaces":
            isolation.enter_namespaces(sandbox)
        else:
            isolation.leave_to_ordinary_user(sandbox)
        judge_end, runner_end = map(_put_aside, socket.socketpair())
        freeze()
        if os.fork() == 0:
            judge_end.close()
            _become_runner(sandbox, settings, runner_end)
        runner_end.close()
        # Only now: what the judge alone needs would make every fork of the runner dearer.
        from .judge import Judge

        isolation.become_ordinary_user(sandbox.user)
        isolation.die_with_parent(parent)  # after the change of user, which would undo it
    except OSError as error:
        send(1, _missing(error))
        return
    problem = receive(judge_end.fileno())
    if problem is None:
        problem = {"missing": "the sandbox ended while it was set up"}
    send(1, problem)
    if "missing" not in problem:
        Judge(settings["output_kb"], judge_end).serve()


def _missing(error: OSError) -> dict[str, Any]:
    return {"missing": f"{error.strerror or error}", "errno": error.errno}


def _put_aside(end: socket.socket) -> socket.socket:
    """The same socket under a number that no run uses."""
    with end:
        number = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, isolation.FIRST_PRIVATE)
    return socket.socket(fileno=number)


def _become_runner(
    sandbox: isolation.Sandbox, settings: dict[str, Any], judge: socket.socket
) -> NoReturn:
    """Process 1 of the sandbox. Its end takes every process of the PID namespace along."""
    try:
        os.setsid()
        try:
            if sandbox.level == "namespaces":
                isolation.build_file_system(sandbox)
                isolation.give_up_privileges(sandbox)
            isolation.die_with_parent(os.getppid())
            runner = Runner(sandbox, settings["memory_mb"])
            isolation.limit_resources(sandbox, settings["memory_mb"], settings["processes"])
            isolation.restrict(sandbox, _processor_seconds(settings["seconds"]))
        except OSError as error:
            send(judge.fileno(), _missing(error))
            os._exit(1)
        for name in [name for name in sys.modules if name.partition(".")[0] == "worker"]:
            del sys.modules[name]  # a solution's imports find the standard library, not this
        del sys.path[0]
        send(judge.fileno(), {"level": sandbox.level, "lacks": sandbox.lacks()})
        settings.clear()
        runner.serve(judge)
    finally:
        os._exit(0)


def _processor_seconds(seconds: float) -> int:
    """Of one process: more than any wall-clock deadline leaves room for on one processor."""
    return math.ceil(5 * seconds) + 2
