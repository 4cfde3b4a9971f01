"""The page in a real browser: it opens fast, obeys the keyboard, and lets no model's text act."""

import json

import pytest
from generated_run import generate_run

from zerocoder_jax.report import write_report

READY = (
    "document.documentElement.dataset.plotsReady"
    " && document.getElementById('browser').dataset.shown"
)


def open_report(browser, run, fragment="", **window):
    browser.open(write_report(run), fragment, **window)
    browser.wait(READY)


def text_of(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)})?.textContent")


def focused(browser):
    return browser.run("document.activeElement.getAttribute('aria-label')")


def test_the_page_opens_without_a_complaint_and_asks_nobody(browser, short_run):
    open_report(browser, short_run)
    assert browser.complaints == []
    assert browser.requests == [(short_run / "report.html").resolve().as_uri()]
    # The plots in view are drawn, the others wait until they are.
    drawn = browser.run("document.querySelectorAll('.plot[data-drawn] svg .scatterlayer').length")
    assert 2 <= drawn < browser.run("document.querySelectorAll('.plot').length")


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    """A run of the paper's size, with its report."""
    run = generate_run(
        tmp_path_factory.mktemp("full") / "run", steps=150, problems=32, prose_words=60
    )
    write_report(run)
    return run


def test_the_page_of_a_full_run_holds_every_step(browser, full_run):
    open_report(browser, full_run)
    assert browser.complaints == []
    assert browser.run("document.querySelectorAll('[id^=samples-of-]').length") == 150


@pytest.mark.endurance
def test_a_full_run_opens_in_under_three_seconds(browser, full_run):
    """On a machine that does nothing else."""
    milliseconds = []
    for _ in range(3):
        open_report(browser, full_run)
        milliseconds.append(browser.run("Number(document.documentElement.dataset.plotsReady)"))
    print("milliseconds to the first plots:", milliseconds)
    assert min(milliseconds) < 3000


def test_every_plot_is_drawn_in_both_themes(browser, short_run):
    for dark in (False, True):
        open_report(browser, short_run, dark=dark)
        browser.look(1280, dark, height=9000)
        browser.wait("!document.querySelector('.plot:not([data-drawn])')")
        assert browser.complaints == []
        ink = browser.run("getComputedStyle(document.querySelector('.legendtext')).fill")
        assert ink == ("rgb(228, 231, 233)" if dark else "rgb(29, 34, 38)")


