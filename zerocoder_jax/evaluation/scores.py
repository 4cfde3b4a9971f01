"""From results of single problems to a benchmark's scores and the row of the paper's Table 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerocoder_jax.evaluation.measures import bootstrap_interval, mean, pass_at_k
from zerocoder_jax.evaluation.results import GREEDY, SAMPLED, ProblemResult

# The three that a run's metrics and summaries carry.
MAIN_SCORES = ("pass_at_1", "test_accuracy", "mutation_score")


@dataclass(frozen=True)
class Score:
    """A mean over problems.

    Attributes:
      value: between 0 and 1.
      low, high: ends of its 95% interval, by bootstrap over problems.
      problems: how many could be measured.
    """

    value: float
    low: float
    high: float
    problems: int


def benchmark_scores(results: Sequence[ProblemResult]) -> dict[str, Score]:
    """Every score that the results allow for, by name.

    ``pass_at_1`` (greedy), ``pass_at_K`` (sampled, unbiased, K = 1, 2, 4, ...), ``test_accuracy``,
    ``test_accuracy_own`` (without tests whose input is an example of the statement),
    ``tests_copied`` (the share of these), ``mutation_score`` (a test that fails on the reference
    kills nothing), ``mutation_score_ungated``, ``mutation_score_problem`` (mutants that any
    test of the problem kills), ``coder_parse_rate``, ``tester_parse_rate``. Verdicts that the
    verifier could not give, and problems whose reference has no mutants, are left out of the mean.
    """
    values: dict[str, list[float]] = {}

    def add(name: str, per_problem: Sequence[float | bool | None]) -> None:
        known = [float(value) for value in per_problem if value is not None]
        if known:
            values.setdefault(name, []).append(mean(known))

    for result in results:
        if result.run == GREEDY:
            add("pass_at_1", [solution.correct for solution in result.solutions])
            add("coder_parse_rate", [s.code is not None for s in result.solutions])
            add("tester_parse_rate", [test.test is not None for test in result.tests])
            add("test_accuracy", [test.passes for test in result.tests])
            add("test_accuracy_own", [t.passes for t in result.tests if not t.copied])
            add("tests_copied", [test.copied for test in result.tests if test.test is not None])
            add("mutation_score", [test.mutation_score for test in result.tests])
            add("mutation_score_ungated", [t.mutation_score_ungated for t in result.tests])
            if result.mutants and any(test.passes is not None for test in result.tests):
                killed = {mutant for test in result.tests for mutant in test.killed}
                add("mutation_score_problem", [len(killed) / result.mutants])
        elif result.run == SAMPLED:
            verdicts = [s.correct for s in result.solutions if s.correct is not None]
            k = 1
            while k <= len(verdicts):
                name = "pass_at_1_sampled" if k == 1 else f"pass_at_{k}"
                add(name, [pass_at_k(len(verdicts), sum(verdicts), k)])
                k *= 2
    return {
        name: Score(mean(means), *bootstrap_interval(means), len(means))
        for name, means in values.items()
    }


def scores_record(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Scores as plain data: the main three by name, and all with interval and count."""
    main = {name: scores[name].value if name in scores else None for name in MAIN_SCORES}
    details = {
        name: {"low": score.low, "high": score.high, "problems": score.problems}
        | {"value": score.value}
        for name, score in scores.items()
    }
    return main | {"scores": details}


def table_row(policy: str, benchmarks: Mapping[str, Mapping[str, Score]]) -> str:
    """The policy's row of the paper's Table 1, in percent, as a Markdown table.

    CAvg is the mean of pass@1, TAvg the mean of accuracy and mutation score, each over the
    benchmarks that have it; Avg the mean of both. They stand against the published averages only
    where the paper's benchmarks were measured.
    """
    header, cells = ["policy"], [policy]

    def column(title: str, value: float) -> None:
        header.append(title)
        cells.append("-" if math.isnan(value) else f"{100 * value:.1f}")

    code = {name: s["pass_at_1"].value for name, s in benchmarks.items() if "pass_at_1" in s}
    tests: dict[str, float] = {}
    for name, scores in benchmarks.items():
        if "test_accuracy" in scores:
            tests[f"{name} accuracy"] = scores["test_accuracy"].value
        if "mutation_score" in scores:
            tests[f"{name} mutation"] = scores["mutation_score"].value
    for name, value in code.items():
        column(f"{name} pass@1", value)
    code_average, tests_average = mean(list(code.values())), mean(list(tests.values()))
    column("CAvg", code_average)
    for name, value in tests.items():
        column(name, value)
    column("TAvg", tests_average)
    column("Avg", (code_average + tests_average) / 2)
    lines = (header, ["---"] + ["---:"] * (len(header) - 1), cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
