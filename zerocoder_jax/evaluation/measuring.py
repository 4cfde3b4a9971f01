"""Measuring a policy on a benchmark: sample, run, judge by the labels; problem by problem.

Greedy decoding gives one solution and one test a problem. The solution is right when it passes all
reference tests. The test is accurate when it passes on the reference solution, and its mutation
score is the share of the reference solution's mutants that it kills. With ``samples`` above one, a
second pass draws so many solutions a problem, for pass@k.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zerocoder_jax.evaluation.benchmarks import Benchmark
from zerocoder_jax.evaluation.results import (
    GREEDY,
    SAMPLED,
    ProblemResult,
    ResultsFile,
    SolutionResult,
    TestResult,
)
from zerocoder_jax.execution import MutationResult, Pool, Status
from zerocoder_jax.problems import Problem
from zerocoder_jax.rollout import Demand, SamplingSettings
from zerocoder_jax.training.records import test_record
from zerocoder_jax.training.sampling import VACUOUS, ProblemSamples, Sample, Sampler


@dataclass(frozen=True)
class EvaluationSettings:
    """How a benchmark is measured.

    Attributes:
      max_new_tokens: of one reply.
      samples: solutions drawn per problem for pass@k; 1: only the greedy one.
      temperature: of these samples; ``top_p`` likewise.
      ungated: also run tests that fail on the reference solution against its mutants.
      mutant_limit: at most so many mutants a problem; 0 takes all.
      seed: of the choice of mutants.
    """

    max_new_tokens: int = 1024
    samples: int = 1
    temperature: float = 0.7
    top_p: float = 0.8
    ungated: bool = False
    mutant_limit: int = 0
    seed: int = 0


def evaluate(
    sampler: Sampler,
    pool: Pool,
    benchmark: Benchmark,
    settings: EvaluationSettings,
    results: ResultsFile,
    on_result: Callable[[ProblemResult], None] = lambda result: None,
) -> list[ProblemResult]:
    """Measures what ``results`` does not hold yet; returns the benchmark's.

    Their order is the benchmark's, those with a reference solution first, whatever ended first.
    ``results`` may hold more, of an evaluation with a higher limit. Replies stream from the sampler
    into the pool, and results into the file, so that an interrupted evaluation goes on where it
    stopped.

    Args:
      sampler: over an engine with the policy's weights loaded.
      on_result: called with each problem as it is finished.
    """
    for run, problems, counts, sampling in _passes(benchmark, settings):
        todo = [problem for problem in problems if (run, problem.task_id) not in results.results]
        for result in _measure(sampler, pool, todo, run, counts, sampling, settings):
            results.append(result)
            on_result(result)
    return [
        results.results[run, problem.task_id]
        for run, problems, *_ in _passes(benchmark, settings)
        for problem in problems
    ]


def engine_demand(sampler: Sampler, benchmark: Benchmark, settings: EvaluationSettings) -> Demand:
    """What ``evaluate`` asks of the sampler's engine."""
    demand = Demand(0, settings.max_new_tokens, frozenset())
    for _, problems, counts, sampling in _passes(benchmark, settings):
        demand |= sampler.demand(
            problems, counts, at_once=len(problems), max_new_tokens=sampling.max_new_tokens
        )
    return demand


def _passes(
    benchmark: Benchmark, settings: EvaluationSettings
) -> list[tuple[str, list[Problem], tuple[int, int], SamplingSettings]]:
    """Calls of the sampler: their name, problems, counts of solutions and tests, and sampling."""
    greedy = SamplingSettings(
        temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=settings.max_new_tokens
    )
    drawn = replace(greedy, temperature=settings.temperature, top_p=settings.top_p)
    with_reference = [p for p in benchmark.problems if p.reference_solution is not None]
    without = [p for p in benchmark.problems if p.reference_solution is None]
    passes = [(GREEDY, with_reference, (1, 1), greedy), (GREEDY, without, (1, 0), greedy)]
    if settings.samples > 1:
        passes.append((SAMPLED, list(benchmark.problems), (settings.samples, 0), drawn))
    return passes


def _measure(
    sampler: Sampler,
    pool: Pool,
    problems: Sequence[Problem],
    run: str,
    counts: tuple[int, int],
    sampling: SamplingSettings,
    settings: EvaluationSettings,
) -> Iterator[ProblemResult]:
    if not problems:
        return
    judging: list[_Judging] = []
    for samples in sampler.replies(problems, counts, step=0, settings=sampling):
        judging.append(_Judging(samples, run, pool, settings))
        waiting = []
        for one in judging:
            if one.advance():
                yield one.finish()
            else:
                waiting.append(one)
        judging = waiting
    for one in judging:
        yield one.finish()


