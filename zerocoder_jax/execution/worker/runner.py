"""Process 1 of the sandbox: forks the runs, ends them in time, leaves nothing of them behind.

It never reads what a run is given and never what a run reports: solutions, tests, outputs and
reports pass through as descriptors of files that the judge made, and a time limit is read after
the fork. So the memory from which a run is forked holds nothing of any test, and is the same
whatever the test: what a run holds of its own test is what it reads from its own file.
"""

import contextlib
import fcntl
import gc
import marshal
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from . import dialogue, isolation, run
from .frames import read_exactly
from .preloaded import freeze
from .seccomp import FIRST_PIDFD

# How a run ended. KILLED: by SIGKILL, which this process did not send and a run cannot.
EXITED, SIGNALED, OUT_OF_TIME, OUT_OF_MEMORY, KILLED = range(5)
# A request: the kind of run, with the descriptors of its files; then, on its own, its seconds.
KINDS: dict[str, Callable[..., NoReturn]] = {
    "compile": run.compile_sources,
    "stdio": run.run_program,
    "values": run.report_values,
    "dialogue": dialogue.run_test,
}
_KIND_NAMES = tuple(KINDS)
LIMIT = struct.Struct("<d")
# An answer: ending, exit code or signal, seconds.
OUTCOME = struct.Struct("<BBd")
# The solution, what the run is given, its standard output, its report, and standard input.
_MOST_FILES = 5

# Runs longer than this are looked at now and then for the memory of all their processes.
_LOOK_SECONDS = 0.05
# Waiting for a processor does not count, up to so many times the limit; for a run of several
# processes or threads, which may wait for each other's, up to fewer.
_MOST_WAITING, _MOST_WAITING_OF_SEVERAL = 10.0, 3.0
LONGEST = 1 + _MOST_WAITING
_CHILD_ENDED = {signal.SIGCHLD}
_PAGE = resource.getpagesize()


class Ending(NamedTuple):
    how: int
    code: int
    seconds: float


