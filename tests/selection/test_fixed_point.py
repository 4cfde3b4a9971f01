"""Fixed-point tables: as right as they say, over the whole range of the calibration grid."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.selection.fixed_point import (
    FixedPoint,
    first_largest,
    from_limbs,
    log_beta,
    log_rising,
    log_rising_grid,
)

SIZE = 258


def value_of(number: FixedPoint) -> np.ndarray:
    high, low = np.asarray(number.high, np.float64), np.asarray(number.low, np.float64)
    return high * 2.0**-14 + low * 2.0**-40


@pytest.mark.parametrize("start", [0.25, 1.0, 3.7, 1e3, 1e4, 1e6])
def test_log_beta_is_right_to_1e_11(start: float) -> None:
    a, b = np.meshgrid(np.arange(0, 129, 8), np.arange(0, 129, 8), indexing="ij")
    found = value_of(
        log_beta(
            jnp.asarray(a), jnp.asarray(b), log_rising(start, SIZE), log_rising(1.0, SIZE)
        ).normalized()
    )
    # B(a + c, b + 1) = b! / ((a + c) ... (a + c + b)), every logarithm rounded once.
    expected = [
        math.fsum(
            [math.log(i) for i in range(1, y + 1)]
            + [-math.log(x + start + i) for i in range(y + 1)]
        )
        for x, y in zip(a.ravel().tolist(), b.ravel().tolist())
    ]
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-11)


def test_log_beta_of_empty_blocks_needs_no_special_case() -> None:
    zero = jnp.zeros(1, jnp.int32)
    factorial, beta0 = log_rising(1.0, 2), log_rising(1e4, 2)
    assert value_of(log_beta(zero, zero, factorial, factorial).normalized()) == 0.0
    found = value_of(log_beta(zero, zero, beta0, factorial).normalized())
    np.testing.assert_allclose(found, -math.log(1e4), rtol=0, atol=1e-11)


def test_a_grid_is_its_tables_on_top_of_each_other() -> None:
    grid = log_rising_grid((1.0, 10.0, 1e6), 20)
    for index, start in enumerate((1.0, 10.0, 1e6)):
        np.testing.assert_array_equal(grid.limbs[index], log_rising(start, 20).limbs)


def test_the_first_of_equal_scores_wins_and_rounding_counts_as_equal() -> None:
    # The third is 4 units above the first two, the rounding of a sum; the last lies just above
    # a whole number of high units, so that its limbs differ from those of an equal sum below it.
    scores = from_limbs(jnp.array([[7, 7, 7, 6]]), jnp.array([[3, 3, 7, 2**26 - 1]]))
    index, below = first_largest(scores, jnp.array([[False, True, True, True]]))
    assert index.tolist() == [1]
    np.testing.assert_allclose(below[0], [-4 * 2.0**-40] * 2 + [0.0, -8 * 2.0**-40], rtol=1e-6)
    index, _ = first_largest(scores, jnp.array([[False, False, False, True]]))
    assert index.tolist() == [3]


def test_scores_a_hair_apart_are_told_apart() -> None:
    scores = from_limbs(jnp.array([[-(10**7), -(10**7)]]), jnp.array([[0, 17]]))
    assert first_largest(scores, jnp.ones((1, 2), bool))[0].tolist() == [1]


def test_a_table_beyond_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match="exceed the range"):
        log_rising(1e6, 10_000)
