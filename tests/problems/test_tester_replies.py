import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.problems import AssertTest, Problem, parse_test
from zerocoder_jax.problems.tester_replies import TEST_REASONS

DOUBLE = Problem("t", "p", "double", "function")
METHOD = Problem("t", "p", "Solution.double", "function")
PROGRAM = Problem("t", "p", None, "stdio")
WHOLE_SOLUTION = "def double(n):\n    return 2 * n\n"


def code_of(reply, problem=DOUBLE, **arguments):
    parsed = parse_test(reply, problem, **arguments)
    assert parsed.reason == ""
    return parsed.test.code


def fenced(code):
    return f"```python\n{code}\n```"


@pytest.mark.parametrize(
    "reply",
    [
        fenced("assert double(4) == 8"),
        fenced("assert double(4) == 8, 'wrong'"),
        "assert double(4) == 8",
        "Here is a test:\nassert double(4) == 8\nIt checks a small number.",
        "```python\nassert double(4) == 8",
        fenced("assert double(4) == 8\nassert double(5) == 1"),
        fenced(WHOLE_SOLUTION + "\nassert double(4) == 8"),
        fenced(WHOLE_SOLUTION) + "\nTest:\n" + fenced("assert double(4) == 8"),
        fenced("double = lambda n: 8\nassert double(4) == 8"),
        fenced("from solution import double\nassert double(4) == 8"),
        fenced("def test_double():\n    assert double(4) == 8\n\ntest_double()"),
        fenced("class TestDouble:\n    def test_it(self):\n        assert double(4) == 8"),
        fenced("if __name__ == '__main__':\n    assert double(4) == 8"),
        fenced("print(double(1))\nassert double(4) == 8"),
        fenced("assert True\nassert double(4) == 8"),
        fenced("assert double(4) == 8\nassert double(5) == [1, 2,"),
        "<think>assert double(1) == 1</think>assert double(4) == 8",
    ],
)
def test_the_first_assert_that_calls_the_entry_point_is_the_test(reply):
    assert code_of(reply) == "assert double(4) == 8"


def test_definitions_of_the_entry_point_inside_the_reply_are_never_part_of_the_test():
    reply = fenced("def double(n):\n    assert double(0) == 1\n    return n\nassert double(4) == 8")
    assert code_of(reply) == "assert double(4) == 8"


@pytest.mark.parametrize(
    "code",
    [
        "import math\nassert math.isclose(double(0.5), 1.0)",
        "from math import isclose as close\nassert close(double(0.5), 1.0)",
        "number = 4\nexpected = number * 2\nassert double(number) == expected",
        "numbers = [1]\nnumbers.append(2)\nassert [double(n) for n in numbers] == [2, 4]",
        "numbers = [1, 2]\nnumbers[0] = 3\nassert double(numbers[0]) == 6",
        "numbers = []\nfor n in range(3):\n    numbers.append(n)\nassert double(len(numbers)) == 6",
        "def close(a, b):\n    return abs(a - b) < 1e-09\nassert close(double(0.5), 1.0)",
        "result = 3\nresult += 1\nassert double(result) == 8",
    ],
)
def test_what_the_assert_needs_comes_along(code):
    assert code_of(fenced(code)) == code
    exec(WHOLE_SOLUTION + code, {})


def test_what_the_assert_does_not_need_stays_behind():
    code = "import json\nother = json.loads('1')\nnumber = 4\nassert double(number) == 8"
    assert code_of(fenced(code)) == "number = 4\nassert double(number) == 8"


def test_statements_of_a_test_function_come_along():
    code = "base = 2\ndef test_double():\n    number = base\n    assert double(number) == 4"
    assert code_of(fenced(code)) == "base = 2\nnumber = base\nassert double(number) == 4"


