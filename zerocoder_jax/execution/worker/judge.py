"""The process between the pool and a sandbox: it knows the expected values and gives the verdicts.

It is started by the pool, starts process 1 of the sandbox (``runner.py``), and never runs, loads or
is forked from anything that a solution has touched. What a candidate reports is plain data, read
here with care and compared with what the test expects.
"""

import base64
import json
import marshal
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .frames import pack, read_exactly, receive, write_all
from .plans import Plan, plan_test
from .runner import KINDS, LIMIT, LONGEST, OUT_OF_TIME, OUTCOME
from .verdicts import ERROR, Outcome, ending, judge, judge_shared

_POOL_IN, _POOL_OUT = 0, 1
_PLANS_KEPT = 512
# A sandbox that says nothing for so long after a run's time is over has been killed or stopped.
_PATIENCE_SECONDS = 20.0
_COMPILED_BYTES = 32 << 20
# Tests that share a process are given up after this, and each is run alone.
_SHARED_SECONDS = 0.25
_SEND_AFTER_SECONDS = 0.02
# Runs that wait at the runner while another one is under way: it never has to wait for the judge.
_AHEAD = 1
_KINDS = tuple(KINDS)


class Gone(Exception):
    """The pool or the sandbox is gone: nothing is left to do."""


@dataclass(frozen=True)
class _Run:
    """What the sandbox is told of one run, and what only the judge knows.

    Attributes:
      plan: how the test is run and judged.
      given: what the run's process reads; of its test nothing but the inputs.
      seconds: its time limit.
      output_bytes: more than this of standard output, or of reports, is too much. Decided here,
        when the run is over: it depends on what is expected, and no run can observe it.
      token: what marks the run's own reports.
    """

    plan: Plan
    given: tuple[Any, ...]
    seconds: float
    output_bytes: int
    token: str = field(default_factory=lambda: os.urandom(8).hex())


class _Answers:
    """Collects a job's answers: the pool is woken for a group of them, not for each."""

    def __init__(self, job: int) -> None:
        self._job = job
        self._collected: list[tuple[Any, ...]] = []
        self._sent = time.monotonic()

    def add(self, *answer: Any) -> None:
        self._collected.append(answer)
        if time.monotonic() - self._sent > _SEND_AFTER_SECONDS:
            self._send(is_end=False)

    def end(self) -> None:
        self._send(is_end=True)

    def _send(self, is_end: bool) -> None:
        write_all(_POOL_OUT, pack([self._job, self._collected, is_end]))
        self._collected = []
        self._sent = time.monotonic()


