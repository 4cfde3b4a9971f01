"""Selectors: matrices per second, and one step's selection and calibration against NumPy loops.

A training step selects on ``problems.per_step`` matrices and scores the calibration grid on
``selector.calibration.problems`` labelled ones. Both are timed as the training loop calls them,
host tables and transfers included, against float64 NumPy code that takes one matrix and one pair of
priors at a time, and against the same code with its counts kept over the grid.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import betaln

from zerocoder_jax.selection import SELECTORS, calibrate_b4, matrix_rank, select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    group = parser.add_argument_group("selectors")
    group.add_argument(
        "--matrices", type=int, default=4096, help="matrices in one call of each selector"
    )
    group.add_argument("--repeats", type=int, default=50, help="calls of which the median counts")


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return ``calibration_ms``, ``ratio_numpy`` and their parts."""
    shape = (config.rollout.solutions, config.rollout.tests)
    repeats = arguments.repeats
    rates = {
        name: arguments.matrices / seconds
        for name, seconds in _seconds_by_selector(arguments.matrices, shape, repeats).items()
    }
    step = StepOfSelection(config, seed=0)
    ours = median_seconds(step.ours, repeats)
    loop = median_seconds(step.numpy_loop, max(3, repeats // 10))
    hoisted = median_seconds(step.numpy_loop_with_kept_counts, max(3, repeats // 10))
    result = {
        "device": jax.devices()[0].device_kind,
        "problems": config.problems.per_step,
        "calibration_problems": config.selector.calibration.problems,
        "grid_pairs": len(step.beta0_grid) * len(step.alpha_xy_grid),
        "calibration_ms": 1e3 * ours,
        "numpy_ms": 1e3 * loop,
        "numpy_kept_counts_ms": 1e3 * hoisted,
        "ratio_numpy": loop / ours,
        "ratio_numpy_kept_counts": hoisted / ours,
        "matrices_per_second": rates,
    }
    _print_tables(result, shape, arguments.matrices)
    return result


def _seconds_by_selector(count: int, shape: tuple[int, int], repeats: int) -> dict[str, float]:
    passing, solution_mask, test_mask = random_matrices(count, shape, seed=1)
    functions: dict[str, Callable[..., Any]] = {name: partial(select, name) for name in SELECTORS}
    functions["rank"] = matrix_rank

    def call(function: Callable[..., Any]) -> None:
        jax.block_until_ready(function(passing, solution_mask, test_mask))

    return {name: median_seconds(partial(call, each), repeats) for name, each in functions.items()}


class StepOfSelection:
    """What one training step asks of this package, and the same by NumPy loops."""

    def __init__(self, config: Any, seed: int) -> None:
        selector, calibration = config.selector, config.selector.calibration
        shape = (config.rollout.solutions, config.rollout.tests)
        self.beta0_grid = [10.0**exponent for exponent in calibration.beta0_exponents]
        self.alpha_xy_grid = [10.0**exponent for exponent in calibration.alpha_xy_exponents]
        self.priors = (selector.beta0, selector.alpha_xy)
        self.drawn = random_matrices(config.problems.per_step, shape, seed)
        self.labelled = random_matrices(calibration.problems, shape, seed + 1)
        rng = np.random.default_rng(seed + 2)
        self.correct = rng.random(self.labelled[1].shape) < 0.4

    def ours(self) -> tuple[np.ndarray, np.ndarray]:
        """The grid's scores, and the selected solutions under the chosen pair."""
        passing, solution_mask, test_mask = self.labelled
        calibration = calibrate_b4(
            passing,
            self.correct,
            solution_mask,
            test_mask,
            beta0_grid=self.beta0_grid,
            alpha_xy_grid=self.alpha_xy_grid,
            previous=self.priors,
        )
        selection = select(
            "b4", *self.drawn, beta0=calibration.beta0, alpha_xy=calibration.alpha_xy
        )
        return calibration.scores, np.asarray(selection.solutions)

    def numpy_loop(self) -> tuple[np.ndarray, np.ndarray]:
        """One matrix and one pair at a time."""
        return self._loop(
            lambda p, beta0, alpha_xy: select_by_numpy(
                group_by_numpy(*(part[p] for part in self.labelled)), beta0, alpha_xy
            )
        )

    def numpy_loop_with_kept_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Groups and counts once a matrix; only the scores for every pair."""
        groups = [group_by_numpy(*parts) for parts in zip(*self.labelled)]
        return self._loop(lambda p, beta0, alpha_xy: select_by_numpy(groups[p], beta0, alpha_xy))

    def _loop(
        self, select_labelled: Callable[[int, float, float], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = np.zeros((len(self.beta0_grid), len(self.alpha_xy_grid)))
        for b, beta0 in enumerate(self.beta0_grid):
            for a, alpha_xy in enumerate(self.alpha_xy_grid):
                for p, correct in enumerate(self.correct):
                    chosen = select_labelled(p, beta0, alpha_xy)
                    if chosen.any():
                        scores[b, a] += correct[chosen].mean() / len(self.correct)
        best = np.argwhere(scores >= scores.max() - 1e-9).tolist()
        pairs = [(self.beta0_grid[b], self.alpha_xy_grid[a]) for b, a in best]
        pair = self.priors if self.priors in pairs else pairs[0]
        selected = [select_by_numpy(group_by_numpy(*parts), *pair) for parts in zip(*self.drawn)]
        return scores, np.stack(selected)


def group_by_numpy(
    passing: np.ndarray, solution_mask: np.ndarray, test_mask: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The distinct signatures of one [S, T] matrix and B4's counts for each of them.

    Returns:
        Rows of each group [K, S] bool, then n_x, n_y, k1, k0 [K], N and M.
    """
    real = passing[np.ix_(solution_mask, test_mask)]
    num_solutions, num_tests = real.shape
    _, first, group = np.unique(real, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups in the order of their first rows
    members = group.ravel() == order[:, None]  # [K, N]
    signatures = real[first[order]]  # [K, M]
    inside = signatures.astype(np.int64) @ real.T.astype(np.int64)  # [K, N]
    k1 = np.sum(np.where(members, 0, inside), axis=1)
    k0 = np.sum(np.where(members, 0, real.sum(axis=1) - inside), axis=1)
    rows = np.zeros((len(order), len(passing)), bool)
    rows[:, solution_mask] = members
    sizes = np.asarray(num_solutions), np.asarray(num_tests)
    return rows, members.sum(axis=1), signatures.sum(axis=1), k1, k0, *sizes


def select_by_numpy(groups: tuple[np.ndarray, ...], beta0: float, alpha_xy: float) -> np.ndarray:
    """[S] bool: the rows that B4 selects, in float64; none where it abstains."""
    rows, n_x, n_y, k1, k0, num_solutions, num_tests = groups
    if len(rows) == 0:
        return np.zeros(rows.shape[1], bool)
    d1 = (num_solutions - n_x) * n_y
    d0 = (num_solutions - n_x) * (num_tests - n_y)
    scores = (
        betaln(n_x + alpha_xy, num_solutions - n_x + 1)
        + betaln(n_y + alpha_xy, num_tests - n_y + 1)
        + betaln(k1 + 1, d1 - k1 + 1)
        + betaln(k0 + 1, d0 - k0 + beta0)
    )
    # Equal scores differ by rounding; the first of them is meant.
    winner = int(np.argmax(scores >= scores.max() - 1e-7))
    return rows[winner] & (n_y[winner] > 0)


def random_matrices(
    count: int, shape: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices with consensus groups of several sizes and noise, and a tenth of them masked."""
    rng = np.random.default_rng(seed)
    solutions, tests = shape
    signatures = rng.random((count, 3, tests)) < rng.uniform(0.1, 0.9, (count, 3, 1))
    group = rng.integers(0, 3, (count, solutions))
    passing = np.take_along_axis(signatures, group[:, :, None], axis=1)
    passing = passing ^ (rng.random((count, solutions, tests)) < 0.05)
    return passing, rng.random((count, solutions)) < 0.9, rng.random((count, tests)) < 0.9


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of one call, after a first one that compiles."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _print_tables(result: dict[str, Any], shape: tuple[int, int], matrices: int) -> None:
    console = Console()
    rates = Table(title=f"{matrices} matrices of {shape[0]} x {shape[1]} on {result['device']}")
    rates.add_column("function")
    rates.add_column("matrices per second", justify="right")
    for name, rate in result["matrices_per_second"].items():
        rates.add_row(name, f"{rate:,.0f}")
    console.print(rates)

    step = Table(
        title=f"selection of {result['problems']} problems and calibration of"
        f" {result['grid_pairs']} pairs on {result['calibration_problems']} problems"
    )
    step.add_column("implementation")
    step.add_column("milliseconds", justify="right")
    step.add_column("times ours", justify="right")
    for name, key in (
        ("zerocoder_jax", "calibration_ms"),
        ("NumPy, one matrix and one pair at a time", "numpy_ms"),
        ("NumPy, counts kept over the pairs", "numpy_kept_counts_ms"),
    ):
        ratio = result[key] / result["calibration_ms"]
        step.add_row(name, f"{result[key]:.2f}", f"{ratio:.1f}")
    console.print(step)
