"""What a finished run or evaluation came to: the figures that tables compare."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.report.overview import selector_name
from zerocoder_jax.report.published import STEP_SECONDS, published_model
from zerocoder_jax.report.run_directory import Json, RunDirectory, read_run, title_of
from zerocoder_jax.training.grpo_variants import VARIANTS

TEST_MEASURES = ("test_accuracy", "mutation_score")
MEASURES = ("pass_at_1", *TEST_MEASURES)


@dataclass(frozen=True)
class Scores:
    """Shares between 0 and 1, by benchmark and measure.

    Attributes:
      benchmarks: benchmark -> {"pass_at_1", "test_accuracy", "mutation_score"}; what was not
        measured is missing.
    """

    benchmarks: Mapping[str, Mapping[str, float]]

    @property
    def code(self) -> float | None:
        """CAvg: the mean of pass@1 over the benchmarks."""
        return _mean([m["pass_at_1"] for m in self.benchmarks.values() if "pass_at_1" in m])

    @property
    def tests(self) -> float | None:
        """TAvg: the mean of accuracies and mutation scores over the benchmarks that have them."""
        return _mean(
            [m[key] for m in self.benchmarks.values() for key in TEST_MEASURES if key in m]
        )

    @property
    def average(self) -> float | None:
        """Avg: the mean of CAvg and TAvg."""
        code, tests = self.code, self.tests
        return None if code is None or tests is None else (code + tests) / 2


@dataclass(frozen=True)
class RunResult:
    """One run, or one evaluation without a run.

    Attributes:
      name: of its directory and the one above.
      model: the paper's name of the policy where it is one of the paper's, else its source.
      method: the row of the paper's table it belongs to, for example ``dynamic B4``.
      seed: of the run.
      evaluations: (steps done, scores), ascending; the first is before training.
      seconds: phase -> mean seconds of a step, the first step (compilation) left out.
      noise: selector -> (step, share of selected solutions that are wrong), ascending.
      delta: threshold of the rank filter; None where nothing was filtered.
      labels: calibration problems; 0 where none are used.
    """

    name: str
    model: str
    method: str
    seed: int
    evaluations: Sequence[tuple[int, Scores]]
    seconds: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    delta: int | None = None
    labels: int = 0

    @property
    def before(self) -> Scores | None:
        """Scores of the policy that training began with."""
        return (
            self.evaluations[0][1] if self.evaluations[:1] and not self.evaluations[0][0] else None
        )

    @property
    def after(self) -> Scores | None:
        """Scores of the newest policy that was measured after training."""
        return self.evaluations[-1][1] if self.evaluations and self.evaluations[-1][0] else None


def read_result(path: str | Path) -> RunResult:
    """The result of a run directory, or of an output directory of ``launch/evaluate.py``.

    Raises:
      UserError: ``path`` is neither.
    """
    directory = Path(path)
    summary = directory / "summary.json"
    if summary.is_file() and not (directory / "metrics.jsonl").exists():
        return _evaluation_result(directory, summary)
    run = read_run(directory)
    if not run.metrics:
        raise UserError(f"{directory}/metrics.jsonl holds no step, so there is nothing to compare")
    return RunResult(
        name=title_of(directory),
        evaluations=_evaluations(run),
        seconds=_phase_seconds(run),
        noise=run.selection_noise(),
        **row_of(run),
    )


def row_of(run: RunDirectory) -> dict[str, Any]:
    """Where a run stands in the tables: ``RunResult``'s model, method, seed, delta and labels."""
    config = run.config
    calibration = (config.get("selector") or {}).get("calibration") or {}
    uses_labels = calibration.get("enabled") or config.get("supervision") == "calibration"
    prefilter = config.get("prefilter") or {}
    filtered = (
        prefilter.get("path") or prefilter.get("make") or (run.path / "prefilter.jsonl").exists()
    )
    source = str((config.get("policy") or {}).get("source") or "unknown policy")
    return {
        "model": published_model(source) or source,
        "method": method_name(config),
        "seed": int(config.get("seed") or 0),
        "delta": int(prefilter.get("delta") or 0) if filtered else None,
        "labels": int(calibration.get("problems") or 0) if uses_labels else 0,
    }


def method_name(config: Json) -> str:
    """The row of the paper's table that a configuration belongs to, or a row of its own.

    What the paper does not have is named: a row holds runs that differ in nothing but the seed, the
    rank filter and the number of labels, and ``row_names`` tells these apart.
    """
    reward, update = config.get("reward") or {}, config.get("grpo") or {}
    name = selector_name(config)
    labels = config.get("supervision") == "calibration"
    # The paper's dynamic B4 is supervised by the labels that it calibrates on.
    if name == "dynamic B4" and not labels:
        name += " without supervision"
    elif name != "dynamic B4" and labels:
        name += " with labels"
    if config.get("method") in ("offline", "online"):
        name = str(config["method"]) + (" with labels" if labels else "")
    elif config.get("supervision") == "oracle":
        name = "oracle"
    if not reward.get("mutation", True):
        name += " without mutation"
    if reward.get("confidence_weighted"):
        name += ", by confidence"
    for variant, changes in VARIANTS.items():
        if changes and all(update.get(field) == value for field, value in changes.items()):
            name += f", {variant}"
    if ((config.get("policy") or {}).get("lora") or {}).get("rank"):
        name += ", LoRA"
    return name


def row_names(results: Sequence[RunResult]) -> list[str]:
    """Each result's method; with rank filter and labels where a method's runs differ in them."""
    settings: dict[tuple[str, str], set[tuple[int | None, int]]] = {}
    for one in results:
        settings.setdefault((one.model, one.method), set()).add((one.delta, one.labels))
    names = []
    for one in results:
        deltas, labels = map(set, zip(*settings[one.model, one.method]))
        name = one.method
        if len(labels) > 1:
            name += f", {one.labels} labels"
        if len(deltas) > 1:
            name += ", no rank filter" if one.delta is None else f", rank filter {one.delta}"
        names.append(name)
    return names


def _evaluations(run: RunDirectory) -> list[tuple[int, Scores]]:
    steps: dict[int, dict[str, dict[str, float]]] = {}
    for benchmark, points in run.evaluations().items():
        for step, figures in points:
            known = {key: float(figures[key]) for key in MEASURES if figures.get(key) is not None}
            if known:
                steps.setdefault(step, {})[benchmark] = known
    return [(step, Scores(steps[step])) for step in sorted(steps)]


def _evaluation_result(directory: Path, summary: Path) -> RunResult:
    try:
        record = json.loads(summary.read_bytes())
        policy, step, row = str(record["policy"]), record.get("step"), record.get("run") or {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{summary} is neither of a run nor of launch/evaluate.py") from error
    benchmarks = {
        name: {key: float(figures[key]) for key in MEASURES if figures.get(key) is not None}
        for name, figures in record.items()
        if isinstance(figures, dict) and "scores" in figures
    }
    published = {"model": published_model(policy) or policy, "method": "base", "seed": 0}
    return RunResult(
        name=title_of(directory),
        evaluations=[(int(step or 0), Scores(benchmarks))],
        **(row or published),
    )


def _phase_seconds(run: RunDirectory) -> dict[str, float]:
    steps = run.trained[1:] or run.trained
    seconds = {}
    for phase in STEP_SECONDS:
        # Mutants are made on the Tester's turns alone; the others have no such phase.
        known = [_number(line.get(f"seconds/{phase}")) for line in steps]
        values = [value for value in known if value is not None]
        if values:
            seconds[phase] = sum(values) / (len(steps) if phase == "mutation" else len(values))
    return seconds


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
