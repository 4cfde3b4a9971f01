"""APPS as published on the hub (``train.jsonl``, ``test.jsonl``) or as parquet.

Fields: ``question``; ``solutions`` (JSON text: a list of programs) and ``input_output`` (JSON
text: ``inputs``, ``outputs`` and perhaps ``fn_name``), both empty for some problems;
``difficulty`` (introductory, interview, competition); ``starter_code``; ``problem_id`` or ``id``.

Tests are judged as by APPS' own ``eval/testing_util.py``, where that can be told from the output
(``docs/problems.md`` says where ours is stricter): a program's numbers by closeness, a function's
value also without a list of one around it, and a dictionary with whole numbers for keys, which JSON
turned into texts.

The split ``evaluation`` is the paper's stratified test set: 60 introductory, 180 interview and 60
competition problems of the test split (``apps_evaluation.py``).
"""

from dataclasses import replace
from typing import Any

from zerocoder_jax.problems.entry_points import LEETCODE_IMPORTS
from zerocoder_jax.problems.problem import CallTest, Problem, StdioTest, Test
from zerocoder_jax.problems.readers.apps_evaluation import evaluation_set
from zerocoder_jax.problems.readers.input_output import paired_tests, whole_number
from zerocoder_jax.problems.readers.starter_code import entry_point_in, function_name
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test", "evaluation")
_CLOSENESS = 1e-5  # numpy.allclose, which APPS asks


def to_problem(record: Record) -> Problem:
    """One record of APPS."""
    number = record.number("problem_id" if record.has("problem_id") else "id")
    return problem_of(record, f"apps/{_split_of(record)}{number}")


def problem_of(record: Record, task_id: str) -> Problem:
    """The problem of a record in APPS' layout."""
    solutions = record.decode(record.text("solutions", "") or "[]", "'solutions'")
    reference = solutions[0] if isinstance(solutions, list) and solutions else None
    if reference is not None and not isinstance(reference, str):
        raise record.malformed("'solutions' must be a list of programs")
    packed = record.text("input_output", "")
    fields = (
        record.decode(packed, "'input_output'", parse_int=whole_number) if packed.strip() else None
    )
    starter_code = record.text("starter_code", "").strip()
    function = function_name(record, fields, "fn_name")
    if function and reference:
        # APPS' own judge puts imports in front of solutions that are called.
        reference = LEETCODE_IMPORTS + reference
    return Problem(
        task_id=task_id,
        prompt=record.text("question").strip(),
        entry_point=entry_point_in(starter_code, function, reference) if function else None,
        kind="function" if function else "stdio",
        starter_code=starter_code,
        reference_solution=reference,
        reference_tests=judged_tests(record, fields, "input_output") if fields else (),
        difficulty=record.text("difficulty", ""),
        source="apps",
    )


def judged_tests(record: Record, fields: Any, name: str) -> tuple[Test, ...]:
    """The tests in ``fields``, to be judged as APPS judges them."""
    return tuple(map(_as_apps_judges, paired_tests(record, fields, name)))


def _as_apps_judges(test: Test) -> Test:
    match test:
        case StdioTest():
            return replace(test, tolerance=_CLOSENESS)
        case CallTest(arguments=(first, *rest), expected=expected):
            test = replace(test, arguments=(_with_whole_keys(first), *rest))
            if isinstance(expected, list) and len(expected) == 1:
                inner = _with_whole_keys(expected[0])
                return replace(test, expected=[inner], others=(inner,))
            return replace(test, expected=_with_whole_keys(expected))
    return test


def _with_whole_keys(value: Any) -> Any:
    """A dictionary whose keys are all digits, with numbers for them."""
    if not isinstance(value, dict):
        return value
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return value


def subset(problems: list[Problem], split: str) -> list[Problem]:
    """The problems of the stratified evaluation set; all of them for other splits."""
    return evaluation_set(problems) if split == "evaluation" else problems


def _split_of(record: Record) -> str:
    """Ids begin anew in each split; the file's name tells them apart."""
    for split in ("train", "test"):
        if record.file_name.startswith(split):
            return f"{split}/"
    return ""
