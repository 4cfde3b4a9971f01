import json

import pytest

from zerocoder_jax.problems import Problem, StdioTest, parse_test

SOLUTION = "```python\nprint(sum(map(int, input().split())))\n```"
PROGRAM = Problem("t", "p", None, "stdio")


@pytest.mark.parametrize(
    "reply",
    [
        "Input:\n```\n1 2\n```\nOutput:\n```text\n3\n```\nbecause 1 + 2 = 3",
        "Input: 1 2\nOutput: 3",
        "Input:\n1 2\n\nOutput:\n3\n\nExplanation:\nThe sum of both.",
        "Input:\n1 2\n\nOutput:\n3\n\nInput:\n4 5\n\nOutput:\n9",
        "Input:\n1 2\nOutput:\n3\nThis is expected because 1 + 2 = 3.",
        "Input:\n1 2\nOutput:\n3\n\nWe add the first number to the second.",
        "Output:\n```\n3\n```\nInput:\n```\n1 2\n```",
        "Output: 3\nInput: 1 2",
        "**Input:**\n```\n1 2\n```\n\n**Expected Output:**\n```\n3\n```",
        "### Test Input\n1 2\n\n### Expected Output\n3\n",
        "1. Input:\n   1 2\n\n   Output:\n   3",
        "- **Input**: `1 2`\n- **Output**: `3`",
        "Input: `1 2` Output: `3`",
        "Input:\n    ```\n    1 2\n    ```\nOutput:\n    ```\n    3\n    ```",
        "```\nInput:\n1 2\n\nOutput:\n3\n```",
        "```Input:\n1 2\n\nOutput:\n3\n```\n\n```Output:\n200\n```",
        "```input\n1 2\n```\n```output\n3\n```",
        "```\n1 2\n```\n```\n3\n```",
        "Input:\n```\n1 2\n```\n\n```\n3\n```",
        "Test case:\nInput:\n  1 2\nOutput:\n  3\n",
        "Sample Input 1\n\n1 2\n\nSample Output 1\n\n3\n",
        "Input:\n```\n1 2\n```\nOutput:\n```\n3\n```\n" + SOLUTION,
        SOLUTION + "\nInput:\n```\n1 2\n```\nOutput:\n```\n3\n```",
        "Input:\n1 2\n\n---\n\nOutput:\n3\n\n---\n",
        '{"input": "1 2\\n", "output": "3\\n"}',
        '```json\n{"input": "1 2\\n", "output": "3\\n"}\n```',
        "Input:\n```python\n1 2\n```\nOutput:\n```python\n3\n```",
    ],
)
def test_input_and_output_are_found_by_their_labels(reply):
    assert parse_test(reply, PROGRAM).test == StdioTest("1 2\n", "3\n")


@pytest.mark.parametrize(
    ("reply", "test"),
    [
        ("Input:\n```\n```\nOutput:\n```\n3\n", StdioTest("", "3\n")),
        (
            "Input:\n2\n1\n2\nOutput:\nCase #1: 10\nCase #2: 20",
            StdioTest("2\n1\n2\n", "Case #1: 10\nCase #2: 20\n"),
        ),
        (
            "Input:\n```\nthe sky is blue\n```\nOutput:\n```\nblue is sky the\n```",
            StdioTest("the sky is blue\n", "blue is sky the\n"),
        ),
        ("Input:\n2\n\n1 1\n\nOutput:\n2", StdioTest("2\n\n1 1\n", "2\n")),
        (
            "Input:\nprint it\nOutput: The program should print it.\nInput: 1\nOutput: 2",
            StdioTest("1\n", "2\n"),
        ),
    ],
)
def test_data_stays_as_it_is(reply, test):
    assert parse_test(reply, PROGRAM).test == test


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I would rather not.", "no_code"),
        ("Input: 1 2", "no_code"),
        ("```python\nprint(3)\n```\n```\n3\n```", "no_code"),
        ("```\n1\n```\n```\n \n```", "no_assert"),
        ("Input:\n```\n1\n```\nOutput:\n```\n```", "no_assert"),
        ("Input:\n```python\nn = int(input())\nprint(n)\n```\nOutput:\n```\n3\n```", "not_data"),
        ("Input:\n```\n1\n```\nOutput:\n```cpp\n#include <iostream>\n```", "not_data"),
        ("Input: The input is a number.\nOutput: The output is its double.", "not_data"),
        ("Input:\n```\n3\n```\nOutput:\n```\nThe program should print 3.\n```", "not_data"),
        ("Input:\n1 2 3 ... 100\nOutput:\n5050", "not_data"),
        ("Input:\n'a' * 1000\nOutput:\n1000", "not_data"),
        ("Input:\n" + "1 " * 9000 + "\nOutput:\n3", "too_long"),
    ],
)
def test_what_is_no_pair_of_data_has_a_reason(reply, reason):
    parsed = parse_test(reply, PROGRAM)
    assert (parsed.test, parsed.reason) == (None, reason)


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        ("Input:\n1 2\nOutput:\n3", True),
        ("Input:\n```\n1 2\n```\nOutput:\n```\n3\n", True),
        ("Input:\n```\n1 2\n", True),
        ("Input:\n1 2", True),
        ("Output:\n3\nInput:\n1 2", True),
        ("Input:\n```\n1 2\n```\nOutput:\n```\n3\n```\nBecau", False),
        ("Input:\n1 2\nOutput:\n3\nExplanation: The su", False),
        ("Input:\n1 2\nOutput:\n3\n\nInput:\n7", False),
    ],
)
def test_a_pair_that_the_limit_cut_off_is_no_test(reply, cut):
    parsed = parse_test(reply, PROGRAM, finished=False)
    assert parsed.reason == ("cut_off" if cut else "")
    assert cut or parsed.test == StdioTest("1 2\n", "3\n")


@pytest.mark.parametrize(
    "reply",
    ["4\n```\nOutput:\n```\n8\n```", "Input:\n```\n4\n```\nOutput:\n```\n8\n```",
     "```\n4\n```\nOutput:\n```\n8\n```"],
)  # fmt: skip
def test_a_reply_may_repeat_the_label_that_was_begun_for_it(reply):
    assert parse_test(reply, PROGRAM, prefix="Input:\n```\n").test == StdioTest("4\n", "8\n")


def test_every_recorded_pair_is_found(shared_data):
    """Replies of Qwen2.5-Coder-0.5B-Instruct, at most 220 tokens long."""
    lines = (shared_data.parent / "cases/inputs/recorded_stdio_0_5b.jsonl").read_text().splitlines()
    replies = [record for record in map(json.loads, lines) if record["role"] == "tester"]
    for record in replies:
        parsed = parse_test(record["reply"], PROGRAM, finished=record["n"] < 220)
        assert parsed.test is not None, record["reply"]