def test_several_asserts_may_form_one_test():
    code = "x = 1\nassert double(x) == 2\nassert double(2) == 4\nassert double(3) == 6"
    assert code_of(fenced(code), asserts_per_test=2) == (
        "x = 1\nassert double(x) == 2\nassert double(2) == 4"
    )
    assert code_of(fenced(code), asserts_per_test=9) == code


def test_a_method_is_called_on_a_fresh_instance():
    plain = "assert Solution().double(4) == 8"
    named = "s = Solution()\nassert s.double(4) == 8"
    definition = "class Solution:\n    def double(self, n):\n        return 8\n"
    assert code_of(fenced(plain), METHOD) == plain
    assert code_of(fenced(named), METHOD) == named
    assert code_of(fenced(definition + named), METHOD) == named
    other = "class Fake:\n    def double(self, n):\n        return 8\nassert Fake().double(4) == 8"
    assert parse_test(fenced(other), METHOD).reason == "no_call"
    assert parse_test(fenced("assert double(4) == 8"), METHOD).reason == "no_call"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "no_code"),
        ("assert double(4) ==", "syntax_error"),
        (WHOLE_SOLUTION, "no_assert"),
        ("print(double(4) == 8)", "no_assert"),
        ("assert 1 + 1 == 2", "constant_assert"),
        ("assert True", "constant_assert"),
        ("assert False", "constant_assert"),
        ("assert double", "no_call"),
        ("x = 8\nassert x == 8", "no_call"),
        ("def check(f):\n    assert f(4) == 8\ncheck(double)", "no_assert"),
        ("from unittest.mock import ANY\nassert double(4) == ANY", "inspection_import"),
        ("import operator\nassert operator.attrgetter('__code__')(double)(4)", "no_call"),
        (
            "from operator import attrgetter as get\nassert double(4) == get('__name__')(double)",
            "inspection",
        ),
        ("assert double(4) == answer", "undefined_name"),
        ("assert double(4) == _helper(4)", "undefined_name"),
        ("expected = answer\nright = [expected]\nassert double(4) in right", "undefined_name"),
        ("try:\n    assert double(4) == 9\nexcept AssertionError:\n    pass", "guarded_assert"),
        ("if double(4) == 8:\n    assert double(4) == 8", "guarded_assert"),
        ("for n in []:\n    assert double(n) == 1", "guarded_assert"),
        ("while double(4) == 8:\n    assert double(4) == 8", "guarded_assert"),
        ("with suppress(AssertionError):\n    assert double(4) == 9", "guarded_assert"),
        ("exit()\nassert double(4) == 8", "exits"),
        ("assert double(4) == 8\nimport sys\nsys.exit(0)", "exits"),
        ("import os\nos._exit(0)\nassert double(4) == 8", "exits"),
        ("assert double(4) == exit()", "exits"),
        ("raise SystemExit\nassert double(4) == 8", "exits"),
        ("import inspect\nassert inspect.getsource(double) and double(4)", "inspection_import"),
        ("import gc\nassert double(4) == len(gc.get_objects())", "inspection_import"),
        ("import sys\nassert double(4) and sys.modules['__main__']", "inspection_import"),
        ("import os\nassert double(4) == len(os.listdir('.'))", "inspection_import"),
        ("assert double(4) == double.__code__.co_consts[1]", "inspection"),
        ("assert double(4) == eval('8')", "inspection"),
        ("assert double(4) == globals()['answer']", "inspection"),
        ("assert double(4) == 8 and open('/etc/passwd')", "inspection"),
        ("import math\nmath.pi = 3\nassert double(math.pi) == 6", "inspection"),
        ("assert (double := abs) and double(4) == 4", "rebinds_entry_point"),
        ("assert [double(4) for double in [abs]] == [4]", "rebinds_entry_point"),
        ("def f(double):\n    return double\nassert f(double(4)) == 8", "rebinds_entry_point"),
        ("assert double(missing) == 8", "undefined_name"),
        ("pair = Pair(1, 2)\nassert double([pair, Pair(3, 4)]) == 8", "undefined_name"),
        ("assert double([x for x in range(2)]) == x", "undefined_name"),
        ("def test_double(capsys):\n    assert double(capsys) == 8", "undefined_name"),
        ("from solution import other\nassert double(other(1)) == 8", "missing_package"),
        ("import numpy as np\nassert double(np.array([1]))[0] == 2", "missing_package"),
        ("import pandas\nassert double(pandas.NA) == 2", "missing_package"),
        ("result = 2\nassert result == 2", "no_call"),
        ("result = double(1)\nresult = 2\nassert result == 2", "no_call"),
        ("result = double(1)\nresult.clear()\nassert result == []", "no_call"),
        ("a, b = double(1), 2\nassert b == 2", "no_call"),
        ("x = [" + "1, " * 9000 + "]\nassert double(x[0]) == 2", "too_long"),
        ("assert double(" + "-" * 20_000 + "1) == 2", "syntax_error"),
        ("assert double(" + "(" * 3000 + ")" * 3000 + ") == 2", "syntax_error"),
        ("assert double(0x" + "f" * 6000 + ") == 2", "syntax_error"),
    ],
)
def test_cheats_and_useless_replies_are_refused_with_a_reason(code, reason):
    parsed = parse_test(fenced(code), DOUBLE)
    assert (parsed.test, parsed.reason) == (None, reason)
    assert reason in TEST_REASONS


