"""What crosses from an untrusted process is plain data, or nothing."""

import ast
import contextlib
import json
from collections import Counter, OrderedDict, deque
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from observing import RIGHT, SQUARE, WRONG

from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.execution.worker import values
from zerocoder_jax.execution.worker.assertions import split_test
from zerocoder_jax.execution.worker.evaluation import TooExpensive, evaluate
from zerocoder_jax.execution.worker.plans import plan_test
from zerocoder_jax.execution.worker.runner import EXITED
from zerocoder_jax.execution.worker.verdicts import (
    FORBIDDEN,
    PASSED,
    Outcome,
    judge,
    judge_shared,
    same_output,
)
from zerocoder_jax.problems import AssertTest, CallTest

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
    st.binary(), st.complex_numbers(allow_nan=False), st.fractions(), st.integers(2**70, 2**90),
    st.decimals(allow_nan=False), st.dates(), st.times(), st.datetimes(), st.timedeltas(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
)  # fmt: skip
_HASHABLE = st.recursive(
    _SCALARS, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner)), max_leaves=5
)
_VALUES = st.recursive(
    _HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner),
        st.dictionaries(_HASHABLE, inner),
        st.sets(_HASHABLE),
        st.builds(deque, st.lists(inner)),
        st.builds(Counter, st.lists(_HASHABLE)),
        st.builds(OrderedDict, st.lists(st.tuples(_HASHABLE, inner))),
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_plain_data_arrives_equal_and_of_the_same_type(value: object) -> None:
    arrived = values.loads(values.dumps(value))
    assert arrived == value and type(arrived) is type(value)
    assert b"\n" not in values.dumps(value)


@pytest.mark.parametrize("value", [..., NotImplemented, int, Exception, float("nan"), -0.0])
def test_single_objects_and_types_arrive_as_they_are(value: object) -> None:
    arrived = values.loads(values.dumps([value]))[0]
    assert arrived is value or repr(arrived) == repr(value)


@pytest.mark.parametrize(
    "array",
    [np.arange(6).reshape(2, 3), np.float32(0.5), np.zeros((0, 2)), np.array(["a", "bc"]),
     np.array([None, 3], object), np.datetime64("2024-02-29"), np.arange(9)[::2], np.bool_(True)],
)  # fmt: skip
def test_arrays_arrive_with_their_type_and_shape(array: Any) -> None:
    arrived = values.loads(values.dumps(array))
    assert type(arrived) is type(array)
    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert (arrived == array).all()


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("1.50 2", "1.5 2.0", True), ("-0", "0", True), ("1e3", "1000", True), (".5", "0.5", True),
        ("1_000", "1000", False), ("\u0667", "7", False), ("\uff17", "7", False),
        ("nan", "NaN", False), ("sNaN", "1", False), ("inf", "Infinity", True),
        ("0x10", "16", False), ("1e9", "1000000000", True),
    ],
)  # fmt: skip
def test_numbers_in_an_output_are_decimals_in_ascii(actual: str, expected: str, same: bool) -> None:
    assert same_output(actual, expected) == same


def test_a_report_is_of_what_was_returned_whatever_the_solution_rebinds(
    pool: ExecutionPool,
) -> None:
    rebind = """
import builtins, json, json.encoder, marshal, os
for module, names in (
    (json, "dumps loads JSONEncoder"),
    (json.encoder, "JSONEncoder encode_basestring_ascii c_make_encoder"),
    (marshal, "dumps loads"),
    (builtins, "isinstance issubclass type len str repr dict list tuple getattr map hasattr eval"),
):
    for name in names.split():
        setattr(module, name, lambda *a, **k: ["10"])
"""
    tests = [AssertTest("assert f(3) == 10"), CallTest((5,), 26)]
    matrix = pool.passing_matrix(SQUARE, [rebind + RIGHT, rebind + WRONG], tests)
    assert matrix.tolist() == [[Status.PASSED] * 2, [Status.FAILED] * 2]


@given(st.binary())
def test_garbage_is_malformed_or_plain_data(data: bytes) -> None:
    try:
        value = values.loads(data)
    except values.Malformed:
        return
    assert isinstance(
        value,
        str | int | float | list | tuple | set | frozenset | dict | bytes | bytearray | complex
        | Fraction | Decimal | range | deque | date | time | timedelta | values.Opaque | None,
    )  # fmt: skip


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.sampled_from([*values._DECODERS, "x"]), inner, max_size=2),
    ),
)


@given(_JSON)
def test_forged_encodings_never_raise_anything_else(data: object) -> None:
    with contextlib.suppress(values.Malformed):
        values.loads(json.dumps(data).encode())


@pytest.mark.parametrize("name", ["set", "frozenset", "dict", "ordered", "counter"])
def test_items_that_were_made_to_share_a_hash_are_refused(name: str) -> None:
    """A set of them is built in a time that grows as the square of their number."""

    def encoded(step: int) -> bytes:
        numbers = [{"int": hex(step * number)} for number in range(1, 1000)]
        items = numbers if name.endswith("set") else [[number, 0] for number in numbers]
        return json.dumps({name: items}).encode()

    assert len(values.loads(encoded(3))) == 999
    with pytest.raises(values.Malformed, match="share a hash"):
        values.loads(encoded(2**61 - 1))


