"""The pool on several machines: one actor on each node of a Ray cluster, each with a pool.

Same interface and same results as ``ExecutionPool``. An actor or a node that dies is left out, and
its work is done by the others.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.pool import DEFAULT_LIMITS, ExecutionPool, stream_matrices
from zerocoder_jax.execution.status import Limits, Status
from zerocoder_jax.execution.tasks import MutationResult
from zerocoder_jax.problems import Problem, Test

_START_SECONDS = 120.0
_ATTEMPTS = 3


class _Node:
    """What runs on a node: a pool, and the calls that Ray forwards to it."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        # Ray delivers exceptions wrapped; a UserError is handed over as text and raised there.
        self._pool: ExecutionPool | None = None
        self._refusal = ""
        try:
            self._pool = ExecutionPool(*arguments, **keywords)
        except UserError as error:
            self._refusal = str(error)

    def describe(self) -> tuple[str, str, int]:
        """(refusal, isolation, workers)."""
        if self._pool is None:
            return self._refusal, "", 0
        return "", self._pool.isolation, self._pool.workers

    def call(self, method: str, *arguments: Any) -> Any:
        result = getattr(self._pool, method)(*arguments)
        return result.result() if isinstance(result, Future) else result

    def statistics(self) -> dict[str, int]:
        assert self._pool is not None
        return self._pool.statistics

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