@pytest.mark.parametrize(
    "code",
    [
        "assert double(4)",
        "assert double(4) is not None",
        "assert isinstance(double(4), int)",
        "assert double(4) != double(5)",
        "assert double(4) == 8 or double(4) == 9",
        "assert double(4) == 8 and double(5) == 10",
        "assert all((double(n) == 2 * n for n in [1, 2]))",
        "assert (x := double(4)) == 8 and x != 9",
        "assert type(double(4)) is int",
        "assert 0 <= double(4) <= 8",
        "assert double(0) == 0 * 5",
        "numbers = [4]\nassert len(numbers) == 1 and double(numbers[0]) == 8",
        "result = double(4)\nassert double(5) == 10 or result == 8",
        "import re\nassert re.compile('8').match(str(double(4)))",
    ],
)
def test_a_weak_test_is_a_test(code):
    """What it is worth, its mutation score says."""
    assert code_of(fenced(code)) == code


def test_a_test_may_use_what_the_starter_code_defines():
    starter = "class ListNode:\n    pass\n\ndef double(n):"
    problem = Problem("t", "p", "double", "function", starter_code=starter)
    code = "assert double(4) == ListNode(8)"
    assert code_of(fenced(code), problem) == code
    assert parse_test(fenced(code), DOUBLE).reason == "undefined_name"


def test_a_cheat_beside_an_honest_assert_does_not_count():
    code = (
        "try:\n    assert double(1) == 3\nexcept AssertionError:\n    pass\nassert double(4) == 8"
    )
    assert code_of(fenced(code)) == "assert double(4) == 8"


def test_the_assert_message_cannot_smuggle_code():
    assert code_of(fenced("assert double(4) == 8, open('x').read()")) == "assert double(4) == 8"


def test_prose_is_no_code_and_a_refusal_has_no_test():
    assert parse_test("I would rather not.", DOUBLE).reason == "no_code"
    assert parse_test("assert that it works!", DOUBLE).reason == "syntax_error"
    assert parse_test("x" * 300_000, DOUBLE).reason == "too_long"


