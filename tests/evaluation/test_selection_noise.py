"""Selection noise is what each selector would have got wrong, judged by labels afterwards."""

import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.evaluation.selection_noise import selection_noise, write_selection_noise
from zerocoder_jax.execution import ExecutionPool, Limits
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.report import read_run

RIGHT = "def double(x):\n    return 2 * x\n"
WRONG = "def double(x):\n    return x + 2\n"  # right for 2 alone
LABELS = (AssertTest("assert double(2) == 4"), AssertTest("assert double(5) == 10"))
PROBLEM = Problem("p/1", "Double a number.", "double", "function", reference_tests=LABELS)


@pytest.fixture(scope="module")
def pool():
    with ExecutionPool(workers=1, limits=Limits(seconds=5.0), min_isolation="rlimits") as opened:
        yield opened


def record(codes, statuses, *, calibration=False, pair=(1e4, 1e3), task_id="p/1"):
    sample = {"reply": "", "reason": "", "finished": True}
    names = {"+": "PASSED", "-": "FAILED", "?": "UNAVAILABLE", "0": "UNPARSABLE"}
    return {
        "task_id": task_id,
        "calibration": calibration,
        "solutions": [sample | {"code": code} for code in codes],
        "tests": [
            sample | {"test": {"kind": "assert", "code": f"assert {t}"}}
            for t in range(len(statuses[0]))
        ],
        "statuses": [[names[sign] for sign in row] for row in statuses],
        "selection": {"name": "b4", "beta0": pair[0], "alpha_xy": pair[1]},
    }


def write_steps(directory, *steps):
    (directory / "rollouts").mkdir()
    for step, records in enumerate(steps):
        text = "".join(json.dumps(one) + "\n" for one in records)
        (directory / "rollouts" / f"step_{step:06d}.jsonl").write_text(text)
    return directory


def noise_of(points):
    return {(point.step, point.selector): point.noise for point in points}


def test_noise_is_the_share_of_selected_solutions_that_fail_a_label(tmp_path, pool):
    run = write_steps(
        tmp_path,
        # MaxPass believes the one wrong solution that passes both tests, CodeT the three right
        # ones that pass one: sqrt(3) * 1 < sqrt(1) * 2, so it is wrong as well.
        [record([RIGHT, RIGHT, RIGHT, WRONG], ["+-", "+-", "+-", "++"])],
        # The consensus is right, and one of its three members is not.
        [record([RIGHT, RIGHT, WRONG, None], ["++", "++", "++", "00"])],
    )
    points = selection_noise(run, [PROBLEM], pool, dynamic=False, problems_per_point=1)
    noise = noise_of(points)
    assert noise[0, "MaxPass"] == noise[0, "CodeT"] == 1.0
    assert noise[1, "MaxPass"] == noise[1, "CodeT"] == pytest.approx(1 / 3)
    assert {selector for _, selector in noise} == {"MaxPass", "CodeT", "B4(4,3)", "B4(5,3)"}


def test_steps_are_put_together_until_a_point_rests_on_enough_problems(tmp_path, pool):
    good, bad = record([RIGHT], ["+"]), record([WRONG], ["+"])
    run = write_steps(tmp_path, [good], [good], [bad], [good])
    points = selection_noise(run, [PROBLEM], pool, dynamic=False, problems_per_point=2)
    max_pass = [point for point in points if point.selector == "MaxPass"]
    assert [(p.step, p.noise, p.selected, p.problems) for p in max_pass] == [
        (1, 0.0, 2, 2),
        (3, 0.5, 2, 2),
    ]


def test_dynamic_b4_is_asked_with_the_priors_of_each_step(tmp_path, pool):
    # Four solutions that agree on two tests, against one that passes all four: the larger beta0,
    # the less likely wrong solutions pass wrong tests, the more the single one is believed.
    codes, matrix = [RIGHT] * 4 + [WRONG], ["++--"] * 4 + ["++++"]
    run = write_steps(
        tmp_path, [record(codes, matrix, pair=(1.0, 1.0))], [record(codes, matrix, pair=(1e4, 1e3))]
    )
    noise = noise_of(selection_noise(run, [PROBLEM], pool, dynamic=True, problems_per_point=1))
    assert (noise[0, "dynamic B4"], noise[1, "dynamic B4"]) == (0.0, 1.0)
    assert (noise[0, "B4(4,3)"], noise[1, "B4(4,3)"]) == (1.0, 1.0)
    assert "dynamic B4" not in {
        p.selector for p in selection_noise(run, [PROBLEM], pool, dynamic=False)
    }


def test_an_abstained_selection_is_counted_and_nothing_invented(tmp_path, pool):
    run = write_steps(tmp_path, [record([RIGHT, WRONG], ["-", "-"])])
    (point, *_) = selection_noise(run, [PROBLEM], pool, dynamic=False)
    assert (point.noise, point.selected, point.problems, point.abstained) == (None, 0, 1, 1)


def test_problems_of_the_calibration_do_not_count(tmp_path, pool):
    run = write_steps(tmp_path, [record([RIGHT], ["+"]), record([WRONG], ["+"], calibration=True)])
    (point, *_) = selection_noise(run, [PROBLEM], pool, dynamic=False)
    assert (point.noise, point.problems) == (0.0, 1)


def test_a_run_without_labels_is_refused(tmp_path, pool):
    run = write_steps(tmp_path, [record([RIGHT], ["+"], task_id="unknown")])
    with pytest.raises(UserError, match=r"no problem with reference tests"):
        selection_noise(run, [PROBLEM], pool, dynamic=False)


def test_the_report_reads_what_was_written(tmp_path, pool):
    run = write_steps(tmp_path, [record([RIGHT], ["+"])], [record([WRONG], ["+"])])
    points = selection_noise(run, [PROBLEM], pool, dynamic=False, problems_per_point=1)
    write_selection_noise(run, points)
    assert read_run(run).selection_noise()["MaxPass"] == [(0, 0.0), (1, 1.0)]
