import json

import pytest

from configs import base
from zerocoder_jax.errors import UserError
from zerocoder_jax.evaluation import training_evaluation, write_summary


def write_metrics(workdir, *lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text)


def measured(step, **scores):
    return {"step": step, "evaluation/seconds": 2.0} | {
        f"evaluation/{name.replace('__', '/')}": value for name, value in scores.items()
    }


def test_the_summary_sets_the_first_evaluation_against_the_last(tmp_path):
    write_metrics(
        tmp_path,
        measured(0, toy__pass_at_1=0.2, toy__test_accuracy=0.1, toy__mutation_score=0.0)
        | {"seconds/total": 10},
        {"step": 1, "seconds/total": 11},
        measured(2, toy__pass_at_1=0.3) | {"seconds/total": 12},
        measured(3, toy__pass_at_1=0.6, toy__test_accuracy=0.5, toy__mutation_score=0.4),
    )
    summary = json.loads(write_summary(tmp_path).read_text())
    assert summary["before"] == {"pass_at_1": 0.2, "test_accuracy": 0.1, "mutation_score": 0.0}
    assert summary["after"] == {"pass_at_1": 0.6, "test_accuracy": 0.5, "mutation_score": 0.4}
    assert summary["seconds"] == 10 + 11 + 12 + 3 * 2
    assert summary["steps"] == {"before": 0, "after": 3}


def test_several_benchmarks_are_averaged_and_kept_apart(tmp_path):
    scores = {"mbpp__pass_at_1": 0.4, "mbpp__test_accuracy": 0.2, "humaneval__pass_at_1": 0.8}
    write_metrics(tmp_path, measured(0, **scores))
    summary = json.loads(write_summary(tmp_path).read_text())
    assert summary["after"]["pass_at_1"] == pytest.approx(0.6)
    assert summary["after"]["test_accuracy"] == 0.2
    assert summary["after"]["mutation_score"] is None
    assert summary["benchmarks"]["humaneval"]["after"]["pass_at_1"] == 0.8


def test_a_run_that_measured_nothing_has_no_summary(tmp_path):
    write_metrics(tmp_path, {"step": 0, "seconds/total": 10})
    assert write_summary(tmp_path) is None
    assert not (tmp_path / "summary.json").exists()


def test_a_benchmark_that_cannot_be_read_stops_the_run_before_it_starts(tmp_path):
    config = base.get_config()
    assert training_evaluation(config, tmp_path) is None
    config.evaluation.benchmarks = "mbpp:no such file.jsonl"
    with pytest.raises(UserError, match=r"no such file\.jsonl: no such file"):
        training_evaluation(config, tmp_path)
