"""What happened to a run, for those who were not there: ``events.jsonl`` and ``heartbeat.json``.

An event is one JSON line: ``time``, ``event``, ``host``, ``process`` and what belongs to it. The
heartbeat is one small file, replaced whenever the run enters a phase: a supervisor that finds it
old knows that nothing moves. Both are copies: a disk that refuses them stops nothing.
"""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import versions
from zerocoder_jax.storage import Copies, append_line, now


class RunLog:
    """Writes both files of one process; see ``config.logging.events`` and ``.heartbeat``."""

    def __init__(self, workdir: Path, settings: Any):
        self._events = workdir / "events.jsonl" if settings.events else None
        self._heartbeat = workdir / "heartbeat.json" if settings.heartbeat else None
        self._copies = Copies()
        self._process = {"host": platform.node(), "process": os.getpid()}
        self.step = 0

    def event(self, name: str, **fields: Any) -> None:
        """Append one line: "start", "resume", "checkpoint", "stop", ..."""
        if self._events is None:
            return
        line = json.dumps({"time": now(), "event": name, **self._process, **fields}, default=str)
        path = self._events
        self._copies.write(path.name, lambda: append_line(path, line))

    def started(self, first: int, steps: int, **fields: Any) -> None:
        """The process begins with step ``first`` of ``steps``."""
        name = "resume" if first else "start"
        self.event(name, step=first, steps=steps, **versions(), **fields)

    def incidents(self, metrics: Mapping[str, Any]) -> None:
        """What went wrong in a step without stopping it."""
        for name, event in (
            ("policy/skipped_updates", "skipped_update"),
            ("execution/restarts", "worker_restart"),
        ):
            if metrics.get(name):
                self.event(event, step=self.step, count=metrics[name])

    def stopped(self, step: int, error: BaseException | None) -> None:
        """The process ends, with ``step`` steps saved; ``exit_code`` is what it will end with."""
        code = getattr(error, "exit_code", 1) if error else 0
        reason = " ".join(f"{type(error).__name__}: {error}".split()) if error else "finished"
        self.event("stop", step=step, exit_code=code, reason=reason[:500])

    def beat(self, phase: str) -> None:
        """The run has come to ``phase`` of ``self.step``."""
        if self._heartbeat is None:
            return
        line = json.dumps({"time": now(), "step": self.step, "phase": phase, **self._process})
        path = self._heartbeat
        self._copies.write(path.name, lambda: write_atomically(path, line + "\n"))