def test_the_button_changes_the_theme_of_page_and_plots(browser, short_run):
    open_report(browser, short_run)
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(background)
    assert text_of(browser, "#theme") == "Dark page"
    browser.run("document.getElementById('theme').click()")
    assert text_of(browser, "#theme") == "Light page"
    assert browser.run(background) != light
    browser.wait(
        "getComputedStyle(document.querySelector('.legendtext')).fill === 'rgb(228, 231, 233)'"
    )
    browser.run("document.getElementById('theme').click()")
    assert browser.run(background) == light


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser, short_run, width):
    open_report(browser, short_run, "#step=5", width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_matrix_shows_the_statuses_of_the_file(browser, short_run):
    open_report(browser, short_run, "#step=4")
    record = json.loads((short_run / "rollouts/step_000004.jsonl").read_text().splitlines()[0])
    assert text_of(browser, "#problem h3") == record["task_id"]
    labels = browser.run(
        "[...document.querySelectorAll('.matrix tbody tr')].map("
        "row => [...row.querySelectorAll('td')].map(cell => cell.getAttribute('aria-label')))"
    )
    for s, row in enumerate(record["statuses"]):
        for t, status in enumerate(row):
            chosen = record["solutions"][s]["selected"] and record["tests"][t]["selected"]
            words = f"solution {s}, test {t}: {status.lower()}"
            assert labels[s][t] == words + (", in the consensus" if chosen else "")
    selected = browser.run(
        "[...document.querySelectorAll('.matrix th[scope=row]')].map("
        "head => head.classList.contains('selected'))"
    )
    assert selected == [solution["selected"] for solution in record["solutions"]]


def test_statuses_differ_in_what_is_drawn_not_only_in_colour(browser, short_run):
    open_report(browser, short_run)
    shapes = browser.run(
        "(() => { const drawn = new Map();"
        " for (const cell of document.querySelectorAll('.matrix td[role=gridcell], .swatch'))"
        "   drawn.set(cell.className.match(/status-\\w+/)?.[0],"
        "     cell.querySelector('path')?.getAttribute('d') ?? cell.textContent);"
        " return [...drawn.values()]; })()"
    )
    assert len(shapes) >= 3 and len(set(shapes)) == len(shapes)


def test_the_keyboard_walks_the_matrix(browser, short_run):
    open_report(browser, short_run, "#step=4&pair=0,0")
    browser.run("document.querySelector('.matrix td[tabindex=\"0\"]').focus()")
    steps = [
        ("ArrowRight", False, (0, 1)),
        ("ArrowDown", False, (1, 1)),
        ("End", False, (1, 7)),
        ("ArrowRight", False, (1, 7)),
        ("Home", False, (1, 0)),
        ("End", True, (7, 7)),
        ("ArrowUp", False, (6, 7)),
        ("Home", True, (0, 0)),
        ("ArrowLeft", False, (0, 0)),
    ]
    for key, control, (s, t) in steps:
        browser.press(key, control=control)
        assert focused(browser).startswith(f"solution {s}, test {t}:"), key
        assert text_of(browser, ".verdict").startswith(f"Solution {s}, test {t}:")
        assert text_of(browser, ".pane:nth-child(1) h4") == f"Solution {s}"
        assert text_of(browser, ".pane:nth-child(2) h4") == f"Test {t}"
    # One stop for the whole grid: the next press of the tab key leaves it.
    assert browser.run("document.querySelectorAll('.matrix td[tabindex=\"0\"]').length") == 1
    browser.press("Tab")
    assert not (focused(browser) or "").startswith("solution")


def test_code_of_the_chosen_pair_is_shown_word_for_word(browser, short_run):
    open_report(browser, short_run, "#step=4&pair=2,3")
    record = json.loads((short_run / "rollouts/step_000004.jsonl").read_text().splitlines()[0])
    panes = browser.run(
        "[...document.querySelectorAll('.pane')].map("
        "pane => pane.querySelector('code').textContent)"
    )
    solution, test = record["solutions"][2], record["tests"][3]
    assert panes == [
        solution["code"] or solution["reply"],
        test["test"]["code"] if test["test"] else test["reply"],
    ]
    assert browser.run("document.querySelectorAll('.pane .keyword').length") > 1


def test_mutants_are_shown_as_what_they_change(browser, short_run):
    found = next(
        (step, record)
        for step in (1, 3, 5, 7)
        for line in (short_run / f"rollouts/step_{step:06d}.jsonl").read_text().splitlines()
        if len((record := json.loads(line))["mutants"]) > 1
    )
    step, record = found
    open_report(browser, short_run, f"#step={step}&task={record['task_id']}")
    assert browser.run("document.querySelectorAll('.mutant-list > li').length") == len(
        record["mutants"]
    )
    original = record["solutions"][record["proxy"]]["code"].rstrip().splitlines()
    for m, mutant in enumerate(record["mutants"]):
        item = f".mutant-list > li:nth-child({m + 1})"
        changed = mutant["code"].rstrip().splitlines()
        ((old, new),) = [pair for pair in zip(original, changed) if pair[0] != pair[1]]
        assert text_of(browser, f"{item} del") == f"- {old}"
        assert text_of(browser, f"{item} ins") == f"+ {new}"
        fate = "killed by" if mutant["killed_by"] else "survives"
        assert f"Mutant {m}: {fate}" in text_of(browser, f"{item} b")


def test_search_finds_a_task_in_every_step(browser, short_run):
    open_report(browser, short_run)
    records = [
        json.loads(line)["task_id"]
        for path in sorted((short_run / "rollouts").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    browser.run("document.getElementById('search').focus()")
    browser.type("PALINDROME")
    wanted = [task for task in records if "palindrome" in task]
    shown = browser.run("[...document.querySelectorAll('.task')].map(one => one.textContent)")
    assert shown == wanted
    assert text_of(browser, "#problem-count") == f"{len(wanted)} matches"
    browser.run("document.querySelector('#problem-list button').click()")
    browser.wait(f"document.querySelector('#problem h3').textContent === {json.dumps(wanted[0])}")
    assert "palindrome" in browser.run("decodeURIComponent(location.hash)")


def test_steps_are_reached_by_buttons_field_and_plot(browser, short_run):
    open_report(browser, short_run)
    shown = "document.getElementById('browser').dataset.shown"
    assert browser.run(shown) == "7 0"
    assert browser.run("document.getElementById('step-after').disabled")
    browser.run("document.getElementById('step-before').click()")
    browser.wait(f"{shown} === '6 0'")
    browser.run(
        "(() => { const field = document.getElementById('step-number');"
        " field.value = 2; field.dispatchEvent(new Event('change')); })()"
    )
    browser.wait(f"{shown} === '2 0'")
    browser.run("document.querySelector('.plot').emit('plotly_click', {points: [{x: 5}]})")
    browser.wait(f"{shown} === '5 0'")


def test_the_numbers_of_a_plot_can_be_read_as_a_table(browser, short_run):
    open_report(browser, short_run)
    browser.run("document.querySelector('figure details').open = true")
    browser.wait("document.querySelector('figure table')")
    lines = [json.loads(line) for line in (short_run / "metrics.jsonl").read_text().splitlines()]
    rows = browser.run(
        "[...document.querySelectorAll('figure table')[0].querySelectorAll('tbody tr')].map("
        "row => [...row.children].map(cell => cell.textContent))"
    )
    assert len(rows) == 8
    assert float(rows[0][1]) == pytest.approx(lines[0]["coder/reward"], rel=1e-2)
    assert rows[0][2] == "" and float(rows[1][2]) > 0


ATTACKS = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'>",
    '"><svg onload="window.hacked = 3">',
    "<!--<script>window.hacked = 4//",
    "javascript:window.hacked = 5",
    "${window.hacked = 6} $policy $$ \\u003cscript>",
    "]]> \u2028 \u202e \x00 \ud800 </textarea></style><b>",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_of_a_model_does_nothing(browser, tmp_path, attack):
    run = generate_run(tmp_path / "run", steps=2, problems=1)
    for path in (run / "rollouts").glob("*.jsonl"):
        record = json.loads(path.read_text())
        record |= {"task_id": attack, "prompt": attack, "entry_point": attack}
        record["statuses"][0][0] = attack
        record["selection"]["name"] = attack
        for solution in record["solutions"]:
            solution |= {"reply": attack, "code": attack, "reason": attack}
        for test in record["tests"]:
            test |= {"reply": attack, "test": {"kind": "assert", "code": attack}}
        record["tests"][1]["test"] = {"kind": "stdio", "stdin": attack, "stdout": attack}
        record["tests"][2]["test"] = {"kind": "call", "arguments": [attack], "expected": attack}
        for mutant in record["mutants"]:
            mutant["code"] = attack
        path.write_text(json.dumps(record) + "\n")
    extra = {f"refused/{attack}": 0.5, f"evaluation/{attack}/pass_at_1": 0.5, "role": "coder"}
    extra |= {f"seconds/{attack}": 1.0, "status/unavailable": 1.0, "isolation": attack}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1} | extra) + "\n")
    config = {"policy": {"source": attack}, "execution": {"min_isolation": attack}, attack: attack}
    (run / "config.json").write_text(json.dumps(config))

    open_report(browser, run, "#step=1&pair=0,1")
    browser.look(1280, False, height=9000)
    browser.wait("!document.querySelector('.plot:not([data-drawn])')")
    for s, t in ((0, 0), (0, 1), (0, 2)):
        cell = f".matrix tbody tr:nth-child({s + 1}) td:nth-child({t + 2})"
        browser.run(f"document.querySelector({json.dumps(cell)}).click()")
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("window.hacked") is None
    assert browser.run("document.querySelectorAll('img, svg[onload], textarea, b b').length") == 0
    assert browser.complaints == []
    assert len(browser.requests) == 1
    shown = text_of(browser, "#problem .statement")
    assert shown == attack.replace("\ud800", "\ufffd") or shown == attack


def test_an_injected_script_is_refused_by_the_policy(browser, short_run):
    # What would happen if some text did become markup: the browser itself says no.
    open_report(browser, short_run)
    browser.run(
        "(() => { const script = document.createElement('script');"
        " script.textContent = 'window.hacked = 1'; document.head.append(script);"
        " const box = document.createElement('div');"
        " box.innerHTML = '<img src=x onerror=\"window.hacked = 2\">';"
        " document.body.append(box); fetch('https://example.org/').catch(() => {}); })()"
    )
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run("window.hacked") is None
    assert any("Content Security Policy" in words for words in browser.complaints)


def test_a_run_of_one_step_and_a_run_without_samples_open(browser, tmp_path):
    one = generate_run(tmp_path / "one", steps=1, problems=1)
    open_report(browser, one)
    assert browser.complaints == []
    bare = tmp_path / "bare"
    bare.mkdir()
    line = {"step": 0, "role": "coder", "coder/reward": 0.5}
    (bare / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    browser.open(write_report(bare))
    browser.wait("document.documentElement.dataset.plotsReady")
    assert browser.complaints == []
    assert browser.run("document.getElementById('browser')") is None
