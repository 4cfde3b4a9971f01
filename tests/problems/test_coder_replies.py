import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.problems import Problem, parse_solution
from zerocoder_jax.problems.coder_replies import SOLUTION_REASONS

DOUBLE = Problem("t", "p", "double", "function", starter_code="def double(arg1):")
METHOD = Problem("t", "p", "Solution.double", "function")
PROGRAM = Problem("t", "p", None, "stdio")
CODE = "def double(n):\n    return 2 * n\n"


def run(parsed, call):
    assert parsed.reason == ""
    scope = {}
    exec(parsed.code, scope)
    return eval(call, scope)


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{CODE}```",
        f"Sure!\n\n```py\n{CODE}```\nThis doubles it.",
        f"```\n{CODE}```",
        f"~~~python\n{CODE}~~~",
        f"  ```python\n{CODE}",
        CODE,
        f"Here it is:\n{CODE}",
        f"<think>\n```python\ndef double(n): return 0\n```\n</think>\n```python\n{CODE}```",
        f"Run `pip install x`:\n```bash\npip install x\n```\nthen\n```python\n{CODE}```",
        f"```python\nx = 1\n```\nor\n```python\n{CODE}```",
        "```python\ndouble = lambda n: 2 * n\n```",
        *(
            f"```{info}\n{CODE}```"
            for info in (
                "python:main.py", "{.python}", "{python}", "ipython", "Python3", "python3.11",
                "python title=\"main.py\"", "language-python", "PYTHON", "py3", "cpython",
            )
        ),
        "1. Solution:\n\n   ```python\n   def double(n):\n       return 2 * n\n   ```\n",
        "- ```python\n  def double(n):\n      return 2 * n\n  ```",
        "```python\n    def double(n):\n        return 2 * n\n```",
        f"```python\n```python\n{CODE}```",
        f"```\n```python\n{CODE}```",
        f"````python\n{CODE}````",
        f"[PYTHON]\n{CODE}[/PYTHON]",
        f"<code>\n{CODE}</code>",
        "> ```python\n> def double(n):\n>     return 2 * n\n> ```",
        '```python\ndef double(n):\n    """Doc.\n    ```\n    double(2)\n    ```\n    """\n'
        "    return 2 * n\n```",
        f"{CODE}```",
        f"Here it is:\n\n{CODE}```\nThis doubles it.",
        f"{CODE}\nThis doubles the number.",
        f"import this would be silly.\n\n{CODE}",
        "```python def double(n):\n    return 2 * n\n```",
        f"Call:\n```\ndouble = 3\n```\n```python\n{CODE}```",
        f"```python\n{CODE}\n```python\nprint(double(3))\n```",
        f"```text\n{CODE.replace('2', '3')}```\n```\n{CODE}```",
    ],
)  # fmt: skip
def test_the_solution_is_found_however_it_is_wrapped(reply):
    assert run(parse_solution(reply, DOUBLE), "double(4)") == 8


@pytest.mark.parametrize("order", [1, -1])
def test_a_helper_in_a_block_of_its_own_comes_along(order):
    helper = "```python\nimport math\n\ndef twice(n):\n    return math.prod([2, n])\n```"
    user = "```python\ndef double(n):\n    return twice(n)\n```"
    unneeded = "```python\ndef triple(n):\n    return n * 3\n```"
    parsed = parse_solution("\nthen\n".join([helper, unneeded, user][::order]), DOUBLE)
    assert run(parsed, "double(4)") == 8
    assert "triple" not in parsed.code


@pytest.mark.parametrize(
    "reply",
    [
        "Example:\n```\n3\n```\n\n```python\nprint(int(input())*2)\n```",
        "Input\n```\n3\n```\nOutput\n```\n6\n```\n```\nprint(int(input())*2)\n```",
        "print(int(input())*2)\n```",
        "n=int(input())\nprint(2*n)",
        "# Doubles.\nn = int(input())\nprint(2 * n)",
        "n = int(input())\nprint(2 * n)\n\nIt reads a number and prints its double.",
        "```python\ndef double(n):\n    return n * 2\n```\n```python\nn = int(input())\n"
        "print(double(n))\n```",
        "```python\nn = 3\n```\n```python\nprint(int(input())*2)\n```",
        "```python\nprint(int(input())*2)\n```\nFor the input\n```\n3\n```\nit prints\n```\n6\n```",
    ],
)
def test_the_program_is_found_among_examples(reply):
    parsed = parse_solution(reply, PROGRAM)
    printed = []
    exec(parsed.code, {"input": lambda: "4", "print": printed.append})
    assert printed == [8]


