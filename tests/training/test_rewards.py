"""Rewards, case by case as the paper and the config's readings of it say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocoder_jax.errors import UserError

# The module, since pytest would collect imported functions whose names begin with "test".
from zerocoder_jax.training import rewards as earn

YES, NO = True, False
units = st.floats(0.0, 1.0)


def test_selected_solutions_earn_one() -> None:
    rewards = earn.coder_reward(np.array([YES, NO, YES]), abstained=False)
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert rewards.dtype == np.float32


def test_an_abstention_leaves_nothing_but_the_format_penalty() -> None:
    assert earn.coder_reward(np.array([YES, NO]), abstained=True).tolist() == [0.0, 0.0]
    rewards = _tester_reward([YES, NO, NO], parsed=[YES, YES, NO], abstained=True)
    assert rewards.tolist() == [0.0, 0.0, -1.0]


def test_the_overlong_penalty_grows_over_the_last_fifth_of_the_limit() -> None:
    lengths = np.array([0, 80, 85, 90, 100])
    penalty = earn.overlong_penalty(lengths, 100, 0.2)
    np.testing.assert_allclose(penalty, [0, 0, -0.25, -0.5, -1], atol=1e-6)
    assert penalty.dtype == np.float32


def test_a_tested_solution_must_pass_every_test_that_is_one() -> None:
    passing = np.array([[YES, YES, NO], [YES, NO, NO], [YES, YES, NO]])
    solution_mask, test_mask = np.array([YES, YES, NO]), np.array([YES, YES, NO])
    assert earn.tested_coder_reward(passing, solution_mask, test_mask).tolist() == [1.0, 0.0, 0.0]


def test_no_tests_show_nothing() -> None:
    nothing = np.zeros(2, bool)
    passing = np.zeros((2, 2), bool)
    assert earn.tested_coder_reward(passing, np.ones(2, bool), nothing).tolist() == [0.0, 0.0]
    empty = np.zeros((2, 0), bool)
    assert earn.tested_coder_reward(empty, np.ones(2, bool), np.zeros(0, bool)).tolist() == [
        0.0,
        0.0,
    ]


def test_a_mutation_score_is_the_share_of_killed_mutants_with_a_verdict() -> None:
    killed = np.array([[YES, NO, YES], [YES, NO, YES], [NO, NO, YES], [YES, NO, NO]])
    valid = np.array([[YES, YES, YES], [YES, YES, NO], [YES, YES, NO], [YES, YES, NO]])
    assert earn.mutation_scores(killed, valid).tolist() == [0.75, 0.0, 1.0]


def test_without_mutants_the_term_is_zero() -> None:
    assert (
        earn.mutation_scores(np.zeros((0, 3), bool), np.zeros((0, 3), bool)).tolist() == [0.0] * 3
    )


def _tester_reward(agrees, mutation=None, parsed=None, weight=0.5, **settings) -> np.ndarray:
    count = len(agrees)
    defaults = {"form": "additive", "gated": True, "format_penalty": -1.0}
    return earn.tester_reward(
        np.array(agrees),
        np.full(count, 0.8, np.float32) if mutation is None else np.array(mutation),
        np.ones(count, bool) if parsed is None else np.array(parsed),
        weight,
        **(defaults | settings),
    )


@pytest.mark.parametrize(
    ("form", "gated", "expected"),
    [
        ("additive", True, [1.4, 0.0, -1.0]),
        ("additive", False, [1.4, 0.4, -1.0]),
        ("convex", True, [0.9, 0.0, -1.0]),
        ("convex", False, [0.9, 0.4, -1.0]),
    ],
)
def test_tester_rewards_of_both_forms(form: str, gated: bool, expected: list[float]) -> None:
    """A test that agrees, one that does not, and a reply without a test."""
    rewards = _tester_reward([YES, NO, NO], parsed=[YES, YES, NO], form=form, gated=gated)
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)


def test_a_test_that_fails_everything_gains_nothing_from_its_kills() -> None:
    rewards = _tester_reward([NO, YES], mutation=[1.0, 0.0], weight=1.0)
    assert rewards.tolist() == [0.0, 1.0]


def test_without_weight_only_agreement_counts() -> None:
    for form in ("additive", "convex"):
        assert _tester_reward([YES, NO], weight=0.0, form=form).tolist() == [1.0, 0.0]


def test_a_reply_without_a_test_gets_the_penalty_alone() -> None:
    rewards = _tester_reward([YES], mutation=[1.0], parsed=[NO], gated=False, format_penalty=-0.3)
    np.testing.assert_allclose(rewards, [-0.3], rtol=1e-6)


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UserError, match=r"reward\.tester_form"):
        _tester_reward([YES], form="product")


def test_the_curriculum_goes_from_low_to_high_along_half_a_cosine() -> None:
    assert earn.tester_weight(0.0, 0.0, 1.0) == 0.0
    assert earn.tester_weight(0.5, 0.0, 1.0) == pytest.approx(0.5)
    assert earn.tester_weight(1.0, 0.0, 1.0) == pytest.approx(1.0)
    assert earn.tester_weight(0.25, 0.2, 1.2) == pytest.approx(
        0.2 + (1 - math.cos(math.pi / 4)) / 2
    )


@given(first=units, second=units)
def test_the_curriculum_never_goes_back(first: float, second: float) -> None:
    earlier, later = sorted((first, second))
    assert earn.tester_weight(earlier, 0.1, 0.9) <= earn.tester_weight(later, 0.1, 0.9)


def test_a_proxy_is_a_selected_solution_and_the_same_for_the_same_seed() -> None:
    selected = np.array([NO, YES, NO, YES, YES])
    draws = [earn.draw_proxy(selected, seed=3, step=5, problem=p) for p in range(300)]
    assert draws == [earn.draw_proxy(selected, seed=3, step=5, problem=p) for p in range(300)]
    counts = np.bincount(draws, minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert counts[[1, 3, 4]].min() > 60  # uniform: 100 each, give or take five deviations


def test_proxies_of_other_seeds_and_steps_are_other_draws() -> None:
    selected = np.ones(8, bool)
    draws = {
        (seed, step): tuple(
            earn.draw_proxy(selected, seed=seed, step=step, problem=p) for p in range(20)
        )
        for seed in range(3)
        for step in range(3)
    }
    assert len(set(draws.values())) == 9


def test_without_a_selection_there_is_no_proxy() -> None:
    assert earn.draw_proxy(np.zeros(4, bool), seed=0, step=0, problem=0) is None
