"""Selectors against a plain scorer: float64 ``betaln``, and exact fractions where that is too near.

The oracle keeps every row as a Python integer, one bit a test, and follows the formulas literally.
Its winner is exact: scores within 1e-6 of the best are compared as products of fractions.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import betaln

from zerocoder_jax.selection import select
from zerocoder_jax.selection.candidates import find_candidates
from zerocoder_jax.selection.selectors import b4_scores, b4_tables

pytestmark = pytest.mark.optimized

# The grid's corners, the published pair, and numbers that are no integers.
PRIORS = ((1e4, 1e3), (1e6, 1e4), (1.0, 1.0), (1e6, 1.0), (1.0, 1e4), (3.7, 0.25))
PADDED = 16


@dataclass(frozen=True)
class Expected:
    solutions: int  # bit set of rows
    tests: int  # bit set of columns
    score: float
    confidence: float
    abstained: bool


NOTHING = Expected(0, 0, 0.0, 0.0, True)
log_beta = functools.lru_cache(maxsize=None)(lambda a, b: float(betaln(a, b)))


def b4_terms(size, passed, inside, outside, num_solutions, num_tests, beta0, alpha_xy):
    """The four pairs of arguments of B, which is symmetric; the second ones are integers."""
    d1 = (num_solutions - size) * passed
    d0 = (num_solutions - size) * (num_tests - passed)
    return (
        (size + alpha_xy, num_solutions - size + 1),
        (passed + alpha_xy, num_tests - passed + 1),
        (inside + 1, d1 - inside + 1),
        (d0 - outside + beta0, outside + 1),
    )


@functools.cache
def exact_b4(*counts_and_priors) -> Fraction:
    """``exp`` of the score, without rounding."""
    product = Fraction(1)
    for a, b in b4_terms(*counts_and_priors):
        start = Fraction(a)
        product *= math.factorial(int(b) - 1) / math.prod(start + i for i in range(int(b)))
    return product


def groups_of(rows: dict[int, int]) -> dict[int, int]:
    """Signature to the bit set of its rows, in the order of first appearance."""
    groups: dict[int, int] = {}
    for index, signature in rows.items():
        groups[signature] = groups.get(signature, 0) | 1 << index
    return groups


def expect_max_pass(rows, num_tests, priors) -> Expected:
    total = sum(row.bit_count() for row in rows.values())
    if total == 0:
        return NOTHING
    most = max(row.bit_count() for row in rows.values())
    chosen = [index for index, row in rows.items() if row.bit_count() == most]
    tests = functools.reduce(int.__and__, (rows[index] for index in chosen))
    solutions = sum(1 << index for index in chosen)
    return Expected(solutions, tests, most, len(chosen) * most / total, False)


def expect_codet(rows, num_tests, priors) -> Expected:
    groups = groups_of(rows)
    # Squared scores are integers, and the order of squares is the order of scores.
    squares = {y: x.bit_count() * y.bit_count() ** 2 for y, x in groups.items()}
    best = max(squares, key=squares.__getitem__, default=0)
    if not squares or squares[best] == 0:
        return NOTHING
    share = math.sqrt(squares[best]) / sum(map(math.sqrt, squares.values()))
    return Expected(groups[best], best, math.sqrt(squares[best]), share, False)


def expect_b4(rows, num_tests, priors) -> Expected:
    if not rows:
        return NOTHING
    groups = groups_of(rows)
    counts = {}
    for y, x in groups.items():
        others = [row for index, row in rows.items() if not x >> index & 1]
        inside = sum((row & y).bit_count() for row in others)
        outside = sum((row & ~y).bit_count() for row in others)
        counts[y] = (x.bit_count(), y.bit_count(), inside, outside, len(rows), num_tests, *priors)
    scores = {y: sum(log_beta(*ab) for ab in b4_terms(*counts[y])) for y in groups}
    top = max(scores.values())
    near = [y for y in groups if scores[y] > top - 1e-6]
    best = near[0] if len(near) == 1 else max(near, key=lambda y: exact_b4(*counts[y]))
    share = 1.0 / sum(math.exp(score - scores[best]) for score in scores.values())
    if best == 0:
        return Expected(0, 0, scores[best], 0.0, True)
    return Expected(groups[best], best, scores[best], share, False)


EXPECT = {"max_pass": expect_max_pass, "codet": expect_codet, "b4": expect_b4}


def bit_sets(flags: np.ndarray) -> list[int]:
    """[..., n] bool to nested lists of integers, bit i for entry i."""
    return (flags @ (1 << np.arange(flags.shape[-1], dtype=np.int64))).tolist()


def assert_agrees(name, passing, solution_mask, test_mask, priors) -> None:
    """Every problem of a batch selects what the oracle selects."""
    beta0, alpha_xy = priors
    selection = select(name, passing, solution_mask, test_mask, beta0=beta0, alpha_xy=alpha_xy)
    solutions, tests = (bit_sets(np.asarray(part)) for part in selection[:2])
    scores, confidences = (np.asarray(part, np.float64) for part in selection[2:4])
    abstained = np.asarray(selection.abstained).tolist()
    row_bits = bit_sets(passing & test_mask[:, None, :])
    for p, (row_mask, bits) in enumerate(zip(solution_mask.tolist(), row_bits)):
        rows = {s: row for s, (row, real) in enumerate(zip(bits, row_mask)) if real}
        num_tests = int(test_mask[p].sum())
        expected = EXPECT[name](rows, num_tests, priors)
        found = (solutions[p], tests[p], abstained[p])
        wanted = (expected.solutions, expected.tests, expected.abstained)
        assert found == wanted, (name, priors, passing[p], solution_mask[p], test_mask[p])
        # A score in the thousands is half a unit in the last place of float32 away, at best.
        tolerance = 1e-4 + abs(expected.score) * 2.0**-24
        assert abs(scores[p] - expected.score) <= tolerance
        assert abs(confidences[p] - expected.confidence) <= 1e-5


def all_4x4() -> np.ndarray:
    return (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(bool).reshape(-1, 4, 4)


def random_batches(count: int, per_batch: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Matrices of every shape up to 16 x 16 in a padded frame, masked anywhere, rich in ties."""
    rng = np.random.default_rng(seed)
    for _ in range(count // per_batch):
        shape = (per_batch, PADDED, PADDED)
        density = rng.uniform(0.05, 0.95, (per_batch, 1, 1))
        passing = rng.random(shape) < density
        # Some rows repeat another row, and some columns another column.
        for axis in (1, 2):
            source = rng.integers(0, PADDED, (per_batch, PADDED))
            source = np.where(
                rng.random((per_batch, PADDED)) < rng.random((per_batch, 1)),
                source,
                np.arange(PADDED),
            )
            index = source[:, :, None] if axis == 1 else source[:, None, :]
            passing = np.take_along_axis(passing, np.broadcast_to(index, shape), axis=axis)
        masks = []
        for _ in range(2):
            size = rng.integers(0, PADDED + 1, (per_batch, 1))
            order = rng.permuted(np.tile(np.arange(PADDED), (per_batch, 1)), axis=1)
            masks.append(order < size)
        yield passing, masks[0], masks[1]


@pytest.mark.parametrize("name", ["max_pass", "codet"])
def test_counting_selectors_are_right_on_every_4x4_matrix(name: str) -> None:
    passing = all_4x4()
    mask = np.ones((len(passing), 4), bool)
    assert_agrees(name, passing, mask, mask, PRIORS[0])


@pytest.mark.parametrize("priors", PRIORS[:3])
def test_b4_is_right_on_every_4x4_matrix(priors: tuple[float, float]) -> None:
    passing = all_4x4()
    mask = np.ones((len(passing), 4), bool)
    assert_agrees("b4", passing, mask, mask, priors)


@pytest.mark.parametrize("name", ["max_pass", "codet", "b4"])
def test_selectors_are_right_on_100_000_masked_matrices_up_to_16x16(name: str) -> None:
    for batch, arrays in enumerate(random_batches(100_000, 5_000, seed=7)):
        assert_agrees(name, *arrays, PRIORS[batch % len(PRIORS)])


@pytest.mark.parametrize("priors", PRIORS)
def test_b4_scores_are_those_of_float64(priors: tuple[float, float]) -> None:
    """Not only the winner's: every group's, to the accuracy of float64's ``betaln``."""
    passing, solution_mask, test_mask = next(random_batches(500, 500, seed=11))
    candidates = find_candidates(passing, solution_mask, test_mask)
    scores = b4_scores(candidates, b4_tables(*priors, passing.shape))
    found = np.asarray(scores.high, np.float64) * 2.0**-14 + np.asarray(scores.low) * 2.0**-40
    counts = [
        np.broadcast_to(np.asarray(part, np.float64), found.shape)
        for part in (
            candidates.group_size,
            candidates.num_passed,
            candidates.others_inside,
            candidates.others_outside,
            candidates.num_solutions,
            candidates.num_tests,
        )
    ]
    expected = sum(betaln(a, b) for a, b in b4_terms(*counts, *priors))
    np.testing.assert_allclose(found[solution_mask], expected[solution_mask], rtol=0, atol=1e-7)
