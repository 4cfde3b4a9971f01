"""What the figures of a step say: of one host, of several, and of replies that hold nothing."""

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from zerocoder_jax.execution import Status
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.records import (
    forget_steps_from,
    metrics_of_hosts,
    missing_steps,
    set_aside_from,
    step_metrics,
)
from zerocoder_jax.training.sampling import (
    CODER,
    TESTER,
    Execution,
    ProblemSamples,
    Sample,
    seconds_in_execution,
)

PROBLEM = Problem("mine/1", "Text.", "f", "function")


def test_counts_add_up_over_hosts_and_the_slowest_decides() -> None:
    shares = [
        {"execution/runs": 10, "rollout/tokens": 300, "rollout/overlap": 0.5, "seconds/total": 2.0},
        {"execution/runs": 5, "rollout/tokens": 100, "rollout/overlap": 0.1, "seconds/total": 3.0},
    ]
    assert metrics_of_hosts(shares) == {
        "execution/runs": 15,
        "rollout/tokens": 400,
        "rollout/overlap": pytest.approx(0.3),
        "seconds/total": 3.0,
    }
    assert metrics_of_hosts(shares[:1]) == shares[0]


def reply(parsed: str | AssertTest | None, reason: str = "") -> Sample:
    return Sample(np.zeros(3, np.int32), np.zeros(3, np.float32), True, "", parsed, reason)


def test_what_a_role_was_refused_for_adds_up_to_what_was_not_parsed() -> None:
    solutions = [reply("code"), reply(None, "no_code"), reply(None, "syntax"), reply("code")]
    samples = ProblemSamples(PROBLEM, ([], []), solutions, [reply("test")])
    samples.statuses = np.full((4, 1), Status.UNPARSABLE, np.uint8)
    samples.statuses[[0, 3]] = Status.PASSED
    masks = samples.masks()
    one = Judged(samples, *masks, 1, *masks, 1.0, 1.0, False)
    metrics = step_metrics([one], CODER)
    assert metrics["parse/coder"] == 0.5
    refused = {name: value for name, value in metrics.items() if name.startswith("refused/")}
    assert refused == {"refused/coder_no_code": 0.25, "refused/coder_syntax": 0.25}


def test_copies_of_examples_and_of_each_other_are_counted() -> None:
    tests = [reply(None, "no_code")]
    for code, copied in (("a", True), ("b", False), ("b", False), ("c", False)):
        tests.append(reply(AssertTest(f"assert {code}")))
        tests[-1].copied = copied
    samples = ProblemSamples(PROBLEM, ([], []), [reply("code")], tests)
    samples.statuses = np.array([[Status.UNPARSABLE] + 4 * [Status.PASSED]], np.uint8)
    masks = samples.masks()
    one = Judged(samples, *masks, 1, *masks, 1.0, 1.0, False)
    one.agrees = np.array([False, True, True, False, False])
    metrics = step_metrics([one], TESTER)
    assert metrics["tester/copied"] == 0.25
    assert metrics["tester/distinct"] == 0.75
    assert metrics["tester/agreement"] == 0.4
    assert metrics["tester/agreement_own"] == 0.25


def execution(began: float, ended: float) -> Execution:
    return Execution(ProblemSamples(PROBLEM, ([], [])), Future(), None, began=began, ended=ended)


def test_time_in_execution_counts_once_what_runs_side_by_side() -> None:
    running = [
        execution(9.0, np.inf),
        execution(1.0, 3.0),
        execution(2.0, 2.5),
        execution(4.0, 6.0),
    ]
    assert seconds_in_execution(running, until=5.0) == pytest.approx(2.0 + 1.0)
    assert seconds_in_execution(running, until=10.0) == pytest.approx(2.0 + 2.0 + 1.0)
    assert seconds_in_execution([], until=10.0) == 0.0


def test_an_execution_notes_when_its_last_run_was_done() -> None:
    matrix: Future = Future()
    one = Execution(ProblemSamples(PROBLEM, ([], [])), matrix, None)
    assert one.ended == np.inf
    matrix.set_result(np.zeros((0, 0), np.uint8))
    assert one.began <= one.ended < np.inf


def test_steps_that_are_made_anew_leave_nothing_of_their_former_results(tmp_path: Path) -> None:
    kept = {
        *("config.json", "metrics.jsonl", "report.html", "checkpoints/3/state"),
        *("rollouts/step_000001.jsonl", "rollouts/notes.jsonl", "rollouts/step_mine.jsonl"),
        *("evaluation/step_000000/toy.jsonl", "evaluation/step_000002/toy.jsonl"),
        "evaluation/mine/toy.jsonl",
    }
    removed = {
        *("summary.json", "rollouts/step_000002.jsonl", "rollouts/step_1000000.jsonl"),
        *("evaluation/step_000003/toy.jsonl", "evaluation/step_000010/toy.jsonl"),
    }
    for name in kept | removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for _ in range(2):  # the second time there is nothing to remove
        forget_steps_from(tmp_path, 2)
        left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
        assert left == kept
    assert not (tmp_path / "evaluation" / "step_000003").exists()
    forget_steps_from(tmp_path / "nowhere", 0)
    assert not (tmp_path / "nowhere").exists()


def test_missing_earlier_steps_are_named(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    lines = [f'{{"step": {step}}}\n' for step in (0, 2, 6, 9)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 1')
    for step in (0, 1, 2, 4, 5, 6):
        (tmp_path / "rollouts" / f"step_{step:06d}.jsonl").touch()
    assert missing_steps(tmp_path, 0) == []
    assert missing_steps(tmp_path, 7) == [
        "metrics.jsonl lacks steps 1, 3 to 5",
        "rollouts/ lacks step 3",
    ]


def test_what_a_rollback_discards_is_put_aside(tmp_path: Path) -> None:
    for step in range(4):
        for name in (f"rollouts/step_{step:06d}.jsonl", f"evaluation/step_{step:06d}/toy.jsonl"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    metrics = "".join(f'{{"step": {step}}}\n' for step in range(4))
    (tmp_path / "metrics.jsonl").write_text(metrics)
    (tmp_path / "summary.json").touch()
    for number, first in enumerate((2, 1)):
        aside = set_aside_from(tmp_path, first)
        assert aside == tmp_path / "rolled_back" / str(number)
        kept = {path.name for path in (tmp_path / "rollouts").iterdir()}
        assert kept == {f"step_{step:06d}.jsonl" for step in range(first)}
        # The policy that the first step starts from was measured before it.
        measured = {path.name for path in (tmp_path / "evaluation").iterdir()}
        assert measured == {f"step_{step:06d}" for step in range(first + 1)}
    aside = tmp_path / "rolled_back" / "0"
    assert (aside / "metrics.jsonl").read_text() == '{"step": 2}\n{"step": 3}\n'
    assert (aside / "rollouts" / "step_000003.jsonl").exists()
    assert (aside / "evaluation" / "step_000003" / "toy.jsonl").exists()
    assert (aside / "summary.json").exists() and not (tmp_path / "summary.json").exists()
