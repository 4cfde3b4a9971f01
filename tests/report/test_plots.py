"""Each plot shows the metrics that were written, as Plotly understands it, and says it in words."""

import json

import plotly.graph_objects
import pytest

from zerocoder_jax.report import read_run
from zerocoder_jax.report.curves import Curve, Plot, trailing_mean
from zerocoder_jax.report.plots import run_plots


def write_metrics(directory, lines):
    (directory / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return read_run(directory)


def plots_of(run):
    return {plot.title: plot for group in run_plots(run).values() for plot in group}


def test_a_full_run_has_every_plot(short_run):
    assert set(plots_of(read_run(short_run))) == {
        "Reward of both roles",
        "What the Tester's reward is made of",
        "Passing",
        "Evaluation on toy",
        "Abstentions and confidence",
        "Rank of the passing matrix",
        "Informative problems",
        "Selection noise",
        "Priors of B4",
        "Calibration",
        "Verdicts",
        "Replies that could be used",
        "Why replies were refused",
        "Length of replies",
        "Truncated replies",
        "Program runs",
        "KL to the initial policy",
        "Clipped tokens",
        "Entropy",
        "Sampling gap",
        "Loss",
        "Gradient norm",
        "Time of a step",
        "Tokens per second",
        "Memory",
        "Compilations",
    }


def test_plotly_accepts_every_figure(short_run):
    for plot in plots_of(read_run(short_run)).values():
        # Colours are names of the page's style sheet until it is drawn.
        figure = _without_names(plot.figure())
        assert len(plotly.graph_objects.Figure(figure).data) >= len(plot.curves)


def _without_names(value):
    if isinstance(value, str) and value.startswith("@"):
        return "rgb(1,2,3)"
    if isinstance(value, list):
        return [_without_names(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_names(item) for key, item in value.items()}
    return value


def test_every_colour_of_a_plot_is_in_the_style_sheet(short_run, repository):
    sheet = (repository / "zerocoder_jax/report/page/page.css").read_text()
    text = json.dumps([plot.figure() for plot in plots_of(read_run(short_run)).values()])
    names = {part.split('"')[0] for part in text.split('"@')[1:]}
    assert names and all(f"--{name}:" in sheet for name in names)


def test_the_roles_take_turns_and_no_point_is_invented(tmp_path):
    run = write_metrics(
        tmp_path,
        [
            {"step": 0, "role": "coder", "coder/reward": 0.5},
            {"step": 1, "role": "tester", "tester/reward": 1.25},
            {"step": 2, "role": "coder", "coder/reward": None},
            {"step": 3, "role": "tester", "tester/reward": 1.5},
        ],
    )
    coder, tester = plots_of(run)["Reward of both roles"].curves
    assert (coder.steps, coder.values) == ((0,), (0.5,))
    assert (tester.steps, tester.values) == ((1, 3), (1.25, 1.5))


def test_a_status_that_a_step_does_not_name_counts_nothing_in_the_stack(tmp_path):
    run = write_metrics(
        tmp_path,
        [
            {"step": 0, "role": "coder", "status/passed": 1.0},
            {"step": 1, "role": "tester", "status/passed": 0.75, "status/timeout": 0.25},
        ],
    )
    curves = {curve.label: curve for curve in plots_of(run)["Verdicts"].curves}
    assert curves["passed"].values == (1.0, 0.75)
    assert curves["timeout"].values == (0.0, 0.25)


def test_the_words_of_a_curve_hold_its_figures():
    curve = Curve("Coder", [0, 2, 4], [0.25, 0.75, 0.5], "@coder")
    assert curve.words() == (
        "Coder: from 0.25 at step 0 to 0.5 at step 4, lowest 0.25, highest 0.75."
    )
    assert Curve("Coder", [7], [0.125], "@coder").words() == "Coder: 0.125 at step 7."


def test_a_noisy_curve_keeps_its_points_beside_the_mean():
    values = [float(step % 2) for step in range(20)]
    points, line = Curve("x", range(20), values, "@coder", "smooth").traces()
    assert points["y"] == values and points["mode"] == "markers"
    assert line["y"] == pytest.approx(trailing_mean(values, 5), rel=1e-4)
    assert max(line["y"][4:]) <= 0.6
    # Hovering and the table of numbers tell what was measured, not the mean.
    assert line["hoverinfo"] == "skip" and "hoverinfo" not in points


def test_a_caption_says_how_noisy_curves_are_drawn():
    noisy = Curve("x", range(20), [1.0] * 20, "@coder", "smooth")
    brief = Curve("x", range(3), [1.0] * 3, "@coder", "smooth")
    assert Plot("t", "Means.", [noisy]).caption() == "Means. Points: steps; line: mean of 5."
    assert Plot("t", "Means.", [brief]).caption() == "Means."


def test_the_trailing_mean_never_looks_ahead():
    assert trailing_mean([4.0, 2.0, 0.0, 0.0], 2) == [4.0, 3.0, 1.0, 0.0]


def test_a_long_run_is_thinned(tmp_path):
    lines = [{"step": n, "role": "coder", "coder/reward": n / 9000} for n in range(9000)]
    (curve,) = plots_of(write_metrics(tmp_path, lines))["Reward of both roles"].curves
    assert 1500 < len(curve.values) <= 2000


def test_a_run_without_metrics_has_no_plots(tmp_path):
    (tmp_path / "config.json").write_text('{"steps": 3}')
    assert run_plots(read_run(tmp_path)) == {}
