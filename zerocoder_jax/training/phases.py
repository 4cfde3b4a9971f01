"""The time of a step by phase, and how a run is asked to stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from zerocoder_jax.errors import Interrupted, UserError
from zerocoder_jax.parallel.hosts import exchange

# Preemption and time limits, Ctrl-C, a closed terminal.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequested(Exception):
    """A signal asks the run to stop; what is being made is given up, what is finished is saved."""


class StopSignal:
    """Notices the signals that ask a run to stop.

    Attributes:
        number: of the signal that has arrived; 0: none.
    """

    def __init__(self) -> None:
        self.number: int = 0
        self._interruptible = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may be given up anywhere: a signal raises ``StopRequested`` there, at once.

        Hosts of one run leave together or not at all: with several of them the signal waits for
        the next ``check``.
        """
        self._interruptible = jax.process_count() == 1
        try:
            if self._interruptible and self.number:
                raise StopRequested
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """Leave here, before anything has changed, if a signal came; all hosts call it together.

        Raises:
            StopRequested: to one of the hosts, at least.
        """
        numbers = exchange(self.number)
        if any(numbers):
            self.number = max(numbers)
            raise StopRequested

    def interruption(self, finished: int) -> Interrupted:
        """What ends the run; ``finished`` steps are saved."""
        name = signal.Signals(self.number).name
        return Interrupted(
            f"stopped by {name}: {finished} steps are finished and saved, the same command "
            "continues the run",
            self.number,
        )

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt  # twice: whoever sits there does not want to wait
        self.number = number
        if self._interruptible:
            self._interruptible = False
            raise StopRequested


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Let SIGTERM, SIGINT and SIGHUP end the run with everything saved that is finished.

    One that is ignored stays so: ``nohup`` ignores SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("a run must be started from the main thread")
    stop = StopSignal()
    before: dict[int, Any] = {}
    for kind in SIGNALS:
        if signal.getsignal(kind) is not signal.SIG_IGN:
            before[kind] = signal.signal(kind, stop.arrived)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class PhaseClock:
    """Seconds of a step by phase, as in the paper's time table."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def metrics(self) -> dict[str, float]:
        total = time.perf_counter() - self._start
        return {f"seconds/{name}": value for name, value in self.seconds.items()} | {
            "seconds/total": total
        }
