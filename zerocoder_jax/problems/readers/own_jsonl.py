"""Our own format: one JSON object a line, for problems of your own.

| field | needed | meaning |
|---|---|---|
| `task_id` | yes | a text, unique within the file |
| `prompt` | yes | the statement that the policy reads |
| `entry_point` | functions | the function that a solution defines, or `Solution.method` |
| `kind` | no | `"function"` (default where there is an `entry_point`) or `"stdio"` |
| `starter_code` | no | the signature that solutions begin with; shown to the policy |
| `reference_solution` | no | a label: a right solution |
| `reference_tests` | no | labels: a solution is right when it passes them all (below) |
| `difficulty` | no | a word of your own |
| `split` | no | `"train"`, `"test"`, ...; records without it belong to every split |

A test is a text (Python statements with an assert, run after the solution) or an object:
`{"code": ..., "setup": ...}`; `{"arguments": [...], "expected": ...}` calls the entry point;
`{"stdin": ..., "stdout": ...}` for whole programs. Training without labels needs neither
`reference_solution` nor `reference_tests`; what is given is checked when it is read. Other fields
are kept out of the way, unless they look like a misspelt one of these. One line:

    {"task_id": "double", "prompt": "Return twice the number.", "entry_point": "double",
     "starter_code": "def double(number):", "reference_tests": ["assert double(4) == 8"]}
"""

import ast
import difflib
from typing import Any

from zerocoder_jax.problems.coder_replies import defines
from zerocoder_jax.problems.entry_points import parse_quietly
from zerocoder_jax.problems.problem import AssertTest, CallTest, Problem, StdioTest, Test
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test", "validation", "or any word of your own")
FIELDS = (
    "task_id",
    "prompt",
    "entry_point",
    "kind",
    "starter_code",
    "reference_solution",
    "reference_tests",
    "difficulty",
    "split",
)


def in_split(record: Record, split: str) -> bool:
    """Whether the record belongs to the split, or to none in particular."""
    return split == "all" or record.text("split", split) == split


def to_problem(record: Record) -> Problem:
    """One line of our own format."""
    _refuse_misspelt_fields(record)
    task_id = record.text("task_id").strip()
    prompt = record.text("prompt").strip()
    if not task_id or not prompt:
        raise record.malformed("'task_id' and 'prompt' must not be empty")
    entry_point = record.text("entry_point", "") or None
    kind = record.text("kind", "function" if entry_point else "stdio")
    if kind not in ("function", "stdio"):
        raise record.malformed(f'\'kind\' must be "function" or "stdio", found "{kind}"')
    if (kind == "function") != (entry_point is not None):
        raise record.malformed("functions need an 'entry_point', whole programs have none")
    if entry_point and not _is_entry_point(entry_point):
        raise record.malformed(f"'entry_point' must be a name or Solution.name: '{entry_point}'")
    return Problem(
        task_id=task_id,
        prompt=prompt,
        entry_point=entry_point,
        kind="function" if entry_point else "stdio",
        starter_code=record.text("starter_code", ""),
        reference_solution=_reference(record, entry_point),
        reference_tests=tuple(
            _test(record, test, entry_point) for test in record.items("reference_tests", [])
        ),
        difficulty=record.text("difficulty", ""),
        source="jsonl",
    )


def _refuse_misspelt_fields(record: Record) -> None:
    """Foreign fields are fine; one that was meant to be ours must not be lost in silence."""
    absent = [field for field in FIELDS if field not in record.fields]
    for name in [name for name in record.fields if name not in FIELDS]:
        if any(name.startswith(f"{field}_") for field in FIELDS):
            continue  # `prompt_tokens` says something about the prompt
        short = [field for field in absent if field.removeprefix("reference_") == name]
        near = short or difflib.get_close_matches(name, absent, 1, 0.8)
        if near:
            raise record.malformed(f"unknown field '{name}'; did you mean '{near[0]}'?")


def _reference(record: Record, entry_point: str | None) -> str | None:
    """The reference solution; one that cannot be right is refused."""
    code = record.text("reference_solution", "")
    if not code:
        return None
    tree = parse_quietly(code)
    if tree is None:
        raise record.malformed(f"'reference_solution' is no Python: {code[:60]}")
    if entry_point and not defines(tree, entry_point):
        raise record.malformed(f"'reference_solution' does not define {entry_point}")
    return code


def _assert_test(record: Record, code: str, setup: str, entry_point: str) -> AssertTest:
    """A test that can fail: one without an assert would pass every solution."""
    tree = parse_quietly(code)
    if tree is None or parse_quietly(setup) is None:
        raise record.malformed(f"a test is no Python: {code[:60]}")
    nodes = list(ast.walk(tree))
    fails = any(
        isinstance(node, ast.Assert | ast.Raise)
        or (isinstance(node, ast.Attribute) and node.attr.startswith("assert"))
        for node in nodes
    )
    if not fails:
        raise record.malformed(f"a test without an assert passes every solution: {code[:60]}")
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    if not names & {*entry_point.split("."), "candidate"} and not setup:
        raise record.malformed(f"a test never calls {entry_point}: {code[:60]}")
    return AssertTest(code, setup)


def _is_entry_point(name: str) -> bool:
    parts = name.split(".")
    return len(parts) <= 2 and all(part.isidentifier() for part in parts)


def _test(record: Record, test: Any, entry_point: str | None) -> Test:
    match test:
        case str() as code if entry_point:
            return _assert_test(record, code, "", entry_point)
        case {"code": str(code)} if entry_point and isinstance(test.get("setup", ""), str):
            return _assert_test(record, code, test.get("setup", ""), entry_point)
        case {"arguments": list(arguments), "expected": expected} if entry_point:
            return CallTest(tuple(arguments), expected)
        case {"stdin": str(stdin), "stdout": str(stdout)} if not entry_point:
            return StdioTest(stdin, stdout)
    raise record.malformed(
        "a test of a function is a text, {code, setup} or {arguments, expected}; a test of a"
        f" whole program is {{stdin, stdout}}; found {str(test)[:60]}"
    )
