"""BigCodeBench and BigCodeBench-Hard (parquet or JSON lines; the files carry versions).

Fields: ``task_id``, ``complete_prompt`` (imports, signature and docstring), ``instruct_prompt``,
``code_prompt``, ``canonical_solution``, ``test`` (a ``unittest`` module with the class
``TestCases``), ``entry_point`` (``task_func``), ``libs``. Of several versions in one directory the
newest is read.

``bigcodebench`` shows the function to complete, ``bigcodebench_instruct`` the instruction. Most
problems need packages: ``execution.packages``.
"""

import re
from collections.abc import Callable
from pathlib import Path

from zerocoder_jax.problems.problem import AssertTest, Problem
from zerocoder_jax.problems.records import Record

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_RUN = """
import unittest
_result = unittest.TestResult()
unittest.defaultTestLoader.loadTestsFromTestCase(TestCases).run(_result)
assert _result.testsRun > 0 and _result.wasSuccessful()
"""


def reader(field: str) -> Callable[[Record], Problem]:
    """The reader that shows ``complete_prompt`` or ``instruct_prompt``."""

    def to_problem(record: Record) -> Problem:
        complete = record.text("complete_prompt")
        whole = field == "complete_prompt"
        return Problem(
            task_id=record.text("task_id"),
            prompt=record.text(field).strip(),
            entry_point=record.text("entry_point"),
            kind="function",
            starter_code=complete if whole else record.text("code_prompt", ""),
            reference_solution=complete + record.text("canonical_solution"),
            reference_tests=(AssertTest(record.text("test") + _RUN),),
            source="bigcodebench",
        )

    return to_problem


def newest(files: list[Path]) -> list[Path]:
    """The files of the highest version; all of them where they carry none."""
    versions = {file: _VERSION.search(file.name) for file in files}
    numbers = {
        file: tuple(map(int, version.groups())) for file, version in versions.items() if version
    }
    highest = max(numbers.values(), default=None)
    return [file for file in files if numbers.get(file) == highest]
