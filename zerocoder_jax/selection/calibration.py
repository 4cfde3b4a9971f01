"""Dynamic B4: the priors under which the selector is most often right on labelled problems."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from zerocoder_jax.selection.candidates import find_candidates
from zerocoder_jax.selection.fixed_point import FixedPoint, log_rising, log_rising_grid
from zerocoder_jax.selection.selectors import B4Tables, b4, table_size

# Means of fractions that are equal, and priors, differ by rounding only.
_EQUAL = 1e-9


class Calibration(NamedTuple):
    """The chosen priors, and how every pair of the grid did."""

    beta0: float
    alpha_xy: float
    scores: NDArray[np.float64]  # [len(beta0_grid), len(alpha_xy_grid)], in [0, 1]


def calibrate_b4(
    passing: ArrayLike,
    correct: ArrayLike,
    solution_mask: ArrayLike,
    test_mask: ArrayLike,
    *,
    beta0_grid: ArrayLike,
    alpha_xy_grid: ArrayLike,
    previous: tuple[float, float] | None = None,
    min_confidence: float = 0.0,
    solution_ids: ArrayLike | None = None,
    test_ids: ArrayLike | None = None,
) -> Calibration:
    """Score the whole grid over all calibration problems in one jitted call.

    A pair's score is the mean over problems of the share of selected solutions that are correct; a
    problem on which it abstains gives 0. Among the best pairs the previous one is kept, else the
    first in grid order (``beta0`` outermost) is taken.

    Args:
        passing: [C, S, T] bool, the current policy's solutions against its own tests.
        correct: [C, S] bool, the solution passes all reference tests.
        solution_mask: [C, S] bool.
        test_mask: [C, T] bool.
        beta0_grid: positive numbers, in increasing order.
        alpha_xy_grid: positive numbers, in increasing order.
        previous: the pair of the step before.
        min_confidence: as in ``select``, for a pair is scored by what it would select there.
        solution_ids, test_ids: [C, S], [C, T] int; where given, equal ones count once, as in
            ``select`` with ``unique``.
    """
    beta0_grid = np.asarray(beta0_grid, np.float64)
    alpha_xy_grid = np.asarray(alpha_xy_grid, np.float64)
    size = table_size(np.shape(passing))
    correct_count, selected_count = _score_grid(
        passing,
        correct,
        solution_mask,
        test_mask,
        log_rising_grid(tuple(beta0_grid.tolist()), size),
        log_rising_grid(tuple(alpha_xy_grid.tolist()), size),
        log_rising(1.0, size),
        np.float32(min_confidence),
        solution_ids,
        test_ids,
    )
    shares = np.asarray(correct_count) / np.maximum(np.asarray(selected_count), 1)
    scores = shares.mean(axis=-1)  # [len(beta0_grid), len(alpha_xy_grid)]
    best = scores >= scores.max() - _EQUAL
    if previous is not None:
        is_previous = np.logical_and.outer(
            np.abs(beta0_grid - previous[0]) <= _EQUAL * beta0_grid,
            np.abs(alpha_xy_grid - previous[1]) <= _EQUAL * alpha_xy_grid,
        )
        if np.any(best & is_previous):
            best &= is_previous
    beta0_index, alpha_xy_index = np.unravel_index(np.argmax(best), best.shape)
    return Calibration(float(beta0_grid[beta0_index]), float(alpha_xy_grid[alpha_xy_index]), scores)


@jax.jit
def _score_grid(
    passing: Array,
    correct: Array,
    solution_mask: Array,
    test_mask: Array,
    beta0_tables: FixedPoint,
    alpha_xy_tables: FixedPoint,
    factorial: FixedPoint,
    min_confidence: Array,
    solution_ids: Array | None,
    test_ids: Array | None,
) -> tuple[Array, Array]:
    """How many solutions each pair selects, and how many of them are correct: [B, A, C] int32."""
    # Grouping and counting do not depend on the priors: once for the whole grid.
    candidates = find_candidates(passing, solution_mask, test_mask, solution_ids, test_ids)

    def score_pair(beta0: FixedPoint, alpha_xy: FixedPoint) -> tuple[Array, Array]:
        choice = b4(candidates, B4Tables(beta0, alpha_xy, factorial), "sqrt")
        believed = choice.evidence & (choice.confidence >= min_confidence)  # [C]
        selected = choice.solutions & believed[:, None]  # [C, S]
        return jnp.sum(selected & correct, axis=1), jnp.sum(selected, axis=1)

    over_alpha_xy = jax.vmap(score_pair, in_axes=(None, 0))
    with jax.named_scope("calibrate_b4"):
        return jax.vmap(over_alpha_xy, in_axes=(0, None))(beta0_tables, alpha_xy_tables)
