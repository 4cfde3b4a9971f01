"""Statements say which problems one published output cannot judge, and how exact a number is."""

import pytest

from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable, stated_tolerance


@pytest.mark.parametrize(
    "statement",
    [
        "If there are multiple answers, you may print any.",
        "If there are several such pairs, output any of them.",
        "In case there is more than one optimal solution, print any one of them.",
        "Print any such permutation.",
        "Print -1 if there is none, otherwise print any.",
        "Output the numbers of the chosen edges in any order.",
        "There can be many correct plans; any of them will be accepted.",
        "All valid answers are considered correct.",
        "If there are\nmultiple solutions,\nfind any of them.",
        "This is an interactive problem.",
        "After each question, call fflush(stdout).",
    ],
)
def test_several_right_answers_and_a_judge_that_answers_are_seen(statement: str) -> None:
    assert is_unjudgeable(f"A long story. {statement} Then the examples.")


@pytest.mark.parametrize(
    "statement",
    [
        "If there are multiple answers, print the smallest one.",
        "If there are several optimal variants, he chooses the one that is filled first.",
        "The edges are given in arbitrary order. Print the number of trees.",
        "He may swap any two letters any number of times. Print the answer.",
        "For each query, print YES if any of the strings is a palindrome.",
        "Print one integer, the number of ways to choose a path. There are multiple test cases.",
    ],
)
def test_one_right_answer_is_judged_by_it(statement: str) -> None:
    assert not is_unjudgeable(statement)


@pytest.mark.parametrize(
    ("statement", "tolerance"),
    [
        ("Your absolute or relative error must not exceed 10^{-6}.", 1e-6),
        ("It is correct if the absolute or relative error does not exceed 10^-4.", 1e-4),
        ("The relative or absolute error should be at most 1e-9.", 1e-9),
        ("An absolute error of not more than 0.001 is allowed.", 1e-3),
        ("Print the answer modulo 10^9 + 7.", 0.0),
    ],
)
def test_the_error_that_a_statement_allows_is_read(statement: str, tolerance: float) -> None:
    assert stated_tolerance(statement) == pytest.approx(tolerance)
