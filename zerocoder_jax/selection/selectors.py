"""Which solutions and tests of a problem to believe, from nothing but who passes what.

``select`` scores thousands of passing matrices in one jitted call. Formulas: MaxPass (AlphaCode, Li
et al., 2022), CodeT (Chen et al., ICLR 2023, arXiv 2207.10397), B4 (Chen et al., ASE 2024, arXiv
2409.08692). Ties go to the signature that appears first in row order.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from zerocoder_jax.errors import UserError
from zerocoder_jax.selection.candidates import Candidates, find_candidates
from zerocoder_jax.selection.fixed_point import (
    FixedPoint,
    first_largest,
    log_beta,
    log_rising,
)

CODET_WEIGHTS = ("sqrt", "identity")


class Selection(NamedTuple):
    """The consensus of each problem. An abstained selection selects nothing."""

    solutions: Array  # [P, S] bool
    tests: Array  # [P, T] bool, those that every selected solution passes
    score: Array  # [P] float32, the winner's; 0 where there was no candidate
    confidence: Array  # [P] float32 in [0, 1], the winner's share; 0 without evidence
    abstained: Array  # [P] bool


class B4Tables(NamedTuple):
    """B4's priors in the form that the device needs: tables of ``log_rising``."""

    beta0: FixedPoint  # [size]
    alpha_xy: FixedPoint  # [size]
    factorial: FixedPoint  # [size]


class Choice(NamedTuple):
    """What one selector says, before abstention."""

    solutions: Array  # [P, S] bool
    score: Array  # [P] float32
    confidence: Array  # [P] float32
    evidence: Array  # [P] bool


def max_pass(candidates: Candidates, tables: B4Tables, codet_weight: str) -> Choice:
    """All solutions that pass the most tests; confidence is their share of all passes."""
    most = jnp.max(candidates.num_passed, axis=1)  # [P]
    solutions = candidates.solution_mask & (candidates.num_passed == most[:, None])
    passes = jnp.sum(candidates.num_passed, axis=1)
    share = jnp.sum(jnp.where(solutions, candidates.num_passed, 0), axis=1) / jnp.maximum(passes, 1)
    return Choice(solutions, most.astype(jnp.float32), share, most > 0)


def codet(candidates: Candidates, tables: B4Tables, codet_weight: str) -> Choice:
    """The group with the largest ``f(solutions) * tests passed``; confidence is its share of them.

    ``f`` is the square root as in the released code, or the identity.
    """
    size, passed = candidates.group_size, candidates.num_passed  # [P, S]
    power = 0.5 if codet_weight == "sqrt" else 1.0
    # Squaring makes sqrt(2) * 6 and sqrt(8) * 3 the equal integers that they are.
    order = size * passed**2 if codet_weight == "sqrt" else size * passed
    order = jnp.where(candidates.first, order, 0)
    winner = _marked(jnp.argmax(order, axis=1), size.shape[1])
    scores = jnp.where(candidates.first, size.astype(jnp.float32) ** power * passed, 0.0)
    score = _at(scores, winner)
    evidence = jnp.max(order, axis=1) > 0
    confidence = score / jnp.where(evidence, jnp.sum(scores, axis=1), 1.0)
    return Choice(_group(candidates, winner), score, confidence, evidence)


def b4(candidates: Candidates, tables: B4Tables, codet_weight: str) -> Choice:
    """The group with the largest posterior under B4's priors; confidence is its softmax share.

    The group that passes nothing can win: no evidence of correctness, and so an abstention.
    """
    scores = b4_scores(candidates, tables)  # [P, S]
    index, below = first_largest(scores, candidates.first)
    winner = _marked(index, below.shape[1])
    weights = jnp.where(candidates.first, jnp.exp(below), 0.0)
    evidence = _at(candidates.num_passed, winner) > 0
    confidence = _at(weights, winner) / jnp.maximum(jnp.sum(weights, axis=1), 1.0)
    score = jnp.where(jnp.any(candidates.first, axis=1), _at(scores.to_float(), winner), 0.0)
    return Choice(_group(candidates, winner), score, confidence, evidence)


def b4_scores(candidates: Candidates, tables: B4Tables) -> FixedPoint:
    """B4's score of every row's group, [P, S], normalized.

    ``ln B(n_x + alpha_xy, N - n_x + 1) + ln B(n_y + alpha_xy, M - n_y + 1)
    + ln B(k1 + 1, d1 - k1 + 1) + ln B(k0 + 1, d0 - k0 + beta0)``
    with ``d1 = (N - n_x) n_y`` and ``d0 = (N - n_x) (M - n_y)``.
    """
    others = candidates.num_solutions - candidates.group_size  # [P, S], N - n_x
    failed = candidates.num_tests - candidates.num_passed  # [P, S], M - n_y
    inside, outside = candidates.others_inside, candidates.others_outside  # k1, k0
    missing_inside = others * candidates.num_passed - inside  # d1 - k1
    missing_outside = others * failed - outside  # d0 - k0
    factorial = tables.factorial
    score = (
        log_beta(candidates.group_size, others, tables.alpha_xy, factorial)
        + log_beta(candidates.num_passed, failed, tables.alpha_xy, factorial)
        + log_beta(inside, missing_inside, factorial, factorial)
        + log_beta(missing_outside, outside, tables.beta0, factorial)
    )
    return score.normalized()


SELECTORS: dict[str, Callable[[Candidates, B4Tables, str], Choice]] = {
    "max_pass": max_pass,
    "codet": codet,
    "b4": b4,
}


