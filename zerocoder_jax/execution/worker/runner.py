"""Process 1 of the sandbox: forks the runs, ends them in time, leaves nothing of them behind.

It never loads a solution and never reads what a run reports: code, free-form tests, output and
reports pass through as descriptors, so that no run finds another one's in the memory that it
inherits. What this process knows of a test is what the candidate may know, the arguments of its
calls; expected values stay with the judge, outside.
"""

import contextlib
import os
import resource
import signal
import socket
import struct
import time
from typing import Any, NamedTuple, NoReturn

from . import dialogue, isolation, run
from .frames import receive

# How a run ended.
EXITED, SIGNALED, OUT_OF_TIME, OUT_OF_MEMORY = range(4)
# Ending, exit code or signal, seconds; two descriptors (standard output, report) travel along.
OUTCOME = struct.Struct("<BBd")

# Runs longer than this are looked at now and then for the memory of all their processes.
_LOOK_SECONDS = 0.05
_GRACE = 0.5
_MOST_WAITING = 3.0
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

    def serve(self, jobs: socket.socket, outcomes: socket.socket) -> None:
        """Answers jobs until the judge is gone. Each run's outcome is sent as it ends."""
        while (job := receive(jobs.fileno())) is not None:
            _, descriptors, _, _ = socket.recv_fds(jobs, 1, 2)
            for program in job["programs"]:
                ending, streams = self._run(program, job["entry_point"], *descriptors)
                head = OUTCOME.pack(ending.how, ending.code, ending.seconds)
                socket.send_fds(outcomes, [head], streams)
                for stream in streams:
                    os.close(stream)
                if ending.how == OUT_OF_TIME and not program["shared"]:
                    break  # the pool decides when the others of this solution are worth a try
            for descriptor in descriptors:
                os.close(descriptor)

    def _run(
        self, program: dict[str, Any], entry_point: str | None, code: int, tests: int
    ) -> tuple[Ending, tuple[int, ...]]:
        """One run, from its fork to the last trace of it.

        Its standard output and its report are files in memory, made for it alone: nothing has to
        be drained while it runs, and this process never reads them.
        """
        output, report = os.memfd_create("output"), os.memfd_create("report")
        os.dup2(output, 1)
        os.dup2(report, run.REPORT)
        if "stdin" in program:
            given = os.memfd_create("input")
            os.pwrite(given, program["stdin"].encode("utf-8", "surrogatepass"), 0)
            os.dup2(given, 0)
            os.close(given)
        started = time.monotonic()
        partner = -1
        pair = None
        if program["kind"] == "dialogue":
            pair = socket.socketpair()
            partner = os.fork()
            if partner == 0:
                self._become_candidate(pair[1].fileno(), program, entry_point, code)
        pid = os.fork()
        if pid == 0:
            self._become_run(pair and pair[0].fileno(), program, entry_point, code, tests)
        if pair is not None:
            pair[0].close()
            pair[1].close()
        ending, partner_status = self._wait(pid, partner, started, program)
        self._sweep()
        if ending.how == EXITED and partner_status is not None and os.WIFSIGNALED(partner_status):
            # The test saw its solution go; this is how it went.
            ending = Ending(SIGNALED, os.WTERMSIG(partner_status), ending.seconds)
        self._renew_streams()
        return ending, (output, report)

    def _renew_streams(self) -> None:
        """Opens /dev/null anew: an open file's flags and locks belong to all who share it."""
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 2)
        if null > 2:
            os.close(null)

    def _become_run(
        self,
        channel: int | None,
        program: dict[str, Any],
        entry_point: str | None,
        code: int,
        tests: int,
    ) -> NoReturn:
        try:
            kind = program["kind"]
            loaded = b"" if kind in ("dialogue", "compile") else run.read_all(code)
            sources = run.read_sources(tests, program["sources"]) if "sources" in program else []
            if channel is not None:
                os.dup2(channel, run.CHANNEL)
            self._sandbox.restrict_run()
            run.begin(program["seconds"], program["output_bytes"], keep_channel=channel is not None)
            token = program["token"]
            if kind == "compile":
                run.compile_sources(sources)
            elif kind == "stdio":
                run.run_program(loaded, token)
            elif kind == "inline":
                run.run_inline(loaded, sources, token)
            elif kind == "dialogue":
                dialogue.run_test(sources, entry_point or "", program["modules"], token)
            else:
                run.report_values(loaded, program["tests"], entry_point, token)
        finally:
            os._exit(1)

    def _become_candidate(
        self, channel: int, program: dict[str, Any], entry_point: str | None, code: int
    ) -> NoReturn:
        try:
            loaded = run.read_all(code)
            os.dup2(channel, run.CHANNEL)
            os.dup2(2, run.REPORT)  # the report belongs to the test's process alone
            self._sandbox.restrict_run()
            run.begin(program["seconds"], program["output_bytes"], keep_channel=True)
            program.clear()  # the token among it
            dialogue.answer_calls(loaded, entry_point or "")
        finally:
            os._exit(1)

    def _wait(
        self, pid: int, partner: int, started: float, program: dict[str, Any]
    ) -> tuple[Ending, int | None]:
        """Until the run's first process has ended or its time is over."""
        partner_status = None
        seconds = program["seconds"]
        while True:
            elapsed = time.monotonic() - started
            if elapsed >= seconds:
                patient = program["patient"]
                extended = self._extended(program["seconds"], pid, partner) if patient else 0.0
                if extended < elapsed + 0.01:
                    return Ending(OUT_OF_TIME, 0, elapsed), partner_status
                seconds = extended
            signal.sigtimedwait(_CHILD_ENDED, max(0.0, min(_LOOK_SECONDS, seconds - elapsed)))
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
                        return Ending(SIGNALED, os.WTERMSIG(status), elapsed), partner_status
                    return Ending(EXITED, os.WEXITSTATUS(status), elapsed), partner_status
            elapsed = time.monotonic() - started
            if elapsed > _LOOK_SECONDS and self._resident() > self._memory_bytes:
                return Ending(OUT_OF_MEMORY, 0, elapsed), partner_status

    def _extended(self, seconds: float, *processes: int) -> float:
        """The time limit on a machine that is busy with other things too.

        A limit means a processor of one's own. Where it is shared, the time spent waiting for it
        does not count; where its neighbour is busy, it is slower.
        """
        waited = sum(map(self._seconds_without_processor, processes))
        return seconds * (1 + _GRACE) + min(waited, _MOST_WAITING * seconds)

    def _seconds_without_processor(self, pid: int) -> float:
        """How long a process was ready to run and had to wait for others; 0 for one that is not."""
        fields = self._read_proc(f"{pid}/schedstat").split()
        return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0

    def _others(self) -> list[int]:
        """Every process of the current run that can be seen."""
        if self._sandbox.proc < 0:
            return []
        if self._sandbox.level == "namespaces":
            names = os.listdir(self._sandbox.proc)
            return [int(name) for name in names if name.isdigit() and name != "1"]
        found: list[int] = []
        pending = [os.getpid()]
        while pending:
            parent = pending.pop()
            children = self._read_proc(f"{parent}/task/{parent}/children").split()
            pending += map(int, children)
            found += map(int, children)
        return found

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
            os.kill(-1, signal.SIGKILL)
            return
        for pid in self._others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


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
