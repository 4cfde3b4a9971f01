"""Readers of the data sets that people train code models on, on files of exactly their layouts."""

import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import CallTest, StdioTest, read_problems

TRIALS = {"file_source": "x", "solution_code": "", "test_code": "", "test_result": "passed"}
KODCODE = {
    "version": "v1.1",
    "style": "instruct",
    "subset": "Prefill",
    "question_id": "Prefill_1_I",
    "question": "Return the sum of a list.",
    "solution": "def total(numbers):\n    return sum(numbers)\n",
    "test": "import pytest\nfrom solution import total\n\nSMALL = [1, 2]\n\n"
    "def test_small():\n    assert total(SMALL) == 3\n\n"
    "def test_empty():\n    assert total([]) == 0\n\n"
    "def test_text():\n    with pytest.raises(TypeError):\n        total('ab')\n\n"
    "@pytest.mark.parametrize('n', [1])\ndef test_one(n):\n    assert total([n]) == n\n",
    "test_info": [
        {
            "docstring": "",
            "function_declaration": "def total(numbers):",
            "function_name": "total",
            "parameter_list": "(numbers)",
        }
    ],
    "gpt_pass_sequence": [1],
    "gpt_pass_trial_num": 1,
    "gpt_difficulty": "easy",
    "gpt_pass_percentage": 1.0,
    "trials": {"trial_gpt4o_0": TRIALS},
    "chosen_trial": "gpt4o_0",
    "metadata": {},
    "benchmark_similarity": 0.5,
    "benchmark_instruction": "",
    "benchmark_task_id": "",
    "filter_reason": None,
}
KODCODE_JUDGE = KODCODE | {
    "style": "online_judge",
    "question_id": "Taco_2_O",
    "question": "Print the double.",
    "solution": "print(2 * int(input()))\n",
    "test": str({"stdin": ["2\n", "3\n"], "stdout": ["4\n", "6\n"]}),
    "test_info": [],
}
TACO = {
    "question": "Print the double.",
    "solutions": json.dumps(["print(2 * int(input()))"]),
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["2\n"], "outputs": ["4\n"]}),
    "difficulty": "EASY",
    "raw_tags": "[]",
    "name": None,
    "source": "codeforces",
    "tags": "[]",
    "skill_types": "[]",
    "url": "https://example.org",
    "Expected Auxiliary Space": None,
    "time_limit": "2 seconds",
    "date": None,
    "picture_num": None,
    "memory_limit": None,
    "Expected Time Complexity": None,
}
TACO_CALL = TACO | {
    "solutions": json.dumps(["def double(n):\n\treturn 2 * n"]),
    "starter_code": "def double(n):\n\t",
    "input_output": json.dumps({"fn_name": "double", "inputs": [[2]], "outputs": [4]}),
}
LEETCODE = {
    "task_id": "sum-of-list",
    "question_id": 9999,
    "difficulty": "Easy",
    "tags": ["Linked List"],
    "problem_description": "Given the head of a linked list, return the sum.\n\nExample 1:\n\n"
    "Input: head = [1,2]\nOutput: 3",
    "starter_code": "# Definition for singly-linked list.\n# class ListNode:\n"
    "#     def __init__(self, val=0, next=None):\n#         self.val = val\n"
    "#         self.next = next\nclass Solution:\n"
    "    def total(self, head: Optional[ListNode]) -> int:\n        ",
    "estimated_date": "2024-01-01",
    "prompt": "from typing import *\n\nclass ListNode:\n    def __init__(self, val=0, next=None):\n"
    "        self.val = val\n        self.next = next\n\ndef list_node(values):\n"
    "    head = None\n    for value in reversed(values):\n        head = ListNode(value, head)\n"
    "    return head\n",
    "completion": "class Solution:\n    def total(self, head: Optional[ListNode]) -> int:\n"
    "        return head.val + self.total(head.next) if head else 0\n",
    "entry_point": "Solution().total",
    "test": "def check(candidate):\n    assert candidate(head = list_node([1,2])) == 3\n"
    "    assert candidate(head = list_node([])) == 0\n",
    "input_output": [{"input": "head = [1,2]", "output": "3"}],
    "query": "",
    "response": "",
}
CODING = {
    "source": "apps",
    "task_type": "verifiable_code",
    "in_source_id": "1",
    "prompt": "Solve the following coding problem using the programming language python:\n\n"
    "Print the double.\n\nThe input will be stdin and you should print your solution to stdout\n"
    "\n\nNow solve the problem and return the code.",
    "gold_standard_solution": "```python\nprint(2 * int(input()))\n```",
    "verification_info": str(
        {
            "language": "python",
            "test_cases": [
                {"type": "stdin_stdout", "fn_name": None, "input": "2\n", "output": "4\n"}
            ],
        }
    ),
    "metadata": "{'difficulty': 'easy'}",
    "problem_id": "vcp_1",
}
CODING_CALL = CODING | {
    "problem_id": "vcp_2",
    "gold_standard_solution": "```python\ndef double(n):\n    return 2 * n\n```",
    "verification_info": json.dumps(
        {
            "language": "python",
            "test_cases": [
                {"type": "function_call", "fn_name": "double", "input": [n], "output": [2 * n]}
                for n in (2, 3)
            ],
        }
    ),
}
BIG = {
    "task_id": "BigCodeBench/7",
    "complete_prompt": 'import math\n\ndef task_func(x):\n    """\n    Return the square root.\n'
    '    """\n',
    "instruct_prompt": "Return the square root.\nYou should write self-contained code starting"
    " with:\n```\nimport math\ndef task_func(x):\n```",
    "canonical_solution": "    return math.sqrt(x)",
    "code_prompt": "import math\ndef task_func(x):\n",
    "test": "import unittest\nclass TestCases(unittest.TestCase):\n    def test_four(self):\n"
    "        self.assertEqual(task_func(4), 2)\n    def test_negative(self):\n"
    "        with self.assertRaises(ValueError):\n            task_func(-1)\n",
    "entry_point": "task_func",
    "doc_struct": "{}",
    "libs": "['math']",
}


