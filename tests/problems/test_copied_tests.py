import pytest

from zerocoder_jax.problems import (
    AssertTest,
    CallTest,
    Problem,
    StdioTest,
    is_copied,
    parse_test,
    prompts,
)
from zerocoder_jax.problems.copied_tests import has_examples

DOCTEST = 'def area(w, h):\n    """The area.\n    >>> area(2, 3)\n    6\n    """'


def function(statement, entry_point="area", starter=""):
    return Problem("t", statement, entry_point, "function", starter_code=starter)


@pytest.mark.parametrize(
    ("statement", "copy", "own"),
    [
        ("For example area(2, 3) == 6.", "assert area(2, 3) == 6", "assert area(2, 4) == 8"),
        ("`area( 2,3 )` gives 6", "assert area(2, 3) == 7", "assert area(3, 2) == 6"),
        ("area(w=2, h=3) -> 6", "w = 2\nassert area(w, 3) == 6", "assert area(2, 2) == 4"),
        ("Input: w = 2, h = 3\nOutput: 6", "assert area(2, 3) == 6", "assert area(2, 0) == 0"),
        ("For w = 2, h = 3 it is 6", "assert area(2, 3) == 6", "assert area(2, 0) == 0"),
        (DOCTEST, "assert area(2, 3) == 6", "assert area(3, 2) == 6"),
        (
            "area([1,2], 'a')",
            'assert area([1, 2], "a") == 1',
            "assert area([1, 2], 'b') == 1\nassert area([1, 2], 'a') == 1",
        ),
    ],
)
def test_a_test_that_repeats_a_call_of_the_statement_is_a_copy(statement, copy, own):
    problem = function(statement)
    assert has_examples(problem)
    assert is_copied(AssertTest(copy), problem)
    assert not is_copied(AssertTest(own), problem)


def test_examples_stand_in_starter_code_too_and_methods_have_them():
    assert is_copied(AssertTest("assert area(2, 3) == 6"), function("p", starter=DOCTEST))
    method = function("Input: w = 2, h = 3", "Solution.area")
    assert is_copied(AssertTest("s = Solution()\nassert s.area(2, 3) == 6"), method)
    assert is_copied(CallTest((2, 3), 6), method)
    assert not is_copied(CallTest((2, 5), 10), method)


@pytest.mark.parametrize(
    "statement", ["Return the area.", "area(w, h) is w * h", "def area(w, h):"]
)
def test_a_signature_is_no_example(statement):
    assert not has_examples(function(statement))
    assert not is_copied(AssertTest("assert area(2, 3) == 6"), function(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "Add.\n\nInput\n\nTwo whole numbers stand in the line.\n\nExamples\n\nInput\n\n\n1 2\n"
        "\n\nOutput\n\n\n3",
        "Add.\nSample Input 1\n\n1 2\n\nSample Output 1\n\n3\n\nSample Input 2\n\n7 8\n",
        "Add.\n-----Sample Input:-----\n1 2\n-----Sample Output:-----\n3",
        "Add.\n\nExample 1:\n\nInput: 1 2\nOutput: 3\n",
        "Add.\n### Example input\n```\n1 2\n```\n### Example output\n```\n3\n```",
        "Add.\n\n**Input:**\n\n    1   2\n\n**Output:**\n\n    3",
    ],
)
def test_a_test_that_repeats_an_example_input_of_the_statement_is_a_copy(statement):
    problem = Problem("t", statement, None, "stdio")
    assert has_examples(problem)
    assert is_copied(StdioTest("1 2\n", "3\n"), problem)
    assert is_copied(StdioTest(" 1  2", "4\n"), problem)
    assert not is_copied(StdioTest("1 3\n", "4\n"), problem)


def test_a_tester_is_told_that_examples_do_not_count_where_there_are_any():
    told = "does not count"
    program = Problem("t", "Add.\nInput: 1 2\nOutput: 3", None, "stdio")
    for problem in (function("area(2, 3) == 6"), program):
        for style in prompts.STYLES:
            asked = prompts.tester_prompt(problem, style)
            assert told in [m["content"] for m in asked if m["role"] == "user"][-1]
        worked = prompts.tester_prompt(problem, "one_shot")
        assert "xample" in worked[1]["content"]
    assert told not in str(prompts.tester_prompt(function("Return the area."), "one_shot"))
    assert told not in str(prompts.coder_prompt(program, "one_shot"))


@pytest.mark.parametrize("kind", ["function", "stdio"])
def test_the_worked_test_is_no_copy_of_the_worked_example(kind):
    example = prompts._STDIO_EXAMPLE if kind == "stdio" else prompts._FUNCTION_EXAMPLE
    given = prompts._STDIO_EXAMPLE_RUN if kind == "stdio" else prompts._FUNCTION_EXAMPLE_CALL
    problem = Problem("t", example.prompt + given, example.entry_point, kind)
    assert has_examples(problem)
    answer = prompts._STDIO_EXAMPLE_TEST if kind == "stdio" else prompts._FUNCTION_EXAMPLE_TEST
    assert not is_copied(parse_test(answer, problem).test, problem)