@pytest.mark.parametrize("reply", ["Sorry", "3", "```\n3\n```", "```\n[1, 2]\n```", "It is 42."])
def test_a_word_or_a_value_is_no_program(reply):
    assert parse_solution(reply, PROGRAM).reason == "no_code"


@pytest.mark.parametrize(
    ("begun", "reply"),
    [
        ("```python\n", f"```python\n{CODE}```"),
        ("```python\n", f"\n{CODE}```\nDone."),
        ("```python\n", f"Sure:\n```python\n{CODE}```"),
        ("```python\n", f"```\n{CODE}```"),
    ],
)
def test_a_reply_may_repeat_the_opening_that_was_begun_for_it(begun, reply):
    assert run(parse_solution(reply, DOUBLE, begun), "double(4)") == 8


@pytest.mark.parametrize("problem", [DOUBLE, PROGRAM])
@pytest.mark.parametrize("opening", ["```python\n", "```\n", ""])
def test_a_reply_that_is_cut_off_inside_its_code_is_no_solution(opening, problem):
    code = f"{CODE}print(double(int(input())))\n"
    assert parse_solution(opening + code, problem, finished=False).reason == "cut_off"
    assert parse_solution(opening + code, problem).code is not None
    closed = f"```python\n{code}```\nThis function mult"
    assert parse_solution(closed, problem, finished=False).code is not None


def test_commented_classes_of_the_starter_code_are_defined():
    starter = "# class Node:\n#     def __init__(self, value):\n#         self.value = value\n"
    problem = Problem("t", "p", "double", "function", starter_code=starter + "def double(node):")
    bare = parse_solution("def double(node):\n    return Node(2 * node.value)\n", problem)
    assert run(bare, "double(Node(4)).value") == 8


def test_the_first_block_that_defines_the_entry_point_counts():
    reply = f"```python\n{CODE}```\nVariant:\n```python\ndef double(n):\n    return n << 1\n```"
    assert parse_solution(reply, DOUBLE).code == CODE


def test_blank_lines_in_a_string_stay_as_they_are():
    code = "def double(n):\n    return 2 * n\n\nTEXT = '''a\n   \nb'''\n"
    assert parse_solution(f"```python\n{code}```", DOUBLE).code == code


def test_the_models_own_trials_are_dropped_and_comments_stay():
    reply = (
        "```python\nimport sys\nsys.setrecursionlimit(5000)\n# twice\n" + CODE + "\n"
        "print(double(3))\nassert double(1) == 3\nresult = double(5)\n"
        "if __name__ == '__main__':\n    double(int(input()))\n```"
    )
    code = parse_solution(reply, DOUBLE).code
    assert code == f"import sys\nsys.setrecursionlimit(5000)\n# twice\n{CODE}"


@pytest.mark.parametrize(
    "trial",
    [
        "main()\n",
        "for n in range(3):\n    print(double(n))\n",
        "try:\n    double(None)\nexcept TypeError:\n    pass\n",
        "import unittest\nunittest.main()\n",
        "exit()\n",
    ],
)
def test_no_trial_runs_when_the_solution_is_loaded(trial):
    main = "def main():\n    print(double(int(input())))\n"
    parsed = parse_solution(f"```python\n{CODE}{main}{trial}```", DOUBLE)
    assert run(parsed, "double(4)") == 8
    assert parsed.code.startswith(CODE + main)
    assert not parsed.code.removeprefix(CODE + main).replace("import unittest\n", "")


