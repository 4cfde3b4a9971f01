"""What has to run, and in which order, for a passing matrix or for mutants.

A task is a generator: it yields lists of jobs, is sent their results, and returns its answer. It
knows nothing of processes, and the dispatcher knows nothing of matrices.
"""

import json
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.status import Status
from zerocoder_jax.execution.worker.values import encode
from zerocoder_jax.problems import AssertTest, CallTest, Problem, StdioTest, Test

# A mutant's time limit is the original's time times this, but not below the floor: a busy machine
# can make any program wait for some tenths of a second.
_TIME_FACTOR = 10.0
_TIME_FLOOR_SECONDS = 0.5


# A compiled source, or why there is none: what ``worker/compiling.py`` and the judge made of it.
Program = dict[str, Any]


@dataclass(frozen=True)
class CompileJob:
    """Sources to compile. Result: a list of ``Program``.

    A program is ``{"code", "key", "stateless"}``, ``{"error"}`` or ``{"status"}``.
    """

    sources: tuple[str, ...]


@dataclass(frozen=True)
class RunJob:
    """One compiled solution and the tests to run it on. Result: a list of ``Verdict``."""

    program: Program
    entry_point: str | None
    tests: tuple[Test, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class MutateJob:
    """A source to mutate. Result: a list of at most ``limit`` sources, drawn by ``seed``."""

    source: str
    module_level: bool
    limit: int | None
    seed: int


Job = CompileJob | RunJob | MutateJob


@dataclass(frozen=True)
class Verdict:
    """The status of one run and the wall-clock seconds it took."""

    status: Status
    seconds: float


Task = Generator[list[Job], Any, Any]


@dataclass(frozen=True)
class MutationResult:
    """How tests fare against a solution's mutants.

    Attributes:
      mutants: sources, equivalents and duplicates left out. M of them.
      original: [T] uint8 ``Status`` of the tests on the solution itself.
      statuses: [M, T] uint8 ``Status``; ``NOT_RUN`` where the original does not pass the test, or
        does not pass it again among its mutants and after them.
    """

    mutants: list[str]
    original: np.ndarray
    statuses: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """[M, T] bool: the pair has a verdict."""
        return (self.statuses != Status.UNAVAILABLE) & (self.statuses != Status.NOT_RUN)

    @property
    def failing(self) -> list[int]:
        """The tests that were run on the original and do not pass there."""
        unasked = (Status.UNAVAILABLE, Status.UNPARSABLE, Status.NOT_RUN, Status.VACUOUS)
        failing = ~np.isin(self.original, (Status.PASSED, *unasked))
        return [int(test) for test in np.flatnonzero(failing)]

    @property
    def killed(self) -> np.ndarray:
        """[M, T] bool: the test passes on the original and does not pass on the mutant."""
        return self.valid & (self.statuses != Status.PASSED)


@dataclass
class Counts:
    """What a pool has done so far.

    Attributes:
      runs: pairs that were run.
      deduplicated: pairs whose verdict was taken from an equal pair.
      retried: pairs that were run again because a worker died.
      restarts: workers that were replaced.
      mutants: mutants that were kept, and dropped as equal to the original or to another.
    """

    runs: int = 0
    deduplicated: int = 0
    retried: int = 0
    restarts: int = 0
    mutants: int = 0
    equivalent_mutants: int = 0


def test_record(test: Test) -> dict[str, Any]:
    """A test as the judge reads it; JSON, in which whole numbers of any length have a place."""
    if isinstance(test, AssertTest):
        return {"kind": "assert", "code": test.code, "setup": test.setup}
    if isinstance(test, StdioTest):
        return {"kind": "stdio", **vars(test)}
    if isinstance(test, CallTest):
        try:
            right = encode([test.expected, *test.others])
            arguments = encode(list(test.arguments))
        except RecursionError:
            raise UserError("a call test's arguments or its value are nested too deeply") from None
        return {"kind": "call", "arguments": arguments, "right": right}
    raise TypeError(f"not a test: {test!r}")


def test_key(test: Test | None) -> str | None:
    """Equal for tests that ask the same. Not their ``repr``, which ends at 4300 digits."""
    return None if test is None else json.dumps(test_record(test))


def _compile_status(compiled: Program) -> Status | None:
    """What every test says of a source that cannot be compiled; None for one that can."""
    if "code" in compiled:
        return None
    if "status" in compiled:
        return Status(compiled["status"])
    return Status.MEMORY if compiled["error"] == "memory" else Status.ERROR


def matrix_task(
    problem: Problem,
    solutions: Sequence[str | None],
    tests: Sequence[Test | None],
    seconds: float,
    counts: Counts,
    shortcuts: bool = True,
) -> Task:
    """Returns [S, T] uint8 ``Status``.

    Without ``shortcuts`` every pair is run, each in a process of its own.
    """
    matrix = np.full((len(solutions), len(tests)), Status.UNPARSABLE, np.uint8)  # [S, T]
    rows = [row for row, solution in enumerate(solutions) if solution is not None]
    columns = [column for column, test in enumerate(tests) if test is not None]
    if not rows or not columns:
        return matrix

    sources = list(dict.fromkeys(str(solutions[row]) for row in rows))
    (results,) = yield [CompileJob(tuple(sources))]
    compiled = dict(zip(sources, results))

    # Equal programs and equal tests run once; the first of each stands for all.
    programs = {row: compiled[str(solutions[row])] for row in rows}
    row_groups = _groups(rows, lambda row: programs[row].get("key"), shortcuts)
    column_groups = _groups(columns, lambda column: test_key(tests[column]), shortcuts)
    distinct = tuple(test for group in column_groups if (test := tests[group[0]]) is not None)

    jobs: list[Job] = []
    job_rows = []
    for group in row_groups:
        program = programs[group[0]]
        status = _compile_status(program)
        if status is None:
            limits = (seconds,) * len(distinct)
            program = program if shortcuts else {**program, "stateless": False}
            jobs.append(RunJob(program, problem.entry_point, distinct, limits))
            job_rows.append(group)
        else:
            matrix[np.ix_(group, columns)] = status
    verdict_lists = yield jobs
    for group, verdicts in zip(job_rows, verdict_lists):
        for same_tests, verdict in zip(column_groups, verdicts):
            matrix[np.ix_(group, same_tests)] = verdict.status
            counts.deduplicated += len(group) * len(same_tests) - 1
    return matrix


def _groups(indices: Sequence[int], key: Any, together: bool) -> list[list[int]]:
    """Indices with equal keys together, in order of appearance; a key of None is like no other."""
    groups: dict[Any, list[int]] = {}
    for index in indices:
        name = key(index) if together else None
        groups.setdefault(index if name is None else name, []).append(index)
    return list(groups.values())


def mutants_task(
    solution: str, entry_point: str | None, limit: int | None, seed: int, counts: Counts
) -> Task:
    """Returns the mutants' sources, in the order of the places that they change."""
    kept, _ = yield from _distinct_mutants(solution, entry_point, limit, seed, counts)
    return [source for source, _ in kept]


def _distinct_mutants(
    solution: str, entry_point: str | None, limit: int | None, seed: int, counts: Counts
) -> Generator[list[Job], Any, tuple[list[tuple[str, Program]], Program]]:
    """Pairs of source and compiled mutant, and the compiled original."""
    # A whole program's work stands at module level; a function's does not.
    found, (original,) = yield [
        MutateJob(solution, entry_point is None, limit or None, seed),
        CompileJob((solution,)),
    ]
    if "code" not in original or not found:
        return [], original
    (compiled,) = yield [CompileJob(tuple(found))]
    seen = {original["key"]}
    kept = []
    for source, program in zip(found, compiled):
        if "code" in program and program["key"] not in seen:
            seen.add(program["key"])
            kept.append((source, program))
    counts.equivalent_mutants += len(found) - len(kept)
    counts.mutants += len(kept)
    return kept, original


def mutation_task(
    problem: Problem,
    solution: str,
    tests: Sequence[Test | None],
    limit: int | None,
    seed: int,
    seconds: float,
    counts: Counts,
) -> Task:
    """Returns a ``MutationResult``."""
    original = np.full(len(tests), Status.UNPARSABLE, np.uint8)  # [T]
    kept, program = yield from _distinct_mutants(solution, problem.entry_point, limit, seed, counts)
    statuses = np.full((len(kept), len(tests)), Status.NOT_RUN, np.uint8)  # [M, T]
    result = MutationResult([source for source, _ in kept], original, statuses)
    columns = [column for column, test in enumerate(tests) if test is not None]
    if not columns:
        return result
    if "code" not in program:
        matrix = yield from matrix_task(problem, [solution], tests, seconds, counts)
        original[:] = matrix[0]
        return result

    groups = _groups(columns, lambda column: test_key(tests[column]), True)
    distinct = tuple(test for group in groups if (test := tests[group[0]]) is not None)
    limits = (seconds,) * len(distinct)
    (verdicts,) = yield [RunJob(program, problem.entry_point, distinct, limits)]
    passed = []
    for group, test, verdict in zip(groups, distinct, verdicts):
        original[group] = verdict.status
        if verdict.status is Status.PASSED:
            adapted = max(_TIME_FLOOR_SECONDS, _TIME_FACTOR * verdict.seconds)
            passed.append(_Passed(group, test, min(seconds, adapted), verdict.seconds))
    if not passed or not kept:
        return result

    # A test that could tell the original's run from a mutant's would kill every mutant. So the
    # original runs among them, at a place that nothing tells, under the same limits; and after
    # them, for a test that goes by the time.
    jobs = [_mutant_job(problem, mutant, passed) for _, mutant in kept]
    again = _mutant_job(problem, program, passed)
    order = list(range(len(jobs) + 1))
    random.SystemRandom().shuffle(order)
    shuffled = yield [[*jobs, again][place] for place in order]
    *found, among = (shuffled[order.index(place)] for place in range(len(order)))
    (after,) = yield [again]
    for place, one in enumerate(passed):
        if not among[place].status == after[place].status == Status.PASSED:
            continue  # the statuses stay NOT_RUN: this test's kills would say nothing
        for row, verdicts in enumerate(found):
            status = verdicts[place].status
            # Nor does a mutant's time-out where the original was near the limit itself.
            if status is not Status.TIMEOUT or 2 * one.own_seconds < one.limit:
                statuses[row, one.columns] = status
            counts.deduplicated += len(one.columns) - 1
    return result


@dataclass(frozen=True)
class _Passed:
    """A test that the original passes: its columns, what mutants are asked, and how fast it was."""

    columns: list[int]
    test: Test
    limit: float
    own_seconds: float


def _mutant_job(problem: Problem, program: Program, passed: Sequence[_Passed]) -> RunJob:
    tests = tuple(one.test for one in passed)
    return RunJob(program, problem.entry_point, tests, tuple(one.limit for one in passed))
