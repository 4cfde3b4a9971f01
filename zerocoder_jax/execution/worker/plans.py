"""How a test is run.

- *values*: asserts around calls of the entry point, and call tests. The candidate's process
  evaluates the calls and reports the values.
- *stdio*: a whole program; its output is compared.
- *dialogue*: a free-form test. It runs in a process of its own, and its calls of the entry point
  (and whatever else it uses of the solution) are answered by the candidate's process.
"""

import ast
import json
from dataclasses import dataclass, field
from typing import Any

from . import values
from .assertions import MAX_TEST_CHARACTERS, SplitTest, split_test
from .statelessness import is_data

# A character of a value's source takes at most so many bytes of a report: two escapes.
_REPORT_BYTES = 12


@dataclass
class Plan:
    """How a test is run, and what is known of it only here.

    Attributes:
      kind: ``values``, ``stdio`` or ``dialogue`` (``compile``: no test at all).
      steps: what the candidate's process is told.
      sources: of a free-form test.
      split: the judgements on the reported values.
      expected: of a stdio test; of a call test, a list of the values that are right.
      tolerance, by_tokens: of a stdio test.
      expected_bytes: about how long the expected values are when they are written.
      shareable: its steps are calls with literal arguments, which leave nothing behind.
      stdin: of a stdio test.
    """

    kind: str
    steps: list[list[Any]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    split: SplitTest | None = None
    expected: Any = None
    expected_bytes: int = 0
    tolerance: float = 0.0
    by_tokens: bool = False
    shareable: bool = False
    stdin: str = ""


def plan_test(test: dict[str, Any], entry_point: str | None) -> Plan:
    """Decides how a test is run; see the module's docstring."""
    if test["kind"] == "stdio":
        rules = {name: test[name] for name in ("stdin", "tolerance", "by_tokens")}
        return Plan("stdio", expected=test["stdout"], **rules)
    if test["kind"] == "call":
        steps = [["call", values.encode(as_json(values.decode(test["arguments"])))]]
        expected = as_json(values.decode(test["right"]))
        size = len(json.dumps(test["right"])) * _REPORT_BYTES
        return Plan("values", steps, expected=expected, expected_bytes=size, shareable=True)
    sources = [source for source in (test["setup"], test["code"]) if source.strip()]
    if entry_point is None or sum(map(len, sources)) > MAX_TEST_CHARACTERS:
        return Plan("dialogue", sources=sources)
    try:
        split = split_test(ast.parse(test["code"]), entry_point)
        if split is not None:
            steps = [[step.mode, step.source] for step in split.steps]
            if test["setup"].strip():
                steps.insert(0, ["exec", test["setup"]])
            shareable = all(mode == "eval" and _calls_with_data(call) for mode, call in steps)
            size = len(test["code"]) * _REPORT_BYTES
            return Plan("values", steps, split=split, expected_bytes=size, shareable=shareable)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # the process that runs it will find out
    return Plan("dialogue", sources=sources)


def _calls_with_data(source: str) -> bool:
    """Whether a step is a call of literals, or calls around one and parts of its value."""
    node = ast.parse(source, mode="eval").body
    while True:
        match node:
            case ast.Subscript(value=ast.Call() | ast.Subscript() as inner):
                node = inner
            case ast.Call(args=[ast.Call() | ast.Subscript() as inner], keywords=[]):
                node = inner
            case _:
                break
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and all(map(is_data, node.args))
        and all(keyword.arg is not None and is_data(keyword.value) for keyword in node.keywords)
    )


def as_json(value: Any) -> Any:
    """Tuples as lists, all the way down: JSON has no tuples."""
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if type(value).__module__ == "numpy":
        return value.tolist()  # of an array lists, of a scalar the number
    return value
