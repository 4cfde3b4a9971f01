"""CodeContests: the hub's table, and the layout in which executors sample it.

The hub's table: ``name``, ``description``, ``difficulty``, ``solutions`` (parallel lists
``language`` and ``solution``; 3 is Python 3), ``public_tests``, ``private_tests`` and
``generated_tests`` (parallel lists ``input`` and ``output``). The samples: ``content``,
``labels`` and ``test`` (JSON texts).

Outputs are compared as by the data set's own tester (``execution/tester_sandboxer.cc``): word by
word, in capitals or not, numbers to 1e-5. It knows one output for each input, though, so problems
with several right answers are passed over (``unjudgeable.py``), and so are interactive ones and
those that read or write files.
"""

from typing import Any

from zerocoder_jax.problems.problem import Problem, StdioTest
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test", "valid")
_PYTHON_3 = 3
_CLOSENESS = 1e-5


def to_problem(record: Record) -> Problem | None:
    """One record of either layout; None where outputs alone cannot judge a program."""
    if record.has("content"):
        return _sample_problem(record)
    files = record.text("input_file", "") + record.text("output_file", "")
    interactive = "interactive" in record.texts("cf_tags", [])
    if files.strip() or interactive or is_unjudgeable(record.text("description")):
        return None
    tests = [
        test
        for name in ("public_tests", "private_tests", "generated_tests")
        for test in _parallel_tests(record, name)
    ]
    return Problem(
        task_id=f"code_contests/{record.text('name')}",
        prompt=record.text("description").strip(),
        entry_point=None,
        kind="stdio",
        reference_solution=_python_solution(record),
        reference_tests=tuple(dict.fromkeys(tests)),
        difficulty=str(record.fields.get("difficulty", "")),
        source="code_contests",
    )


def _parallel_tests(record: Record, name: str) -> list[StdioTest]:
    match record.fields.get(name):
        case None:
            return []
        case {"input": list(inputs), "output": list(outputs)} if len(inputs) == len(outputs):
            return [_test(str(i), str(o)) for i, o in zip(inputs, outputs, strict=True)]
    raise record.malformed(f"'{name}' must hold lists 'input' and 'output' of equal length")


def _test(stdin: str, stdout: str) -> StdioTest:
    return StdioTest(stdin, stdout, tolerance=_CLOSENESS, by_tokens=True)


def _python_solution(record: Record) -> str | None:
    match record.fields.get("solutions"):
        case {"language": list(languages), "solution": list(solutions)}:
            for language, solution in zip(languages, solutions, strict=False):
                if language == _PYTHON_3 and isinstance(solution, str):
                    return solution
    return None


def _sample_problem(record: Record) -> Problem | None:
    if is_unjudgeable(record.text("content")):
        return None
    labels = record.decode(record.text("labels", "{}"), "'labels'")
    cases = record.decode(record.text("test"), "'test'")
    if not isinstance(cases, list) or not isinstance(labels, dict):
        raise record.malformed("'test' must hold a list and 'labels' an object")
    return Problem(
        task_id=f"code_contests/{labels.get('name', record.fields.get('id'))}",
        prompt=record.text("content").strip(),
        entry_point=None,
        kind="stdio",
        reference_tests=tuple(_case(record, case) for case in cases),
        difficulty=str(labels.get("difficulty", "")),
        source="code_contests",
    )


def _case(record: Record, case: Any) -> StdioTest:
    match case:
        case {"input": {"stdin": str(stdin)}, "output": {"stdout": str(stdout)}}:
            return _test(stdin, stdout)
    raise record.malformed('a test must be {"input": {"stdin"}, "output": {"stdout"}}')
