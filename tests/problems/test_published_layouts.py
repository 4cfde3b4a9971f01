"""The readers on small files of exactly the published layouts."""

import base64
import gzip
import json
import pickle
import zlib
from pathlib import Path

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import CallTest, StdioTest, read_problems
from zerocoder_jax.problems.readers import apps_evaluation
from zerocoder_jax.problems.readers.apps_evaluation import as_json, draw, published_ids

APPS_STDIO = {
    "problem_id": 7,
    "question": "Print twice the number.",
    "solutions": json.dumps(["print(2 * int(input()))", "n = int(input())\nprint(n + n)"]),
    "input_output": json.dumps({"inputs": ["2\n", ["3"]], "outputs": ["4\n", ["6"]]}),
    "difficulty": "interview",
    "url": "https://example.org/7",
    "starter_code": "",
}
APPS_CALL = {
    "problem_id": 8,
    "question": "Double it.",
    "solutions": json.dumps(["class Solution:\n    def double(self, n):\n        return 2 * n"]),
    "input_output": json.dumps({"fn_name": "double", "inputs": [[2], [3]], "outputs": [[4], [6]]}),
    "difficulty": "introductory",
    "url": "https://example.org/8",
    "starter_code": "\nclass Solution:\n    def double(self, n: int) -> int:\n        ",
}
APPS_BARE = APPS_STDIO | {"problem_id": 9, "solutions": "", "input_output": ""}


def packed(tests):
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


