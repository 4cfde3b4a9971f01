"""The batched rank against exact elimination, also where floating point would be in doubt."""

from fractions import Fraction

import numpy as np
import pytest

from zerocoder_jax.selection import matrix_rank
from zerocoder_jax.selection.rank import primes_for

pytestmark = pytest.mark.optimized

# Rows as bit sets. The determinants are minus 65521 and minus 65519: full rank, yet singular modulo
# the one or the other of the two primes.
SINGULAR_MODULO_65521 = (
    *(54196, 4334, 22815, 22737, 36503, 51754, 47484, 27293),
    *(62503, 16258, 19830, 10075, 57048, 23405, 50633, 7353),
)
SINGULAR_MODULO_65519 = (
    *(50296, 24375, 26558, 5215, 42372, 4048, 32138, 43027),
    *(52879, 24821, 38646, 60238, 37769, 15913, 2415, 10083),
)


def exact_ranks(matrices: np.ndarray) -> np.ndarray:
    """Fraction-free elimination (Bareiss) of [P, n, n] 0/1 matrices.

    Every entry is a minor of the matrix, so an integer below 438,873 up to 16 x 16: products of two
    are exact in float64, and the divisions leave no remainder.
    """
    work = matrices.astype(np.float64)
    count, size, _ = work.shape
    which = np.arange(count)
    ranks = np.zeros(count, np.int64)
    divisor = np.ones(count)
    used = np.zeros((count, size), bool)
    for column in range(size):
        usable = (work[:, :, column] != 0) & ~used
        found = usable.any(axis=1)
        row = usable.argmax(axis=1)
        pivot = np.where(found, work[which, row, column], 1)
        pivot_row = work[which, row]
        reduced = work * pivot[:, None, None] - work[:, :, column, None] * pivot_row[:, None, :]
        reduced /= divisor[:, None, None]
        used[which, row] |= found
        work = np.where(found[:, None, None] & ~used[:, :, None], reduced, work)
        divisor = np.where(found, pivot, divisor)
        ranks += found
    return ranks


def fraction_rank(matrix: np.ndarray) -> int:
    """Textbook elimination with fractions."""
    rows = [[Fraction(int(entry)) for entry in row] for row in matrix]
    rank = 0
    for column in range(matrix.shape[1]):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank])]
        rank += 1
    return rank


def ranks_of(matrices: np.ndarray) -> np.ndarray:
    count, rows, columns = matrices.shape
    return np.asarray(
        matrix_rank(matrices, np.ones((count, rows), bool), np.ones((count, columns), bool))
    )


def from_bits(rows: tuple[int, ...]) -> np.ndarray:
    return (np.array(rows)[:, None] >> np.arange(len(rows)) & 1).astype(bool)


def near_degenerate(count: int, seed: int) -> np.ndarray:
    """16 x 16 matrices with rows that are sums of others, half of them spoilt in one entry."""
    rng = np.random.default_rng(seed)
    matrices = rng.random((count, 16, 16)) < rng.uniform(0.1, 0.9, (count, 1, 1))
    for matrix in matrices:
        for _ in range(rng.integers(1, 5)):
            a, b, c, d = rng.choice(16, 4, replace=False)
            matrix[b] &= ~matrix[a]
            matrix[c] = matrix[a] | matrix[b]  # c = a + b
            matrix[d] = ~matrix[c]  # d = 1 - c
        if rng.random() < 0.5:
            matrix[tuple(rng.integers(0, 16, 2))] ^= True
    return matrices


def test_the_references_agree_with_each_other() -> None:
    matrices = near_degenerate(100, seed=1)
    assert exact_ranks(matrices).tolist() == [fraction_rank(matrix) for matrix in matrices]


def test_rank_is_exact_on_every_4x4_matrix() -> None:
    matrices = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(bool).reshape(-1, 4, 4)
    np.testing.assert_array_equal(ranks_of(matrices), exact_ranks(matrices))


def test_rank_is_exact_on_100_000_masked_matrices_up_to_16x16() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        matrices = rng.random((5_000, 16, 16)) < rng.uniform(0.05, 0.95, (5_000, 1, 1))
        masks = rng.random((2, 5_000, 16)) < rng.random((2, 5_000, 1))
        expected = exact_ranks(matrices & masks[0][:, :, None] & masks[1][:, None, :])
        np.testing.assert_array_equal(matrix_rank(matrices, *masks), expected)


def test_rank_is_exact_where_rows_are_sums_of_others() -> None:
    matrices = near_degenerate(5_000, seed=5)
    expected = exact_ranks(matrices)
    assert len(set(expected.tolist())) > 5
    np.testing.assert_array_equal(ranks_of(matrices), expected)


@pytest.mark.parametrize("rows", [SINGULAR_MODULO_65521, SINGULAR_MODULO_65519])
def test_no_single_prime_decides_the_rank(rows: tuple[int, ...]) -> None:
    matrix = from_bits(rows)
    assert abs(round(np.linalg.det(matrix))) in primes_for(16)
    assert ranks_of(matrix[None]).tolist() == [fraction_rank(matrix)] == [16]


def test_primes_suffice_for_hadamards_bound() -> None:
    assert primes_for(16) == (65521, 65519)
    for size in (1, 8, 16, 22, 23, 64, 100):
        product = np.prod([float(prime) for prime in primes_for(size)])
        assert product > (size + 1) ** ((size + 1) / 2) / 2.0**size
    assert len(primes_for(22)) == 2
    assert len(primes_for(23)) == 3


def test_rank_is_exact_beyond_16x16_and_for_oblong_matrices() -> None:
    rng = np.random.default_rng(9)
    wide = rng.random((3, 5, 24)) < 0.5
    large = rng.random((2, 24, 24)) < 0.5
    large[:, 7] = large[:, 3]
    for matrices in (wide, np.swapaxes(wide, 1, 2), large):
        assert ranks_of(matrices).tolist() == [fraction_rank(matrix) for matrix in matrices]


def test_statuses_are_not_taken_for_passes() -> None:
    with pytest.raises(TypeError, match="PASSED"):
        ranks_of(np.zeros((1, 2, 2), np.uint8))
