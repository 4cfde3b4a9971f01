"""What reaches metrics.jsonl, TensorBoard and the terminal, and what a resumed run does to it."""

import io
import json
import math
import os
import re
import sys

import jax
import numpy as np
import pytest
import rich.console
from tensorboardX.proto import event_pb2

from configs.base import get_config
from zerocoder_jax import storage
from zerocoder_jax.errors import UserError
from zerocoder_jax.training.metrics import MetricWriters, Progress, duration


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def tensorboard_scalars(directory):
    """(step, tag) -> value of every event file, read from TFRecord frames."""
    scalars = {}
    for path in sorted(directory.glob("events.*")):
        data, offset = path.read_bytes(), 0
        while offset < len(data):
            length = int.from_bytes(data[offset : offset + 8], "little")
            event = event_pb2.Event.FromString(data[offset + 12 : offset + 12 + length])
            offset += 12 + length + 4
            for value in event.summary.value:
                scalars[event.step, value.tag] = value.simple_value
    return scalars


def test_a_step_is_one_line_and_is_there_at_once(tmp_path):
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(0, {"coder/reward": np.float32(0.5), "role": "coder"})
        (line,) = lines_of(tmp_path / "metrics.jsonl")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("time"))
        assert line == {"step": 0, "schema": 1, "coder/reward": 0.5, "role": "coder"}
        writers.write(1, {"coder/reward": 1, "execution/unavailable": None})
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [0, 1]


def test_a_number_that_is_not_finite_stays_valid_json(tmp_path):
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(0, {"policy/loss": float("nan"), "policy/kl": np.float32(np.inf)})
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert line["policy/loss"] is None and line["policy/kl"] is None
    scalars = tensorboard_scalars(tmp_path / "tensorboard")
    assert math.isnan(scalars[0, "policy/loss"]) and math.isinf(scalars[0, "policy/kl"])


def test_tensorboard_gets_every_number_and_no_text(tmp_path):
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(7, {"coder/reward": 0.25, "role": "coder", "seconds/total": np.int32(3)})
    assert tensorboard_scalars(tmp_path / "tensorboard") == {
        (7, "coder/reward"): 0.25,
        (7, "seconds/total"): 3.0,
    }


def test_resuming_drops_the_lines_of_steps_that_are_made_again(tmp_path):
    with MetricWriters(tmp_path, get_config()) as writers:
        for step in range(5):
            writers.write(step, {"coder/reward": 0.0})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 5, "coder/rew')
    with MetricWriters(tmp_path, get_config(), first_step=3) as writers:
        assert [line["step"] for line in lines_of(path)] == [0, 1, 2]
        writers.write(3, {"coder/reward": 1.0})
    assert (lines_of(path)[-1]["step"], lines_of(path)[-1]["coder/reward"]) == (3, 1.0)
    assert not list(tmp_path.glob("*.new"))


def test_a_run_that_begins_anew_keeps_no_line_of_the_old_one(tmp_path):
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(0, {"coder/reward": 0.0})
    with MetricWriters(tmp_path, get_config()):
        assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_missing_wandb_names_the_field_and_leaves_the_lines_alone(tmp_path, monkeypatch):
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(0, {"coder/reward": 0.5})
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = get_config()
    config.logging.wandb_project = "zerocoder"
    with pytest.raises(UserError, match=r"config\.logging\.wandb_project.*pip install"):
        MetricWriters(tmp_path, config)
    assert len(lines_of(tmp_path / "metrics.jsonl")) == 1
    # Of several hosts the first one alone reports.
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    MetricWriters(tmp_path, config).close()


METRICS = {
    "role": "coder",
    "coder/reward": 0.4123,
    "tester/reward": 0.7,
    "matrix/pass_rate": np.float32(0.25),
}


def test_a_full_disk_is_tried_again_and_then_named_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    with MetricWriters(tmp_path, get_config()) as writers:
        writers.write(0, {"coder/reward": 0.5})
        (tmp_path / "metrics.jsonl").rename(tmp_path / "kept")
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(storage.StorageFailed, match=r"metrics\.jsonl.*No space left on device"):
            writers.write(1, {"coder/reward": 0.5})
        assert capsys.readouterr().err.count("trying again") == 2
        (tmp_path / "metrics.jsonl").unlink()
        (tmp_path / "kept").rename(tmp_path / "metrics.jsonl")
        writers.write(1, {"coder/reward": 0.5})
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [0, 1]


def test_a_copy_that_cannot_be_written_warns_once_and_the_lines_continue(tmp_path, capsys):
    with MetricWriters(tmp_path, get_config()) as writers:
        (tmp_path / "tensorboard").write_text("in the way")
        for step in range(3):
            writers.write(step, {"coder/reward": 0.5})
    assert len(lines_of(tmp_path / "metrics.jsonl")) == 3
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and "TensorBoard could not be written" in warning


def test_a_reader_of_the_output_that_leaves_stops_nothing(capsys, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with Progress(3) as progress:
            progress.phase("rollout")
            progress.finish(0, METRICS)
        # What is left in the buffer has to go somewhere at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())
    assert capsys.readouterr().err.count("standard output could not be written") == 1


def test_without_a_terminal_phases_and_steps_are_plain_lines():
    output = io.StringIO()
    with Progress(3, console=rich.console.Console(file=output, width=40)) as progress:
        for step in range(3):
            progress.phase("rollout")
            progress.finish(step, METRICS)
        progress.say("report: [bold]/tmp/run[/bold]/report.html")
    lines = output.getvalue().splitlines()
    assert len(lines) == 7
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  step 2/3  rollout", lines[2])
    assert re.fullmatch(
        r"step 1/3  coder   coder 0\.412  tester 0\.700  pass rate 0\.250  \d+\.\d s  0 s left",
        lines[1],
    )
    assert lines[6] == "report: [bold]/tmp/run[/bold]/report.html"
    assert "\x1b" not in output.getvalue()


def test_on_a_terminal_the_line_shows_phase_and_figures():
    output = io.StringIO()
    console = rich.console.Console(file=output, force_terminal=True, width=140)
    with Progress(3, first_step=1, console=console) as progress:
        progress.finish(1, METRICS)
        progress.phase("execution")
        progress._display.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    assert re.search(r"step 2/3 .*execution +coder 0\.412  tester 0\.700  pass rate 0\.250", shown)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (300, "5 min"), (5399, "1 h 30 min"), (12000, "3 h 20 min")],
)
def test_durations_read_as_people_say_them(seconds, words):
    assert duration(seconds) == words
