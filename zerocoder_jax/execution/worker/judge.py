"""The process between the pool and a sandbox: it knows the expected values and gives the verdicts.

It is started by the pool, starts process 1 of the sandbox (``runner.py``), and never runs, loads or
is forked from anything that a solution has touched. What a candidate reports is plain data, read
here with care and compared with what the test expects.
"""

import base64
import hashlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

from .frames import pack, receive, write_all
from .plans import Plan, plan_test
from .runner import OUT_OF_TIME, OUTCOME
from .verdicts import ERROR, Outcome, ending, judge, judge_shared

_POOL_IN, _POOL_OUT = 0, 1
_PLANS_KEPT = 512
# A sandbox that says nothing for so long after a run's time is over has been killed or stopped.
_PATIENCE_SECONDS = 20.0
_COMPILED_BYTES = 32 << 20
# Tests that share a process are given up after this, and each is run alone.
_SHARED_SECONDS = 0.25
_SEND_AFTER_SECONDS = 0.02


class Gone(Exception):
    """The pool or the sandbox is gone: nothing is left to do."""


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

    def __init__(self, output_kb: int, jobs: socket.socket, outcomes: socket.socket) -> None:
        self._output_bytes = output_kb * 1024
        self._plans: dict[str, Plan] = {}
        self._jobs, self._outcomes = jobs, outcomes

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
        code = base64.b64decode(job["code"])
        plans = [self._plan(test, entry_point) for test in job["tests"]]
        answers = _Answers(job["id"])
        left = self._run_shared(job, code, plans, answers)
        todo = [(index, plans[index]) for index in left]
        while todo:
            again = []
            programs = [
                self._program(plan, job["seconds"][index], job["patient"]) for index, plan in todo
            ]
            outcomes = self._in_sandbox(entry_point, programs, code, [plan for _, plan in todo])
            for (index, plan), program, outcome in zip(todo, programs, outcomes):
                status = judge(plan, outcome, program["token"], program["output_bytes"])
                if status is None:  # arguments that cannot be sent: that run does not count
                    again.append((index, Plan("inline", sources=plan.sources)))
                else:
                    answers.add(index, status, outcome.seconds)
                if outcome.how == OUT_OF_TIME:
                    # The rest goes back to the pool: a solution that ran out of time once is
                    # likely to do it again, and should not keep this worker from the others.
                    again = []
                    break
            todo = again
        answers.end()

    def _run_shared(
        self, job: dict[str, Any], code: bytes, plans: list[Plan], answers: "_Answers"
    ) -> list[int]:
        """Runs together what may be; returns the indices of the tests that are to run alone."""
        together = [i for i, plan in enumerate(plans) if plan.shareable and job["stateless"]]
        if len(together) < 2:
            return list(range(len(plans)))
        chosen = [plans[index] for index in together]
        seconds = min(_SHARED_SECONDS, *(job["seconds"][index] for index in together))
        program = self._program(chosen[0], seconds)
        program |= {"tests": [plan.steps for plan in chosen], "shared": True}
        (outcome,) = self._in_sandbox(job["entry_point"], [program], code, [chosen[0]])
        statuses = judge_shared(chosen, outcome, program["token"], program["output_bytes"])
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
            if "canonical" in result:
                text = result.pop("canonical").encode()
                result["key"] = hashlib.sha256(text).hexdigest()
            answers.add(index, result)
        answers.end()

    def _compile_together(self, sources: list[str], seconds: float) -> list[dict[str, Any]]:
        plan = Plan("compile", sources=sources)
        program = {**self._program(plan, seconds), "output_bytes": _COMPILED_BYTES}
        (outcome,) = self._in_sandbox(None, [program], b"", [plan])
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

    def _program(self, plan: Plan, seconds: float, patient: bool = False) -> dict[str, Any]:
        """What the sandbox is told of a run."""
        output_bytes = self._output_bytes
        program: dict[str, Any] = {"kind": plan.kind, "token": os.urandom(8).hex()}
        if plan.kind == "stdio":
            program["stdin"] = plan.stdin
            output_bytes += len(plan.expected.encode("utf-8", "replace"))
        elif plan.kind == "values":
            program["tests"] = [plan.steps]
            output_bytes += plan.expected_bytes
        elif plan.kind == "dialogue":
            program["modules"] = plan.modules
        program |= {"seconds": seconds, "output_bytes": output_bytes}
        program |= {"patient": patient, "shared": False}
        return program

    def _in_sandbox(
        self,
        entry_point: str | None,
        programs: list[dict[str, Any]],
        code: bytes,
        plans: list[Plan],
    ) -> Iterator[Outcome]:
        """Sends the programs and yields their outcomes, in order, as they end."""
        sources: list[str] = []
        for program, plan in zip(programs, plans):
            if plan.sources:
                program["sources"] = list(range(len(sources), len(sources) + len(plan.sources)))
                sources += plan.sources
        files = (_file_in_memory(code), _file_in_memory(json.dumps(sources).encode()))
        write_all(self._jobs.fileno(), pack({"entry_point": entry_point, "programs": programs}))
        socket.send_fds(self._jobs, [b"f"], files)
        for file in files:
            os.close(file)
        for program in programs:
            yield self._outcome(5 * program["seconds"] + _PATIENCE_SECONDS)

    def _outcome(self, patience: float) -> Outcome:
        outcomes = self._outcomes.fileno()
        ready, _, _ = select.select([outcomes, _POOL_IN], [], [], patience)
        if outcomes not in ready:  # too late, or the pool closed its end
            raise Gone
        head, streams, _, _ = socket.recv_fds(self._outcomes, OUTCOME.size, 2)
        if len(head) < OUTCOME.size or len(streams) < 2:
            raise Gone
        how, code, seconds = OUTCOME.unpack(head)
        output, report = map(_take, streams)
        return Outcome(how, code, seconds, output, report)


def _file_in_memory(content: bytes) -> int:
    file = os.memfd_create("given")
    write_all(file, content)
    return file


def _take(file: int) -> bytes:
    """The content of a file that nobody else holds any more."""
    size = os.fstat(file).st_size
    content = os.pread(file, size, 0) if size else b""
    os.close(file)
    return content
