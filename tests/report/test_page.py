"""The page is whole, self-contained and harmless, whatever the run has or lacks."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from zerocoder_jax.report import write_report


class Elements(HTMLParser):
    """Every element of a page as (tag, attributes)."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def page(short_run):
    return write_report(short_run).read_text()


def test_the_page_loads_nothing(page):
    for tag, attributes in Elements(page).found:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith(("#", "data:,")), tag


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"('sha256-[\w+/]{43}=' ?){2}", rules["script-src"])
    assert rules["base-uri"] == rules["form-action"] == "'none'"


def test_no_markup_is_made_of_text_in_the_browser(repository):
    for path in (repository / "zerocoder_jax/report/page").glob("*.js"):
        if path.name != "plotly-basic.min.js":
            source = re.sub(r"//.*", "", path.read_text())
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
            )


def test_every_plot_has_a_text_alternative(page):
    plots = [a for tag, a in Elements(page).found if a.get("class") == "plot"]
    assert len(plots) == 26
    assert all(a["role"] == "img" and re.search(r": .*\d", a["aria-label"]) for a in plots)


def test_the_page_has_landmarks_and_every_field_a_label(page):
    elements = Elements(page).found
    tags = [tag for tag, _ in elements]
    assert tags.count("main") == tags.count("h1") == tags.count("header") == 1
    labelled = {a.get("for") for tag, a in elements if tag == "label"}
    assert all(a["id"] in labelled for tag, a in elements if tag == "input")
    assert all("aria-label" in a for tag, a in elements if tag in ("nav", "progress"))
    identities = [a["id"] for _, a in elements if "id" in a]
    assert len(identities) == len(set(identities))


def test_the_overview_shows_before_and_after(page):
    assert "<small>42.0% →</small> 62.0%" in page
    assert "+20.0 points by step 8" in page
    assert "8 of 8 steps" in page and "(finished)" in page


def test_a_run_that_goes_on_says_so(short_run, tmp_path):
    shutil.copytree(short_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:3]) + '{"step": 3')
    page = write_report(tmp_path / "run").read_text()
    assert "3 of 8 steps" in page and "(running or interrupted)" in page


def test_the_page_says_what_it_leaves_out(short_run, page):
    assert "steps are in this page" not in page
    small = write_report(short_run, samples_megabytes=0.02).read_text()
    number = int(re.search(r"(\d) of 8 steps are in this page", small)[1])
    assert small.count('id="samples-of-') == number < 8
    assert page.count('id="samples-of-') == 8


def test_weak_isolation_and_missing_verdicts_are_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    lines = [{"step": 0, "role": "coder", "isolation": "rlimits", "status/passed": 1.0}]
    lines += [{"step": 1, "role": "tester", "status/passed": 0.5, "status/unavailable": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    page = write_report(tmp_path).read_text()
    assert "weaker isolation than namespaces: rlimits" in page
    assert "In 1 of 2 steps some pairs have no verdict" in page


@pytest.mark.parametrize("missing", ["rollouts", "metrics.jsonl", "config.json", "summary.json"])
def test_any_part_of_a_run_may_be_missing(short_run, tmp_path, missing):
    run = shutil.copytree(short_run, tmp_path / "run")
    shutil.rmtree(run / missing) if missing == "rollouts" else (run / missing).unlink()
    page = write_report(run).read_text()
    assert ('id="browser"' in page) == (missing != "rollouts")
    assert ("Reward of both roles" in page) == (missing != "metrics.jsonl")


def test_the_old_page_stays_until_the_new_one_is_whole(short_run, monkeypatch):
    path = write_report(short_run)
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_report(short_run)
    assert path.read_text() == before


def test_the_command_prints_the_path_and_refuses_what_is_no_run(short_run, tmp_path, repository):
    command = [sys.executable, "launch/report.py", "--workdir"]
    done = subprocess.run([*command, short_run], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"{short_run}/report.html (")
    refused = subprocess.run([*command, tmp_path], cwd=repository, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith(f"error: {tmp_path} holds neither")
    assert len(refused.stderr.splitlines()) == 1
