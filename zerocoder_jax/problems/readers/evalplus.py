"""EvalPlus' tests, in both of the layouts in which they are published.

The JSON lines hold many inputs, judged by what the canonical solution returns: ``base_input`` and
``plus_input`` (lists of argument lists), ``canonical_solution``, ``entry_point``, ``atol``;
HumanEval+'s solution continues its ``prompt``. The hub's tables hold a script, ``test``, with
inputs and results written out.
"""

import re

from zerocoder_jax.problems.problem import AssertTest
from zerocoder_jax.problems.records import Record

# The reference runs in a scope of its own beside the solution. JSON has no tuples: where the
# reference cannot take an input's lists, tuples are tried instead of the inner ones and of all.
# What it takes in no form (sets, complex numbers) says nothing about the solution: passed over.
_JUDGE = """
import copy as _copy
from math import inf, nan

def _tuples(value, depth):
    if not isinstance(value, list):
        return value
    inner = [_tuples(item, depth - 1) for item in value]
    return tuple(inner) if depth <= 0 else inner

def _forms(arguments):
    return [arguments, _tuples(arguments, 2), _tuples(arguments, 1)]

def _same(value, expected, tolerance):
    if isinstance(expected, (list, tuple)) and type(value) is type(expected):
        return len(value) == len(expected) and all(
            _same(left, right, tolerance) for left, right in zip(value, expected))
    if isinstance(expected, float) and isinstance(value, (int, float)):
        return value == expected or value != value and expected != expected or (
            abs(value - expected) <= (tolerance or 1e-6) + 1e-7 * abs(expected))
    return value == expected

def _right(value, expected, arguments):
    return {rule}

_reference = {{}}
exec({reference!r}, _reference)
for _arguments in {inputs!r}:
    for _form in _forms(_arguments):
        try:
            _expected = _reference[{entry_point!r}](*_copy.deepcopy(_form))
        except Exception:
            continue
        assert _right({entry_point}(*_copy.deepcopy(_form)), _expected, _form)
        break
"""

# EvalPlus judges some functions by a rule of their own, since their statements leave the answer
# open: in what order, or which of the roots, or what besides None.
_EQUAL = "_same(value, expected, {tolerance!r})"
_RULES = {
    **dict.fromkeys(
        (
            "similar_elements",
            "find_char_long",
            "common_in_nested_lists",
            "extract_singly",
            "larg_nnum",
            "intersection_array",
            "find_dissimilar",
            "Diff",
        ),
        "set(value) == set(expected)",
    ),
    **dict.fromkeys(
        ("check_str", "text_match_three", "text_starta_endb"),
        "(value if isinstance(value, bool) else value is not None)"
        " == (expected if isinstance(expected, bool) else expected is not None)",
    ),
    "are_equivalent": "True",
    "sum_div": "value == expected or value == 0",
    "find_zero": "abs(sum(factor * value**power for power, factor in enumerate(arguments[0])))"
    " <= max({tolerance!r}, 1e-4)",
}


def is_evalplus(record: Record) -> bool:
    """Whether this is a record of EvalPlus' JSON lines."""
    return record.has("base_input")


def plus_tests(record: Record, *, base: bool, preamble: str = "") -> tuple[AssertTest, ...]:
    """One test for all plus inputs and, if ``base``, one before it for all base inputs."""
    groups = [record.items("base_input")] if base else []
    # The released file writes `{}` for "no further inputs".
    groups.append(record.items("plus_input") if record.fields.get("plus_input") else [])
    tolerance = record.fields.get("atol") or 0
    if not isinstance(tolerance, int | float):
        raise record.malformed("field 'atol' must be a number")
    tests = []
    for inputs in groups:
        if not all(isinstance(arguments, list) for arguments in inputs):
            raise record.malformed("inputs must be lists of arguments")
        if inputs:
            entry_point = record.text("entry_point")
            rule = _RULES.get(entry_point, _EQUAL)
            code = _JUDGE.format(
                reference=preamble + record.text("canonical_solution"),
                entry_point=entry_point,
                inputs=inputs,
                rule=rule.format(tolerance=float(tolerance)),
            )
            tests.append(AssertTest(code))
    return tuple(tests)


# Solutions see the standard library only. The scripts import NumPy for one comparison.
_STAND_IN = """
class np:
    ndarray = float32 = float64 = ()

    def allclose(value, expected, rtol=1e-05, atol=1e-08):
        if isinstance(expected, (list, tuple)):
            return len(value) == len(expected) and all(
                np.allclose(left, right, rtol, atol) for left, right in zip(value, expected))
        return value == expected or abs(value - expected) <= atol + rtol * abs(expected)

    class testing:
        def assert_allclose(value, expected, rtol=1e-07, atol=0):
            assert np.allclose(value, expected, rtol, atol)

"""


_HUB_RULE = """def assertion(value, expected, tolerance):
    assert {rule}

"""


def hub_script(script: str, entry_point: str = "") -> str:
    """A hub table's test script, with its one use of NumPy written out.

    MBPP+'s scripts compare exactly; where EvalPlus' own judge has a rule for the ``entry_point``,
    it takes the place of the script's comparison.
    """
    script = re.sub(r"^import numpy as np$", lambda _: _STAND_IN, script, flags=re.MULTILINE)
    rule = _RULES.get(entry_point)
    if rule is None:
        return script
    return re.sub(
        "^(?=inputs = )", lambda _: _HUB_RULE.format(rule=rule), script, count=1, flags=re.MULTILINE
    )