@pytest.mark.parametrize(
    ("code", "test"),
    [
        ("result = double(4)\nassert result == 8", None),
        ("n = 4\nresult = double(n)\nexpected = 8\nassert result == expected", None),
        ("result: int = double(4)\nassert result == 8", None),
        ("first, second = double((1, 2))\nassert second == 2", None),
        ("result = double([2, 1])\nresult.sort()\nassert result == [1, 1, 2, 2]", None),
        ("self.assertEqual(double(4), 8)", "assert double(4) == 8"),
        ("self.assertEqual(8, double(4), 'message')", "assert 8 == double(4)"),
        ("self.assertTrue(double(4))", "assert double(4)"),
        ("self.assertFalse(double(0))", "assert not double(0)"),
        ("self.assertIsNone(double(4))", "assert double(4) is None"),
        ("self.assertIn(double(4), [7, 8])", "assert double(4) in [7, 8]"),
        ("self.assertGreaterEqual(double(4), 8)", "assert double(4) >= 8"),
        ("self.assertListEqual(double([4]), [4, 4])", "assert double([4]) == [4, 4]"),
        ("self.assertIsInstance(double(4), int)", "assert isinstance(double(4), int)"),
        (
            "self.assertCountEqual(double([4]), [4, 4])",
            "assert sorted(double([4]), key=repr) == sorted([4, 4], key=repr)",
        ),
        (
            "self.assertAlmostEqual(double(0.1), 0.2)",
            "import math\nassert math.isclose(double(0.1), 0.2, rel_tol=0.0, abs_tol=5e-08)",
        ),
        (
            "self.assertAlmostEqual(double(0.1), 0.2, places=2)",
            "import math\nassert math.isclose(double(0.1), 0.2, rel_tol=0.0, abs_tol=0.005)",
        ),
        (
            "import pytest\nassert double(0.1) == pytest.approx(0.2)",
            "import math\nassert math.isclose(double(0.1), 0.2, rel_tol=1e-06, abs_tol=1e-12)",
        ),
        (
            "from pytest import approx\nassert approx(0.2, abs=0.5) == double(0.1)",
            "import math\nassert math.isclose(double(0.1), 0.2, rel_tol=0.0, abs_tol=0.5)",
        ),
        (
            "assert double(1) == pytest.approx({'a': 1})",
            "import pytest\nassert double(1) == pytest.approx({'a': 1})",
        ),
        ("assert double(math.pi) > 6", "import math\nassert double(math.pi) > 6"),
        (
            "import unittest\nclass TestDouble(unittest.TestCase):\n    def test_it(self):\n"
            "        n = 4\n        self.assertEqual(double(n), 8)\nunittest.main()",
            "n = 4\nassert double(n) == 8",
        ),
        (
            "class TestDouble(unittest.TestCase):\n    big = 8\n    def setUp(self):\n"
            "        self.n = 4\n    def test_it(self):\n"
            "        self.assertEqual(double(self.n), self.big)",
            "big = 8\nn = 4\nassert double(n) == big",
        ),
        (
            "import pytest\n@pytest.mark.parametrize('n, expected', [(4, 8), (5, 10)])\n"
            "def test_double(n, expected):\n    assert double(n) == expected",
            "(n, expected) = (4, 8)\nassert double(n) == expected",
        ),
        (
            "@pytest.mark.parametrize(['n'], [pytest.param(4, id='four')])\n"
            "def test_double(n):\n    assert double(n) == 8",
            "n = 4\nassert double(n) == 8",
        ),
        (
            "@pytest.fixture\ndef number():\n    return 4\n\ndef test_double(number):\n"
            "    assert double(number) == 8",
            "number = 4\nassert double(number) == 8",
        ),
    ],
)
def test_asserts_in_other_forms_are_asserts(code, test):
    assert code_of(fenced(code)) == ast.unparse(ast.parse(test or code))


@pytest.mark.parametrize(
    ("solution", "passes"),
    [("lambda n: [0.1 + 0.2]", True), ("lambda n: [0.4]", False), ("lambda n: []", False)],
)
def test_approximate_lists_are_compared_item_by_item(solution, passes):
    code = code_of(fenced("assert double(1) == pytest.approx([0.3])"))
    scope = {"double": eval(solution)}
    try:
        exec(code, scope)
    except AssertionError:
        assert not passes
    else:
        assert passes