class _Judging:
    """A problem's runs in the pool's queue, until they have become a result."""

    def __init__(self, samples: ProblemSamples, run: str, pool: Pool, settings: EvaluationSettings):
        problem = samples.problem
        self._samples = samples
        self._run = run
        self._pool = pool
        self._ungated = settings.ungated
        self._parsed_tests = [test.parsed for test in samples.tests if test.parsed is not None]
        self._solutions: Future[np.ndarray] | None = None
        self._mutation: Future[MutationResult] | None = None
        self._failing: Future[np.ndarray] | None = None
        if problem.reference_tests:
            codes = [solution.parsed for solution in samples.solutions]
            self._solutions = pool.submit_matrix(problem, codes, problem.reference_tests, True)
        if samples.tests:
            assert problem.reference_solution is not None
            self._mutation = pool.submit_mutation(
                problem,
                problem.reference_solution,
                self._parsed_tests,
                limit=settings.mutant_limit or None,
                seed=settings.seed,
            )

    def advance(self) -> bool:
        """Queue what has become possible; true when everything has been run."""
        if self._mutation is not None and self._mutation.done() and self._failing is None:
            self._queue_failing_tests(self._mutation.result())
        waiting = (self._solutions, self._mutation, self._failing)
        return all(future is None or future.done() for future in waiting)

    def _queue_failing_tests(self, mutation: MutationResult) -> None:
        """Tests that fail on the reference are not run on its mutants, unless asked for here."""
        if self._ungated and mutation.failing and mutation.mutants:
            tests = [self._parsed_tests[i] for i in mutation.failing]
            self._failing = self._pool.submit_matrix(self._samples.problem, mutation.mutants, tests)

    def finish(self) -> ProblemResult:
        """Wait for the runs and judge them."""
        if self._mutation is not None:
            self._mutation.result()
            self.advance()
        mutation = self._mutation.result() if self._mutation else None
        return ProblemResult(
            task_id=self._samples.problem.task_id,
            run=self._run,
            solutions=tuple(self._solution_results()),
            tests=tuple(self._test_results(mutation)) if mutation else (),
            mutants=len(mutation.mutants) if mutation else None,
        )

    def _solution_results(self) -> Iterator[SolutionResult]:
        matrix = self._solutions.result() if self._solutions else None
        for i, sample in enumerate(self._samples.solutions):
            result = SolutionResult(code=sample.parsed, **_reply(sample))
            if matrix is not None:
                row = matrix[i]
                names = tuple(Status(status).name for status in row)
                correct: bool | None = bool((row == Status.PASSED).all())
                if ((row == Status.PASSED) | (row == Status.UNAVAILABLE)).all() and not correct:
                    correct = None  # whatever has a verdict passed: only the verifier is to blame
                result = replace(result, statuses=names, correct=correct)
            yield result

    def _test_results(self, mutation: MutationResult) -> Iterator[TestResult]:
        column = 0
        for sample in self._samples.tests:
            result = TestResult(
                test=test_record(sample.parsed), copied=sample.copied, **_reply(sample)
            )
            if sample.parsed is None:  # wrong, and kills nothing
                score = 0.0 if mutation.mutants else None
                yield replace(
                    result,
                    passes=False,
                    mutation_score=score,
                    mutation_score_ungated=score if self._ungated else None,
                )
            else:
                yield self._judged(result, mutation, column)
                column += 1

    def _judged(self, result: TestResult, mutation: MutationResult, column: int) -> TestResult:
        """A parsed test with its verdict, its kills and its scores."""
        original = mutation.original[column]
        if original == Status.UNAVAILABLE:
            return result
        if original == Status.PASSED:
            killed, valid = mutation.killed[:, column], mutation.valid[:, column]
            score = _share(killed, valid)
            return replace(
                result,
                passes=True,
                killed=tuple(int(i) for i in np.flatnonzero(killed)),
                mutation_score=score,
                mutation_score_ungated=score if self._ungated else None,
            )
        ungated = 0.0 if self._ungated and mutation.mutants else None
        if column in mutation.failing and self._failing is not None:
            index = mutation.failing.index(column)
            statuses = self._failing.result()[:, index]
            ungated = _share(statuses != Status.PASSED, statuses != Status.UNAVAILABLE)
        return replace(
            result,
            reason=VACUOUS if original == Status.VACUOUS else result.reason,
            passes=False,
            mutation_score=0.0 if mutation.mutants else None,
            mutation_score_ungated=ungated,
        )


def _share(killed: np.ndarray, valid: np.ndarray) -> float | None:
    """Of the mutants with a verdict, how many are killed; None without any."""
    return float(killed[valid].mean()) if valid.any() else None


def _reply(sample: Sample) -> dict[str, Any]:
    return {
        "reply": sample.reply,
        "reason": sample.reason,
        "tokens": len(sample.tokens),
        "finished": sample.finished,
    }
