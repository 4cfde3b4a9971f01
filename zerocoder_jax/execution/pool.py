"""The pool: runs solutions against tests in isolated worker processes."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Any

import numpy as np

from zerocoder_jax.execution import tasks
from zerocoder_jax.execution.dispatcher import Dispatcher
from zerocoder_jax.execution.isolation import reach_level
from zerocoder_jax.execution.packages import package_directory
from zerocoder_jax.execution.process import PoolProcess, start_mutant_maker, start_worker
from zerocoder_jax.execution.self_test import check_verdicts
from zerocoder_jax.execution.status import Limits
from zerocoder_jax.execution.tasks import Counts, MutationResult, Task
from zerocoder_jax.execution.vacuous import VacuousTests
from zerocoder_jax.problems import Problem, Test

_log = logging.getLogger(__name__)
DEFAULT_LIMITS = Limits()
# Problems under way at once in passing_matrices: enough that no worker waits for the next one.
_PROBLEMS_AHEAD = 16


class ExecutionPool:
    """Runs untrusted solutions against tests; every pair in a process and a state of its own.

    Thread-safe. Use it as a context manager, or ``close`` it: no process outlives it.
    ``isolation`` is the level reached, ``isolation_notes`` the same with what is missing, in words.

    Args:
      workers: runs at the same time; None takes one per processor this process may use.
      limits: what one run may use.
      min_isolation: refuse to start below this level: ``"namespaces"``, ``"landlock"``,
        ``"rlimits"``.
      max_isolation: do not go above this level (to test the weaker ones, or to price them).
      packages: installed packages that solutions may import, for example ``("numpy",)``; loaded
        once per worker. Without this, solutions see the standard library only.
      shortcuts: run equal programs and equal tests once, and the tests of a program that provably
        keeps no state in one process. The verdicts are the same either way.

    Raises:
      UserError: the host does not allow ``min_isolation``; the message says what is missing.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        min_isolation: str = "namespaces",
        *,
        max_isolation: str = "namespaces",
        packages: Sequence[str] = (),
        shortcuts: bool = True,
    ) -> None:
        self.limits = limits
        self.packages = tuple(packages)
        self.workers = workers or len(os.sched_getaffinity(0))
        self._shortcuts = shortcuts
        self._counts = Counts()
        self._vacuous = VacuousTests(limits.seconds)
        self._scratch: str | None = None
        self._worker_number = 0
        self._settings: dict[str, Any] = {
            "memory_mb": limits.memory_mb,
            "output_kb": limits.output_kb,
            "processes": limits.processes,
            "seconds": limits.seconds,
            "packages": {name: package_directory(name) for name in packages},
        }
        try:
            reached = reach_level(self._start_worker, min_isolation, max_isolation)
        except BaseException:
            self._remove_scratch()
            raise
        self.isolation, self.isolation_notes = reached.level, str(reached)
        self._dispatcher = Dispatcher(
            lambda: self._start_worker(self.isolation),
            start_mutant_maker,
            self.workers,
            limits.seconds,
            self.isolation,
            self._counts,
        )
        self._dispatcher.start()
        try:
            check_verdicts(self._dispatcher.submit)
        except BaseException:
            self.close()
            raise
        vars(self._counts).update(vars(Counts()))  # those of the check are not the caller's
        level = logging.WARNING if reached.missing else logging.INFO
        _log.log(level, "verifier: %d workers, %s", self.workers, reached)
        _warn_of_memory(self.workers, limits.memory_mb)

    def _start_worker(self, level: str) -> PoolProcess:
        scratch = "/tmp"  # a tmpfs of its own
        if level != "namespaces":
            self._scratch = self._scratch or tempfile.mkdtemp(prefix="zerocoder-")
            os.chmod(self._scratch, 0o711)
            self._worker_number += 1
            scratch = os.path.join(self._scratch, str(self._worker_number))
            os.mkdir(scratch)
        return start_worker({**self._settings, "level": level, "scratch": scratch})

    # ---- passing matrices ----------------------------------------------------------------------

    def submit_matrix(
        self,
        problem: Problem,
        solutions: Sequence[str | None],
        tests: Sequence[Test | None],
        trusted: bool = False,
    ) -> "Future[np.ndarray]":
        """Like ``passing_matrix``, at once: the result is in the future."""

        def task_of(tests: Sequence[Test | None]) -> Task:
            return tasks.matrix_task(
                problem, solutions, tests, self.limits.seconds, self._counts, self._shortcuts
            )

        task = task_of(tests) if trusted else self._vacuous.left_out(problem, tests, task_of)
        return self._dispatcher.submit(task)

    def passing_matrix(
        self,
        problem: Problem,
        solutions: Sequence[str | None],
        tests: Sequence[Test | None],
        trusted: bool = False,
    ) -> np.ndarray:
        """Runs every solution on every test.

        Args:
          problem: what they are for; its ``entry_point`` is what tests call.
          solutions: S sources; None stands for a reply without one.
          tests: T tests; None likewise.
          trusted: the tests are a data set's, or your own: none of them is looked at for whether
            it passes whatever a solution returns (``VACUOUS``).

        Returns:
          [S, T] uint8 ``Status``; compare with ``Status.PASSED``.
        """
        return self.submit_matrix(problem, solutions, tests, trusted).result()

    def passing_matrices(
        self,
        items: Iterable[tuple[Problem, Sequence[str | None], Sequence[Test | None]]],
        trusted: bool = False,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Runs many problems; yields (index, matrix) as they finish, in any order.

        ``items`` is pulled while earlier ones run, only a little ahead of the workers: a generator
        that samples its solutions overlaps with their execution.
        """
        return stream_matrices(self.submit_matrix, items, self.workers, trusted)

    # ---- mutants -------------------------------------------------------------------------------

    def submit_mutation(
        self,
        problem: Problem,
        solution: str,
        tests: Sequence[Test | None],
        limit: int | None = None,
        seed: int = 0,
    ) -> "Future[MutationResult]":
        """Makes mutants of a solution and runs on them the tests that it passes itself.

        Args:
          problem: what the solution is for.
          solution: its source.
          tests: T tests.
          limit: at most so many mutants, drawn at random by ``seed``; None or 0 takes all.
          seed: of that draw.
        """

        def task_of(tests: Sequence[Test | None]) -> Task:
            return tasks.mutation_task(
                problem, solution, tests, limit, seed, self.limits.seconds, self._counts
            )

        return self._dispatcher.submit(self._vacuous.left_out(problem, tests, task_of))

    def mutants(
        self, solution: str, entry_point: str | None, limit: int | None = None, seed: int = 0
    ) -> list[str]:
        """Sources of a solution's mutants, without equivalent and equal ones.

        Statements outside of functions are mutated only for whole programs (no entry point).
        """
        return self._dispatcher.submit(
            tasks.mutants_task(solution, entry_point, limit, seed, self._counts)
        ).result()

    # ---- the pool itself -----------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, int]:
        """Counts since the start; see ``Counts``."""
        return dict(vars(self._counts))

    def worker_pids(self) -> list[int]:
        """Process ids of the worker processes that exist now."""
        return self._dispatcher.worker_pids()

    def close(self) -> None:
        """Cancels what is not done and ends every process. Idempotent."""
        self._dispatcher.close()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def __enter__(self) -> "ExecutionPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _warn_of_memory(workers: int, memory_mb: int) -> None:
    """A right program is killed where all workers together use more than the machine has."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if workers * memory_mb > machine:
        _log.warning(
            "verifier: %d workers of %d MiB each may use more than the %d MiB of this machine; "
            "lower execution.workers or execution.memory_mb",
            workers,
            memory_mb,
            machine,
        )


def stream_matrices(
    submit: Callable[..., "Future[np.ndarray]"],
    items: Iterable[tuple[Problem, Sequence[str | None], Sequence[Test | None]]],
    workers: int,
    trusted: bool,
) -> Iterator[tuple[int, np.ndarray]]:
    """``passing_matrices`` by way of ``submit``; see there."""
    running: dict[Future[np.ndarray], int] = {}
    source = enumerate(items)
    exhausted = False
    try:
        while running or not exhausted:
            while not exhausted and len(running) < _PROBLEMS_AHEAD + 2 * workers:
                item = next(source, None)
                if item is None:
                    exhausted = True
                    break
                index, (problem, solutions, tests) = item
                running[submit(problem, solutions, tests, trusted)] = index
                if any(future.done() for future in running):
                    break
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()