def test_a_method_may_be_called_on_what_a_test_case_prepares():
    code = (
        "class TestIt(unittest.TestCase):\n    def setUp(self):\n        self.s = Solution()\n"
        "    def test_it(self):\n        self.assertEqual(self.s.double(4), 8)"
    )
    assert code_of(fenced(code), METHOD) == "s = Solution()\nassert s.double(4) == 8"


@pytest.mark.parametrize(
    "reply",
    [
        "1. assert double(4) == 8\n2. assert double(5) == 10",
        "- assert double(4) == 8",
        "* `assert double(4) == 8`",
        "1. `assert double(4) == 8` checks an even number.",
        "Use `assert double(4) == 8` for that.",
        ">>> assert double(4) == 8",
        "Test 1: assert double(4) == 8",
        "```\n1) assert double(4) == 8\n2) assert double(5) == 10\n```",
        "- assert double(\n    4\n) == 8",
        f"```python\n{WHOLE_SOLUTION}```\nTests:\n- assert double(4) == 8",
    ],
)
def test_asserts_stand_in_lists_and_in_prose(reply):
    assert code_of(reply) == "assert double(4) == 8"


def test_packages_of_the_sandbox_may_be_used():
    code = "import numpy as np\nassert list(double(np.array([1]))) == [2]"
    assert code_of(fenced(code), packages=("numpy",)) == code
    unimported = "assert list(double(np.array([1]))) == [2]"
    assert code_of(fenced(unimported), packages=("numpy",)) == code


def test_an_assert_that_the_limit_cut_off_is_no_test():
    assert (
        parse_test("```python\nassert double(4) == 8", DOUBLE, finished=False).reason == "cut_off"
    )
    assert parse_test("```python\nassert double(4) ==", DOUBLE, finished=False).reason == "cut_off"
    whole = "```python\nassert double(4) == 8\nassert double(5) == 1"
    assert code_of(whole, finished=False) == "assert double(4) == 8"


@pytest.mark.parametrize(
    ("begun", "reply"),
    [
        ("```python\nassert double(", "4) == 8\n```"),
        ("```python\nassert double(", "assert double(4) == 8\n```"),
        ("```python\nassert double(", "```python\nassert double(4) == 8\n```"),
    ],
)
def test_a_reply_may_repeat_what_was_begun_for_it(begun, reply):
    assert code_of(reply, prefix=begun) == "assert double(4) == 8"


pieces = st.sampled_from(
    ["```python\n", "```\n", "\n", "    ", "assert double(1) == 2\n", "assert ", "double(", ")",
     "def double(n):\n", "def test_a():\n", "class T:\n", "try:\n", "except:\n", "import os\n",
     "x = 1\n", "x", " == ", "[", "]", "exit()\n", "double = 1\n", "global double\n", "lambda: ",
     "self.assertEqual(", "import pytest\n", "approx(", "Input:\n", "Output: ", "- ", "`",
     "for x in y:\n", "if __name__ == '__main__':\n", "</think>", "\x00", "\x0c", "0x" + "f" * 9999]
)  # fmt: skip
replies = st.one_of(st.text(), st.lists(st.one_of(pieces, st.text(max_size=5))).map("".join))


@settings(max_examples=500, deadline=None)
@given(replies, st.sampled_from([DOUBLE, METHOD, PROGRAM]), st.integers(1, 3), st.booleans())
def test_no_reply_raises_and_every_test_calls_the_entry_point(reply, problem, asserts, finished):
    parsed = parse_test(reply, problem, asserts_per_test=asserts, finished=finished)
    if parsed.test is None:
        assert parsed.reason in TEST_REASONS
        return
    assert parsed.reason == ""
    if isinstance(parsed.test, AssertTest):
        tree = ast.parse(parsed.test.code)
        assert 1 <= sum(isinstance(node, ast.Assert) for node in tree.body) <= asserts
        assert "double(" in parsed.test.code