@pytest.fixture
def read(tmp_path):
    def read_records(form, *records, name="train-00000-of-00001.jsonl", **arguments):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return read_problems(f"{form}:{tmp_path}", **arguments)

    return read_records


@pytest.fixture(scope="module")
def pool():
    with ExecutionPool(1) as opened:
        yield opened


def verdicts(pool, problem, solution=None):
    matrix = pool.passing_matrix(
        problem, [solution or problem.reference_solution], problem.reference_tests
    )
    return [Status(status).name for status in matrix[0]]


def test_kodcode_has_a_test_for_each_test_function(read, pool):
    total, double = read("kodcode", KODCODE, KODCODE_JUDGE)
    assert (total.task_id, total.entry_point) == ("kodcode/Prefill_1_I", "total")
    assert total.starter_code == "def total(numbers):"
    assert len(total.reference_tests) == 3  # the parametrized one needs a fixture
    assert verdicts(pool, total) == ["PASSED"] * 3
    wrong = "def total(numbers):\n    return len(numbers)\n"
    assert verdicts(pool, total, wrong) == ["FAILED", "PASSED", "FAILED"]
    assert (double.kind, double.reference_tests[1]) == ("stdio", StdioTest("3\n", "6\n"))
    assert verdicts(pool, double) == ["PASSED"] * 2


def test_the_earlier_field_of_kodcode_is_read(read):
    earlier = {name: value for name, value in KODCODE.items() if name != "test"}
    assert read("kodcode", earlier | {"test_code": KODCODE["test"]})[0].reference_tests


def test_taco_is_read_like_apps_and_known_by_its_place(read, pool):
    double, call = read("taco", TACO, TACO_CALL)
    assert double.task_id == "taco/train-00000-of-00001/1"
    assert (double.kind, call.kind, call.entry_point) == ("stdio", "function", "double")
    assert call.reference_tests == (CallTest((2,), 4),)
    assert verdicts(pool, double) == verdicts(pool, call) == ["PASSED"]


def test_leetcode_dataset_brings_the_classes_that_its_tests_need(read, pool):
    (problem,) = read("leetcode_dataset", LEETCODE, name="LeetCodeDataset-train.jsonl")
    assert (problem.task_id, problem.entry_point) == ("leetcode/sum-of-list", "Solution.total")
    assert verdicts(pool, problem) == ["PASSED"]
    wrong = LEETCODE["prompt"] + LEETCODE["completion"].replace("+", "-")
    assert verdicts(pool, problem, wrong) == ["FAILED"]
    with pytest.raises(UserError, match="no problems in split 'test'"):
        read("leetcode_dataset", LEETCODE, name="LeetCodeDataset-train.jsonl", split="test")


