"""The head of the page: which run this is, how far it has come, and what came out so far."""

import html
from collections.abc import Sequence
from typing import Any

from zerocoder_jax.report.run_directory import Json, RunDirectory

# A tile's figure of a noisy curve is its mean over so many of the newest steps.
RECENT = 10

_SELECTORS = {"max_pass": "MaxPass", "codet": "CodeT", "b4": "B4"}
_MEASURES = (
    ("pass_at_1", "pass@1", "coder"),
    ("test_accuracy", "test accuracy", "tester"),
    ("mutation_score", "mutation score", "tester"),
)


def overview(run: RunDirectory) -> str:
    """HTML of the overview; every value in it is escaped."""
    return (
        f"<h1>{html.escape(run.title)}</h1>"
        f'<p class="facts">{_facts(run)}</p>{_progress(run)}'
        f'<div class="tiles">{"".join(_evaluation_tiles(run) + _training_tiles(run))}</div>'
        f"{_notes(run)}"
    )


def selector_name(config: Json) -> str:
    """The selector as the paper calls it, for example ``dynamic B4`` or ``B4(4,3)``."""
    selector = config.get("selector") or {}
    name = str(selector.get("name", ""))
    if name != "b4":
        return _SELECTORS.get(name, name)
    if (selector.get("calibration") or {}).get("enabled"):
        return "dynamic B4"
    exponents = [_exponent(selector.get(key)) for key in ("beta0", "alpha_xy")]
    return f"B4({','.join(exponents)})"


def _exponent(value: Any) -> str:
    number = float(value or 0)
    text = f"{number:.0e}"
    short = text.startswith("1e+") and float(text) == number
    return text[3:].lstrip("0") or "0" if short else f"{number:g}"


def _facts(run: RunDirectory) -> str:
    config = run.config
    facts = [
        ("policy", (config.get("policy") or {}).get("source")),
        ("problems", (config.get("problems") or {}).get("source")),
        ("method", config.get("method")),
        ("selector", selector_name(config)),
        ("supervision", config.get("supervision")),
        ("seed", config.get("seed")),
    ]
    return "".join(
        f"<span>{label} <b>{html.escape(str(value))}</b></span>"
        for label, value in facts
        if value not in (None, "")
    )


def _progress(run: RunDirectory) -> str:
    done, total = run.finished_steps, run.total_steps
    if not run.trained:
        return '<p class="note">No training step has been recorded yet.</p>'
    total = max(total, done)
    state = "finished" if run.summary or done == total else "running or interrupted"
    words = f"{done} of {total} steps ({state})"
    return (
        f'<div class="progress"><progress value="{done}" max="{total}" aria-label="Steps">'
        f"</progress><span>{words}</span></div>"
    )


def _evaluation_tiles(run: RunDirectory) -> list[str]:
    """Before and after, per benchmark and measure."""
    tiles = []
    for benchmark, points in run.evaluations().items():
        for key, label, role in _MEASURES:
            known = [(step, figures[key]) for step, figures in points if key in figures]
            if known:
                tiles.append(_before_and_after(f"{label} on {benchmark}", role, known))
    before, after = run.summary.get("before"), run.summary.get("after")
    if not tiles and isinstance(before, dict) and isinstance(after, dict):
        for key, label, role in _MEASURES:
            if _is_number(before.get(key)) and _is_number(after.get(key)):
                known = [(0, before[key]), (run.finished_steps, after[key])]
                tiles.append(_before_and_after(label, role, known))
    return tiles


def _before_and_after(title: str, role: str, points: Sequence[tuple[int, float]]) -> str:
    (_, first), (step, last) = points[0], points[-1]
    if len(points) == 1:
        return _tile(title, _percent(last), f"at step {step}", role)
    change = 100 * (last - first)
    sign = "+" if change >= 0 else "\N{MINUS SIGN}"
    return _tile(
        title,
        f"<small>{_percent(first)} →</small> {_percent(last)}",
        f"{sign}{abs(change):.1f} points by step {step}",
        role,
    )


def _training_tiles(run: RunDirectory) -> list[str]:
    tiles = []
    for key, label, role in (
        ("coder/reward", "Coder's reward", "coder"),
        ("tester/reward", "Tester's reward", "tester"),
    ):
        values = _values(run, key)
        if values:
            recent = values[-RECENT:]
            begun = sum(values[:RECENT]) / len(values[:RECENT])
            aside = f"mean of {len(recent)} step{'s' * (len(recent) > 1)}"
            if len(values) > RECENT:
                aside += f"; the first {RECENT}: {begun:.2f}"
            tiles.append(_tile(label, f"{sum(recent) / len(recent):.2f}", aside, role))
    seconds = _values(run, "seconds/total")
    if seconds:
        tiles.append(
            _tile(
                "Time of a step",
                f"{_median(seconds):.3g} <small>s</small>",
                f"median; {sum(seconds) / 60:.3g} minutes in all",
            )
        )
    for key, label in (
        ("memory/peak_gb", "Peak memory"),
        ("memory/device_peak_gb", "Accelerator memory"),
    ):
        memory = _values(run, key)
        if memory:
            value = f"{max(memory):.2f} <small>GB</small>"
            tiles.append(_tile(label, value, "largest over all steps"))
    return tiles


def _tile(title: str, value: str, aside: str, role: str = "") -> str:
    """One key figure; ``value`` is HTML made here, of numbers alone."""
    return (
        f'<div class="tile {role}"><p class="name">{html.escape(title)}</p>'
        f'<p class="value">{value}</p><p class="aside">{html.escape(aside)}</p></div>'
    )


def _notes(run: RunDirectory) -> str:
    """What a reader should know before believing the curves."""
    notes = []
    reached = {line["isolation"] for line in run.metrics if "isolation" in line}
    for level in sorted(reached - {"namespaces"}):
        notes.append(f"Programs ran with weaker isolation than namespaces: {level}.")
    unavailable = sum(value > 0 for value in _values(run, "status/unavailable"))
    if unavailable:
        notes.append(
            f"In {unavailable} of {len(run.trained)} steps some pairs have no verdict, because "
            "the verifier failed, not the programs."
        )
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _values(run: RunDirectory, key: str) -> list[float]:
    return [float(line[key]) for line in run.trained if _is_number(line.get(key))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
