"""Evaluation before, during and after a training run, and the summary of the run."""

import functools
import json
import math
import operator
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.evaluation.benchmarks import Benchmark, read_benchmarks
from zerocoder_jax.evaluation.measuring import EvaluationSettings, engine_demand, evaluate
from zerocoder_jax.evaluation.results import ResultsFile
from zerocoder_jax.evaluation.scores import MAIN_SCORES, benchmark_scores
from zerocoder_jax.execution import Pool
from zerocoder_jax.parallel.hosts import folder_of_host
from zerocoder_jax.policy.loading import open_checkpoint
from zerocoder_jax.rollout import Demand, RolloutEngine
from zerocoder_jax.training.sampling import Sampler


class TrainingEvaluation:
    """What the training loop calls to measure its policy.

    Single results lie in ``WORKDIR/evaluation/step_000012/BENCHMARK.jsonl``; an evaluation that
    was interrupted goes on from there.
    """

    def __init__(self, config: Any, workdir: Path, benchmarks: Sequence[Benchmark]):
        self._config = config
        self._workdir = workdir
        self._benchmarks = benchmarks
        self._settings = EvaluationSettings(
            max_new_tokens=config.evaluation.max_new_tokens,
            mutant_limit=config.mutation.limit,
            seed=config.seed,
        )
        self._tokenizer = open_checkpoint(config.policy.source).tokenizer()

    def __call__(self, done: int, engine: RolloutEngine, pool: Pool) -> dict[str, float]:
        """``evaluation/BENCHMARK/SCORE`` after ``done`` updates, and the seconds they took."""
        start = time.perf_counter()
        sampler = Sampler(engine, pool, self._tokenizer, self._config)
        metrics: dict[str, float] = {}
        for benchmark in self._benchmarks:
            folder = folder_of_host(self._workdir) / "evaluation" / f"step_{done:06d}"
            path = folder / f"{benchmark.name}.jsonl"
            about = measurement(self._config, benchmark.source, self._settings)
            with ResultsFile(path, about, restart=True) as file:
                scores = benchmark_scores(evaluate(sampler, pool, benchmark, self._settings, file))
            for name, score in scores.items():
                metrics[f"evaluation/{benchmark.name}/{name}"] = score.value
        return metrics | {"evaluation/seconds": time.perf_counter() - start}

    def demand(self, sampler: Sampler) -> Demand:
        """What the evaluations ask of the engine."""
        demands = [engine_demand(sampler, one, self._settings) for one in self._benchmarks]
        return functools.reduce(operator.or_, demands)


def training_evaluation(config: Any, workdir: Path) -> TrainingEvaluation | None:
    """The evaluation that a config asks for; None where nothing is to be measured.

    Raises:
      UserError: a benchmark in ``config.evaluation.benchmarks`` that cannot be read.
    """
    benchmarks = read_benchmarks(
        config.evaluation.benchmarks,
        limit=config.evaluation.limit,
        skip_malformed=config.problems.skip_malformed,
    )
    return TrainingEvaluation(config, workdir, benchmarks) if benchmarks else None


def measurement(config: Any, source: str, settings: EvaluationSettings) -> dict[str, Any]:
    """What must be equal for two results to belong together, as plain data."""
    return {
        "benchmark": source,
        "policy": config.policy.source,
        "prompt": config.prompt.to_dict(),
        "execution": {
            name: getattr(config.execution, name)
            for name in ("seconds", "memory_mb", "output_kb", "processes")
        },
        "dtype": config.rollout.dtype,
        **vars(settings),
    }


def write_summary(workdir: Path) -> Path | None:
    """Writes ``summary.json``: the scores before and after the run, and its seconds.

    ``before`` and ``after`` are means over the benchmarks; ``benchmarks`` has them one by one.
    Returns None, and writes nothing, for a run that measured nothing.
    """
    lines = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    measured = [line for line in lines if "evaluation/seconds" in line]
    if not measured:
        return None
    first, last = measured[0], measured[-1]
    names = sorted({key.split("/")[1] for key in last if key.count("/") == 2 and _is_score(key)})
    summary = {
        "before": _means(first, names),
        "after": _means(last, names),
        "seconds": sum(
            line.get("seconds/total", 0) + line.get("evaluation/seconds", 0) for line in lines
        ),
        "steps": {"before": first["step"], "after": last["step"]},
        "benchmarks": {
            name: {"before": _means(first, [name]), "after": _means(last, [name])} for name in names
        },
    }
    path = workdir / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    return path


def _is_score(key: str) -> bool:
    return key.startswith("evaluation/") and key.rpartition("/")[2] in MAIN_SCORES


def _means(line: dict[str, Any], names: list[str]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for score in MAIN_SCORES:
        values = [line.get(f"evaluation/{name}/{score}") for name in names]
        known = [value for value in values if value is not None and math.isfinite(value)]
        means[score] = sum(known) / len(known) if known else None
    return means
