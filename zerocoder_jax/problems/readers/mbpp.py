"""MBPP as published: the full ``mbpp.jsonl``, ``sanitized-mbpp.json``, EvalPlus MBPP.

Fields: ``task_id``, ``text`` (full) or ``prompt`` (sanitized), ``code``, ``test_list``,
``test_setup_code`` (full) or ``test_imports`` (sanitized). The official splits are ranges of
``task_id``. The policy reads the statement and a signature as the tests call it, never a test.

EvalPlus MBPP (378 problems in v0.2) comes in two layouts, both known here: the hub's table
(MBPP's fields and ``test``, a whole script) and the released JSON lines (``base_input``,
``plus_input``, ``canonical_solution``, ...). It is an evaluation set, so it has no splits.
"""

import ast
import re

from zerocoder_jax.problems.entry_points import find_entry_point, parse_quietly, signature
from zerocoder_jax.problems.problem import AssertTest, Problem
from zerocoder_jax.problems.readers.evalplus import hub_script, is_evalplus, plus_tests
from zerocoder_jax.problems.records import Record

SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}


def in_split(record: Record, split: str) -> bool:
    """Whether the record's ``task_id`` lies in the split's range."""
    if is_evalplus(record) or record.has("test"):
        return split in ("test", "all")
    return split == "all" or record.number("task_id") in SPLITS[split]


def to_problem(record: Record) -> Problem:
    """One record of any of MBPP's layouts."""
    if is_evalplus(record):
        return _evalplus_problem(record)
    number = record.number("task_id")
    tests = record.texts("test_list")
    code = _unix(record.text("code"))
    entry_point = find_entry_point(tests, code)
    if entry_point is None:
        raise record.malformed("no assert in 'test_list' calls a function that 'code' defines")
    setup = _unix(record.text("test_setup_code", ""))
    setup += "\n".join(record.texts("test_imports", []))
    reference_tests = [AssertTest(_unix(test), setup) for test in tests]
    if record.has("test"):
        reference_tests.append(AssertTest(hub_script(record.text("test"), entry_point)))
    return Problem(
        task_id=f"mbpp/{number}",
        prompt=record.text("text" if record.has("text") else "prompt").strip(),
        entry_point=entry_point,
        kind="function",
        starter_code=signature(entry_point, tests),
        reference_solution=code,
        reference_tests=tuple(reference_tests),
        source="mbpp",
    )


def _evalplus_problem(record: Record) -> Problem:
    entry_point = record.text("entry_point")
    tree = parse_quietly(record.text("assertion", ""))
    # Some assertions call math.isclose: the table's test_imports are not in this layout.
    asserts = (
        [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assert)] if tree else []
    )
    base_tests = [AssertTest(code, "import math") for code in asserts]
    return Problem(
        task_id=f"mbpp/{record.text('task_id').removeprefix('Mbpp/')}",
        prompt=_statement(record.text("prompt")),
        entry_point=entry_point,
        kind="function",
        starter_code=signature(entry_point, asserts) if asserts else "",
        reference_solution=_unix(record.text("canonical_solution")),
        reference_tests=(*base_tests, *plus_tests(record, base=not asserts)),
        source="mbpp",
    )


def _statement(docstring: str) -> str:
    """EvalPlus writes the statement as a docstring with one of the tests in it: leave that out."""
    text = docstring.strip().strip('"').strip("'")
    return re.sub(r"^\s*assert .*\Z", "", text, flags=re.MULTILINE | re.DOTALL).strip()


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")
