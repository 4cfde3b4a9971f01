"""What must hold for every matrix: symmetries, masks, and what counts as evidence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zerocoder_jax.selection import SELECTORS, Selection, select

ROWS, COLUMNS = 6, 6
selectors = pytest.mark.parametrize("name", list(SELECTORS))
counting_selectors = pytest.mark.parametrize("name", ["max_pass", "codet"])
matrices = arrays(bool, (ROWS, COLUMNS))
row_masks = arrays(bool, ROWS, elements=st.sampled_from([True, True, True, False]))
column_masks = arrays(bool, COLUMNS, elements=st.sampled_from([True, True, True, False]))
permutations = st.permutations(range(ROWS)).map(np.array)
priors = st.sampled_from([(1e4, 1e3), (1e6, 1e4), (1.0, 1.0), (17.5, 0.1)])
enough = settings(max_examples=150, deadline=None)


def choose(
    name: str,
    passing: np.ndarray,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    prior: tuple[float, float] = (1e4, 1e3),
) -> Selection:
    """The selection of one problem as NumPy arrays without the batch axis.

    The problem is put into a frame of one size, so that each selector is compiled once.
    """
    frame = np.zeros((ROWS, 2 * COLUMNS), bool)
    row_mask, column_mask = np.zeros(ROWS, bool), np.zeros(2 * COLUMNS, bool)
    frame[: passing.shape[0], : passing.shape[1]] = passing
    row_mask[: passing.shape[0]] = True if rows is None else rows
    column_mask[: passing.shape[1]] = True if columns is None else columns
    selection = select(
        name, frame[None], row_mask[None], column_mask[None], beta0=prior[0], alpha_xy=prior[1]
    )
    parts = [np.asarray(part)[0] for part in selection]
    return Selection(parts[0], parts[1][: passing.shape[1]], *parts[2:])


@selectors
@enough
@given(passing=matrices, prior=priors, order=permutations)
def test_permuting_the_tests_permutes_the_selection(name, passing, prior, order) -> None:
    before, after = choose(name, passing, prior=prior), choose(name, passing[:, order], prior=prior)
    np.testing.assert_array_equal(after.solutions, before.solutions)
    np.testing.assert_array_equal(after.tests, before.tests[order])
    assert after.score == before.score
    assert after.abstained == before.abstained


@selectors
@enough
@given(passing=matrices, prior=priors, order=permutations)
def test_permuting_the_solutions_permutes_the_selection(name, passing, prior, order) -> None:
    """Up to ties, which go to the first row: then the score is equal, and so is its group's."""
    before, after = choose(name, passing, prior=prior), choose(name, passing[order], prior=prior)
    assert after.score == before.score
    assert after.confidence == pytest.approx(float(before.confidence), abs=1e-6)
    unique_winner = name == "max_pass" or before.confidence > 0.5
    if unique_winner:
        np.testing.assert_array_equal(after.solutions, before.solutions[order])
        np.testing.assert_array_equal(after.tests, before.tests)


@selectors
@enough
@given(passing=matrices, noise=matrices, prior=priors, rows=row_masks, columns=column_masks)
def test_masked_entries_influence_nothing(name, passing, noise, prior, rows, columns) -> None:
    seen = rows[:, None] & columns
    before = choose(name, passing, rows, columns, prior)
    after = choose(name, np.where(seen, passing, noise), rows, columns, prior)
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
    assert not np.any(before.solutions & ~rows)
    assert not np.any(before.tests & ~columns)


@selectors
@enough
@given(passing=matrices, prior=priors, rows=row_masks, columns=column_masks)
def test_masking_is_removing(name, passing, prior, rows, columns) -> None:
    masked = choose(name, passing, rows, columns, prior)
    removed = choose(name, passing[np.ix_(rows, columns)], prior=prior)
    np.testing.assert_array_equal(masked.solutions[rows], removed.solutions[: rows.sum()])
    np.testing.assert_array_equal(masked.tests[columns], removed.tests)
    assert masked.score == removed.score


@counting_selectors
@enough
@given(passing=matrices)
def test_doubling_every_test_changes_no_winner(name, passing) -> None:
    single, double = choose(name, passing), choose(name, np.hstack([passing, passing]))
    np.testing.assert_array_equal(single.solutions, double.solutions)
    np.testing.assert_array_equal(np.hstack([single.tests, single.tests]), double.tests)


@counting_selectors
@enough
@given(passing=matrices, count=st.integers(1, COLUMNS))
def test_tests_that_nothing_passes_change_no_winner(name, passing, count) -> None:
    alone = choose(name, passing)
    more = choose(name, np.hstack([passing, np.zeros((ROWS, count), bool)]))
    np.testing.assert_array_equal(alone.solutions, more.solutions)
    np.testing.assert_array_equal(alone.tests, more.tests[:COLUMNS])
    assert not more.tests[COLUMNS:].any()


@counting_selectors
@enough
@given(passing=matrices, rows=row_masks, columns=column_masks)
def test_counting_selectors_abstain_exactly_without_a_pass(name, passing, rows, columns) -> None:
    selection = choose(name, passing, rows, columns)
    assert selection.abstained == (not passing[np.ix_(rows, columns)].any())


@selectors
@enough
@given(passing=matrices, prior=priors, rows=row_masks, columns=column_masks)
def test_what_is_selected_agrees_and_is_evidence(name, passing, prior, rows, columns) -> None:
    selection = choose(name, passing, rows, columns, prior)
    solutions, tests = selection.solutions, selection.tests
    assert selection.abstained == (not solutions.any())
    if selection.abstained:
        assert not tests.any()
        assert selection.confidence == 0.0
        return
    assert 0.0 < selection.confidence <= 1.0 + 1e-6
    # Every selected solution passes something, and all selected tests.
    assert passing[solutions][:, columns].any(axis=1).all()
    assert passing[np.ix_(solutions, tests)].all()
