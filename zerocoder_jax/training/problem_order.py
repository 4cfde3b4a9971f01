"""Which problems a step trains on: a pure function of the seed and the step.

Because nothing is remembered between steps, a resumed run draws exactly what an uninterrupted one
would have drawn, and any number of hosts can each compute their own share.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import Problem

# Streams of random numbers that must not overlap; each is folded in beside the run's seed.
_ORDER_STREAM = 1
_CALIBRATION_STREAM = 2


def problem_number(problem: Problem) -> int:
    """A number that stays with a problem wherever it stands in its data set; 32 bits, unsigned."""
    return zlib.crc32(problem.task_id.encode())


def calibration_problems(config: Any) -> int:
    """Labelled problems that are sampled in each step; 0 where none are used."""
    calibration = config.selector.calibration
    used = calibration.enabled or config.supervision == "calibration"
    return int(calibration.problems) if used else 0


def drawn_problems(config: Any) -> int:
    """Problems drawn in each step; the labelled ones come on top, or take a part of them."""
    within = config.selector.calibration.within_step
    return int(config.problems.per_step) - (calibration_problems(config) if within else 0)


def problems_of_step(
    problems: Sequence[Problem], step: int, per_step: int, seed: int
) -> list[Problem]:
    """Draw the problems of one step: without replacement within a pass over the data.

    A pass ends when fewer than ``per_step`` problems are left; those wait for the next shuffle, so
    that no step holds a problem twice.

    Example:
      With 5 problems and 2 a step, a pass has 2 steps: steps 0 and 1 read the first shuffle,
      steps 2 and 3 the second.
    """
    if len(problems) < per_step:
        raise UserError(
            f"config.problems.per_step is {per_step}, but only {len(problems)} training problems"
            " are there: lower it, or add problems"
        )
    steps_per_pass = len(problems) // per_step
    epoch, position = divmod(step, steps_per_pass)
    order = np.random.default_rng([seed, _ORDER_STREAM, epoch]).permutation(len(problems))
    return [problems[i] for i in order[position * per_step : (position + 1) * per_step]]


def require_labels(problems: Sequence[Problem]) -> None:
    """Refuse training problems that have no label to be rewarded by.

    Raises:
      UserError: a problem lacks its reference solution or its reference tests.
    """
    unlabelled = [problem.task_id for problem in problems if not _is_labelled(problem)]
    if unlabelled:
        raise UserError(
            f"config.supervision is 'oracle', but {len(unlabelled)} of {len(problems)} training"
            f" problems have no reference solution or no reference tests, {unlabelled[0]} for"
            " example: leave them out, or choose another supervision"
        )


def _is_labelled(problem: Problem) -> bool:
    return problem.reference_solution is not None and bool(problem.reference_tests)


def take_calibration_set(
    problems: Sequence[Problem], count: int, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """Take ``count`` labelled problems out of the training set, at random.

    Returns:
      The calibration set and the problems that remain.

    Raises:
      UserError: fewer than ``count`` problems carry a reference solution and tests.
    """
    labelled = [i for i, problem in enumerate(problems) if _is_labelled(problem)]
    if len(labelled) < count:
        raise UserError(
            f"config.selector.calibration.problems is {count}, but only {len(labelled)} training"
            " problems have a reference solution and reference tests"
        )
    rng = np.random.default_rng([seed, _CALIBRATION_STREAM])
    taken = set(rng.choice(labelled, size=count, replace=False).tolist())
    calibration = [problem for i, problem in enumerate(problems) if i in taken]
    return calibration, [problem for i, problem in enumerate(problems) if i not in taken]
