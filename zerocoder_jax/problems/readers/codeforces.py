"""open-r1/codeforces (parquet or JSON lines).

Fields: ``id`` (``1259/D``), ``description``, ``input_format``, ``output_format``,
``interaction_format``, ``examples`` and ``official_tests`` (lists of ``input``, ``output``),
``note``, ``rating``, ``input_mode``, ``generated_checker``, ``contest_start_year``.

Problems that outputs alone cannot judge are passed over: interactive ones, those that read files,
those with a checker because several answers are right, and those whose statement says that several
are (``unjudgeable.py``). Numbers may be off by what the statement allows.

The split ``evaluation`` is 300 problems, out of all files, of contests that began after 2021: APPS
was collected before, so none of them is among its problems. The draw is ours (the paper's is not
published) and depends on the seed and the ids alone.
"""

import math
from typing import Any

from zerocoder_jax.problems.problem import Problem, StdioTest
from zerocoder_jax.problems.readers.sampling import drawn
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable, stated_tolerance
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test", "evaluation")
EVALUATION_SIZE = 300
_FIRST_YEAR_AFTER_APPS = 2022


def in_split(record: Record, split: str) -> bool:
    """Files carry the split's name; the evaluation set also asks for the contest's year."""
    return split != "evaluation" or record.number("contest_start_year") >= _FIRST_YEAR_AFTER_APPS


def to_problem(record: Record) -> Problem | None:
    """One record; None where outputs alone cannot judge a program."""
    if (
        record.text("interaction_format", "").strip()
        or record.text("generated_checker", "").strip()
        or record.text("input_mode", "stdio") != "stdio"
        or "interactive" in record.texts("tags", [])
    ):
        return None
    rules = "\n".join(record.text(name, "") for name in ("description", "output_format", "note"))
    if is_unjudgeable(rules):
        return None
    tolerance = stated_tolerance(rules)
    examples = [_pair(record, test, tolerance) for test in record.items("examples", [])]
    tests = [_pair(record, test, tolerance) for test in record.items("official_tests", [])]
    rating = record.fields.get("rating")
    # Tables write NaN where there is none.
    known = isinstance(rating, int | float) and math.isfinite(rating)
    return Problem(
        task_id=f"codeforces/{record.text('id')}",
        prompt=_statement(record, examples),
        entry_point=None,
        kind="stdio",
        reference_tests=tuple(dict.fromkeys([*examples, *tests])),
        difficulty=f"{rating:.0f}" if known else "",
        source="codeforces",
    )


def subset(problems: list[Problem], split: str) -> list[Problem]:
    """The 300 problems of the evaluation set; all of them for other splits."""
    return drawn(problems, EVALUATION_SIZE) if split == "evaluation" else problems


def _pair(record: Record, test: Any, tolerance: float) -> StdioTest:
    match test:
        case {"input": str(given), "output": str(expected)}:
            return StdioTest(given, expected, tolerance)
    raise record.malformed("a test must have a text 'input' and a text 'output'")


def _statement(record: Record, examples: list[StdioTest]) -> str:
    parts = [record.text("description").strip()]
    for title, name in (("Input", "input_format"), ("Output", "output_format")):
        if text := record.text(name, "").strip():
            parts.append(f"{title}\n{text}")
    for example in examples:
        parts.append(
            f"Example input\n{example.stdin.strip()}\n\nExample output\n{example.stdout.strip()}"
        )
    if note := record.text("note", "").strip():
        parts.append(f"Note\n{note}")
    return "\n\n".join(parts)