class Runner:
    """Runs one program after the other; every one in a fork of this process."""

    def __init__(self, sandbox: isolation.Sandbox, memory_mb: int) -> None:
        self._sandbox = sandbox
        self._memory_bytes = (memory_mb + 96) << 20
        os.chdir(sandbox.scratch)
        signal.pthread_sigmask(signal.SIG_BLOCK, _CHILD_ENDED)  # waited for, not delivered
        # The one signal that Python handles by itself; a handler would open process 1 to it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._renew_streams()
        os.dup2(2, 1)
        os.dup2(2, run.REPORT)
        self._mapped_pages = self._hidden_pages(self._read_proc(f"{os.getpid()}/statm").split())

    def serve(self, judge: socket.socket) -> None:
        """Answers requests until the judge is gone, each as its run ends."""
        freeze()
        while True:
            kind, files, _, _ = socket.recv_fds(judge, 1, _MOST_FILES)
            if not kind:
                return
            # In no variable, which the next run would find in this frame.
            os.write(
                judge.fileno(),
                OUTCOME.pack(*self._run(_KIND_NAMES[kind[0]], files, judge.fileno())),
            )

    def _run(self, kind: str, files: list[int], judge: int) -> Ending:
        """One run, from its fork to the last trace of it."""
        pair = socket.socketpair() if kind == "dialogue" else None
        self._sandbox.count_processes_anew()
        gc.collect()  # its counters, too, are the same before every fork
        started = time.monotonic()
        partner = -1
        if pair is not None and (partner := os.fork()) == 0:
            self._become_candidate(pair[1].fileno(), files)
        pid = os.fork()
        if pid == 0:
            self._become_run(kind, pair and pair[0].fileno(), files)
        if pair is not None:
            pair[0].close()
            pair[1].close()
        for file in files:
            os.close(file)
        limit = read_exactly(judge, LIMIT.size)
        if limit is None:
            os._exit(0)
        ending, partner_status = self._wait(pid, partner, started, *LIMIT.unpack(limit))
        self._sweep()
        if ending.how == EXITED and partner_status is not None and os.WIFSIGNALED(partner_status):
            # The test saw its solution go; this is how it went.
            ending = self._by_signal(partner_status, ending.seconds)
        self._renew_streams()
        return ending

    def _renew_streams(self) -> None:
        """Opens /dev/null anew: an open file's flags and locks belong to all who share it."""
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 2)
        if null > 2:
            os.close(null)

    def _become_run(self, kind: str, channel: int | None, files: list[int]) -> NoReturn:
        try:
            solution, given, output, report, *stdin = files
            arguments = marshal.loads(run.read_all(given))
            if kind in ("stdio", "values"):
                arguments = (*marshal.loads(run.read_all(solution)), *arguments)
            if kind != "dialogue":  # what the test prints there the candidate must not read
                os.dup2(output, 1)
            os.dup2(report, run.REPORT)
            for file in stdin:
                os.dup2(file, 0)
            if channel is not None:
                os.dup2(channel, run.CHANNEL)
            self._sandbox.restrict_run()  # by a descriptor that is closed next
            run.begin(keep_channel=channel is not None)
            KINDS[kind](*arguments)
        finally:
            os._exit(1)

    def _become_candidate(self, channel: int, files: list[int]) -> NoReturn:
        try:
            solution, _, output, *_ = files
            arguments = marshal.loads(run.read_all(solution))
            os.dup2(output, 1)
            os.dup2(2, run.REPORT)  # the report belongs to the test's process alone
            os.dup2(channel, run.CHANNEL)
            self._sandbox.restrict_run()
            run.begin(keep_channel=True)
            dialogue.answer_calls(*arguments)
        finally:
            os._exit(1)

    def _wait(
        self, pid: int, partner: int, started: float, seconds: float
    ) -> tuple[Ending, int | None]:
        """Until the run's first process has ended or its time is over."""
        partner_status = None
        deadline = seconds
        while True:
            elapsed = time.monotonic() - started
            if elapsed >= deadline:
                deadline = seconds + self._waited_by_run(seconds, pid, partner)
                if elapsed >= deadline - 0.01:
                    return Ending(OUT_OF_TIME, 0, elapsed), partner_status
            signal.sigtimedwait(_CHILD_ENDED, max(0.0, min(_LOOK_SECONDS, deadline - elapsed)))
            while True:
                try:
                    ended, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if ended == 0:
                    break
                if ended == partner:
                    partner_status = status
                if ended == pid:
                    elapsed = time.monotonic() - started
                    if os.WIFSIGNALED(status):
                        return self._by_signal(status, elapsed), partner_status
                    return Ending(EXITED, os.WEXITSTATUS(status), elapsed), partner_status
            elapsed = time.monotonic() - started
            if elapsed > _LOOK_SECONDS and self._resident() > self._memory_bytes:
                return Ending(OUT_OF_MEMORY, 0, elapsed), partner_status

    def _waited_by_run(self, seconds: float, pid: int, partner: int) -> float:
        """Seconds that do not count for a run with this limit.

        A time limit means a processor of one's own; where it is shared with other work, a run is
        ready and has to wait. The two sides of a dialogue take turns; of the processes that a run
        started, the one that waited longest is taken.
        """
        own, partners = self._waited(pid), self._waited(partner)
        pids = set(self._others()) - {pid, partner}
        others = [thread for other in pids for thread in self._waited(other)]
        waited = sum(max(process, default=0.0) for process in (own, partners, others))
        several = bool(others) or len(own) > 1 or len(partners) > 1
        return min(waited, seconds * (_MOST_WAITING_OF_SEVERAL if several else _MOST_WAITING))

    def _waited(self, pid: int) -> list[float]:
        """Seconds that each thread of a process was ready to run and had to wait for others."""
        tasks = self._list_proc(f"{pid}/task")
        stats = [self._read_proc(f"{pid}/task/{task}/schedstat").split() for task in tasks]
        return [int(fields[1]) / 1e9 for fields in stats if len(fields) > 1]

    def _others(self) -> list[int]:
        """Every process of the current run that can be seen."""
        if self._sandbox.proc < 0:
            return []
        if self._sandbox.level == "namespaces":
            return [int(name) for name in self._list_proc(".") if name.isdigit() and name != "1"]
        found: list[int] = []
        pending = [os.getpid()]
        while pending:
            parent = pending.pop()
            children = self._read_proc(f"{parent}/task/{parent}/children").split()
            pending += map(int, children)
            found += map(int, children)
        return found

    def _list_proc(self, name: str) -> list[str]:
        if self._sandbox.proc < 0:
            return []
        try:
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._sandbox.proc)
        except OSError:
            return []
        try:
            return os.listdir(directory)
        except OSError:
            return []
        finally:
            os.close(directory)

    def _read_proc(self, name: str) -> str:
        try:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=self._sandbox.proc)
        except OSError:
            return ""
        try:
            return os.read(descriptor, 1 << 16).decode()
        except OSError:
            return ""
        finally:
            os.close(descriptor)

    def _resident(self) -> int:
        """Memory that the run's processes hold together, in bytes.

        Private pages count when they are there, shared mappings as a whole: the pages of those
        need not be in any process's table.
        """
        pages = 0
        for pid in self._others():
            fields = self._read_proc(f"{pid}/statm").split()
            if len(fields) > 5:
                pages += int(fields[1]) - int(fields[2])
                pages += max(0, self._hidden_pages(fields) - self._mapped_pages)
        return pages * _PAGE

    @staticmethod
    def _hidden_pages(fields: list[str]) -> int:
        """Pages of /proc/PID/statm that are mapped but neither private data nor stack."""
        return int(fields[0]) - int(fields[5]) if len(fields) > 5 else 0

    def _sweep(self) -> None:
        """Kills whatever the run left, then empties its directory."""
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    self._kill_all()
                    os.waitpid(-1, 0)
            except ChildProcessError:
                break
        os.chmod(self._sandbox.scratch, 0o700)  # by its path: "." needs the very permission
        empty_working_directory()
        os.utime(".", (0, 0))  # no message from one run to the next

    def _kill_all(self) -> None:
        if os.getpid() == 1:
            # None of them starts another one while they are ended one by one.
            number = signal.SIGSTOP if self._sandbox.only_runner_kills else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)
        for pid in self._others():
            with contextlib.suppress(ProcessLookupError):
                if os.getpid() == 1 and self._sandbox.only_runner_kills:
                    _kill(pid)
                else:
                    os.kill(pid, signal.SIGKILL)

    def _by_signal(self, status: int, seconds: float) -> Ending:
        number = os.WTERMSIG(status)
        by_machine = number == signal.SIGKILL and self._sandbox.only_runner_kills
        return Ending(KILLED if by_machine else SIGNALED, number, seconds)


def _kill(pid: int) -> None:
    """SIGKILL in the one way that the filter of system calls leaves open, to this process alone."""
    descriptor = os.pidfd_open(pid)
    try:
        own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_PIDFD)
    finally:
        os.close(descriptor)
    try:
        signal.pidfd_send_signal(own, signal.SIGKILL)
    finally:
        os.close(own)


def empty_working_directory() -> None:
    """Removes all that is in it, whatever permissions, depth and names a run has made.

    Step by step, down and up again: a path may be longer than the kernel takes, and a tree deeper
    than Python recurses.
    """
    path: list[str] = []
    pending = [_remove_files()]
    while pending:
        if pending[-1]:
            path.append(pending[-1].pop())
            os.chmod(path[-1], 0o700)
            os.chdir(path[-1])
            pending.append(_remove_files())
        else:
            pending.pop()
            if path:
                os.chdir("..")
                os.rmdir(path.pop())


def _remove_files() -> list[str]:
    """Removes the files of the working directory; returns the names of its directories."""
    with os.scandir() as entries:
        found = list(entries)
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name)
    return [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
