"""Puts a run's report together: one HTML file that needs nothing else and asks nobody for anything.

What a model wrote reaches the page in two forms only: escaped by ``html.escape``, or as data that
the page's script turns into text nodes. A content security policy allows the two scripts of the
page by their hashes, and neither other scripts, nor event handlers in markup, nor the network.
"""

import base64
import functools
import hashlib
import html
import json
import string
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.report.curves import Plot
from zerocoder_jax.report.overview import overview
from zerocoder_jax.report.plots import run_plots
from zerocoder_jax.report.run_directory import Json, RunDirectory, read_run
from zerocoder_jax.report.samples import PackedStep, pack_run

# Compressed samples in one page at most. Browsers open pages of twice this size within the
# three seconds that we promise; what lies beyond stays readable in rollouts/.
SAMPLES_MEGABYTES = 40

_ASSETS = Path(__file__).parent / "page"
_STYLES = ("page.css", "browser.css")
_SCRIPTS = (
    "elements.js",
    "theme.js",
    "plots.js",
    "source_code.js",
    "matrix.js",
    "problem.js",
    "browser.js",
)


def write_report(workdir: str | Path, samples_megabytes: float = SAMPLES_MEGABYTES) -> Path:
    """Write ``report.html`` of a run that is finished or still running.

    Samples are compressed once per step and kept, so that a call late in a run costs little more
    than writing the file. The file is replaced in one piece: a reader never sees half a page.

    Args:
      workdir: the run directory.
      samples_megabytes: size limit of the embedded samples; beyond it steps are left out evenly,
        and the page says so.

    Returns:
      The path of the page.

    Raises:
      UserError: ``workdir`` is not a run directory.
    """
    run = read_run(workdir)
    steps, available = pack_run(run, int(samples_megabytes * 1e6))
    path = run.path / "report.html"
    # A name with a lone surrogate is no text that a file could hold.
    write_atomically(path, render(run, steps, available), errors="replace")
    return path


def render(run: RunDirectory, steps: Sequence[PackedStep], available: int) -> str:
    """The page's text.

    Args:
      run: the run's files.
      steps: the samples to embed.
      available: steps that have samples, embedded or not.
    """
    plots = run_plots(run)
    sections = {"Overview": overview(run)}
    number = 0
    for title, group in plots.items():
        figures = []
        for plot in group:
            figures.append(_figure(plot, number))
            number += 1
        sections[title] = f'<div class="plots">{"".join(figures)}</div>'
    if steps:
        sections["Samples"] = _browser(steps, available)
    sections["Configuration"] = _configuration(run.config)

    script = _script()
    return string.Template(_asset("page.html")).substitute(
        policy=_policy(script, _plotly()[1]),
        title=html.escape(f"{run.title} · ZeroCoder"),
        style="\n".join(_asset(name) for name in _STYLES),
        navigation="".join(f'<a href="#{_anchor(t)}">{html.escape(t)}</a>' for t in sections),
        content="\n".join(_section(title, body) for title, body in sections.items()),
        footer=_footer(),
        figures=_json([plot.figure() for group in plots.values() for plot in group]),
        index=_json(_index(run, steps)),
        plotly=_plotly()[0],
        samples="\n".join(
            f'<script type="application/octet-stream" id="samples-of-{one.step}">'
            f"{one.payload}</script>"
            for one in steps
        ),
        script=script,
    )


def _section(title: str, body: str) -> str:
    anchor = _anchor(title)
    # The overview's heading is the page's own, with the name of the run.
    heading = "" if title == "Overview" else f'<h2 id="{anchor}-title">{html.escape(title)}</h2>'
    label = 'aria-label="Overview"' if title == "Overview" else f'aria-labelledby="{anchor}-title"'
    return f'<section id="{anchor}" {label}>{heading}{body}</section>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _figure(plot: Plot, number: int) -> str:
    title, meaning, words = (html.escape(t) for t in (plot.title, plot.caption(), plot.words()))
    return (
        f'<figure class="panel" aria-labelledby="plot-{number}">'
        f'<h3 id="plot-{number}">{title}</h3><p class="meaning">{meaning}</p>'
        f'<div class="plot" data-figure="{number}" role="img" aria-label="{title}. {words}"></div>'
        f"<details><summary>In words and numbers</summary><p>{words}</p></details></figure>"
    )


