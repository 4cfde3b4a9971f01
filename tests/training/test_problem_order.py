"""What a step trains on depends on the seed and the step alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training.problem_order import (
    problem_number,
    problems_of_step,
    require_labels,
    take_calibration_set,
)


def problems(count: int, labelled: bool = True) -> list[Problem]:
    reference = {"reference_solution": "f = abs", "reference_tests": (AssertTest("assert f(1)"),)}
    return [
        Problem(f"t/{i}", "text", "f", "function", **(reference if labelled else {}))
        for i in range(count)
    ]


@given(count=st.integers(1, 40), per_step=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_pass_visits_problems_at_most_once_and_leaves_fewer_than_a_step_out(
    count: int, per_step: int, seed: int
) -> None:
    if count < per_step:
        return
    all_problems = problems(count)
    steps = count // per_step
    drawn = [p for s in range(steps) for p in problems_of_step(all_problems, s, per_step, seed)]
    assert len(drawn) == len(set(drawn)) == steps * per_step > count - per_step


def test_the_same_step_draws_the_same_problems_and_another_seed_draws_others() -> None:
    all_problems = problems(50)
    assert problems_of_step(all_problems, 7, 8, seed=1) == problems_of_step(
        all_problems, 7, 8, seed=1
    )
    assert problems_of_step(all_problems, 7, 8, seed=1) != problems_of_step(
        all_problems, 7, 8, seed=2
    )


def test_the_next_pass_is_shuffled_anew() -> None:
    all_problems = problems(32)
    first = [p for s in range(4) for p in problems_of_step(all_problems, s, 8, seed=0)]
    second = [p for s in range(4, 8) for p in problems_of_step(all_problems, s, 8, seed=0)]
    assert set(first) == set(second)
    assert first != second


def test_too_few_problems_are_refused_with_the_field_to_change() -> None:
    with pytest.raises(UserError, match=r"config\.problems\.per_step is 8, but only 5"):
        problems_of_step(problems(5), 0, 8, seed=0)


def test_the_calibration_set_is_taken_out_of_the_training_set() -> None:
    all_problems = problems(30)
    calibration, remaining = take_calibration_set(all_problems, 10, seed=3)
    assert len(calibration) == 10
    assert set(calibration) | set(remaining) == set(all_problems)
    assert not set(calibration) & set(remaining)
    assert take_calibration_set(all_problems, 10, seed=3)[0] == calibration


def test_only_labelled_problems_can_calibrate() -> None:
    unlabelled = [Problem(f"u/{i}", "text", "f", "function") for i in range(20)]
    calibration, _ = take_calibration_set(unlabelled + problems(5), 5, seed=0)
    assert all(problem.reference_solution for problem in calibration)
    with pytest.raises(UserError, match=r"calibration.problems is 6, but only 5"):
        take_calibration_set(unlabelled + problems(5), 6, seed=0)


def test_oracle_rewards_need_labels_of_every_problem() -> None:
    require_labels(problems(3))
    unlabelled = Problem("u/0", "text", "f", "function", reference_solution="f = abs")
    with pytest.raises(UserError, match=r"1 of 4 training problems .* u/0"):
        require_labels([*problems(3), unlabelled])


def test_a_problem_keeps_its_number_wherever_it_stands() -> None:
    some = problems(10)
    assert [problem_number(p) for p in some] == [problem_number(p) for p in problems(20)[:10]]
    assert len({problem_number(p) for p in problems(5000)}) == 5000
