"""A report can be made of whatever a run has written so far."""

import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.report import read_run
from zerocoder_jax.report.run_directory import read_lines


def test_a_half_written_last_line_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "role": "coder"}\n{"step": 1, "role": "te')
    assert [line["step"] for line in read_run(tmp_path).metrics] == [0]


def test_lines_of_one_step_are_merged_and_steps_ascend(tmp_path):
    lines = [{"step": 3, "role": "tester"}, {"step": 0}, {"step": 3, "evaluation/x/pass_at_1": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    run = read_run(tmp_path)
    assert [line["step"] for line in run.metrics] == [0, 3]
    assert run.metrics[1] == {"step": 3, "role": "tester", "evaluation/x/pass_at_1": 0.5}


def test_lines_that_are_no_steps_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('[1]\n"text"\n\n{"step": "5"}\n{"step": true}\n{}\n')
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "summary.json").write_text('{"seconds": 1}')
    assert read_run(tmp_path).metrics == ()


def test_a_line_separator_inside_a_text_does_not_end_the_record(tmp_path):
    path = tmp_path / "step_000000.jsonl"
    path.write_text('{"reply": "one\u2028two\x85three"}\n', encoding="utf-8")
    assert read_lines(path) == [{"reply": "one\u2028two\x85three"}]


def test_evaluations_are_found_by_benchmark_even_with_slashes_in_its_name(tmp_path):
    lines = [
        {"step": 0, "evaluation/jsonl:data/my.jsonl/pass_at_1": 0.25, "evaluation/mbpp/parsed": 1},
        {"step": 4, "evaluation/jsonl:data/my.jsonl/pass_at_1": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read_run(tmp_path).evaluations() == {
        "jsonl:data/my.jsonl": [(0, {"pass_at_1": 0.25}), (4, {"pass_at_1": 0.5})],
        "mbpp": [(0, {"parsed": 1})],
    }


def test_a_generated_run_is_read_whole(short_run):
    run = read_run(short_run)
    assert run.finished_steps == run.total_steps == 8
    assert list(run.rollout_files) == list(range(8))
    assert run.metrics[-1]["step"] == 8 and "role" not in run.metrics[-1]
    assert run.config["selector"]["name"] == "codet"
    assert set(run.summary) == {"before", "after", "seconds"}


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_run_is_refused_with_its_path(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"{name}.*the --workdir of launch/train\.py"):
        read_run(tmp_path / name)
