"""Selections worked out by hand, and the edges: no evidence, no candidates, equal everything."""

import numpy as np
import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.selection import SELECTORS, select, text_ids
from zerocoder_jax.selection.selectors import _select

ALL = tuple(SELECTORS)


def matrix_of(*rows: set[int], tests: int = 8) -> np.ndarray:
    """[1, S, T] bool from the sets of tests that each solution passes."""
    return np.array([[[test in row for test in range(tests)] for row in rows]])


def choose(name: str, passing: np.ndarray, **settings):
    """Selected solutions and tests as index lists, and the selection itself, of one problem."""
    _, solutions, tests = passing.shape
    masks = {"solution_mask": np.ones((1, solutions), bool), "test_mask": np.ones((1, tests), bool)}
    selection = select(name, passing, **(masks | settings))
    return (
        np.flatnonzero(selection.solutions[0]).tolist(),
        np.flatnonzero(selection.tests[0]).tolist(),
        selection,
    )


FOUR_AGAINST_THREE = matrix_of(*[{0, 1, 2, 3}] * 4, *[{3, 4, 5, 6, 7}] * 3, set())
SEVEN_FAIL = matrix_of(*[set()] * 7, {3})


def test_codet_prefers_three_that_pass_five() -> None:
    solutions, tests, selection = choose("codet", FOUR_AGAINST_THREE)
    assert (solutions, tests) == ([4, 5, 6], [3, 4, 5, 6, 7])
    assert float(selection.score[0]) == pytest.approx(np.sqrt(3) * 5, rel=1e-6)
    share = np.sqrt(3) * 5 / (np.sqrt(3) * 5 + np.sqrt(4) * 4)
    assert float(selection.confidence[0]) == pytest.approx(share, rel=1e-6)


def test_codet_by_identity_prefers_four_that_pass_four() -> None:
    solutions, _, selection = choose("codet", FOUR_AGAINST_THREE, codet_weight="identity")
    assert solutions == [0, 1, 2, 3]
    assert float(selection.score[0]) == 16.0


def test_b4_prefers_four_that_pass_four() -> None:
    solutions, tests, selection = choose("b4", FOUR_AGAINST_THREE, beta0=1e4, alpha_xy=1e3)
    assert (solutions, tests) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert float(selection.score[0]) == pytest.approx(-171.7, abs=0.05)
    assert float(selection.confidence[0]) == pytest.approx(1 / (1 + np.exp(-175.02 + 171.7)), 0.01)


def test_max_pass_keeps_the_tests_that_all_selected_pass() -> None:
    solutions, tests, selection = choose("max_pass", matrix_of({0, 1}, {1, 2}, {3}, set()))
    assert (solutions, tests) == ([0, 1], [1])
    assert float(selection.score[0]) == 2.0
    assert float(selection.confidence[0]) == pytest.approx(4 / 5)


def test_b4_abstains_where_the_group_that_passes_nothing_wins() -> None:
    solutions, tests, selection = choose("b4", SEVEN_FAIL, beta0=1e4, alpha_xy=1e3)
    assert (solutions, tests) == ([], [])
    assert bool(selection.abstained[0])
    assert float(selection.score[0]) == pytest.approx(-83.9, abs=0.05)
    assert float(selection.confidence[0]) == 0.0