class RayPool:
    """An ``ExecutionPool`` on every node of the cluster that this process is, or can be, part of.

    Args:
      workers: runs at the same time on each node; None takes one per processor.
      limits: what one run may use.
      min_isolation: refuse to start when any node allows less.
      packages: as in ``ExecutionPool``, installed on every node.

    Raises:
      UserError: Ray is not installed, no cluster answers, or a node allows too little isolation.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        min_isolation: str = "namespaces",
        *,
        packages: Sequence[str] = (),
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "execution.backend is 'ray', which is not installed: pip install "
                "'zerocoder_jax[ray]', or set execution.backend to 'local'"
            ) from None
        self._ray: Any = ray
        self.limits = limits
        self.packages = tuple(packages)
        self._started_ray = not ray.is_initialized()
        try:
            if self._started_ray:
                self._ray.init(address="auto", logging_level="warning", log_to_driver=False)
            self._actors = self._start_actors(workers, min_isolation)
        except (ConnectionError, ray.exceptions.GetTimeoutError) as error:
            self._leave_ray()
            raise UserError(
                "execution.backend is 'ray', and no cluster answers: start one with `ray start "
                f"--head`, or set execution.backend to 'local' ({str(error).splitlines()[0]})"
            ) from None
        except UserError:
            self._leave_ray()
            raise
        self._outstanding = [0] * len(self._actors)
        self._alive = [True] * len(self._actors)
        self._retried = 0
        self._pending: set[Future[Any]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def _leave_ray(self) -> None:
        if self._started_ray:
            self._ray.shutdown()

    def _start_actors(self, workers: int | None, min_isolation: str) -> list[Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        actor = self._ray.remote(_Node)
        actors = [
            actor.options(
                num_cpus=0,
                max_concurrency=1024,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(workers, self.limits, min_isolation, packages=self.packages)
            for node in nodes
        ]
        answers = self._ray.get([a.describe.remote() for a in actors], timeout=_START_SECONDS)
        refusals = [
            f"node {node['NodeManagerHostname']}: {refusal}"
            for node, (refusal, _, _) in zip(nodes, answers)
            if refusal
        ]
        if refusals:
            for each in actors:
                self._ray.kill(each)
            raise UserError("; ".join(refusals))
        self.isolation: str = max(
            (level for _, level, _ in answers), key=["namespaces", "landlock", "rlimits"].index
        )
        self.isolation_notes = f"isolation level {self.isolation}"
        self.workers: int = sum(count for _, _, count in answers)
        return actors

    # ---- the interface of ExecutionPool --------------------------------------------------------

    def submit_matrix(
        self,
        problem: Problem,
        solutions: Sequence[str | None],
        tests: Sequence[Test | None],
        trusted: bool = False,
    ) -> "Future[np.ndarray]":
        """See ``ExecutionPool.submit_matrix``."""
        shape = (len(solutions), len(tests))
        arguments = (problem, list(solutions), list(tests), trusted)
        return self._submit(
            "submit_matrix", arguments, lambda: np.full(shape, Status.UNAVAILABLE, np.uint8)
        )

    def passing_matrix(
        self,
        problem: Problem,
        solutions: Sequence[str | None],
        tests: Sequence[Test | None],
        trusted: bool = False,
    ) -> np.ndarray:
        """See ``ExecutionPool.passing_matrix``."""
        return self.submit_matrix(problem, solutions, tests, trusted).result()

    def passing_matrices(
        self,
        items: Iterable[tuple[Problem, Sequence[str | None], Sequence[Test | None]]],
        trusted: bool = False,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See ``ExecutionPool.passing_matrices``."""
        return stream_matrices(self.submit_matrix, items, self.workers, trusted)

    def submit_mutation(
        self,
        problem: Problem,
        solution: str,
        tests: Sequence[Test | None],
        limit: int | None = None,
        seed: int = 0,
    ) -> "Future[MutationResult]":
        """See ``ExecutionPool.submit_mutation``."""

        def unavailable() -> MutationResult:
            original = np.full(len(tests), Status.UNAVAILABLE, np.uint8)
            return MutationResult([], original, np.empty((0, len(tests)), np.uint8))

        arguments = (problem, solution, list(tests), limit, seed)
        return self._submit("submit_mutation", arguments, unavailable)

    def mutants(
        self, solution: str, entry_point: str | None, limit: int | None = None, seed: int = 0
    ) -> list[str]:
        """See ``ExecutionPool.mutants``."""
        return self._submit("mutants", (solution, entry_point, limit, seed), list).result()

    @property
    def statistics(self) -> dict[str, int]:
        """The nodes' counts, added up; a node that is gone takes its own along."""
        total: dict[str, int] = {}
        for actor, alive in zip(self._actors, self._alive):
            if not alive:
                continue
            try:
                counts = self._ray.get(actor.statistics.remote(), timeout=_START_SECONDS)
            except self._ray.exceptions.RayError:
                continue
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        total["retried"] = total.get("retried", 0) + self._retried
        return total

    def close(self) -> None:
        """Cancels what is not done and ends every node's pool. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pending = list(self._pending)
        for future in pending:
            future.cancel()
        for actor, alive in zip(self._actors, self._alive):
            if alive:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.get(actor.close.remote(), timeout=10)
                self._ray.kill(actor)
        self._leave_ray()

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- sending work --------------------------------------------------------------------------

    def _submit(
        self, method: str, arguments: tuple[Any, ...], unavailable: Callable[[], Any]
    ) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the execution pool is closed")
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._send(future, method, arguments, unavailable, _ATTEMPTS)
        return future

    def _send(
        self,
        future: "Future[Any]",
        method: str,
        arguments: tuple[Any, ...],
        unavailable: Callable[[], Any],
        attempts: int,
    ) -> None:
        """Gives the call to the node with the least to do; to another one if that one dies."""
        with self._lock:
            ready = [index for index, alive in enumerate(self._alive) if alive]
            if not ready or not attempts:
                index = -1
            else:
                index = min(ready, key=lambda i: self._outstanding[i])
                self._outstanding[index] += 1
        if index < 0:
            _resolve(future, unavailable())
            return
        reference = self._actors[index].call.remote(method, *arguments)

        def done(answer: "Future[Any]") -> None:
            error = answer.exception()
            with self._lock:
                self._outstanding[index] -= 1
                died = isinstance(error, self._ray.exceptions.RayActorError)
                self._alive[index] &= not died
                self._retried += died and not self._closed
                closed = self._closed
            if future.cancelled() or closed:
                return
            if died:
                self._send(future, method, arguments, unavailable, attempts - 1)
            elif error is not None:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            else:
                _resolve(future, answer.result())

        reference.future().add_done_callback(done)


def _resolve(future: "Future[Any]", value: Any) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(value)
