"""KodCode-V1 (parquet or JSON lines; splits are files: ``train``, ``use_with_caution``).

Fields: ``question_id``, ``question``, ``solution``, ``test`` (``test_code`` in earlier versions),
``test_info`` (a list of ``function_name``, ``function_declaration``, ``docstring``,
``parameter_list``), ``style``, ``subset``, ``gpt_difficulty``.

A test is a pytest module that imports from ``solution``: each of its test functions becomes one
test, with the module's other statements before it. Those with arguments (fixtures) are left out. In
the style ``online_judge`` it is a text of ``{"stdin": [...], "stdout": [...]}``; such problems are
passed over where several answers are right (``unjudgeable.py``).
"""

import ast
from typing import Any

from zerocoder_jax.problems.entry_points import parse_quietly
from zerocoder_jax.problems.problem import AssertTest, Problem, StdioTest, Test
from zerocoder_jax.problems.readers.input_output import python_or_json
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "use_with_caution")


def to_problem(record: Record) -> Problem | None:
    """One record of KodCode; None for a program that outputs alone cannot judge."""
    test = record.text("test" if record.has("test") else "test_code")
    info = record.fields.get("test_info")
    functions = [one for one in (info if isinstance(info, list) else [info]) if one]
    entry_point = _text(record, functions[0], "function_name") if functions else None
    declaration = _text(record, functions[0], "function_declaration") if functions else ""
    if entry_point is None and is_unjudgeable(record.text("question")):
        return None
    return Problem(
        task_id=f"kodcode/{record.text('question_id')}",
        prompt=record.text("question").strip(),
        entry_point=entry_point,
        kind="function" if entry_point else "stdio",
        starter_code=declaration,
        reference_solution=record.text("solution", "") or None,
        reference_tests=_function_tests(record, test) if entry_point else _pairs(record, test),
        difficulty=record.text("gpt_difficulty", ""),
        source="kodcode",
    )


def _text(record: Record, fields: Any, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    if isinstance(value, str):
        return value
    raise record.malformed(f"'test_info' must hold a text '{name}'")


def _function_tests(record: Record, module: str) -> tuple[AssertTest, ...]:
    tree = parse_quietly(module)
    if tree is None:
        raise record.malformed(f"'test' is no Python: {module[:60]}")
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_test(node)]
    others = [
        node
        for node in tree.body
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test"))
        and not (isinstance(node, ast.ImportFrom) and node.module == "solution")
    ]
    before = "".join(ast.unparse(node) + "\n" for node in others)
    return tuple(AssertTest(f"{before}{ast.unparse(test)}\n{test.name}()") for test in tests)


def _is_test(node: ast.FunctionDef) -> bool:
    return node.name.startswith("test") and not node.args.args and not node.decorator_list


def _pairs(record: Record, text: str) -> tuple[Test, ...]:
    match python_or_json(record, text, "test"):
        case {"stdin": list(inputs), "stdout": list(outputs)} if len(inputs) == len(outputs):
            return tuple(StdioTest(str(i), str(o)) for i, o in zip(inputs, outputs, strict=True))
    raise record.malformed("'test' must hold lists 'stdin' and 'stdout' of equal length")
