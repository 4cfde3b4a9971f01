"""Where a worker starts: reads its settings, builds the sandbox, says hello, serves."""

import fcntl
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
    isolation.allow_descriptors()
    sandbox = isolation.Sandbox(settings["level"], settings["scratch"], settings["packages"])
    preload(sandbox.packages)
    try:
        if sandbox.level == "namespaces":
            isolation.enter_namespaces()
        else:
            isolation.leave_to_ordinary_user(sandbox.scratch)
        jobs, runner_jobs = _socket_pair(socket.SOCK_STREAM)
        outcomes, runner_outcomes = _socket_pair(socket.SOCK_SEQPACKET)
        freeze()
        if os.fork() == 0:
            jobs.close()
            outcomes.close()
            _become_runner(sandbox, settings, runner_jobs, runner_outcomes)
        runner_jobs.close()
        runner_outcomes.close()
        # Only now: what the judge alone needs would make every fork of the runner dearer.
        from .judge import Judge

        isolation.become_ordinary_user()
        isolation.die_with_parent(parent)  # after the change of user, which would undo it
    except OSError as error:
        send(1, {"missing": f"{error.strerror or error}"})
        return
    problem = receive(jobs.fileno())
    if problem is None:
        problem = {"missing": "the sandbox ended while it was set up"}
    send(1, problem)
    if "missing" not in problem:
        Judge(settings["output_kb"], jobs, outcomes).serve()


def _socket_pair(kind: int) -> list[socket.socket]:
    """Two connected sockets whose descriptors are out of the way of a run's."""
    moved = []
    for end in socket.socketpair(socket.AF_UNIX, kind):
        with end:
            number = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, isolation.FIRST_PRIVATE)
        moved.append(socket.socket(fileno=number))
    return moved


def _become_runner(
    sandbox: isolation.Sandbox,
    settings: dict[str, Any],
    jobs: socket.socket,
    outcomes: socket.socket,
) -> NoReturn:
    """Process 1 of the sandbox. Its end takes every process of the PID namespace along."""
    try:
        os.setsid()
        try:
            if sandbox.level == "namespaces":
                isolation.build_file_system(sandbox)
                isolation.give_up_privileges()
            isolation.die_with_parent(os.getppid())
            runner = Runner(sandbox, settings["memory_mb"])
            isolation.limit_resources(sandbox, settings["memory_mb"], settings["processes"])
            isolation.restrict(sandbox)
        except OSError as error:
            send(jobs.fileno(), {"missing": f"{error.strerror or error}"})
            os._exit(1)
        for name in [name for name in sys.modules if name.partition(".")[0] == "worker"]:
            del sys.modules[name]  # a solution's imports find the standard library, not this
        del sys.path[0]
        send(jobs.fileno(), {"level": sandbox.level})
        runner.serve(jobs, outcomes)
    finally:
        os._exit(0)