@pytest.mark.parametrize("name", ["max_pass", "codet"])
def test_counting_selectors_believe_the_one_that_passes(name: str) -> None:
    solutions, tests, selection = choose(name, SEVEN_FAIL)
    assert (solutions, tests) == ([7], [3])
    assert not bool(selection.abstained[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "settings",
    [
        {"passing": np.zeros((1, 8, 8), bool)},
        {"passing": np.ones((1, 8, 8), bool), "solution_mask": np.zeros((1, 8), bool)},
        {"passing": np.ones((1, 8, 8), bool), "test_mask": np.zeros((1, 8), bool)},
    ],
    ids=["nothing passes", "no solution left", "no test left"],
)
def test_every_selector_abstains_without_evidence(name: str, settings: dict) -> None:
    solutions, tests, selection = choose(name, **settings)
    assert (solutions, tests) == ([], [])
    assert bool(selection.abstained[0])
    assert float(selection.confidence[0]) == 0.0
    assert np.isfinite(selection.score).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("row", [set(range(8)), {2, 5}])
def test_equal_solutions_are_all_selected_with_full_confidence(name: str, row: set[int]) -> None:
    solutions, tests, selection = choose(name, matrix_of(*[row] * 8))
    assert (solutions, tests) == (list(range(8)), sorted(row))
    assert float(selection.confidence[0]) == 1.0


@pytest.mark.parametrize("name", ["codet", "b4"])
def test_ties_go_to_the_first_signature(name: str) -> None:
    solutions, tests, _ = choose(name, matrix_of({4, 5}, {2, 3}, {2, 3}, {4, 5}))
    assert (solutions, tests) == ([0, 3], [4, 5])


def test_codet_scores_that_are_equal_only_as_roots_tie() -> None:
    """sqrt(2) * 6 = sqrt(8) * 3, although their float32 products need not be equal."""
    passing = matrix_of(*[set(range(6, 9))] * 8, *[set(range(6))] * 2, tests=9)
    assert choose("codet", passing)[0] == list(range(8))
    assert choose("codet", passing[:, ::-1])[0] == [0, 1]


def test_a_selection_below_the_minimal_confidence_abstains() -> None:
    confidence = float(choose("codet", FOUR_AGAINST_THREE)[2].confidence[0])
    kept = choose("codet", FOUR_AGAINST_THREE, min_confidence=confidence - 0.01)
    left = choose("codet", FOUR_AGAINST_THREE, min_confidence=confidence + 0.01)
    assert kept[0] == [4, 5, 6]
    assert left[:2] == ([], [])
    assert bool(left[2].abstained[0])
    assert float(left[2].confidence[0]) == pytest.approx(confidence)


def test_unique_counts_equal_texts_once_and_selects_them_all() -> None:
    passing = matrix_of({0}, {0}, {0}, {0}, {1, 2}, {1, 2}, tests=3)
    ids = {
        "solution_ids": text_ids(["a", "a", "a", "a", "b", "c"])[None],
        "test_ids": text_ids(["s", "t", "u"])[None],
    }
    assert choose("codet", passing, codet_weight="identity")[0] == [0, 1, 2, 3]
    solutions, tests, selection = choose(
        "codet", passing, codet_weight="identity", unique=True, **ids
    )
    assert (solutions, tests) == ([4, 5], [1, 2])
    assert float(selection.score[0]) == 4.0

    ids["test_ids"] = text_ids(["s", "t", "t"])[None]
    solutions, tests, selection = choose(
        "codet", passing, codet_weight="identity", unique=True, **ids
    )
    assert (solutions, tests) == ([4, 5], [1, 2])
    assert float(selection.score[0]) == 2.0


def test_text_ids_number_texts_by_first_appearance() -> None:
    assert text_ids(["b", None, "a", "b", None]).tolist() == [1, -1, 2, 1, -1]


def test_other_hyperparameters_run_the_same_program() -> None:
    choose("b4", FOUR_AGAINST_THREE)
    compiled = _select._cache_size()
    for beta0, alpha_xy, confidence in ((1.0, 1e4, 0.0), (1e6, 0.5, 0.3), (123.4, 5.6, 0.9)):
        choose("b4", FOUR_AGAINST_THREE, beta0=beta0, alpha_xy=alpha_xy, min_confidence=confidence)
    assert _select._cache_size() == compiled


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "b5"}, "selector.name"),
        ({"beta0": 0.0}, "selector.beta0"),
        ({"alpha_xy": float("inf")}, "selector.alpha_xy"),
        ({"codet_weight": "log"}, "selector.codet_weight"),
    ],
)
def test_a_bad_setting_is_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose(**({"name": "b4", "passing": SEVEN_FAIL} | settings))


def test_unique_without_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="text_ids"):
        choose("b4", SEVEN_FAIL, unique=True)