def test_deep_encodings_are_refused() -> None:
    with pytest.raises(values.Malformed):
        values.loads(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(RecursionError):
        loop: list[object] = []
        loop.append(loop)
        values.dumps(loop)


def test_subclasses_are_sent_as_their_content() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    arrived = values.loads(values.dumps(Liar(3)))
    assert type(arrived) is int and arrived == 3 and arrived != 4


def test_an_opaque_value_equals_nothing_not_even_itself() -> None:
    arrived = values.loads(values.dumps(object()))
    assert arrived != arrived and arrived != 3 and bool(arrived)


def test_dictionaries_that_care_for_order_still_do() -> None:
    arrived = values.loads(values.dumps(OrderedDict(b=2, a=1)))
    assert arrived != OrderedDict(a=1, b=2) and arrived == {"a": 1, "b": 2}
    assert values.loads(values.dumps(Counter(a=0))) == Counter()


# ---- asserts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        ("assert f(1) == 2", ["f(1)"]),
        ("assert sorted(f([2])) == [2]", ["sorted(f([2]))"]),
        ("assert abs(f(1) - 3.5) < 1e-6", ["f(1)"]),
        ("assert f(f(1)) == 2", ["f(f(1))"]),
        ("assert Solution().f(1) == 2", ["Solution().f(1)"]),
        ("assert f(1) == 2 and f(2) == 3", None),  # the second is not always called
        ("assert f(1) == g(2)", None),
        ("assert f(1)[0] == 2", ["f(1)[0]"]),
        ("assert f(1).value == 2", ["f(1).value"]),
        ("assert len(f(1)[1:]) == 2", ["len(f(1)[1:])"]),
        ("r = f(1)\nassert list(r) == [2]", ["r = f(1)", "list(r)"]),
        ("r = f(1) == 2\nassert r", None),  # it would show the candidate what is expected
        ("r = [f(1), 2]\nassert f(1) == 2", None),
        ("r = f(1)\nr = 2\nassert r == 2", None),
        ("r, s = f(1)\nassert r == 2", None),
        ("abs = len\nassert abs(f(1)) == 2", None),  # not what the judge means by it
        ("import cmath as math\nassert f(1) == math.pi", None),
        ("import math\nassert f(1) == math.pi", ["import math", "f(1)"]),
        ("assert f(1)[f(0)] == 2", None),
        ("assert f(1).__class__ == 2", None),
        ("assert f(1).count(2) == 1", None),
        ("for x in y:\n    assert f(x)", None),
        ("x = 1", None),
        ("assert (lambda: f(1))() == 2", None),
    ],
)
def test_only_what_the_candidate_computes_is_sent_to_it(code: str, steps: list[str] | None) -> None:
    split = split_test(ast.parse(code), "f")
    assert (None if split is None else [step.source for step in split.steps]) == steps


@given(
    st.integers(-50, 50), st.integers(-50, 50), st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
)
def test_judgements_are_evaluated_as_python_does(left: int, right: int, operator: str) -> None:
    condition = f"-f(0) * 2 + abs({left}) {operator} max({right}, 3) - 1"
    split = split_test(ast.parse(f"assert {condition}"), "f")
    assert split is not None
    (judgement,) = split.judgements
    expected = eval(condition, {"f": lambda _: left})
    assert evaluate(judgement.expression, [left]) == expected


@pytest.mark.parametrize(
    "text", ["10 ** 10 ** 8", "'a' * 10 ** 9", "'%1000000000d' % 3", "round(3, -10**9)"]
)
def test_a_judgement_cannot_be_made_expensive(text: str) -> None:
    split = split_test(ast.parse(f"assert f(1) == {text}"), "f")
    assert split is not None
    with pytest.raises(TooExpensive):
        evaluate(split.judgements[0].expression, [1])


@given(st.binary(max_size=60), st.booleans())
def test_no_report_without_the_token_passes(report: bytes, well_formed: bool) -> None:
    plan = plan_test({"kind": "assert", "code": "assert f(1) == 3", "setup": ""}, "f")
    free = plan_test({"kind": "assert", "code": "for x in [1]: assert f(x)", "setup": ""}, "f")
    report = report + b"\n" if well_formed else report
    outcome = Outcome(EXITED, 0, 0.1, b"", report)
    assert judge(plan, outcome, "0123456789abcdef", 1000) != PASSED
    assert judge(free, outcome, "0123456789abcdef", 1000) != PASSED
    assert PASSED not in judge_shared([plan, plan], outcome, "0123456789abcdef", 1000)


def test_a_report_that_others_wrote_into_is_forbidden() -> None:
    plan = plan_test({"kind": "assert", "code": "assert f(1) == 3", "setup": ""}, "f")
    report = b"PASSED\ntoken0=3\ntoken.\n"
    assert judge(plan, Outcome(EXITED, 0, 0.1, b"", report), "token", 1000) == FORBIDDEN