def test_verifiable_coding_problems_are_programs_and_calls(read, pool):
    double, call = read("verifiable_coding", CODING, CODING_CALL)
    assert double.prompt.startswith("Print the double.")
    assert double.prompt.endswith("print your solution to stdout")
    assert double.reference_solution == "print(2 * int(input()))\n"
    assert call.entry_point == "double"
    assert call.reference_tests == (CallTest((2,), [4], (4,)), CallTest((3,), [6], (6,)))
    assert verdicts(pool, double) == ["PASSED"]
    assert verdicts(pool, call) == ["PASSED"] * 2


def test_synthetic_1_repeats_problems_and_holds_other_tasks(read):
    reply = {"response_id": "r", "llm_response": "", "score": 1.0, "hf_dataset_name": ""}
    maths = CODING | {"task_type": "verifiable_math", "problem_id": "vm_1"}
    rust = CODING | {
        "problem_id": "vcp_3",
        "verification_info": str({"language": "rust", "test_cases": []}),
    }
    records = [CODING | reply, CODING | reply | {"response_id": "s"}, maths, rust]
    assert len(read("verifiable_coding", *records)) == 1


def test_bigcodebench_is_judged_by_its_test_case(read, pool):
    for form, starter in (
        ("bigcodebench", BIG["complete_prompt"]),
        ("bigcodebench_instruct", BIG["code_prompt"]),
    ):
        (problem,) = read(form, BIG, name="v0.1.4-00000-of-00001.jsonl")
        assert problem.starter_code == starter
        assert verdicts(pool, problem) == ["PASSED"]
        wrong = "def task_func(x):\n    return x / 2 if x > 0 else 0\n"
        assert verdicts(pool, problem, wrong) == ["FAILED"]


def test_of_several_versions_of_bigcodebench_the_newest_is_read(read):
    older = BIG | {"instruct_prompt": "old"}
    read("bigcodebench_instruct", older, name="v0.1.0_hf-00000-of-00001.jsonl")
    read("bigcodebench_instruct", older, name="v0.1.9-00000-of-00001.jsonl")
    (problem,) = read("bigcodebench_instruct", BIG, name="v0.1.10-00000-of-00001.jsonl")
    assert problem.prompt == BIG["instruct_prompt"]


@pytest.mark.parametrize(
    ("form", "record", "field"),
    [
        ("kodcode", KODCODE_JUDGE, "question"),
        ("taco", TACO, "question"),
        ("leetcode_dataset", LEETCODE, "problem_description"),
        ("verifiable_coding", CODING, "prompt"),
    ],
)
def test_problems_with_several_right_answers_are_passed_over_and_counted(read, form, record, field):
    several = record | {field: "If there are multiple answers, print any of them."}
    for name in ("question_id", "problem_id", "task_id"):
        if isinstance(several.get(name), str):
            several[name] += "_several"
    problems = read(form, record, several)
    assert (len(problems), problems.unjudgeable) == (1, 1)


@pytest.mark.parametrize(
    ("form", "record", "what"),
    [
        ("kodcode", KODCODE | {"test": "def ("}, "'test' is no Python"),
        ("kodcode", KODCODE | {"test_info": [{"function_name": 3}]}, "'test_info' must hold"),
        ("kodcode", KODCODE_JUDGE | {"test": "[]"}, "'test' must hold lists"),
        ("taco", TACO | {"input_output": "{"}, "'input_output' is not valid JSON"),
        ("leetcode_dataset", LEETCODE | {"test": None}, "field 'test' is missing"),
        ("verifiable_coding", CODING | {"verification_info": "["}, "is not valid JSON"),
        ("verifiable_coding", CODING | {"verification_info": "{}"}, "'test_cases' must be"),
        ("bigcodebench", BIG | {"canonical_solution": 1}, "must be a text"),
    ],
)
def test_a_malformed_record_is_named(read, form, record, what):
    with pytest.raises(UserError, match="line 1: ") as error:
        read(form, record)
    assert what in str(error.value)
