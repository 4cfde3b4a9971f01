"""The thread that keeps workers busy: queues, time slots, deaths and repetitions.

All state belongs to that one thread; other threads hand in tasks and get futures. Workers are
started by it too: they die with the *thread* that started them.
"""

import collections
import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.process import PoolProcess
from zerocoder_jax.execution.status import Status
from zerocoder_jax.execution.tasks import (
    CompileJob,
    Counts,
    Job,
    MutateJob,
    RunJob,
    Task,
    Verdict,
    test_record,
)
from zerocoder_jax.execution.worker.runner import LONGEST

# A run that is older than this does not hold its processor's slot any more: it is likely to run
# into its limit, and the others need not wait for that.
_YOUNG_SECONDS = 0.25
# Runs under way for each processor while most of them are old.
_RUNS_PER_SLOT = 3
_ATTEMPTS = 3
_FAILED_STARTS = 10
# Beyond a run's own time limit; the judge, closer to it, gives up earlier.
_PATIENCE_SECONDS = 40.0
_MUTANT_SECONDS = 20.0
_START_SECONDS = 60.0


@dataclass(eq=False)
class _TaskState:
    task: Task
    future: Future[Any]
    results: list[Any] = field(default_factory=list)
    missing: int = 0


@dataclass(eq=False)
class _Work:
    """A job of a task: its parts (tests, sources) are answered one by one, in any order."""

    job: Job
    owner: _TaskState
    place: int
    answers: list[Any]
    attempts: list[int]
    missing: int


@dataclass(eq=False)
class _Piece:
    """Parts of a job that one process gets at once."""

    work: _Work
    parts: list[int]
    alone: bool = False


@dataclass(eq=False)
class _Seat:
    """A process and what it is doing."""

    process: PoolProcess
    is_maker: bool
    ready: bool = False
    piece: _Piece | None = None
    unanswered: list[int] = field(default_factory=list)
    since: float = 0.0
    patience: float = _START_SECONDS


def _part_count(job: Job) -> int:
    if isinstance(job, RunJob):
        return len(job.tests)
    if isinstance(job, CompileJob):
        return len(job.sources)
    return 1


def _was_killed(answer: Any) -> bool:
    """Of a run: its status; of a source: what came of compiling it."""
    return (answer.get("status") if isinstance(answer, dict) else answer) == Status.UNAVAILABLE