def _index(run: RunDirectory, steps: Sequence[PackedStep]) -> list[Json]:
    roles = {line["step"]: line.get("role") for line in run.metrics}
    return [
        {"step": one.step, "role": roles.get(one.step), "problems": one.summaries} for one in steps
    ]


def _browser(steps: Sequence[PackedStep], available: int) -> str:
    note = ""
    if len(steps) < available:
        note = (
            f'<p class="note">{len(steps)} of {available} steps are in this page, to keep it small '
            "enough to open at once. The others are in the run's <code>rollouts/</code>.</p>"
        )
    first, last, end = steps[0].step, steps[-1].step, len(steps) - 1
    return f"""{note}
<div id="browser">
<div class="controls panel">
  <div><label for="step-number">Step</label><div class="stepper">
    <button type="button" id="step-before" aria-label="Step before">←</button>
    <input type="number" id="step-number" min="{first}" max="{last}" value="{last}">
    <button type="button" id="step-after" aria-label="Step after">→</button></div></div>
  <div class="slide"><label for="step-slider">from step {first} to step {last}</label>
    <input type="range" id="step-slider" min="0" max="{end}" value="{end}"></div>
  <div class="find" role="search"><label for="search">Search all steps by task id</label>
    <input type="search" id="search" autocomplete="off" spellcheck="false"></div>
</div>
<div class="browser">
  <nav class="problems panel" aria-label="Problems"><p id="problem-count" role="status"></p>
    <ol id="problem-list"></ol></nav>
  <article class="problem panel" id="problem" aria-label="Problem"></article>
</div>
</div>"""


def _configuration(config: Json) -> str:
    if not config:
        return '<p class="muted">The run has no config.json.</p>'
    groups: dict[str, list[tuple[str, Any]]] = {"run": []}
    for name, value in config.items():
        if isinstance(value, dict):
            groups[name] = _flat(value)
        else:
            groups["run"].append((name, value))
    tables = []
    for group, fields in groups.items():
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            f"<td>{html.escape(value if isinstance(value, str) else json.dumps(value))}</td></tr>"
            for name, value in fields
        )
        tables.append(
            f"<section><h3>{html.escape(group)}</h3>"
            f'<table class="settings">{rows}</table></section>'
        )
    return (
        '<details class="panel"><summary>Every field of the run</summary>'
        f'<div class="columns">{"".join(tables)}</div></details>'
    )


def _flat(tree: Json, prefix: str = "") -> list[tuple[str, Any]]:
    fields = []
    for name, value in tree.items():
        if isinstance(value, dict):
            fields += _flat(value, f"{prefix}{name}.")
        else:
            fields.append((prefix + name, value))
    return fields


def _footer() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"Written {now}. Everything in this page comes from the run's config.json, metrics.jsonl, "
        "summary.json, selection_noise.jsonl and rollouts/."
    )


def _json(value: Any) -> str:
    """JSON text that is safe inside a script element: no character in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(*scripts: str) -> str:
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    # Plotly sizes its labels through style attributes: inline styles stay allowed.
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def _script() -> str:
    sources = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{sources}\n}})();'


@functools.cache
def _plotly() -> tuple[str, str]:
    """The plotting library: base64 of its deflated source, and the source.

    It is npm's plotly.js-basic-dist-min 4.1.1, unchanged: lines, areas and bars are all we need,
    and a browser starts it in a tenth of the two seconds that the full library takes.
    """
    source = _asset("plotly-basic.min.js")
    return base64.b64encode(zlib.compress(source.encode(), 9)).decode("ascii"), source
