import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import (
    AssertTest,
    Problem,
    StdioTest,
    begun_reply,
    coder_prompt,
    parse_solution,
    parse_test,
    prompts,
)
from zerocoder_jax.problems.prompts import STYLES

FUNCTION = Problem(
    "t/1",
    "Return twice the number.",
    "double",
    "function",
    starter_code="def double(arg1):",
    reference_solution="def double(secret_name): return 2 * secret_name",
    reference_tests=(AssertTest("assert double(98765) == 197530"),),
)
METHOD = Problem("t/2", "Double it.", "Solution.double", "function")
PROGRAM = Problem("t/3", "Print twice the number.", None, "stdio")
PROBLEMS = (FUNCTION, METHOD, PROGRAM)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("write", [coder_prompt, prompts.tester_prompt])
def test_no_label_is_ever_shown(write, style):
    text = str(write(FUNCTION, style))
    assert "secret_name" not in text
    assert "98765" not in text
    assert FUNCTION.prompt in text
    assert FUNCTION.starter_code in text


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("write", [coder_prompt, prompts.tester_prompt])
def test_roles_alternate_and_only_begun_replies_end_with_the_assistant(write, problem, style):
    messages = write(problem, style)
    roles = [message["role"] for message in messages]
    assert roles[0] == "system"
    assert roles[1::2] == ["user"] * len(roles[1::2])
    assert set(roles[2::2]) <= {"assistant"}
    assert (begun_reply(messages) != "") == (style == "begun_reply")
    assert len(messages) == {"one_shot": 4, "zero_shot": 2, "begun_reply": 3}[style]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_worked_examples_are_right_and_parse(problem):
    coder, tester = coder_prompt(problem), prompts.tester_prompt(problem)
    kind = "stdio" if problem.kind == "stdio" else "function"
    entry_point = None if kind == "stdio" else "wetter_days"
    example = Problem("example", "", entry_point, kind)
    solution = parse_solution(coder[2]["content"], example).code
    test = parse_test(tester[2]["content"], example).test
    assert solution is not None
    if isinstance(test, AssertTest):
        exec(solution + test.code, {})
    else:
        assert isinstance(test, StdioTest)
        lines, printed = iter(test.stdin.splitlines()), []
        exec(solution, {"input": lambda: next(lines), "print": printed.append})
        assert str(printed[0]) == test.stdout.strip()


def test_a_begun_reply_is_completed_by_its_continuation():
    begun = begun_reply(prompts.tester_prompt(FUNCTION, "begun_reply"))
    assert begun == "```python\nassert double("
    assert parse_test("4) == 8\n```", FUNCTION, prefix=begun).test == AssertTest(
        "assert double(4) == 8"
    )
    begun = begun_reply(prompts.tester_prompt(METHOD, "begun_reply"))
    assert parse_test("4) == 8", METHOD, prefix=begun).test == AssertTest(
        "assert Solution().double(4) == 8"
    )
    begun = begun_reply(prompts.tester_prompt(PROGRAM, "begun_reply"))
    continuation = "4\n```\nOutput:\n```\n8\n```"
    assert parse_test(continuation, PROGRAM, prefix=begun).test == StdioTest("4\n", "8\n")
    begun = begun_reply(coder_prompt(FUNCTION, "begun_reply"))
    reply = "def double(n):\n    return 2 * n\n```\nDone."
    assert parse_solution(reply, FUNCTION, prefix=begun).code == (
        "def double(n):\n    return 2 * n\n"
    )


def test_a_statement_that_is_its_own_starter_code_is_shown_once():
    text = 'def double(n):\n    """Twice the number."""'
    problem = Problem("t", text, "double", "function", starter_code=text)
    assert str(coder_prompt(problem)).count("Twice the number.") == 1


def test_an_unknown_style_names_the_config_field():
    with pytest.raises(UserError, match=r"prompt\.style: 'two_shot'"):
        coder_prompt(FUNCTION, "two_shot")
