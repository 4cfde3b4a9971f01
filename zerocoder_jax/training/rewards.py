"""What one problem's solutions and tests earn: NumPy, one problem at a time, no device.

Selector rewards, supervised rewards and the baselines' rewards share these functions: they differ
only in which solutions count as selected and which program judges the tests.
"""

import math

import numpy as np
from numpy.typing import NDArray

from zerocoder_jax.errors import UserError

Rewards = NDArray[np.float32]
Flags = NDArray[np.bool_]

# Keeps the draw of a proxy apart from every other draw that is seeded by the same numbers.
_PROXY_STREAM = 0x70726F78


def coder_reward(selected: Flags, abstained: bool) -> Rewards:
    """1 for a selected solution, 0 for the others; all 0 where the selector abstained.

    Args:
        selected: [S] bool, ``Selection.solutions`` of the problem.
        abstained: ``Selection.abstained`` of the problem.

    Returns:
        [S] float32.
    """
    return np.asarray(selected & (not abstained), np.float32)


def overlong_penalty(lengths: NDArray[np.integer], limit: int, share: float) -> Rewards:
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13).

    0 up to ``(1 - share) * limit`` tokens, from there falling to -1 at the limit.

    Args:
        lengths: [N] integer, tokens of the replies.
        limit: ``config.rollout.max_new_tokens``.
        share: ``config.grpo.overlong_share``.

    Returns:
        [N] float32, in [-1, 0].
    """
    over = lengths - (1.0 - share) * limit
    return -np.clip(over / (share * limit), 0.0, 1.0).astype(np.float32)


def tested_coder_reward(passing: Flags, solution_mask: Flags, test_mask: Flags) -> Rewards:
    """1 for a solution that passes every test: the supervised reward and the baselines'.

    Args:
        passing: [S, T] bool, against the ground truth (oracle, calibration), the initial policy's
            tests (offline baseline) or the step's own (online baseline).
        solution_mask: [S] bool, False for a reply without a solution.
        test_mask: [T] bool, False for a reply without a test, which nobody has to pass.

    Returns:
        [S] float32; all 0 where no test is left, for nothing was shown.
    """
    passes_all = np.all(passing | ~test_mask, axis=1) & solution_mask & np.any(test_mask)
    return passes_all.astype(np.float32)


def mutation_scores(killed: Flags, valid: Flags) -> Rewards:
    """The share of the proxy's mutants that each test kills: ``killed_j / |M|``.

    Args:
        killed: [M, T] bool, the test does not pass on the mutant. Whether it passes on the
            original is ``tester_reward``'s concern (``gated``).
        valid: [M, T] bool, the pair has a verdict; others are left out of both counts.

    Returns:
        [T] float32; 0 for all where there are no mutants.
    """
    killed_count = np.sum(killed & valid, axis=0)
    return (killed_count / np.maximum(np.sum(valid, axis=0), 1)).astype(np.float32)


def tester_reward(
    agrees: Flags,
    mutation_score: Rewards,
    parsed: Flags,
    weight: float,
    *,
    form: str,
    gated: bool,
    format_penalty: float,
    abstained: bool = False,
) -> Rewards:
    """Agreement with the consensus, plus the power to tell it from its mutants.

    additive: ``agree + weight * mutation + format``;
    convex: ``(1 - weight) * agree + weight * mutation + format``.

    Args:
        agrees: [T] bool, the proxy solution passes the test.
        mutation_score: [T] in [0, 1], ``mutation_scores``.
        parsed: [T] bool; a reply without a test agrees with nothing, kills nothing, and gets the
            format penalty.
        weight: the mutation term's weight, ``tester_weight``; 0 leaves the term out (ablation).
        form: ``config.reward.tester_form``.
        gated: mutants count only for a test that agrees, for otherwise ``assert False`` would kill
            everything and be the best test.
        format_penalty: ``config.reward.format_penalty``, not above 0 in the paper's reading.
        abstained: no consensus to agree with; what is left is the format penalty, which needs none.

    Returns:
        [T] float32.

    Raises:
        UserError: an unknown form.
    """
    agree = np.asarray(agrees & parsed, np.float32)
    mutation = np.where(agrees & parsed if gated else parsed, mutation_score, 0.0)
    if form == "additive":
        combined = agree + weight * mutation
    elif form == "convex":
        combined = (1.0 - weight) * agree + weight * mutation
    else:
        raise UserError(f"reward.tester_form is {form!r}: set it to additive or convex")
    if abstained:
        combined = np.zeros_like(agree)
    return (combined + np.where(parsed, 0.0, format_penalty)).astype(np.float32)


def tester_weight(progress: float, low: float, high: float) -> float:
    """Weight of the mutation term: from ``low`` to ``high`` along half a cosine.

    ``low + (high - low) * (1 - cos(pi * progress)) / 2``: tests learn to be valid first, to
    discriminate later. ``progress`` is step / total steps, in [0, 1].
    """
    return low + (high - low) * (1.0 - math.cos(math.pi * progress)) / 2.0


def draw_proxy(selected: Flags, *, seed: int, step: int, problem: int) -> int | None:
    """One selected solution, uniformly: the program that judges the tests of this step.

    Args:
        selected: [S] bool.
        seed: ``config.seed``.
        step: training step.
        problem: the problem's number in the training set, not its place in the batch, so that the
            draw does not depend on the batch.

    Returns:
        Its index, or None where nothing is selected.
    """
    indices = np.flatnonzero(selected)
    if indices.size == 0:
        return None
    generator = np.random.default_rng([_PROXY_STREAM, seed, step, problem])
    return int(indices[generator.integers(indices.size)])
