"""The distinct signatures of a passing matrix, and the counts that every selector ranks them by."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Candidates(NamedTuple):
    """Per row of each matrix: the group of rows with its signature, and that group's counts.

    A signature is the set of tests that a solution passes. Rows of one group have equal counts, so
    a row stands for its group; ``first`` marks one row per group, the candidates.
    """

    passing: Array  # [P, S, T] bool, False where masked
    solution_mask: Array  # [P, S] bool
    test_mask: Array  # [P, T] bool
    members: Array  # [P, S, S] bool, row j has the signature of row i
    first: Array  # [P, S] bool, the first row of its group
    num_solutions: Array  # [P, 1] int32, N
    num_tests: Array  # [P, 1] int32, M
    group_size: Array  # [P, S] int32, n_x: solutions in the group
    num_passed: Array  # [P, S] int32, n_y: tests that the group passes
    others_inside: Array  # [P, S] int32, k1: ones of the other rows at the group's tests
    others_outside: Array  # [P, S] int32, k0: ones of the other rows at the other tests


def find_candidates(
    passing: Array,
    solution_mask: Array,
    test_mask: Array,
    solution_ids: Array | None = None,
    test_ids: Array | None = None,
) -> Candidates:
    """Group the rows of every matrix by signature and count.

    Args:
        passing: [P, S, T] bool.
        solution_mask: [P, S] bool, False for rows that take no part.
        test_mask: [P, T] bool, False for columns that take no part.
        solution_ids: [P, S] int32, equal numbers for equal solutions of a problem, which then count
            once; None counts every solution.
        test_ids: [P, T] int32, likewise for tests.
    """
    require_bool(passing)
    passing = passing & solution_mask[:, :, None] & test_mask[:, None, :]  # [P, S, T]
    ones = passing.astype(jnp.float32)
    # 0/1 products summed in float32 are exact, and this way the accelerator's matrix unit does it.
    common = jnp.einsum("pit,pjt->pij", ones, ones)  # [P, S, S]
    row_sums = jnp.sum(ones, axis=2)  # [P, S]
    equal = (common == row_sums[:, :, None]) & (common == row_sums[:, None, :])
    members = equal & solution_mask[:, :, None] & solution_mask[:, None, :]

    counted_rows = _first_of_each(solution_mask, solution_ids).astype(jnp.int32)  # [P, S]
    counted_columns = _first_of_each(test_mask, test_ids).astype(jnp.int32)  # [P, T]
    column_sums = jnp.einsum("pst,ps->pt", passing, counted_rows)  # [P, T]
    group_size = jnp.einsum("pij,pj->pi", members, counted_rows)
    num_passed = jnp.einsum("pst,pt->ps", passing, counted_columns)
    inside = jnp.einsum("pst,pt->ps", passing, counted_columns * column_sums)
    total = jnp.sum(counted_columns * column_sums, axis=1, keepdims=True)  # [P, 1]
    return Candidates(
        passing=passing,
        solution_mask=solution_mask,
        test_mask=test_mask,
        members=members,
        first=_first_true_pairs(members),
        num_solutions=jnp.sum(counted_rows, axis=1, keepdims=True),
        num_tests=jnp.sum(counted_columns, axis=1, keepdims=True),
        group_size=group_size,
        num_passed=num_passed,
        others_inside=inside - group_size * num_passed,
        others_outside=total - inside,
    )


def require_bool(passing: Array) -> None:
    """A matrix of statuses, where 0 may mean passed, must not be taken for who passed what."""
    if passing.dtype != jnp.bool_:
        raise TypeError(f"passing holds {passing.dtype}: compare the statuses with PASSED first")


def _first_true_pairs(same: Array) -> Array:
    """[P, n] bool: row i equals itself and no earlier row; ``same`` is [P, n, n] bool."""
    count = same.shape[-1]
    earlier = jnp.arange(count)[None, :] < jnp.arange(count)[:, None]  # [i, j]: j comes before i
    present = jnp.diagonal(same, axis1=-2, axis2=-1)
    return present & ~jnp.any(same & earlier, axis=-1)


def _first_of_each(mask: Array, ids: Array | None) -> Array:
    """[P, n] bool: the unmasked entries, only the first of every id."""
    if ids is None:
        return mask
    same = (ids[:, :, None] == ids[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    return _first_true_pairs(same)
