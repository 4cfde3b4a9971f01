"""The consensus of every problem of a step: masks, ranks, selection, and B4's calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zerocoder_jax.execution import MutationResult
from zerocoder_jax.selection import Calibration, calibrate_b4, matrix_rank, select, text_ids
from zerocoder_jax.training.sampling import ProblemSamples, Sample


@dataclass
class Judged:
    """A problem's samples, what the selector made of them, and the rewards of the role in turn.

    Attributes:
      solution_mask: [S] bool, takes part in the selection.
      test_mask: [T] bool, likewise.
      selected_solutions: [S] bool, the consensus; empty where the selector abstained.
      selected_tests: [T] bool.
      supervised: rewarded by labels instead of the consensus.
      calibration: one of the labelled calibration problems.
      proxy: index of the solution that stands for the consensus; None where there is none, or
        where the reference solution stands for it.
      agrees: [T] bool, the test passes on the proxy; None on the Coder's turns.
      mutation_score: [T] float32, share of the proxy's mutants that the test kills.
      mutation: the mutants and their runs.
      rewards: [S] or [T] float32.
      reward_mask: [S] or [T] bool; False where the verifier failed, so that no reward exists.
    """

    samples: ProblemSamples
    solution_mask: np.ndarray
    test_mask: np.ndarray
    rank: int
    selected_solutions: np.ndarray
    selected_tests: np.ndarray
    score: float
    confidence: float
    abstained: bool
    supervised: bool = False
    calibration: bool = False
    proxy: int | None = None
    agrees: np.ndarray | None = None
    mutation_score: np.ndarray | None = None
    mutation: MutationResult | None = None
    rewards: np.ndarray | None = None
    reward_mask: np.ndarray | None = None


def stack(
    samples: Sequence[ProblemSamples],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stack P problems: passing [P, S, T] bool, solution mask [P, S], test mask [P, T]."""
    masks = [one.masks() for one in samples]
    passing = np.stack([one.passing for one in samples])
    return passing, np.stack([m[0] for m in masks]), np.stack([m[1] for m in masks])


def judge(
    samples: Sequence[ProblemSamples], hyperparameters: tuple[float, float], selector: Any
) -> list[Judged]:
    """Select the consensus of each problem, all of them in one device call.

    Args:
      hyperparameters: B4's (beta0, alpha_xy); the other selectors do not look at them.
      selector: ``config.selector``.
    """
    passing, solution_mask, test_mask = stack(samples)
    beta0, alpha_xy = hyperparameters
    selection = select(
        selector.name,
        passing,
        solution_mask,
        test_mask,
        beta0=beta0,
        alpha_xy=alpha_xy,
        codet_weight=selector.codet_weight,
        unique=selector.unique,
        min_confidence=selector.min_confidence,
        solution_ids=np.stack([_ids(one.solutions) for one in samples]),
        test_ids=np.stack([_ids(one.tests) for one in samples]),
    )
    ranks = np.asarray(matrix_rank(passing, solution_mask, test_mask))
    chosen_solutions, chosen_tests = np.asarray(selection.solutions), np.asarray(selection.tests)
    return [
        Judged(
            samples=one,
            solution_mask=solution_mask[i],
            test_mask=test_mask[i],
            rank=int(ranks[i]),
            selected_solutions=chosen_solutions[i],
            selected_tests=chosen_tests[i],
            score=float(selection.score[i]),
            confidence=float(selection.confidence[i]),
            abstained=bool(selection.abstained[i]),
        )
        for i, one in enumerate(samples)
    ]


def _ids(samples: Sequence[Sample]) -> np.ndarray:
    """[N] int32: equal numbers for samples with the same program or test."""
    # By their text: as values, tests for 1 and for True would be equal.
    return text_ids([None if one.parsed is None else repr(one.parsed) for one in samples])


def calibrate(
    labelled: Sequence[ProblemSamples], previous: tuple[float, float], selector: Any
) -> Calibration:
    """Choose B4's hyperparameters on the labelled problems: the pair whose selections are right.

    Args:
      labelled: samples whose ``correct`` is known.
      previous: the pair in force, kept when it is among the best.
      selector: ``config.selector``.
    """
    passing, solution_mask, test_mask = stack(labelled)
    correct = np.stack([np.asarray(one.correct, bool) for one in labelled])  # [C, S]
    ids: dict[str, Any] = {}
    if selector.unique:
        ids["solution_ids"] = np.stack([_ids(one.solutions) for one in labelled])
        ids["test_ids"] = np.stack([_ids(one.tests) for one in labelled])
    return calibrate_b4(
        passing,
        correct,
        solution_mask,
        test_mask,
        beta0_grid=[10.0**e for e in selector.calibration.beta0_exponents],
        alpha_xy_grid=[10.0**e for e in selector.calibration.alpha_xy_exponents],
        previous=previous,
        min_confidence=selector.min_confidence,
        **ids,
    )
