"""The figures: pass@k, accuracy and mutation score of tests, and how sure one can be of them."""

from collections.abc import Sequence

import numpy as np


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that at least one of ``k`` samples is right, estimated without bias from more.

    ``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021, arXiv 2107.03374), as a product, so that the
    binomials are never formed.

    Args:
      samples: how many there are, n; at least ``k``.
      correct: how many of them are right, c.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {samples}")
    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean when the problems are drawn again with replacement.

    Args:
      values: one value per problem; samples of one problem belong together, so problems are what
        is drawn.
      level: the share of resampled means that lie inside.

    Returns:
      The lower and the upper end; NaN, NaN without values.
    """
    if len(values) == 0:
        return float("nan"), float("nan")
    array = np.asarray(values, float)  # [N]
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        means[i] = array[generator.integers(0, len(array), len(array))].mean()
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    """The mean; NaN where nothing could be measured."""
    return float(np.mean(values)) if len(values) else float("nan")
