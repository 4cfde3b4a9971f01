"""Where a run's figures go: ``metrics.jsonl``, TensorBoard, Weights & Biases, and the terminal.

``metrics.jsonl`` is the source of everything that is shown later: one JSON object a line, one line
a step, flat keys such as ``coder/reward``. The other destinations are copies of it: one that cannot
be written warns once, and the run continues.
"""

import json
import math
import statistics
import time
import uuid
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import rich.console
import rich.progress
from ml_collections import ConfigDict

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import SCHEMA
from zerocoder_jax.errors import UserError
from zerocoder_jax.storage import Copies, append_line, keep_trying, now
from zerocoder_jax.training.tensorboard import TensorBoard

MetricValue = float | int | bool | str | None


class MetricWriters:
    """Writes each step's metrics to every destination of a run.

    Args:
      workdir: the run directory; made where it does not exist.
      config: the run's configuration; ``config.logging.wandb_project`` decides about Weights &
        Biases.
      first_step: the step that this process begins with. Lines of this step and of later ones,
        left by a process that was stopped after its last checkpoint, are dropped: the steps are
        made again.

    Raises:
      UserError: Weights & Biases is asked for and not installed.
    """

    def __init__(self, workdir: str | Path, config: ConfigDict, first_step: int = 0) -> None:
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._weights_and_biases = _start_weights_and_biases(self.path.parent, config)
        keep_trying(lambda: drop_steps_from(self.path, first_step), self.path)
        self._first_step = first_step
        self._tensorboard: TensorBoard | None = None
        self._copies = Copies()

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one step, and let nobody wait for it: every destination is flushed.

        Args:
          step: the training step; becomes the line's ``step``.
          metrics: flat keys; numbers of Python, NumPy or JAX, strings, booleans or ``None``. In the
            file a number that is not finite is ``null``, since JSON has no name for it.

        Raises:
          StorageFailed: ``metrics.jsonl`` cannot be written, after several attempts.
        """
        values = {key: _plain(value) for key, value in metrics.items()}
        values["step"] = step
        line = {"step": step, "time": now(), "schema": SCHEMA}
        line |= {key: _finite(value) for key, value in values.items()}
        text = json.dumps(line, allow_nan=False)
        keep_trying(lambda: append_line(self.path, text), self.path)

        numbers = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, int | float) and key != "step"
        }
        self._copies.write("TensorBoard", lambda: self._write_to_tensorboard(step, numbers))
        if (run := self._weights_and_biases) is not None:
            self._copies.write("Weights & Biases", lambda: run.log({"step": step} | numbers))

    def _write_to_tensorboard(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._tensorboard is None:
            self._tensorboard = TensorBoard(self.path.parent / "tensorboard", self._first_step)
        self._tensorboard.write(step, numbers)

    def close(self) -> None:
        """Close every destination."""
        if self._tensorboard is not None:
            self._copies.write("TensorBoard", self._tensorboard.close)
        if self._weights_and_biases is not None:
            self._copies.write("Weights & Biases", self._weights_and_biases.finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def drop_steps_from(path: Path, first_step: int) -> None:
    """Keep only the lines of ``path`` with a step before ``first_step``.

    A last line that a killed process left half-written is dropped as well.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("step", first_step) < first_step:
            kept.append(line + "\n")
    write_atomically(path, kept)


def _plain(value: Any) -> MetricValue:
    """A Python value of a NumPy or JAX scalar; other values unchanged."""
    return value.item() if hasattr(value, "item") else value


