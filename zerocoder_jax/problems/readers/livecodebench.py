"""LiveCodeBench's ``code_generation`` and ``code_generation_lite`` (``test.jsonl`` ...).

Fields: ``question_content``, ``question_id``, ``platform``, ``contest_date``, ``difficulty``,
``starter_code`` (functional problems: a method of ``class Solution``), ``metadata`` (JSON text
with ``func_name``), ``public_test_cases`` (JSON text) and ``private_test_cases`` (JSON text, or
base64 + zlib + pickle of JSON text). A test has ``input``, ``output`` and ``testtype``
(``stdin`` or ``functional``). The data set has no reference solutions.

Splits are windows of contest dates: ``2024-10..2025-02`` (months, both included);
``evaluation`` is that very window, the paper's; ``test`` is everything.

Executors pass the same problems on as ``content``, ``labels`` and one packed ``test``; such
records are read too.
"""

import re
from typing import Any

from zerocoder_jax.problems.problem import Problem, StdioTest, Test
from zerocoder_jax.problems.readers.input_output import line_test, paired_tests
from zerocoder_jax.problems.readers.plain_pickle import load_packed
from zerocoder_jax.problems.readers.starter_code import entry_point_in, function_name
from zerocoder_jax.problems.records import Record

SPLITS = ("test", "evaluation", "YYYY-MM..YYYY-MM")
EVALUATION_WINDOW = "2024-10..2025-02"
_WINDOW = re.compile(r"(\d{4}-\d{2})\.\.(\d{4}-\d{2})")


def is_split(split: str) -> bool:
    """Whether the name is a window or one of the named splits."""
    return split in ("test", "evaluation") or _WINDOW.fullmatch(split) is not None


def in_split(record: Record, split: str) -> bool:
    """Whether the contest's month lies in the window."""
    if split == "evaluation":
        split = EVALUATION_WINDOW
    window = _WINDOW.fullmatch(split)
    if window is None:
        return True
    month = record.text("contest_date")[:7]
    return window[1] <= month <= window[2]


def to_problem(record: Record) -> Problem:
    """One record of LiveCodeBench, in its own layout or an executor's."""
    if record.has("content"):
        return _executor_problem(record)
    starter_code = record.text("starter_code", "").rstrip()
    metadata = record.decode(record.text("metadata", "") or "{}", "'metadata'")
    function = function_name(record, metadata, "func_name")
    tests = [
        *_cases(record, "public_test_cases", function is not None),
        *_cases(record, "private_test_cases", function is not None),
    ]
    return Problem(
        task_id=f"livecodebench/{record.text('question_id')}",
        prompt=record.text("question_content").strip(),
        entry_point=entry_point_in(starter_code, function) if function else None,
        kind="function" if function else "stdio",
        starter_code=starter_code,
        reference_tests=tuple(tests),
        difficulty=record.text("difficulty", ""),
        source="livecodebench",
    )


def _cases(record: Record, name: str, functional: bool) -> list[Test]:
    packed = record.text(name, "[]")
    cases = packed if packed.lstrip()[:1] in ("[", "") else _unpack(record, packed, name)
    if isinstance(cases, str):
        cases = record.decode(cases or "[]", f"'{name}'")
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise record.malformed(f"'{name}' must hold a list of tests")
    tests: list[Test] = []
    for case in cases:
        given, expected = case.get("input"), case.get("output")
        if functional:
            tests.append(line_test(record, given, expected))
        elif isinstance(given, str) and isinstance(expected, str):
            tests.append(StdioTest(given, expected))
        else:
            raise record.malformed(f"'{name}': a test needs a text 'input' and 'output'")
    return tests


def _unpack(record: Record, packed: str, name: str) -> Any:
    try:
        return load_packed(packed)
    except ValueError as error:
        raise record.malformed(f"'{name}': {error}") from None


def _executor_problem(record: Record) -> Problem:
    labels = record.decode(record.text("labels", "{}"), "'labels'")
    if not isinstance(labels, dict):
        raise record.malformed("'labels' must hold an object")
    packed = _unpack(record, record.text("test"), "test")
    fields = packed.get("input_output") if isinstance(packed, dict) else packed
    if isinstance(fields, str):
        fields = record.decode(fields, "'test'")
    statement, _, form = record.text("content").partition("### Format:")
    statement = statement.partition("### Question:")[2] or statement
    fence = re.search(r"```python\n(.*?)```", form, re.DOTALL)
    function = function_name(record, fields, "fn_name")
    starter_code = fence[1].rstrip() if fence and function else ""
    return Problem(
        task_id=str(labels.get("task_id", record.fields.get("id"))),
        prompt=statement.strip(),
        entry_point=entry_point_in(starter_code, function) if function else None,
        kind="function" if function else "stdio",
        starter_code=starter_code,
        reference_tests=paired_tests(record, fields, "test"),
        difficulty=str(labels.get("difficulty", "")),
        source="livecodebench",
    )
