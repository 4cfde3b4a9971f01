"""What the two roles are asked: chat messages for the Coder and for the Tester.

Three styles. ``one_shot`` (default) shows one worked example as an earlier turn: small models
answer with a test instead of the function only when they have seen it done. ``zero_shot`` only
instructs. ``begun_reply`` ends with the beginning of the reply, which the policy continues and
which the parsers are given back as ``prefix``.

Where a statement gives examples, its Tester is told that they do not count, and the worked example
gives one too and does not repeat it: otherwise nearly all of a small model's tests are copies.

The example problems are this project's own and stand in no data set.
"""

import dataclasses
from typing import Literal

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.copied_tests import has_examples
from zerocoder_jax.problems.problem import Problem

Message = dict[str, str]
Style = Literal["one_shot", "zero_shot", "begun_reply"]
STYLES = ("one_shot", "zero_shot", "begun_reply")

_FUNCTION_EXAMPLE = Problem(
    task_id="example/function",
    prompt="Given the daily rainfall of a week as a list of numbers, count the days on which it"
    " rained more than on the day before.",
    entry_point="wetter_days",
    kind="function",
    starter_code="def wetter_days(rainfall):",
    reference_solution="def wetter_days(rainfall):\n"
    "    count = 0\n"
    "    for before, today in zip(rainfall, rainfall[1:]):\n"
    "        if today > before:\n"
    "            count += 1\n"
    "    return count",
)
_FUNCTION_EXAMPLE_CALL = "\n\nExample: wetter_days([1, 2]) == 1"
_FUNCTION_EXAMPLE_TEST = "```python\nassert wetter_days([3, 0, 2, 5, 5, 1, 4]) == 3\n```"

_STDIO_EXAMPLE = Problem(
    task_id="example/stdio",
    prompt="A shelf holds some jars. The first line of the input is the number of jars, the second"
    " line the weight of each jar in grams. Print the weight of the heaviest jar minus the weight"
    " of the lightest one.",
    entry_point=None,
    kind="stdio",
    reference_solution="count = int(input())\n"
    "weights = [int(word) for word in input().split()]\n"
    "print(max(weights) - min(weights))",
)
_STDIO_EXAMPLE_RUN = "\n\nExample input\n2\n5 7\n\nExample output\n2"
_STDIO_EXAMPLE_TEST = "Input:\n```\n4\n250 90 400 120\n```\nOutput:\n```\n310\n```"

_CODER_ROLE = "You are an expert Python programmer who writes correct and complete solutions."
_TESTER_ROLE = (
    "You are an expert Python tester who writes tests that a wrong solution fails and a right"
    " solution passes."
)


def coder_prompt(problem: Problem, style: Style = "one_shot") -> list[Message]:
    """The chat that asks for a solution.

    With ``begun_reply`` the last message has the role ``assistant``: the reply continues it.
    """
    _check(style)
    example = _STDIO_EXAMPLE if problem.kind == "stdio" else _FUNCTION_EXAMPLE
    messages = [_message("system", _CODER_ROLE)]
    if style == "one_shot":
        messages.append(_message("user", _coder_request(example)))
        messages.append(_message("assistant", f"```python\n{example.reference_solution}\n```"))
    messages.append(_message("user", _coder_request(problem)))
    if style == "begun_reply":
        messages.append(_message("assistant", "```python\n"))
    return messages


def tester_prompt(problem: Problem, style: Style = "one_shot") -> list[Message]:
    """The chat that asks for one test; ``begun_reply`` as in ``coder_prompt``."""
    _check(style)
    stdio = problem.kind == "stdio"
    messages = [_message("system", _TESTER_ROLE)]
    if style == "one_shot":
        example = _STDIO_EXAMPLE if stdio else _FUNCTION_EXAMPLE
        if has_examples(problem):
            given = _STDIO_EXAMPLE_RUN if stdio else _FUNCTION_EXAMPLE_CALL
            example = dataclasses.replace(example, prompt=example.prompt + given)
        messages.append(_message("user", _tester_request(example)))
        messages.append(
            _message("assistant", _STDIO_EXAMPLE_TEST if stdio else _FUNCTION_EXAMPLE_TEST)
        )
    messages.append(_message("user", _tester_request(problem)))
    if style == "begun_reply":
        begun = "Input:\n```\n" if stdio else f"```python\nassert {call_text(problem)}("
        messages.append(_message("assistant", begun))
    return messages


def begun_reply(messages: list[Message]) -> str:
    """The part of the reply that the prompt already holds: the parsers' ``prefix``."""
    return messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""


def call_text(problem: Problem) -> str:
    """How a test names the function: ``f``, or ``Solution().f`` for a method."""
    owner, dot, method = (problem.entry_point or "").rpartition(".")
    return f"{owner}().{method}" if dot else method


def _coder_request(problem: Problem) -> str:
    if problem.kind == "stdio":
        task = (
            "Write a Python program that solves the problem. It reads the input from standard"
            " input and prints the answer to standard output."
        )
    else:
        task = "Write a Python function that solves the problem."
    return (
        f"{task} Reply with the code in one ```python block and nothing else.\n\n"
        f"{_description(problem)}"
    )


def _tester_request(problem: Problem) -> str:
    if problem.kind == "stdio":
        task = (
            "Write one test for the problem: an input that a program may be given and the exact"
            " output that a right program prints for it. Do not write the program. Reply with"
            " `Input:` and a ``` block, then `Output:` and a ``` block."
        )
        other = "Choose an input of your own: a test that repeats an example of the problem"
    else:
        task = (
            "Write one test for the problem: a single assert that calls"
            f" `{call_text(problem)}` with arguments of your choice and compares the result with"
            " the right value. Do not write the function. Reply with the assert in one ```python"
            " block and nothing else."
        )
        other = "Choose arguments of your own: a test that repeats an example of the problem"
    if has_examples(problem):
        task += f" {other} does not count."
    return f"{task}\n\n{_description(problem)}"


def _description(problem: Problem) -> str:
    starter = problem.starter_code.strip()
    if starter == problem.prompt.strip():  # HumanEval: the statement is the function's docstring
        return f"### Problem\nComplete this function:\n```python\n{starter}\n```"
    text = f"### Problem\n{problem.prompt.strip()}"
    if starter:
        text += f"\n\n### Signature\n```python\n{starter}\n```"
    return text


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _check(style: str) -> None:
    if style not in STYLES:
        raise UserError(f"prompt.style: '{style}' is none of {', '.join(STYLES)}")
