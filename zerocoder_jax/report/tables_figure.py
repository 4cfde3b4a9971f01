"""The figure beside the tables: what training changed, how it went, and how selection drifted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from zerocoder_jax.report.run_results import RunResult, Scores, row_names, spread

_CODER, _TESTER, _INK, _GRID = "#1f6fb5", "#c2600c", "#1d2226", "#e2e2dc"
_PALETTE = ("#1f6fb5", "#c2600c", "#8a5aa8", "#2f7f79", "#b0902a", "#b4476a", "#6a7f3a", "#5c656c")


def write_figure(results: Sequence[RunResult], path: Path) -> bool:
    """Draw the results as SVG; False where they hold nothing to draw."""
    groups = _groups(results)
    changed = {name: members for name, members in groups.items() if _pairs(members)}
    courses = {
        name: members
        for name, members in groups.items()
        if any(len(result.evaluations) > 1 for result in members)
    }
    noisy = {name: members for name, members in groups.items() if any(r.noise for r in members)}
    panels = [
        panel
        for panel, wanted in (
            (lambda axes: _draw_changes(axes, changed), changed),
            (lambda axes: _draw_courses(axes, courses), courses),
            (lambda axes: _draw_noise(axes, noisy), noisy),
        )
        if wanted
    ]
    if not panels:
        return False
    # Text stays text, and the same results make the same file.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "zerocoder", "font.size": 10}
    with matplotlib.rc_context(style):
        height = max(3.6, 0.55 * len(changed) + 1.6)
        figure = Figure(figsize=(5.2 * len(panels), height), layout="constrained")
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), index + 1)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors=_INK)
            axes.set_axisbelow(True)
            panel(axes)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return True


def _groups(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs that differ in nothing but the seed, under the name of their row."""
    several = len({result.model for result in results}) > 1
    groups: dict[str, list[RunResult]] = {}
    for result, row in zip(results, row_names(results)):
        name = f"{result.model.rpartition('/')[2]}\n{row}" if several else row
        groups.setdefault(name, []).append(result)
    return groups


def _pairs(results: Sequence[RunResult]) -> list[tuple[Scores, Scores]]:
    return [(one.before, one.after) for one in results if one.before and one.after]


def _draw_changes(axes: Any, groups: dict[str, list[RunResult]]) -> None:
    """Before (hollow) and after (filled) of every group, for both roles."""
    for row, members in enumerate(groups.values()):
        for name, color, shift in (("code", _CODER, 0.16), ("tests", _TESTER, -0.16)):
            pairs = [(getattr(b, name), getattr(a, name)) for b, a in _pairs(members)]
            known = [(100 * b, 100 * a) for b, a in pairs if b is not None and a is not None]
            if not known:
                continue
            (before, _), (after, deviation) = (spread(values) for values in zip(*known))
            height = -row + shift
            axes.plot([before, after], [height, height], color=color, linewidth=2)
            axes.plot(before, height, "o", color=color, markerfacecolor="white", markersize=7)
            axes.errorbar(
                after, height, xerr=deviation, fmt="o", color=color, markersize=7, capsize=3
            )
    axes.set_yticks([-row for row in range(len(groups))], list(groups))
    axes.set_ylim(-len(groups) + 0.4, 0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=_GRID)
    axes.set_xlabel("percent, before (hollow) and after (filled) training")
    axes.set_title("Coder (blue) and Tester (orange)", loc="left", fontsize=11)


def _draw_courses(axes: Any, groups: dict[str, list[RunResult]]) -> None:
    """The average over the steps, a line per run, a colour per method."""
    for index, (name, members) in enumerate(groups.items()):
        color = _PALETTE[index % len(_PALETTE)]
        label: str | None = name.replace("\n", ", ")
        for result in members:
            points = [(step, s.average) for step, s in result.evaluations if s.average is not None]
            if len(points) > 1:
                steps, values = zip(*points)
                percent = [100 * value for value in values]
                axes.plot(steps, percent, "o-", color=color, markersize=4, label=label)
                label = None  # one line of the legend for all seeds
    axes.grid(axis="y", color=_GRID)
    axes.set_xlabel("training steps done")
    axes.set_title("Average of both roles, percent", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)


def _draw_noise(axes: Any, groups: dict[str, list[RunResult]]) -> None:
    """Selection noise over the steps, a line per run, a colour per method and selector."""
    colors: dict[str, str] = {}
    for name, members in groups.items():
        for result in members:
            for selector, points in result.noise.items():
                method = name.replace("\n", ", ")
                label = selector if selector == method else f"{method}: {selector}"
                seen = label in colors
                color = colors.setdefault(label, _PALETTE[len(colors) % len(_PALETTE)])
                steps, values = zip(*points)
                percent = [100 * value for value in values]
                named = {} if seen else {"label": label}
                axes.plot(steps, percent, "o-", color=color, markersize=4, **named)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_GRID)
    axes.set_xlabel("training step")
    axes.set_title("Selection noise, percent", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)
