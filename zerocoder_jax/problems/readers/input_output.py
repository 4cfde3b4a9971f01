"""Tests written as parallel lists of inputs and outputs: APPS, LiveCodeBench."""

from typing import Any

from zerocoder_jax.problems.problem import CallTest, StdioTest, Test
from zerocoder_jax.problems.records import Record


class LongNumber(str):
    """The digits of a whole number that is too long for Python to read (4300 digits)."""


def whole_number(digits: str) -> int | LongNumber:
    """A whole number of JSON; its digits where ``int`` refuses them. APPS has such tests."""
    try:
        return int(digits)
    except ValueError:
        return LongNumber(digits)


def paired_tests(record: Record, fields: Any, name: str) -> tuple[Test, ...]:
    """The tests in ``{"inputs": [...], "outputs": [...], "fn_name": ...}``.

    With ``fn_name`` an input is a list of arguments (APPS) or a text with one JSON argument per
    line (LiveCodeBench). Where every output is a list of one value, that value is meant: this is
    how APPS wraps the results of its Codewars problems. Calls with a ``LongNumber`` in them are
    left out: solutions run in a Python that can neither be given such a number nor print it.
    """
    inputs = fields.get("inputs") if isinstance(fields, dict) else None
    outputs = fields.get("outputs") if isinstance(fields, dict) else None
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise record.malformed(f"'{name}' must hold lists 'inputs' and 'outputs'")
    if len(inputs) != len(outputs):
        raise record.malformed(f"'{name}': {len(inputs)} inputs but {len(outputs)} outputs")
    if not fields.get("fn_name"):
        return tuple(
            StdioTest(_lines(given), _lines(expected))
            for given, expected in zip(inputs, outputs, strict=True)
        )
    if any(isinstance(given, str) for given in inputs):
        return tuple(
            line_test(record, given, expected)
            for given, expected in zip(inputs, outputs, strict=True)
        )
    if outputs and all(isinstance(value, list) and len(value) == 1 for value in outputs):
        outputs = [value[0] for value in outputs]
    return tuple(
        CallTest(tuple(given) if isinstance(given, list) else (given,), expected)
        for given, expected in zip(inputs, outputs, strict=True)
        if not _holds_long_number([given, expected])
    )


def _holds_long_number(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(_holds_long_number, value))
    return isinstance(value, LongNumber)


def line_test(record: Record, given: Any, expected: Any) -> CallTest:
    """A call written as text: one JSON argument per line, a JSON value expected."""
    if not isinstance(given, str) or not isinstance(expected, str):
        raise record.malformed("a functional test must have a text as input and as output")
    arguments = [
        record.decode(line, "an argument of a test") for line in given.split("\n") if line.strip()
    ]
    return CallTest(tuple(arguments), record.decode(expected, "a test's output"))


def _lines(value: Any) -> str:
    """Some records hold a list of lines instead of the text."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