def select(
    name: str,
    passing: ArrayLike,
    solution_mask: ArrayLike,
    test_mask: ArrayLike,
    *,
    beta0: float = 1e4,
    alpha_xy: float = 1e3,
    codet_weight: str = "sqrt",
    unique: bool = False,
    min_confidence: float = 0.0,
    solution_ids: ArrayLike | None = None,
    test_ids: ArrayLike | None = None,
) -> Selection:
    """The consensus solutions and tests of every problem, in one jitted call.

    One program is compiled per selector and shape; other hyperparameters run the same one.

    Args:
        name: one of ``SELECTORS``; dynamic B4 is "b4" with the values of ``calibrate_b4``.
        passing: [P, S, T] bool, solution s passes test t.
        solution_mask: [P, S] bool, False for replies without a solution, and for padding.
        test_mask: [P, T] bool, False for replies without a test, and for padding. What is masked
            is no candidate, counts in no sum, and is never selected.
        beta0: above 0; B4's prior that wrong solutions rarely pass wrong tests.
        alpha_xy: above 0; B4's prior in favour of large consensus sets.
        codet_weight: "sqrt" or "identity", CodeT's weight of a group's size.
        unique: count equal solutions and equal tests once; needs the ids.
        min_confidence: a selection whose confidence is below this abstains.
        solution_ids: [P, S] int, equal numbers for equal solutions of a problem (``text_ids``).
        test_ids: [P, T] int, likewise.

    Returns:
        A ``Selection``. It abstains where nothing is left after masking, where nothing passes,
        where B4 prefers the group that passes nothing, and below ``min_confidence``.

    Raises:
        UserError: an unknown name or a hyperparameter out of range.
        ValueError: ``unique`` without ids.
    """
    _check(name, beta0, alpha_xy, codet_weight)
    passing = np.asarray(passing) if not isinstance(passing, Array) else passing
    return _select(
        name,
        codet_weight,
        passing,
        solution_mask,
        test_mask,
        *_ids_to_count(unique, solution_ids, test_ids),
        b4_tables(beta0, alpha_xy, passing.shape),
        np.float32(min_confidence),
    )


def b4_tables(beta0: float, alpha_xy: float, shape: tuple[int, ...]) -> B4Tables:
    """The tables of one pair of priors for matrices of ``shape`` [..., S, T]."""
    size = table_size(shape)
    return B4Tables(
        beta0=log_rising(float(beta0), size),
        alpha_xy=log_rising(float(alpha_xy), size),
        factorial=log_rising(1.0, size),
    )


def table_size(shape: tuple[int, ...]) -> int:
    """The largest index that B4's score of [..., S, T] matrices reads is S T + 1."""
    return shape[-2] * shape[-1] + 2


def text_ids(texts: list[str | None]) -> np.ndarray:
    """[len(texts)] int32: equal numbers for equal texts; -1 for None, a reply without one."""
    numbers: dict[str | None, int] = {None: -1}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32)


@functools.partial(jax.jit, static_argnames=("name", "codet_weight"))
def _select(
    name: str,
    codet_weight: str,
    passing: Array,
    solution_mask: Array,
    test_mask: Array,
    solution_ids: Array | None,
    test_ids: Array | None,
    tables: B4Tables,
    min_confidence: Array,
) -> Selection:
    with jax.named_scope(f"select_{name}"):
        candidates = find_candidates(passing, solution_mask, test_mask, solution_ids, test_ids)
        choice = SELECTORS[name](candidates, tables, codet_weight)
        confidence = jnp.where(choice.evidence, choice.confidence, 0.0)
        abstained = ~choice.evidence | (confidence < min_confidence)
        solutions = choice.solutions & ~abstained[:, None]
        passed_by_all = jnp.all(candidates.passing | ~solutions[:, :, None], axis=1)
        tests = passed_by_all & candidates.test_mask & ~abstained[:, None]
        return Selection(solutions, tests, choice.score, confidence, abstained)


def _marked(index: Array, count: int) -> Array:
    """[P, count] bool, True at ``index`` [P]: what XLA reduces over faster than it gathers."""
    return jnp.arange(count) == index[:, None]


def _at(values: Array, winner: Array) -> Array:
    """[P]: the values [P, S] where ``winner`` [P, S] is True, at one place in each row."""
    return jnp.sum(jnp.where(winner, values, 0), axis=1)


def _group(candidates: Candidates, winner: Array) -> Array:
    """[P, S] bool: the rows with the winner's signature."""
    return jnp.any(candidates.members & winner[:, :, None], axis=1)


def _ids_to_count(
    unique: bool, solution_ids: ArrayLike | None, test_ids: ArrayLike | None
) -> tuple[ArrayLike | None, ArrayLike | None]:
    if not unique:
        return None, None
    if solution_ids is None or test_ids is None:
        raise ValueError("unique=True needs solution_ids and test_ids, as text_ids makes them")
    return solution_ids, test_ids


def _check(name: str, beta0: float, alpha_xy: float, codet_weight: str) -> None:
    if name not in SELECTORS:
        raise UserError(f"selector.name is {name!r}: set it to one of {', '.join(SELECTORS)}")
    if codet_weight not in CODET_WEIGHTS:
        names = ", ".join(CODET_WEIGHTS)
        raise UserError(f"selector.codet_weight is {codet_weight!r}: set it to one of {names}")
    for field, value in (("beta0", beta0), ("alpha_xy", alpha_xy)):
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"selector.{field} is {value}: set it to a positive number")