LIVE_STDIN = {
    "question_title": "Twice",
    "question_content": "Print twice the number.",
    "platform": "atcoder",
    "question_id": "abc999_a",
    "contest_id": "abc999",
    "contest_date": "2024-10-05T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "2\n", "output": "4\n", "testtype": "stdin"}]),
    "private_test_cases": packed([{"input": "3\n", "output": "6\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
LIVE_CALL = LIVE_STDIN | {
    "platform": "leetcode",
    "question_id": "3999",
    "contest_date": "2025-03-01T00:00:00",
    "starter_code": "class Solution:\n    def join(self, words: List[str], mark: str) -> str:\n",
    "public_test_cases": json.dumps(
        [{"input": '["a", "b"]\n"-"', "output": '"a-b"', "testtype": "functional"}]
    ),
    "private_test_cases": json.dumps(
        [{"input": '["c"]\n"+"', "output": '"c"', "testtype": "functional"}]
    ),
    "metadata": json.dumps({"func_name": "join"}),
}
LIVE_EXECUTOR = {
    "content": "### Question:\nPrint twice the number.\n\n### Format: Read the input.\n",
    "labels": json.dumps({"task_id": "twice", "difficulty": "easy"}),
    "test": packed({"inputs": ["2\n"], "outputs": ["4\n"]}),
}
CODEFORCES = {
    "id": "1999/A",
    "aliases": None,
    "contest_id": "1999",
    "contest_start_year": 2024,
    "description": "Print twice the number.",
    "input_format": "One integer.",
    "output_format": "One integer.",
    "interaction_format": None,
    "note": None,
    "examples": [{"input": "2", "output": "4"}],
    "rating": 800,
    "official_tests": [{"input": "2", "output": "4"}, {"input": "3", "output": "6"}],
    "official_tests_complete": True,
    "input_mode": "stdio",
    "generated_checker": None,
}
CODE_CONTESTS = {
    "name": "1000_A. Twice",
    "description": "Print twice the number.",
    "difficulty": 7,
    "public_tests": {"input": ["2\n"], "output": ["4\n"]},
    "private_tests": {"input": ["3\n"], "output": ["6\n"]},
    "generated_tests": {"input": [], "output": []},
    "solutions": {"language": [2, 3], "solution": ["int main(){}", "print(2 * int(input()))"]},
}
HUMANEVAL_PLUS = {
    "task_id": "HumanEval/999",
    "prompt": 'def half(n):\n    """Half of n."""\n',
    "contract": "",
    "canonical_solution": "    return n / 2\n",
    "entry_point": "half",
    "base_input": [[2], [3]],
    "plus_input": [[10**6], [0]],
    "atol": 1e-6,
}
MBPP_PLUS = {
    "task_id": "Mbpp/999",
    "prompt": '"""\nWrite a function to swap a pair.\nassert swap((1, 2)) == (2, 1)\n"""\n',
    "entry_point": "swap",
    "canonical_solution": "\ndef swap(pair):\n    return {pair: pair[::-1]}[pair]\n",
    "base_input": [[[1, 2]]],
    "plus_input": [[[3, 4]], [[5, 6]]],
    "atol": 0,
    "contract": "",
    "assertion": "\nassert swap((1, 2)) == (2, 1)\n",
}


def write(path, *records):
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def holds(test, solution):
    """Run a trusted assert test of this file against a trusted solution of this file."""
    scope = {}
    exec(solution, scope)
    try:
        exec(test.setup + "\n" + test.code, scope)
    except AssertionError:
        return False
    return True


def test_apps_reads_programs_and_calls(tmp_path):
    write(tmp_path / "train.jsonl", APPS_STDIO, APPS_CALL, APPS_BARE)
    stdio, call, bare = read_problems(f"apps:{tmp_path}", split="train")
    assert (stdio.task_id, stdio.kind, stdio.entry_point) == ("apps/train/7", "stdio", None)
    assert stdio.reference_tests == (StdioTest("2\n", "4\n", 1e-5), StdioTest("3", "6", 1e-5))
    assert call.entry_point == "Solution.double"
    # A list of one value may mean the value.
    assert call.reference_tests == (CallTest((2,), [4], (4,)), CallTest((3,), [6], (6,)))
    assert "from typing import *" in call.reference_solution
    assert (bare.reference_solution, bare.reference_tests) == (None, ())


def test_apps_numbers_may_be_longer_than_python_reads(tmp_path):
    # The published file has integers of more than the 4300 digits that Python reads.
    long = "1" * 5000
    call = '{"fn_name": "double", "inputs": [[2], [%s], [[3, %s]]], "outputs": [4, 6, %s]}'
    stdio = '{"inputs": ["2", %s], "outputs": ["4", [%s]]}'
    write(
        tmp_path / "train.jsonl",
        APPS_CALL | {"input_output": call % (long, long, long)},
        APPS_STDIO | {"input_output": stdio % (long, long)},
    )
    called, program = read_problems(f"apps:{tmp_path}", split="train")
    number = (10**5000 - 1) // 9
    assert called.reference_tests == (
        CallTest((2,), 4),
        CallTest((number,), 6),
        CallTest(([3, number],), number),
    )
    assert program.reference_tests == (StdioTest("2", "4", 1e-5), StdioTest(long, long, 1e-5))


def test_apps_splits_are_its_files_and_ids_begin_anew_in_each(tmp_path):
    write(tmp_path / "train.jsonl", APPS_STDIO)
    write(tmp_path / "test.jsonl.gz", APPS_STDIO, APPS_CALL)
    assert len(read_problems(f"apps:{tmp_path}", split="train")) == 1
    assert len(read_problems(f"apps:{tmp_path}", split="test")) == 2
    assert len(read_problems(f"apps:{tmp_path}", split="all")) == 3


@pytest.fixture(scope="module")
def apps_test_split():
    """All its ids and difficulties, as published."""
    difficulties = ["interview"] * 3000 + ["competition"] * 1000 + ["introductory"] * 1000
    return [
        APPS_BARE | {"problem_id": number, "difficulty": difficulty}
        for number, difficulty in enumerate(difficulties)
    ]


def test_the_apps_evaluation_set_is_the_published_one(tmp_path, apps_test_split):
    write(tmp_path / "test.jsonl", *apps_test_split)
    write(tmp_path / "train.jsonl", *apps_test_split)
    chosen = read_problems(f"apps:{tmp_path}@evaluation")
    published = published_ids()
    assert {name: len(ids) for name, ids in published.items()} == {
        "introductory": 60,
        "interview": 180,
        "competition": 60,
    }
    listed = [(f"apps/test/{number}", name) for name, ids in published.items() for number in ids]
    assert [(problem.task_id, problem.difficulty) for problem in chosen] == listed
    assert len(set(listed)) == 300
    # Neither the records' order nor the file's name has a say.
    other = write(tmp_path / "renamed.jsonl", *reversed(apps_test_split))
    again = read_problems(f"apps:{other}@evaluation")
    assert [problem.task_id.replace("apps/", "apps/test/") for problem in again] == [
        problem.task_id for problem in chosen
    ]


def test_the_published_apps_ids_are_those_that_the_seed_draws():
    assert published_ids() == draw()
    text = Path(apps_evaluation.__file__).with_suffix(".json").read_text()
    assert text == as_json(draw()) + "\n"


def test_apps_files_that_lack_a_published_problem_are_refused(tmp_path, apps_test_split):
    number = published_ids()["interview"][0]
    path = write(tmp_path / "test.jsonl", *apps_test_split[:number], *apps_test_split[number + 1 :])
    with pytest.raises(UserError, match=f"problem {number} of the published evaluation set"):
        read_problems(f"apps:{path}@evaluation")
    harder = apps_test_split[number] | {"difficulty": "competition"}
    write(path, *apps_test_split[:number], harder, *apps_test_split[number + 1 :])
    with pytest.raises(UserError, match=f"apps/test/{number} is 'competition', and 'interview'"):
        read_problems(f"apps:{path}@evaluation")
    # Ids begin anew in the training split: its problems are others.
    train = write(tmp_path / "train.jsonl", *apps_test_split)
    with pytest.raises(UserError, match="give the whole test split of APPS"):
        read_problems(f"apps:{train}@evaluation")


def test_livecodebench_reads_public_and_private_tests(tmp_path):
    path = write(tmp_path / "test.jsonl", LIVE_STDIN, LIVE_CALL)
    stdin, call = read_problems(f"livecodebench:{path}", split="test")
    assert stdin.reference_tests == (StdioTest("2\n", "4\n"), StdioTest("3\n", "6\n"))
    assert call.entry_point == "Solution.join"
    assert call.reference_tests == (CallTest((["a", "b"], "-"), "a-b"), CallTest((["c"], "+"), "c"))


def test_livecodebench_windows_are_months_both_included(tmp_path):
    path = write(tmp_path / "test.jsonl", LIVE_STDIN, LIVE_CALL)

    def ids(split):
        return [problem.task_id for problem in read_problems(f"livecodebench:{path}@{split}")]

    assert ids("evaluation") == ["livecodebench/abc999_a"]
    assert ids("2025-03..2025-03") == ["livecodebench/3999"]
    assert ids("2024-10..2025-03") == ["livecodebench/abc999_a", "livecodebench/3999"]


class Attack:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was run')",)


@pytest.mark.parametrize(
    "payload",
    [
        pickle.dumps(Attack()),
        pickle.dumps([{"input": Attack()}]),
        b"cos\nsystem\n(S'exit 1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"not a pickle",
        b"",
    ],
)
def test_a_private_test_that_is_more_than_plain_data_is_refused_unread(tmp_path, payload):
    attack = base64.b64encode(zlib.compress(payload)).decode()
    path = write(tmp_path / "test.jsonl", LIVE_STDIN | {"private_test_cases": attack})
    with pytest.raises(UserError, match=r"test\.jsonl, line 1: 'private_test_cases': "):
        read_problems(f"livecodebench:{path}", split="test")


def test_codeforces_reads_what_outputs_alone_can_judge(tmp_path):
    path = write(
        tmp_path / "test.jsonl",
        CODEFORCES,
        CODEFORCES | {"id": "1999/B", "generated_checker": "def check(): ..."},
        CODEFORCES | {"id": "1999/C", "interaction_format": "Ask."},
        CODEFORCES | {"id": "1999/D", "input_mode": "file"},
        CODEFORCES | {"id": "1999/E", "output_format": "If there are many, print any of them."},
        CODEFORCES | {"id": "1999/F", "tags": ["interactive"]},
        CODEFORCES | {"id": "1500/A", "contest_start_year": 2021},
    )
    problems = read_problems(f"codeforces:{path}", split="test")
    assert [problem.task_id for problem in problems] == ["codeforces/1999/A", "codeforces/1500/A"]
    assert problems.unjudgeable == 5
    assert problems[0].reference_tests == (StdioTest("2", "4"), StdioTest("3", "6"))
    assert "Example input\n2" in problems[0].prompt
    # APPS was collected before 2022: no problem of the evaluation set can be in it.
    evaluation = read_problems(f"codeforces:{path}@evaluation")
    assert [problem.task_id for problem in evaluation] == ["codeforces/1999/A"]


def test_codeforces_problems_without_a_rating_have_no_difficulty(tmp_path):
    ratings = {"1999/A": 800.0, "1999/B": float("nan"), "1999/C": None}
    records = [CODEFORCES | {"id": name, "rating": rating} for name, rating in ratings.items()]
    path = write(tmp_path / "test.jsonl", *records)
    problems = read_problems(f"codeforces:{path}", split="test")
    assert [problem.difficulty for problem in problems] == ["800", "", ""]


def test_codeforces_numbers_may_be_off_by_what_the_statement_allows(tmp_path):
    exact = "The answer is right if its absolute or relative error does not exceed 10^{-6}."
    path = write(tmp_path / "test.jsonl", CODEFORCES | {"output_format": exact})
    (problem,) = read_problems(f"codeforces:{path}", split="test")
    assert {test.tolerance for test in problem.reference_tests} == {1e-6}


def test_code_contests_takes_the_first_python_3_solution(tmp_path):
    path = write(tmp_path / "test.jsonl", CODE_CONTESTS)
    (problem,) = read_problems(f"code_contests:{path}", split="test")
    assert problem.reference_solution == "print(2 * int(input()))"
    assert problem.reference_tests == (
        StdioTest("2\n", "4\n", 1e-5, by_tokens=True),
        StdioTest("3\n", "6\n", 1e-5, by_tokens=True),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"input_file": "input.txt"},
        {"output_file": "output.txt"},
        {"cf_tags": ["games", "interactive"]},
        {"description": "Find x and y. If there are multiple answers, you can print any."},
        {"description": "This is an interactive problem."},
    ],
)
def test_code_contests_passes_over_what_outputs_cannot_judge_and_counts_it(tmp_path, change):
    path = write(tmp_path / "test.jsonl", CODE_CONTESTS, CODE_CONTESTS | {"name": "2"} | change)
    problems = read_problems(f"code_contests:{path}", split="test")
    assert (len(problems), problems.unjudgeable) == (1, 1)


@pytest.mark.parametrize(
    ("source", "record", "name", "value", "what"),
    [
        ("livecodebench", LIVE_EXECUTOR, "labels", "[]", "'labels' must hold an object"),
        (
            *("livecodebench", LIVE_CALL, "metadata", json.dumps({"func_name": 3})),
            "'func_name' must be a text, found int",
        ),
        ("humaneval", HUMANEVAL_PLUS, "atol", "1e-6", "field 'atol' must be a number"),
        ("humaneval", HUMANEVAL_PLUS, "plus_input", 3, "field 'plus_input' must be a list"),
        ("mbpp", MBPP_PLUS, "plus_input", 3, "field 'plus_input' must be a list"),
        (
            *("apps", APPS_CALL, "input_output"),
            json.dumps({"fn_name": 3, "inputs": [[2]], "outputs": [4]}),
            "'fn_name' must be a text, found int",
        ),
    ],
)
def test_a_field_of_another_kind_is_refused_by_file_and_line(
    tmp_path, source, record, name, value, what
):
    path = write(tmp_path / "test.jsonl", record, record | {name: value})
    with pytest.raises(UserError) as error:
        read_problems(f"{source}:{path}", split="test")
    assert f"test.jsonl, line 2: {what}" in str(error.value)


def test_files_of_other_splits_alone_are_not_read_in_place_of_a_split(tmp_path):
    write(tmp_path / "train.jsonl", CODEFORCES)
    with pytest.raises(UserError, match=r"no files of split 'test', only train\.jsonl"):
        read_problems(f"codeforces:{tmp_path}", split="test")
    assert len(read_problems(f"codeforces:{tmp_path}", split="train")) == 1
    # A file that carries no split's name may hold any of them.
    write(tmp_path / "problems.jsonl", CODEFORCES | {"id": "1999/B"})
    (problem,) = read_problems(f"codeforces:{tmp_path}", split="test")
    assert problem.task_id == "codeforces/1999/B"


def test_parquet_rows_are_records(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    parquet.write_table(
        pyarrow.Table.from_pylist([CODEFORCES, CODEFORCES | {"id": "1999/B"}]),
        tmp_path / "data" / "train-00000-of-00001.parquet",
    )
    problems = read_problems(f"codeforces:{tmp_path}", split="train")
    assert [problem.task_id for problem in problems] == ["codeforces/1999/A", "codeforces/1999/B"]


def test_humaneval_plus_judges_by_the_canonical_solution(tmp_path):
    path = write(tmp_path / "HumanEvalPlus.jsonl.gz", HUMANEVAL_PLUS)
    (problem,) = read_problems(f"humaneval:{path}")
    right = "def half(n):\n    return 0.5 * n"
    wrong_on_large = "def half(n):\n    return n / 2 if n < 100 else 0"
    assert [holds(test, right) for test in problem.reference_tests] == [True, True]
    assert [holds(test, wrong_on_large) for test in problem.reference_tests] == [True, False]


def test_mbpp_plus_shows_no_test_and_finds_the_tuples_that_json_lost(tmp_path):
    path = write(tmp_path / "MbppPlus.jsonl", MBPP_PLUS)
    (problem,) = read_problems(f"mbpp:{path}", split="test")
    assert problem.prompt == "Write a function to swap a pair."
    assert problem.starter_code == "def swap(arg1):"
    assert problem.reference_tests[0].code == "assert swap((1, 2)) == (2, 1)"
    right = "def swap(pair):\n    first, second = pair\n    return (second, first)"
    wrong = "def swap(pair):\n    return (2, 1)"
    assert [holds(test, right) for test in problem.reference_tests] == [True, True]
    assert [holds(test, wrong) for test in problem.reference_tests] == [True, False]


# Name, reference, an input, an answer that EvalPlus accepts too, and one that it does not.
OPEN_ANSWERS = [
    ("similar_elements", "return tuple({*a} & {*b})", [[3, 4, 5], [5, 4]], "(5, 4)", "(5,)"),
    ("larg_nnum", "return sorted(a, reverse=True)[:b]", [[1, 9, 5], 2], "[5, 9]", "[9]"),
    ("check_str", "import re; return re.search(b, a)", ["abc", "b"], "True", "None"),
    ("sum_div", "return a - 1 + 0 * b", [8, 0], "0", "6"),
    ("average", "return (a + b) / 2", [0, 0], "1e-9", "1e-3"),
]


@pytest.mark.parametrize(("name", "body", "given", "accepted", "refused"), OPEN_ANSWERS)
def test_mbpp_plus_leaves_open_what_the_statement_leaves_open(
    tmp_path, name, body, given, accepted, refused
):
    functions = {"entry_point": name, "canonical_solution": f"def {name}(a, b):\n    {body}\n"}
    inputs = {"base_input": [given], "plus_input": [given], "assertion": ""}
    path = write(tmp_path / "MbppPlus.jsonl", MBPP_PLUS | functions | inputs)
    (problem,) = read_problems(f"mbpp:{path}", split="test")
    assert len(problem.reference_tests) == 2
    for test in problem.reference_tests:
        assert holds(test, functions["canonical_solution"])
        assert holds(test, f"def {name}(a, b):\n    return {accepted}")
        assert not holds(test, f"def {name}(a, b):\n    return {refused}")


def test_humaneval_plus_takes_any_root_of_a_polynomial(tmp_path):
    record = HUMANEVAL_PLUS | {
        "prompt": "def find_zero(xs: list):\n",
        "canonical_solution": "    return 1.0\n",  # x^2 - 3x + 2: 1 and 2
        "entry_point": "find_zero",
        "base_input": [[[2, -3, 1]]],
        "plus_input": {},
        "atol": 1e-4,
    }
    path = write(tmp_path / "HumanEvalPlus.jsonl", record)
    (problem,) = read_problems(f"humaneval:{path}")
    (test,) = problem.reference_tests
    assert holds(test, "def find_zero(xs):\n    return 2.00001")
    assert not holds(test, "def find_zero(xs):\n    return 1.5")


def test_mbpp_plus_asserts_may_use_math_and_take_several_lines(tmp_path):
    assertion = (
        "\nimport math\nassert math.isclose(area(1),\n    3.14159, rel_tol=0.001)\n"
        "assert math.isclose(area(2), 12.566, rel_tol=0.001)\n"
    )
    record = MBPP_PLUS | {
        "entry_point": "area",
        "canonical_solution": "import math\ndef area(r):\n    return math.pi * r * r\n",
        "assertion": assertion,
        "base_input": [[1], [2]],
        "plus_input": [[3]],
    }
    path = write(tmp_path / "MbppPlus.jsonl", record)
    (problem,) = read_problems(f"mbpp:{path}", split="test")
    assert len(problem.reference_tests) == 3
    assert all(
        holds(t, "def area(r):\n    return 3.141592653 * r * r") for t in problem.reference_tests
    )
    assert not any(holds(t, "def area(r):\n    return 3 * r * r") for t in problem.reference_tests)


HUB_SCRIPT = """import numpy as np
from math import inf

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"

inputs = [[2], [3], [-1]]
results = [[1.0, 2.0], [1.5, 3.0], [-0.5, -1.0]]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(halves(*inp), exp, 0)
"""


def test_evalplus_hub_scripts_need_no_numpy(tmp_path):
    record = {
        "task_id": 999,
        "code": "def halves(n):\n    return [n / 2, float(n)]",
        "prompt": "Write a function to halve.",
        "source_file": "x.ipynb",
        "test_imports": [],
        "test_list": ["assert halves(2) == [1.0, 2.0]"],
        "test": HUB_SCRIPT,
    }
    path = write(tmp_path / "test.jsonl", record)
    (problem,) = read_problems(f"mbpp:{path}", split="test")
    assert "import numpy" not in problem.reference_tests[1].code
    nearly = "def halves(n):\n    return [n / 2 + 1e-9, float(n)]"
    wrong = "def halves(n):\n    return [n / 2, float(n)] if n > 0 else [0.0, 0.0]"
    short = "def halves(n):\n    return [n / 2]"
    assert holds(problem.reference_tests[1], record["code"])
    assert holds(problem.reference_tests[1], nearly)
    assert not holds(problem.reference_tests[1], wrong)
    assert not holds(problem.reference_tests[1], short)