def test_what_the_function_itself_uses_is_no_trial():
    code = "def double(n):\n    return TABLE[0] if n else n\nTABLE = [double(0) + 8]\n"
    assert run(parse_solution(f"```python\n{code}```", DOUBLE), "double(4)") == 8


def test_trials_that_share_a_line_with_code_are_dropped_as_well():
    parsed = parse_solution("```python\ndouble = lambda n: n * f; print(1); f = 2\n```", DOUBLE)
    assert run(parsed, "double(4)") == 8
    assert "print" not in parsed.code


def test_a_whole_program_is_kept_as_it_stands():
    program = "n = int(input())\nif __name__ == '__main__':\n    print(2 * n)\n"
    assert parse_solution(f"```python\n{program}```", PROGRAM).code == program


def test_imports_and_helpers_of_the_starter_code_are_put_in_front():
    starter = (
        "from typing import List\n\ndef one():\n    return 1\n\n\n"
        'def double(n: List[int]) -> int:\n    """Doc."""'
    )
    problem = Problem("t", "p", "double", "function", starter_code=starter)
    bare = "```python\ndef double(n: List[int]) -> int:\n    return 2 * n[0] * one()\n```"
    assert run(parse_solution(bare, problem), "double([4])") == 8
    own_helper = "```python\ndef one():\n    return 5\n" + bare.removeprefix("```python\n")
    assert run(parse_solution(own_helper, problem), "double([4])") == 40


@pytest.mark.parametrize("before", ["", '"""Doubles."""\n', "\ufeff", "# -*- coding: utf-8 -*-\n"])
def test_future_imports_stay_in_front_of_what_is_added(before):
    code = (
        f"{before}from __future__ import annotations\nclass Solution:\n    def double(self, n: No):"
    )
    reply = f"```python\n{code} return prod([2, n])\n```"
    assert run(parse_solution(reply, METHOD), "Solution().double(4)") == 8


def test_methods_find_the_imports_that_leetcode_provides():
    reply = (
        "```python\nclass Solution:\n    def double(self, n: List[int]) -> Optional[int]:\n"
        "        return Counter(n)[4] * 8\n```"
    )
    assert run(parse_solution(reply, METHOD), "Solution().double([4])") == 8


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no_code"),
        ("I cannot do that.", "no_code"),
        ("```python\n```", "no_code"),
        ("<think>still thinking ```python\n" + CODE, "no_code"),
        ("```python\ndef double(n:\n    return\n```", "syntax_error"),
        ("```python\ndef double(n):\n    return (2 *", "syntax_error"),
        ("```python\ndef triple(n):\n    return 3 * n\n```", "no_entry_point"),
        ("```python\nx = '''" + "a" * 300_000 + "'''\n```", "too_long"),
        ("```python\n" + "(" * 5000 + ")" * 5000 + "\n```", "syntax_error"),
        ("```python\ndef double(n):\n    return '\0'\n```", "syntax_error"),
    ],
)
def test_what_cannot_be_used_has_a_reason(reply, reason):
    assert parse_solution(reply, DOUBLE) == type(parse_solution("", DOUBLE))(None, reason)
    assert reason in SOLUTION_REASONS


def test_a_function_outside_its_class_is_no_method():
    assert parse_solution(f"```python\n{CODE}```", METHOD).reason == "no_entry_point"


pieces = st.sampled_from(
    ["```", "```python\n", "\n", CODE, "def double(", "x = 1;", "    ", "\x0c", "\r", "<think>",
     "</think>", "class Solution:\n", "if __name__ == '__main__':\n", "print(1)\n", "assert x\n"]
)  # fmt: skip
replies = st.one_of(st.text(), st.lists(st.one_of(pieces, st.text(max_size=5))).map("".join))


@settings(max_examples=300, deadline=None)
@given(replies, st.sampled_from([DOUBLE, METHOD, PROGRAM]))
def test_no_reply_raises_and_every_solution_is_python(reply, problem):
    parsed = parse_solution(reply, problem)
    if parsed.code is None:
        assert parsed.reason in SOLUTION_REASONS
    else:
        ast.parse(parsed.code)
        assert parsed.reason == ""
