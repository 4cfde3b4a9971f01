import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocoder_jax.evaluation.measures import bootstrap_interval, pass_at_k


@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_solution(case):
    samples, correct, k = case
    draws = list(combinations([i < correct for i in range(samples)], k))
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_does_not_overflow_where_binomials_would():
    expected = 1 - math.comb(1900, 500) / math.comb(2000, 500)
    assert pass_at_k(2000, 100, 500) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 4])
def test_pass_at_k_needs_k_samples(k):
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(3, 1, k)


def test_the_interval_is_as_wide_as_the_normal_approximation():
    values = np.random.default_rng(1).random(400) < 0.3
    low, high = bootstrap_interval(values)
    spread = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - spread, abs=0.012)
    assert high == pytest.approx(values.mean() + spread, abs=0.012)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.random(100) < 0.4, level=0.9, resamples=300)
        covered += low <= 0.4 <= high
    assert 165 <= covered <= 195


def test_without_spread_the_interval_is_a_point_and_without_values_nothing():
    assert bootstrap_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    assert all(math.isnan(end) for end in bootstrap_interval([]))
