"""What is plotted of a run: which curves, and what they mean.

How a curve is drawn stands in ``curves.py``.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from zerocoder_jax.report.curves import Curve, Plot
from zerocoder_jax.report.run_directory import Json, RunDirectory

# A curve of a longer run is thinned to about so many points.
MAX_POINTS = 2000


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
            FROM_ZERO,
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
            [_points(name, noise[name], color) for name, color in _colored(list(noise))],
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
            "Share of the role's replies, by role and reason.",
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
            "Largest memory in use so far, of the training process and of its fullest accelerator.",
            _curves(
                run,
                ("memory/peak_gb", "process", "@fourth", "line"),
                ("memory/device_peak_gb", "accelerator", "@third", "line"),
            ),
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
