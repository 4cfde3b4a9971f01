"""The readers on the data sets themselves; skipped where those are not at hand."""

import ast

import pytest

from zerocoder_jax.problems import parse_solution, parse_test, read_problems
from zerocoder_jax.problems.entry_points import parse_quietly


@pytest.mark.parametrize(
    ("split", "first", "last"),
    [("prompt", 1, 10), ("test", 11, 510), ("validation", 511, 600), ("train", 601, 974)],
)
def test_mbpp_has_its_official_splits(shared_data, split, first, last):
    problems = read_problems(f"mbpp:{shared_data}/mbpp/mbpp.jsonl", split=split)
    assert [problem.task_id for problem in problems] == [
        f"mbpp/{number}" for number in range(first, last + 1)
    ]


@pytest.fixture(scope="module")
def mbpp(shared_data):
    return read_problems(f"mbpp:{shared_data}/mbpp/mbpp.jsonl", split="all")


def test_every_mbpp_entry_point_is_a_function_of_the_reference(mbpp):
    assert len(mbpp) == 974
    for problem in mbpp:
        tree = parse_quietly(problem.reference_solution)
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert problem.entry_point in functions, problem.task_id


def test_mbpp_signatures_tell_nothing_but_name_and_number_of_arguments(mbpp):
    by_id = {problem.task_id: problem for problem in mbpp}
    assert by_id["mbpp/1"].starter_code == "def min_cost(arg1, arg2, arg3):"
    # The call stands inside set(...), and its arguments hold calls of a class.
    assert by_id["mbpp/2"].starter_code == "def similar_elements(arg1, arg2):"
    assert by_id["mbpp/601"].starter_code == "def max_chain_length(arg1, arg2):"


def test_every_mbpp_reference_and_test_survives_the_parsing_of_replies(mbpp):
    for problem in mbpp:
        solution = parse_solution(f"```python\n{problem.reference_solution}\n```", problem)
        assert solution.code is not None, problem.task_id
        # These tests build objects of a class that only the reference defines.
        undefined = problem.task_id in ("mbpp/367", "mbpp/601", "mbpp/927")
        for test in problem.reference_tests:
            parsed = parse_test(f"```python\n{test.code}\n```", problem)
            assert parsed.reason == ("undefined_name" if undefined else ""), problem.task_id


def test_sanitized_mbpp_is_read_too(shared_data):
    problems = read_problems(f"mbpp:{shared_data}/mbpp/sanitized-mbpp.json", split="all")
    assert len(problems) == 427
    assert problems[0].prompt.startswith("Write a function to find the shared elements")


def test_every_humaneval_reference_survives_the_parsing_of_replies(shared_data):
    problems = read_problems(f"humaneval:{shared_data}/humaneval/HumanEval.jsonl.gz")
    assert len(problems) == 164
    for problem in problems:
        assert parse_solution(f"```python\n{problem.reference_solution}\n```", problem).code
        assert problem.reference_tests[0].code.endswith(f"check({problem.entry_point})")


def test_code_contests_samples_are_whole_programs(shared_data):
    problems = read_problems(f"code_contests:{shared_data}/code_contests/sample.jsonl", split="all")
    # Three ask for any of several answers, one is interactive.
    left_out = {"1025_B", "1090_C", "1157_C2", "1179_E"}
    assert len(problems) == 16 and problems.unjudgeable == len(left_out)
    assert not any(name in problem.task_id for problem in problems for name in left_out)
    assert sum(len(problem.reference_tests) for problem in problems) == 1599
    assert {problem.kind for problem in problems} == {"stdio"}


def test_livecodebench_records_hold_calls_and_programs(shared_data):
    problems = read_problems(f"livecodebench:{shared_data}/livecodebench/sample.jsonl", split="all")
    assert [problem.kind for problem in problems] == ["stdio", "function", "stdio"]
    seniors = problems[1]
    assert seniors.entry_point == "Solution.countSeniors"
    assert seniors.reference_tests[0].expected == 2
    assert "### Format" not in seniors.prompt