def _finite(value: MetricValue) -> MetricValue:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _start_weights_and_biases(workdir: Path, config: ConfigDict) -> Any:
    """A Weights & Biases run that a resumed process continues; ``None`` where none is asked for.

    Of several hosts the first one reports: its figures are those of all.
    """
    project = config.logging.wandb_project
    if not project or jax.process_index() > 0:
        return None
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"config.logging.wandb_project is {project!r}, but wandb is not installed: "
            "pip install 'zerocoder_jax[wandb]', or leave the field empty"
        ) from error
    id_file = workdir / "wandb_id.txt"
    if not id_file.exists():
        write_atomically(id_file, uuid.uuid4().hex)
    run = wandb.init(
        project=project,
        id=id_file.read_text(encoding="utf-8").strip(),
        resume="allow",
        dir=str(workdir),
        name=workdir.resolve().name,
        config=config.to_dict(),
    )
    # Steps made again after a resume come with smaller numbers than wandb's own counter has
    # reached; plotted over a metric of our own they replace what they repeat.
    run.define_metric("*", step_metric="step")
    return run


class _Console(rich.console.Console):
    """A console whose reader may leave (``train.py | head``); rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError("nothing reads it any more")


class Progress:
    """One live line of a run: step, phase, rewards of both roles, pass rate and the time left.

    Where the output is not a terminal, plain lines are printed instead: one per phase, with the
    time, and one per finished step.

    Args:
      total_steps: steps of the whole run.
      first_step: the step that this process begins with.
      console: where to print; standard output by default.
    """

    # The time left follows so many recent steps: compilation and warm-up are soon forgotten.
    WINDOW = 10

    def __init__(
        self,
        total_steps: int,
        first_step: int = 0,
        console: rich.console.Console | None = None,
    ) -> None:
        self.total_steps = total_steps
        self._console = console or _Console()
        self._next_step = first_step
        self._copies = Copies()
        self._durations: deque[float] = deque(maxlen=self.WINDOW)
        self._step_began = time.monotonic()
        self._display: rich.progress.Progress | None = None
        if self._console.is_terminal:
            column = rich.progress.TextColumn
            self._display = rich.progress.Progress(
                rich.progress.SpinnerColumn(),
                column("[bold]step {task.completed:.0f}/{task.total:.0f}"),
                rich.progress.BarColumn(bar_width=20),
                column("[cyan]{task.fields[phase]:<11}"),
                column("{task.fields[figures]}"),
                column("[dim]{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._display.add_task(
                "", total=total_steps, completed=first_step, phase="", figures="", left=""
            )
            self._display.start()

    def phase(self, name: str) -> None:
        """Show which part of the step is going on, for example ``"rollout"``."""
        if self._display is not None:
            self._display.update(self._task, phase=name)
        else:
            step = min(self._next_step + 1, self.total_steps)
            self._print(f"{now()}  step {step}/{self.total_steps}  {name}")

    def finish(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show the figures of a finished step (numbered from 0)."""
        ended = time.monotonic()
        self._durations.append(ended - self._step_began)
        self._step_began = ended
        self._next_step = step + 1
        seconds = self._durations[-1]
        left = statistics.median(self._durations) * (self.total_steps - step - 1)
        figures = "  ".join(
            f"{label} {float(metrics[key]):.3f}"
            for label, key in (
                ("coder", "coder/reward"),
                ("tester", "tester/reward"),
                ("pass rate", "matrix/pass_rate"),
            )
            if metrics.get(key) is not None
        )
        time_left = f"{duration(left)} left"
        if self._display is not None:
            self._display.update(
                self._task, completed=step + 1, figures=figures, left=time_left, phase=""
            )
            return
        role = metrics.get("role", "")
        self._print(
            f"step {step + 1}/{self.total_steps}  {role:<6}  {figures}  "
            f"{seconds:.1f} s  {time_left}"
        )

    def say(self, text: str) -> None:
        """Print a line of plain text, above the live line where there is one."""
        self._print(text)

    def _print(self, text: str) -> None:
        # Paths and model names may hold square brackets: nothing in them is markup.
        self._copies.write(
            "standard output",
            lambda: self._console.print(text, markup=False, highlight=False, soft_wrap=True),
        )

    def close(self) -> None:
        """Take the live line away."""
        if self._display is not None:
            self._display.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
