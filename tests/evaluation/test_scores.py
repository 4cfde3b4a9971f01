import dataclasses

import pytest

from zerocoder_jax.evaluation.results import (
    GREEDY,
    SAMPLED,
    ProblemResult,
    SolutionResult,
    TestResult,
)
from zerocoder_jax.evaluation.scores import Score, benchmark_scores, scores_record, table_row


def solution(correct, code="def f(): ..."):
    return SolutionResult("", code, "" if code else "no_code", 5, True, (), correct)


def generated(passes, killed=(), score=None, ungated=None, test="assert f()"):
    record = {"kind": "assert", "code": test} if test else None
    return TestResult("", record, "", 5, True, passes, killed, score, ungated)


RESULTS = [
    # Right; its test is accurate and kills 1 of 4 mutants.
    ProblemResult("a", GREEDY, (solution(True),), (generated(True, (2,), 0.25, 0.25),), 4),
    # Wrong; its test fails on the reference, and on 1 of 2 mutants.
    ProblemResult("b", GREEDY, (solution(False),), (generated(False, (), 0.0, 0.5),), 2),
    # No code and no test.
    ProblemResult(
        "c", GREEDY, (solution(False, None),), (generated(False, (), 0.0, 0.0, None),), 3
    ),
    # The verifier failed; the reference has no mutants.
    ProblemResult("d", GREEDY, (solution(None),), (generated(True),), 0),
]


def test_greedy_scores_are_means_over_what_could_be_measured():
    scores = benchmark_scores(RESULTS)
    values = {name: (score.value, score.problems) for name, score in scores.items()}
    assert values == {
        "pass_at_1": (pytest.approx(1 / 3), 3),
        "coder_parse_rate": (0.75, 4),
        "tester_parse_rate": (0.75, 4),
        "test_accuracy": (0.5, 4),
        "test_accuracy_own": (0.5, 4),
        "tests_copied": (0.0, 3),
        "mutation_score": (pytest.approx(0.25 / 3), 3),
        "mutation_score_ungated": (0.25, 3),
        "mutation_score_problem": (pytest.approx(0.25 / 3), 3),
    }


def test_copies_of_examples_are_counted_and_left_out_of_the_testers_own_accuracy():
    copied = dataclasses.replace(generated(True), copied=True)
    results = [
        ProblemResult("a", GREEDY, (), (copied,), 4),
        ProblemResult("b", GREEDY, (), (generated(False),), 4),
    ]
    scores = benchmark_scores(results)
    assert scores["test_accuracy"].value == 0.5
    assert (scores["test_accuracy_own"].value, scores["test_accuracy_own"].problems) == (0, 1)
    assert scores["tests_copied"].value == 0.5


def test_a_problem_is_covered_by_all_of_its_tests_together():
    tests = (generated(True, (0, 1), 0.5), generated(True, (1, 2), 0.5))
    scores = benchmark_scores([ProblemResult("a", GREEDY, (), tests, 4)])
    assert scores["mutation_score"].value == 0.5
    assert scores["mutation_score_problem"].value == 0.75


def test_a_problem_none_of_whose_tests_has_a_verdict_says_nothing_about_mutants():
    unknown = ProblemResult("a", GREEDY, (), (generated(None), generated(None)), 4)
    assert "mutation_score_problem" not in benchmark_scores([unknown])
    known = ProblemResult("b", GREEDY, (), (generated(None), generated(True, (1,), 0.25)), 4)
    score = benchmark_scores([unknown, known])["mutation_score_problem"]
    assert (score.value, score.problems) == (0.25, 1)


def test_sampled_solutions_give_pass_at_powers_of_two():
    samples = tuple(solution(i == 0) for i in range(4))
    scores = benchmark_scores([ProblemResult("a", SAMPLED, samples)])
    assert {name: score.value for name, score in scores.items()} == {
        "pass_at_1_sampled": 0.25,
        "pass_at_2": pytest.approx(0.5),
        "pass_at_4": 1.0,
    }


def test_the_record_has_the_three_main_scores_even_where_nothing_was_measured():
    record = scores_record(benchmark_scores(RESULTS[:1]))
    assert (record["pass_at_1"], record["test_accuracy"], record["mutation_score"]) == (1, 1, 0.25)
    assert record["scores"]["pass_at_1"] == {"value": 1, "low": 1, "high": 1, "problems": 1}
    assert scores_record({})["pass_at_1"] is None


def test_the_table_averages_code_and_tests_apart_and_then_together():
    def score(value):
        return Score(value, value, value, 1)

    row = table_row(
        "ours",
        {
            "mbpp": {
                "pass_at_1": score(0.5),
                "test_accuracy": score(0.4),
                "mutation_score": score(0.2),
            },
            "codeforces": {"pass_at_1": score(0.1)},
        },
    )
    header, _, cells = (line.strip("| ").split(" | ") for line in row.splitlines())
    assert dict(zip(header, cells, strict=True)) == {
        "policy": "ours",
        "mbpp pass@1": "50.0",
        "codeforces pass@1": "10.0",
        "CAvg": "30.0",
        "mbpp accuracy": "40.0",
        "mbpp mutation": "20.0",
        "TAvg": "30.0",
        "Avg": "30.0",
    }
