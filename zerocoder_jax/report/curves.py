"""A curve, and a plot of several: data in Plotly's JSON schema, and the same said in words.

Colours are names that start with ``@`` (``@coder``); the page looks them up in its style sheet, so
that one plot serves the light and the dark page.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from zerocoder_jax.report.run_directory import Json

# A noisy curve is drawn as points, with the mean of so many of them as a line.
SMOOTHED_OVER = 5
SMOOTHED_FROM = 15

Shape = Literal["line", "stairs", "smooth", "points", "area", "bar"]


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps.

    Attributes:
      label: its name in the legend.
      steps: the steps at which it is known.
      values: as long as ``steps``.
      color: a colour of the page, ``@name``.
      shape: how it is drawn; areas and bars are stacked.
      dash: Plotly's name of a line style, for curves that share a colour.
    """

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    color: str
    shape: Shape = "line"
    dash: str = "solid"

    @property
    def smoothed(self) -> bool:
        """Drawn as points and their trailing mean."""
        return self.shape == "smooth" and len(self.values) >= SMOOTHED_FROM

    def words(self) -> str:
        """The curve for somebody who cannot see it."""
        first, last = self.values[0], self.values[-1]
        if len(self.values) == 1:
            return f"{self.label}: {first:.3g} at step {self.steps[0]}."
        low, high = min(self.values), max(self.values)
        return (
            f"{self.label}: from {first:.3g} at step {self.steps[0]} to {last:.3g} at step "
            f"{self.steps[-1]}, lowest {low:.3g}, highest {high:.3g}."
        )

    def traces(self) -> list[Json]:
        """Plotly traces that draw the curve."""
        trace: Json = {
            "type": "scatter",
            "name": self.label,
            "x": list(self.steps),
            "y": [_rounded(value) for value in self.values],
            "mode": "lines" if len(self.values) > SMOOTHED_FROM else "lines+markers",
            "line": {"color": self.color, "width": 2, "dash": self.dash},
            "marker": {"color": self.color, "size": 6},
        }
        if self.shape == "bar":
            return [
                {key: trace[key] for key in ("name", "x", "y")}
                | {"type": "bar", "marker": {"color": self.color, "line": {"width": 0}}}
            ]
        if self.shape == "area":
            trace |= {"stackgroup": "all", "fillcolor": self.color, "mode": "lines"}
            trace["line"] = {"color": "@panel", "width": 0.5}
            return [trace]
        if self.shape == "stairs":
            trace["line"] = {"shape": "hv"} | trace["line"]
            return [trace | {"mode": "lines" if len(self.values) > 1 else "markers"}]
        if self.shape == "points":
            return [trace | {"mode": "lines+markers", "marker": trace["marker"] | {"size": 8}}]
        if self.smoothed:
            points = trace | {
                "mode": "markers",
                "marker": {"color": self.color, "size": 4, "opacity": 0.4},
                "showlegend": False,
            }
            # What is read off, by hovering or in the table, are the single steps.
            means = [_rounded(value) for value in trailing_mean(self.values, SMOOTHED_OVER)]
            return [points, trace | {"y": means, "hoverinfo": "skip"}]
        return [trace]


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
      title: its heading.
      meaning: one or two sentences: what is shown and how to read it.
      curves: what is drawn.
      layout: Plotly layout beyond the page's own.
    """

    title: str
    meaning: str
    curves: Sequence[Curve]
    layout: Json = field(default_factory=dict)

    def caption(self) -> str:
        """The meaning, and how the curves are drawn."""
        if not any(curve.smoothed for curve in self.curves):
            return self.meaning
        return f"{self.meaning} Points: steps; line: mean of {SMOOTHED_OVER}."

    def words(self) -> str:
        """The plot's text alternative."""
        return " ".join(curve.words() for curve in self.curves)

    def figure(self) -> Json:
        """The plot in Plotly's JSON schema."""
        layout = dict(self.layout)
        if any(curve.shape == "bar" for curve in self.curves):
            layout["barmode"] = "stack"
        return {"data": [trace for curve in self.curves for trace in curve.traces()]} | {
            "layout": layout
        }


def trailing_mean(values: Sequence[float], count: int) -> list[float]:
    """The mean of each value and those before it, ``count`` in all where there are so many."""
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - count) : end]
        means.append(sum(window) / len(window))
    return means


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
