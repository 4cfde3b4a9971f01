"""The time of a step by phase, and how a run is asked to stop between two of them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zerocoder_jax.errors import UserError


class Interrupted(Exception):
    """SIGTERM arrived; the run was saved and can be continued by the same command."""


class StopRequested(Exception):
    """SIGTERM was seen between two stations of a step; the step is given up."""


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


@contextmanager
def stop_on_sigterm(request_stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end the run between two steps instead of in the middle of one."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: request_stop())
    except ValueError as error:
        raise UserError("a run must be started from the main thread") from error
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
