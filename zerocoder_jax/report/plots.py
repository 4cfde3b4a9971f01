"""What is plotted of a run: curves, their meaning, and each plot said in words.

A plot is data: traces and a layout in Plotly's JSON schema, made here and drawn in the page.
Colours are names that start with ``@`` (``@coder``); the page looks them up in its style sheet, so
that one plot serves the light and the dark page.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from zerocoder_jax.report.run_directory import Json, RunDirectory

# A curve of a longer run is thinned to about so many points.
MAX_POINTS = 2000
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


def run_plots(run: RunDirectory) -> dict[str, list[Plot]]:
    """Section title -> its plots. What a run has no figures of is left out."""
    sections = {
        "Learning": _learning(run),
        "Selection": _selection(run),
        "Programs": _programs(run),
        "Update": _update(run),
        "Time": _machine(run),
    }
    return {
        title: kept for title, plots in sections.items() if (kept := [p for p in plots if p.curves])
    }


SHARE = {"yaxis": {"range": [0, 1.02], "tickformat": ".0%"}}
FROM_ZERO = {"yaxis": {"rangemode": "tozero"}}


def _learning(run: RunDirectory) -> list[Plot]:
    plots = [
        Plot(
            "Reward of both roles",
            "Mean reward of the role whose turn it was; the roles take turns. A Tester's reward "
            "can exceed 1: agreement plus weighted mutation score.",
            _curves(
                run,
                ("coder/reward", "Coder", "@coder", "smooth"),
                ("tester/reward", "Tester", "@tester", "smooth"),
            ),
            FROM_ZERO,
        ),
        Plot(
            "What the Tester's reward is made of",
            "Agreement with the consensus, share of mutants killed, and the weight that the "
            "curriculum gives to the mutants: validity first, discriminative power later.",
            _curves(
                run,
                ("tester/agreement", "agreement", "@tester", "smooth"),
                ("tester/mutation", "mutation score", "@third", "smooth"),
                ("tester/weight", "weight of mutation", "@muted", "line", "dot"),
            ),
            SHARE,
        ),
        Plot(
            "Passing",
            "Share of all pairs of a solution and a test that pass, and share of solutions that "
            "pass at least one of the step's own tests. No label is involved.",
            _curves(
                run,
                ("matrix/pass_rate", "pairs", "@fourth", "smooth"),
                ("coder/pass_rate", "solutions", "@coder", "smooth"),
            ),
            SHARE,
        ),
    ]
    for benchmark, points in run.evaluations().items():
        curves = []
        for key, label, color in (
            ("pass_at_1", "pass@1 of the Coder", "@coder"),
            ("test_accuracy", "accuracy of the Tester", "@tester"),
            ("mutation_score", "mutation score of the Tester", "@third"),
        ):
            known = [(step, v[key]) for step, v in points if _is_number(v.get(key))]
            if known:
                curves.append(_points(label, known, color))
        plots.append(
            Plot(
                f"Evaluation on {benchmark}",
                "Measured against the benchmark's labels, which training never sees. Step 0 is "
                "the policy before training.",
                curves,
                SHARE,
            )
        )
    return plots


def _selection(run: RunDirectory) -> list[Plot]:
    noise = run.selection_noise()
    return [
        Plot(
            "Abstentions and confidence",
            "Share of problems for which the selector found no consensus, and the mean "
            "confidence where it found one.",
            _curves(
                run,
                ("selection/abstained", "abstained", "@muted", "smooth"),
                ("selection/confidence", "confidence", "@fourth", "smooth"),
            ),
            SHARE,
        ),
        Plot(
            "Rank of the passing matrix",
            "Mean rank: how many independent opinions the solutions and tests hold. Rank 1 tells "
            "no solution from another.",
            _curves(run, ("matrix/rank", "mean rank", "@fourth", "smooth")),
            FROM_ZERO,
        ),
        Plot(
            "Informative problems",
            "Share of problems whose matrix has a rank of at least 2, and share of their "
            "solutions and tests that the selector believes.",
            _curves(
                run,
                ("matrix/informative", "informative", "@fourth", "smooth"),
                ("selection/solutions", "solutions selected", "@coder", "smooth"),
                ("selection/tests", "tests selected", "@tester", "smooth"),
            ),
            SHARE,
        ),
        Plot(
            "Selection noise",
            "Share of selected solutions that fail the official tests: what the consensus gets "
            "wrong. Measured with labels, never trained on.",
            [_points(name or "noise", noise[name], color) for name, color in _colored(list(noise))],
            {"yaxis": {"rangemode": "tozero", "tickformat": ".0%"}},
        ),
        Plot(
            "Priors of B4",
            "The two hyperparameters that the calibration chose for each step, on a logarithmic "
            "scale.",
            _curves(
                run,
                ("selection/beta0", "β₀", "@fourth", "stairs"),
                (
                    "selection/alpha_xy",
                    "\N{GREEK SMALL LETTER ALPHA}_xy",
                    "@third",
                    "stairs",
                    "dash",
                ),
            ),
            {"yaxis": {"type": "log", "dtick": 1, "exponentformat": "power"}},
        ),
        Plot(
            "Calibration",
            "Share of the labelled calibration problems that the chosen priors solve.",
            _curves(run, ("calibration/score", "solved", "@seventh", "smooth")),
            SHARE,
        ),
    ]


# Bottom of the stack first: what is good, then the ordinary failures, then the rare ones.
STATUSES = (
    ("passed", "@pass"),
    ("failed", "@fail"),
    ("error", "@error"),
    ("timeout", "@timeout"),
    ("unparsable", "@unparsable"),
    ("memory", "@memory"),
    ("output", "@output"),
    ("crashed", "@crashed"),
    ("forbidden", "@forbidden"),
    ("unavailable", "@unavailable"),
    ("not_run", "@not_run"),
)


def _programs(run: RunDirectory) -> list[Plot]:
    refused = _keys(run, "refused/")
    return [
        Plot(
            "Verdicts",
            "What became of the pairs of a solution and a test, as shares of all pairs.",
            _curves(
                run,
                *(
                    (f"status/{name}", name.replace("_", " "), color, "area")
                    for name, color in STATUSES
                ),
                missing=0.0,
            ),
            SHARE,
        ),
        Plot(
            "Replies that could be used",
            "Share of replies from which a solution or a test could be parsed.",
            _curves(
                run,
                ("parse/coder", "Coder", "@coder", "smooth"),
                ("parse/tester", "Tester", "@tester", "smooth"),
            ),
            SHARE,
        ),
        Plot(
            "Why replies were refused",
            "Share of all replies, by reason.",
            _curves(
                run,
                *(
                    (key, key.removeprefix("refused/").replace("_", " "), color, "bar")
                    for key, color in _colored(refused)
                ),
                missing=0.0,
            ),
            {"yaxis": {"rangemode": "tozero", "tickformat": ".0%"}},
        ),
        Plot(
            "Length of replies",
            "Mean number of tokens of a reply.",
            _curves(
                run,
                ("rollout/length_coder", "Coder", "@coder", "smooth"),
                ("rollout/length_tester", "Tester", "@tester", "smooth"),
            ),
            FROM_ZERO,
        ),
        Plot(
            "Truncated replies",
            "Share of replies that reached the limit of new tokens before they ended.",
            _curves(
                run,
                ("rollout/truncated_coder", "Coder", "@coder", "smooth"),
                ("rollout/truncated_tester", "Tester", "@tester", "smooth"),
            ),
            {"yaxis": {"rangemode": "tozero", "tickformat": ".0%"}},
        ),
        Plot(
            "Program runs",
            "Runs made and runs saved, because the same solution and test had been run already.",
            _curves(
                run,
                ("execution/runs", "run", "@fourth", "bar"),
                ("execution/deduplicated", "saved", "@muted", "bar"),
                missing=0.0,
            ),
        ),
    ]


def _update(run: RunDirectory) -> list[Plot]:
    def one(key: str, title: str, meaning: str, **yaxis: Any) -> Plot:
        curves = _curves(run, (key, title.lower(), "@fourth", "smooth"))
        return Plot(title, meaning, curves, {"yaxis": yaxis})

    return [
        one("policy/kl", "KL to the initial policy", "Mean per token.", tickformat=".2~e"),
        one(
            "policy/clip_fraction",
            "Clipped tokens",
            "Share of tokens whose policy ratio was clipped. With one update per batch it is 0.",
            tickformat=".2~%",
            rangemode="tozero",
        ),
        one("policy/entropy", "Entropy", "Mean per token, in nats.", rangemode="tozero"),
        one(
            "policy/sampling_gap",
            "Sampling gap",
            "Mean difference between the log-probability with which a token was sampled and the "
            "one that the update computes for it.",
            tickformat=".2~e",
        ),
        one("policy/loss", "Loss", "Its level means little: advantages are centred."),
        one("policy/gradient_norm", "Gradient norm", "Before clipping.", rangemode="tozero"),
    ]


PHASES = (
    ("rollout", "@coder"),
    ("execution", "@tester"),
    ("mutation", "@third"),
    ("calibration", "@fifth"),
    ("training", "@fourth"),
    ("selection", "@sixth"),
    ("recording", "@seventh"),
    ("checkpoint", "@muted"),
)


def _machine(run: RunDirectory) -> list[Plot]:
    named = [name for name, _ in PHASES]
    others = [
        key.removeprefix("seconds/")
        for key in _keys(run, "seconds/")
        if key not in ("seconds/total", *(f"seconds/{name}" for name in named))
    ]
    phases = (*PHASES, *((name, "@eighth") for name in others))
    return [
        Plot(
            "Time of a step",
            "Seconds by phase. Phases that ran beside another count for what they added.",
            _curves(
                run,
                *(
                    (f"seconds/{name}", name.replace("_", " "), color, "bar")
                    for name, color in phases
                ),
                missing=0.0,
            ),
            {"yaxis": {"ticksuffix": " s"}},
        ),
        Plot(
            "Tokens per second",
            "Speed of sampling.",
            _curves(run, ("rollout/tokens_per_second", "tokens per second", "@coder", "smooth")),
            FROM_ZERO,
        ),
        Plot(
            "Memory",
            "Largest memory in use so far.",
            _curves(run, ("memory/peak_gb", "peak", "@fourth", "line")),
            {"yaxis": {"rangemode": "tozero", "ticksuffix": " GB"}},
        ),
        Plot(
            "Compilations",
            "New programs that had to be compiled; after the first steps there should be none.",
            _curves(
                run,
                ("rollout/recompilations", "sampling", "@coder", "bar"),
                ("policy/recompilations", "update", "@fourth", "bar"),
                missing=0.0,
            ),
        ),
    ]


def _curves(
    run: RunDirectory, *wanted: tuple[str, ...], missing: float | None = None
) -> list[Curve]:
    """Curves of the metrics that the run has; ``missing`` stands for absent values of a stack."""
    stride = math.ceil(len(run.metrics) / MAX_POINTS) or 1
    curves = []
    for key, label, color, shape, *dash in wanted:
        if not any(_is_number(line.get(key)) for line in run.metrics):
            continue
        lines: Iterable[Json] = run.metrics if missing is None else run.trained
        points = [
            (line["step"], line.get(key, missing))
            for line in lines
            if _is_number(line.get(key, missing))
        ][::stride]
        if points:
            steps, values = zip(*points)
            curves.append(Curve(label, steps, values, color, shape, *dash))  # type: ignore[arg-type]
    if missing is not None and not any(any(curve.values) for curve in curves):
        return []  # a stack of nothing but zeros says nothing
    return curves


def _points(label: str, points: Sequence[tuple[int, float]], color: str) -> Curve:
    steps, values = zip(*points)
    return Curve(label, steps, values, color, "points")


def _keys(run: RunDirectory, prefix: str) -> list[str]:
    return sorted({key for line in run.metrics for key in line if key.startswith(prefix)})


PALETTE = ("@coder", "@tester", "@third", "@fourth", "@fifth", "@sixth", "@seventh", "@muted")


def _colored(keys: Sequence[str]) -> list[tuple[str, str]]:
    return [(key, PALETTE[i % len(PALETTE)]) for i, key in enumerate(keys)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
