"""The paper's tables, with runs of ours beside the published numbers, in Markdown."""

from collections.abc import Callable, Sequence

from zerocoder_jax.report.published import METHODS, PUBLISHED, STEP_SECONDS, PublishedRow
from zerocoder_jax.report.run_results import MEASURES, RunResult, Scores, row_names, spread

_AVERAGES: tuple[tuple[str, Callable[[Scores], float | None], Callable[[PublishedRow], float]], ...]
_AVERAGES = (
    ("CAvg", lambda scores: scores.code, lambda row: row.code),
    ("TAvg", lambda scores: scores.tests, lambda row: row.tests),
    ("Avg", lambda scores: scores.average, lambda row: row.average),
)
_MEASURE_NAMES = {"pass_at_1": "pass@1", "test_accuracy": "accuracy", "mutation_score": "mutation"}


def markdown(results: Sequence[RunResult]) -> str:
    """Every table that the results allow for, as one Markdown text."""
    parts = [
        averages_table(results),
        benchmark_table(results),
        sensitivity_table(results),
        noise_table(results),
        time_table(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def averages_table(results: Sequence[RunResult]) -> str:
    """CAvg, TAvg and Avg of every method, published and ours.

    One table per model and set of benchmarks: averages over different ones are not comparable.
    """
    parts = []
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        measured = sorted({name for _, scores in result.evaluations for name in scores.benchmarks})
        if measured:
            groups.setdefault((result.model, ", ".join(measured)), []).append(result)
    for (model, benchmarks), mine in groups.items():
        published = {row.method: row for row in PUBLISHED if row.model == model}
        ours: dict[str, list[Scores]] = {}
        for result, name in zip(mine, row_names(mine)):
            if result.before:
                ours.setdefault("base", []).append(result.before)
            if result.after:
                ours.setdefault(name, []).append(result.after)
        titles = [t for name, *_ in _AVERAGES for t in ([f"{name} published"] if published else [])]
        header = [
            "method",
            "labels",
            *_interleave(titles, [name for name, *_ in _AVERAGES]),
            "runs",
        ]
        rows = []
        for method in (*METHODS, *sorted(set(ours) - set(METHODS))):
            if method not in ours and method not in published:
                continue
            theirs = [
                f"{of_row(published[method]):.1f}" if method in published else ""
                for _, _, of_row in (_AVERAGES if published else ())
            ]
            scores = ours.get(method, [])
            values = [_percent([of(one) for one in scores]) for _, of, _ in _AVERAGES]
            rows.append([method, *_interleave(theirs, values), str(len(scores) or "")])
        parts.append(f"### {model}, measured on {benchmarks}\n\n{_table(header, rows)}")
    if not parts:
        return ""
    return (
        "## Averages\n\nIn percent; CAvg is the mean of pass@1, TAvg of test accuracy and mutation "
        "score, Avg of both. Ours are means over runs ± their standard deviation; the published "
        "ones were measured on LiveCodeBench, MBPP, APPS and CodeForces, and cells without one "
        "are rows whose published averages are not available to us.\n\n" + "\n\n".join(parts)
    )


def benchmark_table(results: Sequence[RunResult]) -> str:
    """Before and after of every run, per benchmark and measure."""
    rows = []
    for result in results:
        for benchmark in _in_order(n for _, s in result.evaluations for n in s.benchmarks):
            cells = []
            for measure in MEASURES:
                points = [
                    scores.benchmarks[benchmark][measure]
                    for scores in (result.before, result.after)
                    if scores and measure in scores.benchmarks.get(benchmark, {})
                ]
                cells.append(" → ".join(f"{100 * value:.1f}" for value in points))
            rows.append([result.name, result.method, str(result.seed), benchmark, *cells])
    if not rows:
        return ""
    header = ["run", "method", "seed", "benchmark", *_MEASURE_NAMES.values()]
    return "## Benchmarks\n\nIn percent, before → after training.\n\n" + _table(header, rows)


def sensitivity_table(results: Sequence[RunResult]) -> str:
    """Scores by the rank filter's threshold and by |D_cal|, where a method's runs differ."""
    groups: dict[tuple[str, str, int | None, int], list[Scores]] = {}
    for result in results:
        if result.after:
            key = (result.model, result.method, result.delta, result.labels)
            groups.setdefault(key, []).append(result.after)
    settings: dict[tuple[str, str], set[tuple[int | None, int]]] = {}
    for model, method, delta, labels in groups:
        settings.setdefault((model, method), set()).add((delta, labels))
    groups = {key: scores for key, scores in groups.items() if len(settings[key[:2]]) > 1}
    if not groups:
        return ""
    rows = [
        [
            model,
            method,
            "none" if delta is None else str(delta),
            str(labels),
            *(_percent([of(one) for one in scores]) for _, of, _ in _AVERAGES),
        ]
        for (model, method, delta, labels), scores in sorted(
            groups.items(), key=lambda item: (*item[0][:2], item[0][2] or 0, item[0][3])
        )
    ]
    header = ["model", "method", "rank filter", "labelled problems", "CAvg", "TAvg", "Avg"]
    return "## Sensitivity\n\nIn percent.\n\n" + _table(header, rows)


def noise_table(results: Sequence[RunResult]) -> str:
    """Selection noise of each selector over the steps of each run."""
    rows = []
    for result in results:
        for selector, points in result.noise.items():
            # Beginning, middle and end: the whole drift is in the figure.
            shown = [points[0], points[len(points) // 2], points[-1]]
            cells = [f"{100 * noise:.1f} (step {step})" for step, noise in shown]
            change = 100 * (points[-1][1] - points[0][1])
            rows.append([result.name, selector, *cells, f"{change:+.1f}"])
    if not rows:
        return ""
    header = ["run", "selector", "first", "middle", "last", "drift"]
    return (
        "## Selection noise\n\nShare of selected solutions that fail the official tests, in "
        "percent.\n\n" + _table(header, rows)
    )


def time_table(results: Sequence[RunResult]) -> str:
    """Seconds of a step by phase, beside the paper's."""
    timed = [result for result in results if result.seconds]
    if not timed:
        return ""
    header = ["phase", "paper (7B, 4 A100)", *(result.name for result in timed)]
    rows = []
    for phase, seconds in STEP_SECONDS.items():
        cells = [
            f"{r.seconds[phase]:.2f} ({100 * r.seconds[phase] / r.seconds['total']:.0f}%)"
            if phase in r.seconds and r.seconds.get("total")
            else ""
            for r in timed
        ]
        share = 100 * seconds / STEP_SECONDS["total"]
        rows.append([phase, f"{seconds:.1f} ({share:.0f}%)", *cells])
    return (
        "## Time of a step\n\nMean seconds and share of the step, without the first step, which "
        "compiles. Mutants are made on every second step.\n\n" + _table(header, rows)
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return ""
    mean, deviation = spread(known)
    return f"{mean:.1f} ± {deviation:.1f}" if len(known) > 1 else f"{mean:.1f}"


def _interleave(theirs: Sequence[str], ours: Sequence[str]) -> list[str]:
    return [cell for pair in zip(theirs, ours) for cell in pair] if theirs else list(ours)


def _in_order(names: object) -> list[str]:
    return list(dict.fromkeys(names))  # type: ignore[call-overload]
