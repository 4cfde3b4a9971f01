"""Dynamic B4: the one call over grid and problems against a loop, and how ties are settled."""

import numpy as np
import pytest

from zerocoder_jax.selection import calibrate_b4, select
from zerocoder_jax.selection.calibration import _score_grid

BETA0 = [10.0**e for e in range(7)]
ALPHA_XY = [10.0**e for e in range(5)]


def labelled_matrices(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Passing matrices of correct and wrong solutions against good and bad tests, with labels.

    A correct solution passes the good tests and a wrong one few of anything, with noise, so that
    different priors are right on different problems.
    """
    rng = np.random.default_rng(seed)
    correct = rng.random((count, 8)) < rng.uniform(0.1, 0.7, (count, 1))
    good = rng.random((count, 8)) < rng.uniform(0.2, 0.8, (count, 1))
    common_mistake = rng.random((count, 1, 8)) < 0.5
    passing = np.where(correct[:, :, None], good[:, None, :], common_mistake)
    passing ^= rng.random((count, 8, 8)) < 0.08
    return passing, correct, rng.random((count, 8)) < 0.9, rng.random((count, 8)) < 0.9


def random_ids(count: int) -> dict[str, np.ndarray]:
    """Numbers by which about half of the solutions and tests stand there twice."""
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, 6, (count, 8)) for name in ("solution_ids", "test_ids")}


@pytest.mark.parametrize(
    ("min_confidence", "ids"),
    [(0.0, {}), (0.9, {}), (0.0, random_ids(10))],
    ids=["as it is", "above a confidence", "unique"],
)
def test_the_grid_scores_are_those_of_a_loop_over_pairs_and_problems(min_confidence, ids) -> None:
    """A pair is scored by what it would select in training, ``unique`` and all."""
    passing, correct, solution_mask, test_mask = labelled_matrices(10, seed=4)
    calibration = calibrate_b4(
        passing,
        correct,
        solution_mask,
        test_mask,
        beta0_grid=BETA0,
        alpha_xy_grid=ALPHA_XY,
        min_confidence=min_confidence,
        **ids,
    )
    expected = np.zeros((len(BETA0), len(ALPHA_XY)))
    for b, beta0 in enumerate(BETA0):
        for a, alpha_xy in enumerate(ALPHA_XY):
            chosen = np.asarray(
                select(
                    "b4",
                    passing,
                    solution_mask,
                    test_mask,
                    beta0=beta0,
                    alpha_xy=alpha_xy,
                    min_confidence=min_confidence,
                    unique=bool(ids),
                    **ids,
                ).solutions
            )
            shares = [c[s].mean() if s.any() else 0.0 for c, s in zip(correct, chosen)]
            expected[b, a] = np.mean(shares)
    assert len(np.unique(expected.round(6))) >= 2
    np.testing.assert_allclose(calibration.scores, expected, rtol=0, atol=1e-12)
    b, a = np.unravel_index(expected.argmax(), expected.shape)
    assert (calibration.beta0, calibration.alpha_xy) == (BETA0[b], ALPHA_XY[a])


def calibrate_on_agreement(**settings) -> tuple[float, float]:
    """Problems on which every pair of the grid is right: all solutions are equal."""
    ones, mask = np.ones((3, 8, 8), bool), np.ones((3, 8), bool)
    calibration = calibrate_b4(
        ones, mask, mask, mask, **({"beta0_grid": BETA0, "alpha_xy_grid": ALPHA_XY} | settings)
    )
    assert np.all(calibration.scores == 1.0)
    return calibration.beta0, calibration.alpha_xy


def test_the_previous_pair_is_kept_among_equals() -> None:
    assert calibrate_on_agreement(previous=(1e4, 1e3)) == (1e4, 1e3)


def test_without_a_previous_pair_the_first_in_grid_order_is_taken() -> None:
    assert calibrate_on_agreement() == (1.0, 1.0)
    assert calibrate_on_agreement(previous=(5e4, 1e3)) == (1.0, 1.0)


def test_the_previous_pair_is_left_when_another_is_better() -> None:
    # Two that pass tests 0 to 4, five that pass 5 to 7: B4(4,3) believes the five, B4(0,0) the two.
    two, five = [True] * 5 + [False] * 3, [False] * 5 + [True] * 3
    passing = np.array([[two] * 2 + [five] * 5 + [[False] * 8]])
    mask = np.ones((1, 8), bool)

    def calibrated(correct: list[bool]) -> tuple[float, float]:
        return calibrate_b4(
            passing,
            np.array([correct]),
            mask,
            mask,
            beta0_grid=BETA0,
            alpha_xy_grid=ALPHA_XY,
            previous=(1e4, 1e3),
        )[:2]

    assert calibrated([False] * 2 + [True] * 5 + [False]) == (1e4, 1e3)
    assert calibrated([True] * 2 + [False] * 6) == (1.0, 1.0)


def test_an_abstention_on_a_labelled_problem_is_worth_nothing() -> None:
    zeros, mask = np.zeros((1, 8, 8), bool), np.ones((1, 8), bool)
    calibration = calibrate_b4(zeros, mask, mask, mask, beta0_grid=BETA0, alpha_xy_grid=ALPHA_XY)
    assert np.all(calibration.scores == 0.0)


def test_another_grid_of_the_same_size_runs_the_same_program() -> None:
    calibrate_on_agreement()
    compiled = _score_grid._cache_size()
    calibrate_on_agreement(beta0_grid=[2.5 * b for b in BETA0], alpha_xy_grid=[0.5, 1, 2, 3, 4])
    assert _score_grid._cache_size() == compiled


def test_what_decides_a_selection_decides_the_calibration_too() -> None:
    passing, correct, solution_mask, test_mask = labelled_matrices(10, seed=4)
    scores = [
        calibrate_b4(
            *(passing, correct, solution_mask, test_mask),
            **({"beta0_grid": BETA0, "alpha_xy_grid": ALPHA_XY} | settings),
        ).scores
        for settings in ({}, {"min_confidence": 0.9}, random_ids(10))
    ]
    assert not np.allclose(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


def test_labels_of_masked_solutions_do_not_matter() -> None:
    passing, correct, solution_mask, test_mask = labelled_matrices(10, seed=5)
    before, after = (
        calibrate_b4(passing, c, solution_mask, test_mask, beta0_grid=BETA0, alpha_xy_grid=ALPHA_XY)
        for c in (correct, np.where(solution_mask, correct, ~correct))
    )
    np.testing.assert_array_equal(before.scores, after.scores)
