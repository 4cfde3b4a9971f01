"""Reads the files of a run, finished or still running, without ever failing on a half-written one.

The files are ``config.json``, ``metrics.jsonl``, ``summary.json`` and ``rollouts/step_*.jsonl``.
Everything but the directory itself may be missing.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.storage import read_lines

Json = dict[str, Any]

_STEP_FILE = re.compile(r"step_(\d+)\.jsonl")


@dataclass(frozen=True)
class RunDirectory:
    """One run as its files tell it.

    Attributes:
      path: the directory.
      config: the configuration, nested as in ``configs/base.py``; empty where the file is missing.
      metrics: one flat dictionary per step, ascending by ``step``. Lines with the same step (a
        training step and an evaluation beside it) are merged.
      summary: ``summary.json``; empty while the run goes on.
    """

    path: Path
    config: Json
    metrics: tuple[Json, ...]
    summary: Json

    @cached_property
    def rollout_files(self) -> dict[int, Path]:
        """Step -> file of its samples, ascending by step."""
        found = {}
        for path in self.path.glob("rollouts/step_*.jsonl"):
            match = _STEP_FILE.fullmatch(path.name)
            if match:
                found[int(match[1])] = path
        return dict(sorted(found.items()))

    @property
    def title(self) -> str:
        """The run's name: of its directory and the one above, as in ``runs/demo``."""
        return title_of(self.path)

    @property
    def trained(self) -> list[Json]:
        """The lines of training steps: those with a role, without mere evaluations."""
        return [line for line in self.metrics if line.get("role")]

    @property
    def total_steps(self) -> int:
        """Steps of the whole run; 0 where nothing says."""
        for line in reversed(self.metrics):
            if line.get("total_steps"):
                return int(line["total_steps"])
        return int(self.config.get("steps") or 0)

    @property
    def finished_steps(self) -> int:
        """Training steps that have been made."""
        trained = self.trained
        return int(trained[-1]["step"]) + 1 if trained else 0

    def selection_noise(self) -> dict[str, list[tuple[int, float]]]:
        """Selector -> (step, share of its selected solutions that are wrong), ascending by step.

        From ``selection_noise.jsonl``, which launch/selection_noise.py writes.
        """
        found: dict[str, list[tuple[int, float]]] = {}
        for line in read_lines(self.path / "selection_noise.jsonl"):
            if line.get("noise") is not None:
                found.setdefault(str(line["selector"]), []).append((line["step"], line["noise"]))
        return {name: sorted(points) for name, points in found.items()}

    def evaluations(self) -> dict[str, list[tuple[int, Json]]]:
        """Benchmark -> (step, {"pass_at_1": ..., ...}) of each evaluation, ascending by step."""
        found: dict[str, list[tuple[int, Json]]] = {}
        for line in self.metrics:
            figures: dict[str, Json] = {}
            for key, value in line.items():
                if key.startswith("evaluation/") and key.count("/") >= 2 and value is not None:
                    benchmark, name = key.removeprefix("evaluation/").rsplit("/", 1)
                    figures.setdefault(benchmark, {})[name] = value
            for benchmark, values in figures.items():
                found.setdefault(benchmark, []).append((line["step"], values))
        return found


def title_of(path: Path) -> str:
    """The last two names of a path: a study calls many directories ``seed_0``."""
    return "/".join(path.resolve().parts[-2:]).lstrip("/")


def read_run(workdir: str | Path) -> RunDirectory:
    """Read what there is of a run.

    Raises:
      UserError: ``workdir`` is no directory, or holds no file of a run.
    """
    path = Path(workdir)
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; a run is the --workdir of launch/train.py")
    run = RunDirectory(
        path=path,
        config=_read_object(path / "config.json"),
        metrics=_read_metrics(path / "metrics.jsonl"),
        summary=_read_object(path / "summary.json"),
    )
    if not (run.config or run.metrics or run.summary or run.rollout_files):
        raise UserError(
            f"{path} holds neither config.json nor metrics.jsonl nor rollouts/; "
            "a run is the --workdir of launch/train.py"
        )
    return run


def _read_metrics(path: Path) -> tuple[Json, ...]:
    steps: dict[int, Json] = {}
    for line in read_lines(path):
        step = line.get("step")
        if isinstance(step, int) and not isinstance(step, bool):
            steps.setdefault(step, {}).update(line)
    return tuple(steps[step] for step in sorted(steps))


def _read_object(path: Path) -> Json:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
