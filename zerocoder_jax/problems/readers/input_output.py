"""Tests written as parallel lists of inputs and outputs: APPS, LiveCodeBench."""

import ast
from decimal import Decimal
from typing import Any

from zerocoder_jax.problems.problem import CallTest, StdioTest, Test
from zerocoder_jax.problems.records import Record


class LongNumber(str):
    """The digits of a whole number that is too long for ``int`` to read (4300 digits)."""


def whole_number(digits: str) -> int | LongNumber:
    """A whole number of JSON; its digits where ``int`` refuses them. APPS has such tests."""
    try:
        return int(digits)
    except ValueError:
        return LongNumber(digits)


def paired_tests(record: Record, fields: Any, name: str) -> tuple[Test, ...]:
    """The tests in ``{"inputs": [...], "outputs": [...], "fn_name": ...}``.

    With ``fn_name`` an input is a list of arguments (APPS) or a text with one JSON argument per
    line (LiveCodeBench). A ``LongNumber`` stands as its digits in a text and is a number like any
    other in a call.
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
    return tuple(
        CallTest(tuple(given) if isinstance(given, list) else (given,), expected)
        for given, expected in zip(_numbers(inputs), _numbers(outputs), strict=True)
    )


def _numbers(value: Any) -> Any:
    """``value`` with a number in the place of every ``LongNumber``."""
    if isinstance(value, LongNumber):
        return int(Decimal(value))  # the way round the limit of int, for data of our own choice
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def line_test(record: Record, given: Any, expected: Any) -> CallTest:
    """A call written as text: one JSON argument per line, a JSON value expected."""
    if not isinstance(given, str) or not isinstance(expected, str):
        raise record.malformed("a functional test must have a text as input and as output")

    def value(text: str, name: str) -> Any:
        return _numbers(record.decode(text, name, parse_int=whole_number))

    arguments = [value(line, "an argument of a test") for line in given.split("\n") if line.strip()]
    return CallTest(tuple(arguments), value(expected, "a test's output"))


def python_or_json(record: Record, text: str, name: str) -> Any:
    """The value of a text that is a Python literal or JSON; several data sets write either.

    Raises:
      MalformedRecord: it is neither.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return record.decode(text, f"'{name}'")


def _lines(value: Any) -> str:
    """Some records hold a list of lines instead of the text."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