class Judge:
    """Answers the pool's jobs with the sandbox that it owns."""

    def __init__(self, output_kb: int, runner: socket.socket) -> None:
        self._output_bytes = output_kb * 1024
        self._plans: dict[str, Plan] = {}
        self._runner = runner

    def serve(self) -> None:
        """Answers jobs until the pool is gone, or the sandbox is."""
        try:
            while (job := receive(_POOL_IN)) is not None:
                if job["do"] == "compile":
                    self._compile(job)
                else:
                    self._run_tests(job)
        except (Gone, OSError):
            return

    def _run_tests(self, job: dict[str, Any]) -> None:
        """One solution, several tests: verdicts are sent as they are known, in small groups."""
        entry_point = job["entry_point"]
        solution = marshal.dumps((entry_point, base64.b64decode(job["code"])))
        plans = [self._plan(test, entry_point) for test in job["tests"]]
        answers = _Answers(job["id"])
        left = self._run_shared(job, solution, plans, answers)
        runs = [self._prepared(plans[i], entry_point, job["seconds"][i]) for i in left]
        # After a run out of time the rest goes back to the pool: a solution that ran out of time
        # once is likely to do it again, and should not keep this worker from the others.
        for index, run, outcome in zip(left, runs, self._in_sandbox(solution, runs)):
            status = judge(plans[index], outcome, run.token, run.output_bytes)
            answers.add(index, status, outcome.seconds)
        answers.end()

    def _run_shared(
        self, job: dict[str, Any], solution: bytes, plans: list[Plan], answers: "_Answers"
    ) -> list[int]:
        """Runs together what may be; returns the indices of the tests that are to run alone."""
        together = [i for i, plan in enumerate(plans) if plan.shareable and job["stateless"]]
        if len(together) < 2:
            return list(range(len(plans)))
        chosen = [plans[index] for index in together]
        seconds = min(_SHARED_SECONDS, *(job["seconds"][index] for index in together))
        tests = [plan.steps for plan in chosen]
        run = self._prepared(chosen[0], job["entry_point"], seconds, tests)
        (outcome,) = self._in_sandbox(solution, [run])
        statuses = judge_shared(chosen, outcome, run.token, run.output_bytes)
        answered = set()
        for index, status in zip(together, statuses):
            if status is not None:
                # Of all of them together: none took longer, and any one may have taken it all.
                answers.add(index, status, outcome.seconds)
                answered.add(index)
        return [index for index in range(len(plans)) if index not in answered]

    def _compile(self, job: dict[str, Any]) -> None:
        """All sources in one process; one by one where that process does not get to its end."""
        sources = job["sources"]
        compiled = self._compile_together(sources, job["seconds"])
        if len(compiled) < len(sources) and len(sources) > 1:
            compiled = [self._compile_together([s], job["seconds"])[0] for s in sources]
        answers = _Answers(job["id"])
        for index, result in enumerate(compiled):
            answers.add(index, result)
        answers.end()

    def _compile_together(self, sources: list[str], seconds: float) -> list[dict[str, Any]]:
        run = _Run(Plan("compile"), (sources,), seconds, _COMPILED_BYTES)
        (outcome,) = self._in_sandbox(b"", [run])
        lines = outcome.report.split(b"\n")[:-1]
        results = [json.loads(line) for line in lines]
        if len(results) < len(sources) == 1:
            return [{"status": ending(outcome, _COMPILED_BYTES) or ERROR}]
        return results

    def _plan(self, test: dict[str, Any], entry_point: str | None) -> Plan:
        key = json.dumps([test, entry_point])
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            plan = self._plans[key] = plan_test(test, entry_point)
        return plan

    def _prepared(
        self, plan: Plan, entry_point: str | None, seconds: float, tests: list[Any] | None = None
    ) -> _Run:
        """A run of one test; of several ``tests`` where they share it."""
        token = os.urandom(8).hex()
        output_bytes = self._output_bytes
        given: tuple[Any, ...] = (token,)
        if plan.kind == "stdio":
            output_bytes += len(plan.expected.encode("utf-8", "replace"))
        elif plan.kind == "values":
            given = (token, tests or [plan.steps])
            output_bytes += plan.expected_bytes
        elif plan.kind == "dialogue":
            given = (token, plan.sources, entry_point)
        return _Run(plan, given, seconds, output_bytes, token)

    def _in_sandbox(self, solution: bytes, runs: list[_Run]) -> Iterator[Outcome]:
        """Has the runs made and yields their outcomes, in order, until one is out of time."""
        file = _file_in_memory(solution)
        under_way: deque[tuple[_Run, int, int]] = deque()
        left = deque(runs)
        try:
            while left or under_way:
                while left and len(under_way) <= _AHEAD:
                    under_way.append(self._start(left.popleft(), file))
                outcome = self._outcome(*under_way.popleft())
                if outcome.how == OUT_OF_TIME:
                    left.clear()
                yield outcome
        finally:
            os.close(file)

    def _start(self, run: _Run, solution: int) -> tuple[_Run, int, int]:
        """Hands a run's files to the runner; returns it with its output and its report.

        The limit follows on its own, for the runner to read when it has forked.
        """
        given = [_file_in_memory(marshal.dumps(run.given))]
        if run.plan.kind == "stdio":
            given.append(_file_in_memory(run.plan.stdin.encode("utf-8", "surrogatepass")))
        output, report = os.memfd_create("output"), os.memfd_create("report")
        kind = bytes([_KINDS.index(run.plan.kind)])
        files = [solution, given[0], output, report, *given[1:]]
        socket.send_fds(self._runner, [kind], files)
        self._runner.sendall(LIMIT.pack(run.seconds))
        for file in given:
            os.close(file)
        return run, output, report

    def _outcome(self, run: _Run, output: int, report: int) -> Outcome:
        runner = self._runner.fileno()
        patience = LONGEST * run.seconds + _PATIENCE_SECONDS
        ready, _, _ = select.select([runner, _POOL_IN], [], [], patience)
        if runner not in ready:  # too late, or the pool closed its end
            raise Gone
        answer = read_exactly(runner, OUTCOME.size)
        if answer is None:
            raise Gone
        how, code, seconds = OUTCOME.unpack(answer)
        return Outcome(
            how, code, seconds, _take(output, run.output_bytes), _take(report, run.output_bytes)
        )


def _file_in_memory(content: bytes) -> int:
    file = os.memfd_create("given")
    write_all(file, content)
    os.lseek(file, 0, os.SEEK_SET)  # standard input begins there
    return file


def _take(file: int, most: int) -> bytes:
    """The content of a file that no process of the run holds any more, cut at ``most`` bytes."""
    content = os.pread(file, min(os.fstat(file).st_size, most), 0)
    os.close(file)
    return content