class Dispatcher:
    """Runs tasks on worker processes.

    Args:
      start_worker: starts a worker process.
      start_maker: starts a process that makes mutants.
      slots: runs at the same time while they are young; processors, usually.
      seconds: time limit of compiling a job's sources.
      level: the isolation level that workers must reach.
      counts: where to count.
    """

    def __init__(
        self,
        start_worker: Callable[[], PoolProcess],
        start_maker: Callable[[], PoolProcess],
        slots: int,
        seconds: float,
        level: str,
        counts: Counts,
    ) -> None:
        self._start_worker, self._start_maker = start_worker, start_maker
        self._slots = slots
        self._seconds = seconds
        self._level = level
        self._counts = counts
        self._submitted: collections.deque[_TaskState] = collections.deque()
        self._queue: collections.deque[_Piece] = collections.deque()
        # Runs of solutions that already ran into their limit: after everything else.
        self._suspects: collections.deque[_Piece] = collections.deque()
        # Runs that something outside killed, the machine's shortage of memory perhaps: once more,
        # while nothing else runs.
        self._killed: collections.deque[_Piece] = collections.deque()
        self._mutations: collections.deque[_Piece] = collections.deque()
        self._seats: list[_Seat] = []
        self._active: set[_TaskState] = set()
        self._failed_starts = 0
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="execution", daemon=True)

    # ---- called from any thread ----------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def submit(self, task: Task) -> Future[Any]:
        """Starts a task as soon as there is room; cancelling drops what has not begun."""
        state = _TaskState(task, Future())
        with self._lock:
            if self._closing:
                raise RuntimeError("the execution pool is closed")
            self._submitted.append(state)
            self._wake()
        return state.future

    def close(self) -> None:
        """Cancels what is not done and ends every process. Idempotent."""
        with self._lock:
            # Once the thread has seen it the pipe is closed, and its number may be another file's.
            if not self._closing:
                self._closing = True
                self._wake()
        if self._thread.is_alive():
            self._thread.join()

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that exist now."""
        return [seat.process.pid for seat in list(self._seats)]

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"w")

    # ---- the thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._take_submitted()
                self._assign()
                for key, mask in self._selector.select(self._time_to_next_look()):
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 4096)
                    elif mask & selectors.EVENT_WRITE:
                        self._flush(key.data)
                    else:
                        self._hear(key.data)
                self._end_silent()
        except BaseException as error:
            self._fail_all(error)
            raise
        finally:
            with self._lock:
                self._closing = True
            self._shut_down()

    def _shut_down(self) -> None:
        for seat in list(self._seats):
            self._dismiss(seat)
        for state in [*self._active, *self._submitted]:
            if state.future.cancel():
                state.future.set_running_or_notify_cancel()
            state.task.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _fail_all(self, error: BaseException) -> None:
        for state in [*self._active, *self._submitted]:
            if not state.future.done():
                state.future.set_exception(error)

    def _take_submitted(self) -> None:
        while self._submitted:
            state = self._submitted.popleft()
            self._active.add(state)
            self._advance(state, None)

    def _advance(self, state: _TaskState, results: Any) -> None:
        """Gives a task its results and queues the jobs that it asks for next."""
        while True:
            if state.future.cancelled():
                self._finish(state)
                return
            try:
                jobs = state.task.send(results)
            except StopIteration as stop:
                self._finish(state)
                if state.future.set_running_or_notify_cancel():
                    state.future.set_result(stop.value)
                return
            except Exception as error:
                self._finish(state)
                if state.future.set_running_or_notify_cancel():
                    state.future.set_exception(error)
                return
            state.results = [None] * len(jobs)
            state.missing = 0
            for place, job in enumerate(jobs):
                parts = _part_count(job)
                if parts == 0:
                    state.results[place] = []
                    continue
                state.missing += 1
                work = _Work(job, state, place, [None] * parts, [0] * parts, parts)
                piece = _Piece(work, list(range(parts)))
                (self._mutations if isinstance(job, MutateJob) else self._queue).append(piece)
            if state.missing:
                return
            results = state.results

    def _finish(self, state: _TaskState) -> None:
        self._active.discard(state)
        state.task.close()

    # ---- who works on what ---------------------------------------------------------------------

    def _assign(self) -> None:
        while self._mutations:
            seat = self._free_seat(is_maker=True, most=max(1, self._slots // 2))
            if seat is None:
                break
            self._give(seat, self._mutations.popleft())
        busy = [seat.piece for seat in self._seats if seat.piece is not None and not seat.is_maker]
        if any(piece.alone for piece in busy) or (busy and self._killed):
            return
        if self._killed:
            seat = self._free_seat(is_maker=False, most=1)
            if seat is not None:
                self._give(seat, self._killed.popleft())
            return
        while (self._queue or self._suspects) and self._has_slot():
            seat = self._free_seat(is_maker=False, most=self._slots * _RUNS_PER_SLOT)
            if seat is None:
                break
            self._give(seat, (self._queue or self._suspects).popleft())

    def _has_slot(self) -> bool:
        now = time.monotonic()
        busy = [seat for seat in self._seats if seat.piece is not None and not seat.is_maker]
        return sum(now - seat.since < _YOUNG_SECONDS for seat in busy) < self._slots

    def _free_seat(self, is_maker: bool, most: int) -> _Seat | None:
        """A process that waits for work; starts one more where there may be more."""
        seats = [seat for seat in self._seats if seat.is_maker == is_maker]
        for seat in seats:
            if seat.ready and seat.piece is None:
                return seat
        if len(seats) < most and not any(not seat.ready for seat in seats):
            self._open_seat(is_maker)
        return None

    def _open_seat(self, is_maker: bool) -> None:
        process = self._start_maker() if is_maker else self._start_worker()
        seat = _Seat(process, is_maker, since=time.monotonic())
        self._seats.append(seat)
        self._selector.register(process.readable, selectors.EVENT_READ, seat)
        self._watch_writing(seat)

    def _give(self, seat: _Seat, piece: _Piece) -> None:
        work = piece.work
        piece.parts = [part for part in piece.parts if work.answers[part] is None]
        if work.owner.future.cancelled() or not piece.parts:
            if work.owner.future.cancelled():
                self._finish(work.owner)
            return
        job = work.job
        seat.piece, seat.unanswered = piece, list(piece.parts)
        seat.since = time.monotonic()
        message: dict[str, Any]
        if isinstance(job, RunJob):
            seconds = [job.seconds[part] for part in piece.parts]
            message = {
                "do": "run",
                "code": job.program["code"],
                "stateless": job.program["stateless"],
                "entry_point": job.entry_point,
                "tests": [test_record(job.tests[part]) for part in piece.parts],
                "seconds": seconds,
            }
            seat.patience = LONGEST * max(seconds) + _PATIENCE_SECONDS
        elif isinstance(job, CompileJob):
            sources = [job.sources[part] for part in piece.parts]
            message = {"do": "compile", "sources": sources, "seconds": self._seconds}
            seat.patience = (len(sources) + LONGEST) * self._seconds + _PATIENCE_SECONDS
        else:
            message = {"do": "mutate", **vars(job)}
            seat.patience = _MUTANT_SECONDS
        seat.process.send({"id": id(piece), **message})
        self._watch_writing(seat)

    def _watch_writing(self, seat: _Seat) -> None:
        """Waits for the pipe to take more exactly as long as something is unsent."""
        key = self._selector.get_map().get(seat.process.writable)
        if seat.process.has_unsent and key is None:
            self._selector.register(seat.process.writable, selectors.EVENT_WRITE, seat)
        elif not seat.process.has_unsent and key is not None:
            self._selector.unregister(seat.process.writable)

    def _flush(self, seat: _Seat) -> None:
        if seat in self._seats:
            seat.process.flush()
            self._watch_writing(seat)

    # ---- what comes back -----------------------------------------------------------------------

    def _hear(self, seat: _Seat) -> None:
        if seat not in self._seats:
            return
        for message in seat.process.messages():
            if not seat.ready:
                self._greet(seat, message)
            elif seat.piece is not None and message[0] == id(seat.piece):
                self._answered(seat, message)
        if seat.process.done:
            self._replace(seat)

    def _greet(self, seat: _Seat, message: dict[str, Any]) -> None:
        if message.get("level") == self._level or seat.is_maker:
            seat.ready = True
            self._failed_starts = 0
        else:
            seat.process.done = True

    def _answered(self, seat: _Seat, message: list[Any]) -> None:
        """Takes ``[piece, [[index, answer...], ...], is the end]``."""
        piece = seat.piece
        assert piece is not None
        seat.since = time.monotonic()
        for index, *answer in message[1]:
            part = piece.parts[index]
            seat.unanswered.remove(part)
            if _was_killed(answer[0]) and not piece.alone:
                self._counts.retried += 1
                self._killed.append(_Piece(piece.work, [part], alone=True))
            elif isinstance(piece.work.job, RunJob):
                self._counts.runs += 1
                self._record(piece.work, part, Verdict(Status(answer[0]), answer[1]))
            else:
                self._record(piece.work, part, answer[0])
        if message[2]:
            left = seat.unanswered
            seat.piece, seat.unanswered = None, []
            # After a run out of time the others of its solution come back, to be run last.
            self._suspects.extend(_Piece(piece.work, [part]) for part in left)

    def _record(self, work: _Work, part: int, answer: Any) -> None:
        if work.answers[part] is not None:
            return
        work.answers[part] = answer
        work.missing -= 1
        if work.missing:
            return
        owner = work.owner
        is_list = not isinstance(work.job, MutateJob)
        owner.results[work.place] = work.answers if is_list else work.answers[0]
        owner.missing -= 1
        if not owner.missing:
            self._advance(owner, owner.results)

    # ---- deaths --------------------------------------------------------------------------------

    def _end_silent(self) -> None:
        now = time.monotonic()
        for seat in list(self._seats):
            if (seat.piece is not None or not seat.ready) and now - seat.since > seat.patience:
                self._replace(seat)

    def _replace(self, seat: _Seat) -> None:
        """Ends a process that is dead or silent; its work is done again, by another."""
        piece, unanswered = seat.piece, seat.unanswered
        was_ready = seat.ready
        self._dismiss(seat)
        if not was_ready:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise UserError(
                    f"execution: workers do not start at isolation level {self._level!r} any more; "
                    "see docs/execution.md, or lower execution.min_isolation"
                )
        self._counts.restarts += 1
        if piece is None or not unanswered:
            return
        work, first = piece.work, unanswered[0]
        queue = self._mutations if isinstance(work.job, MutateJob) else self._queue
        # The first one without an answer was under way, and may be what killed the worker.
        work.attempts[first] += 1
        self._counts.retried += 1
        rest = unanswered[1:]
        if rest:
            queue.appendleft(_Piece(work, rest))
        if work.attempts[first] < _ATTEMPTS:
            queue.appendleft(_Piece(work, [first]))
        elif isinstance(work.job, RunJob):
            self._record(work, first, Verdict(Status.UNAVAILABLE, 0.0))
        elif isinstance(work.job, CompileJob):
            self._record(work, first, {"status": int(Status.UNAVAILABLE)})
        else:
            self._record(work, first, [])

    def _dismiss(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        for descriptor in (seat.process.readable, seat.process.writable):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
        seat.process.kill()

    def _time_to_next_look(self) -> float | None:
        """Seconds until something may change without a message; None: never."""
        now = time.monotonic()
        times = []
        for seat in self._seats:
            if seat.piece is None and seat.ready:
                continue
            age = now - seat.since
            times.append(seat.patience - age)
            if (self._queue or self._suspects) and age < _YOUNG_SECONDS:
                times.append(_YOUNG_SECONDS - age)
        return max(0.001, min(times)) if times else None
