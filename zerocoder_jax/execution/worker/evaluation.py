"""Evaluating a judgement outside of the candidate's process, at a bounded cost.

The judgement is a test's, which a model wrote, and the values in it are a candidate's. So it is
walked here, node by node, over a short list of operations, and what each may cost is charged to a
budget before it is done: neither ``10**10**8``, nor ``int`` of a decimal with a billion digits, nor
lists of lists of lists keep the judge from its work.
"""

import ast
import math
import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

# Items, characters and machine words that one judgement may handle.
_BUDGET = 2_000_000
# Of a power: 120 thousand decimal digits.
_MOST_BITS = 400_000

_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (abs, all, any, bool, complex, dict, float, frozenset, int)},
    **{f.__name__: f for f in (isinstance, len, list, max, min, set, sorted, str, sum)},
    **{f.__name__: f for f in (tuple, ord, chr)},
    "round": round,
    "math.isclose": math.isclose,
    "math.isnan": math.isnan,
    "math.isinf": math.isinf,
    "math.sqrt": math.sqrt,
    "math.fabs": math.fabs,
}
CONSTANTS: dict[str, Any] = {
    **{t.__name__: t for t in (int, str, float, bool, list, tuple, dict, set, frozenset)},
    **{t.__name__: t for t in (bytes, complex)},
    "math.pi": math.pi,
    "math.e": math.e,
    "math.inf": math.inf,
    "math.nan": math.nan,
}


class TooExpensive(Exception):
    """A judgement that would cost more than any honest one."""


class NotJudgeable(Exception):
    """The assert has a part that must be run as Python: it is a free-form test."""


class Reported(ast.expr):
    """A place in a judgement that the value with this index fills."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index


def dotted(node: ast.expr) -> str:
    """``name`` or ``module.name``; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def evaluate(node: ast.expr, values: Sequence[Any] | Mapping[int, Any]) -> Any:
    """The value of a judgement; raises what Python would raise, or ``TooExpensive``.

    Args:
      node: an expression that ``split_test`` let through.
      values: the reported values; looking one up may raise.
    """
    return _Evaluation(values).value(node)


def weight(value: Any, most: int = _BUDGET) -> int:
    """Items, characters and 64-bit words in a value, all the way down; counted up to ``most``.

    What is held twice counts twice: whoever walks it meets it twice.
    """
    total, pending = 0, [value]
    while pending and total <= most:
        item = pending.pop()
        total += 1
        if isinstance(item, int):
            total += item.bit_length() >> 6
        elif isinstance(item, str | bytes | bytearray | range):
            total += len(item)
        elif isinstance(item, list | tuple | set | frozenset | deque):
            pending += item
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif type(item).__module__ == "numpy":
            total += item.nbytes
        elif isinstance(item, Fraction):
            pending += (item.numerator, item.denominator)
    return total


class _Evaluation:
    def __init__(self, values: Sequence[Any] | Mapping[int, Any]) -> None:
        self._values = values
        self._left = _BUDGET

    def _charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise TooExpensive

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, Reported):
            return self._values[node.index]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return CONSTANTS[dotted(node)]
        if isinstance(node, ast.List):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.value(item) for item in node.elts)
        if isinstance(node, ast.Set):
            return {self.value(item) for item in node.elts}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values)
            return {self.value(k): self.value(v) for k, v in pairs if k is not None}
        if isinstance(node, ast.UnaryOp):
            return _UNARY[type(node.op)](self.value(node.operand))
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            self._charge_operation(node.op, left, right)
            return BINARY[type(node.op)](left, right)
        if isinstance(node, ast.BoolOp):
            return self._boolean(node)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise NotJudgeable

    def _boolean(self, node: ast.BoolOp) -> Any:
        wanted = isinstance(node.op, ast.Or)
        result: Any = None
        for operand in node.values:
            result = self.value(operand)
            if bool(result) == wanted:
                break
        return result

    def _comparison(self, node: ast.Compare) -> Any:
        left = self.value(node.left)
        result: Any = True
        for operation, comparator in zip(node.ops, node.comparators):
            right = self.value(comparator)
            if isinstance(right, range):  # looking for what is no integer goes through it all
                self._charge(weight(right))
            result = _COMPARISONS[type(operation)](left, right)
            if not result:
                return result
            left = right
        return result

    def _call(self, node: ast.Call) -> Any:
        name = dotted(node.func)
        arguments = [self.value(argument) for argument in node.args]
        keywords = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
        given = [*arguments, *keywords.values()]
        self._charge(sum(map(weight, given)))
        if name == "sum" and len(given) > 1 and hasattr(given[1], "__len__"):
            self._charge(weight(given[0]) ** 2)  # it copies the sum so far for each item
        if name in ("int", "round"):
            digits = [a.adjusted() for a in given if isinstance(a, Decimal) and a.is_finite()]
            if any(abs(count) > 400 for count in digits):
                raise TooExpensive
        if name == "round" and any(isinstance(a, int) and abs(a) > 400 for a in given[1:]):
            raise TooExpensive
        return FUNCTIONS[name](*arguments, **keywords)

    def _charge_operation(self, operation: ast.operator, left: Any, right: Any) -> None:
        words = weight(left), weight(right)
        self._charge(sum(words))
        if isinstance(operation, ast.Pow):
            if not isinstance(right, int | float) or _bits(left) * abs(right) > _MOST_BITS:
                raise TooExpensive
            self._charge(int(_bits(left) * abs(right)) >> 3)
        elif isinstance(operation, ast.Mod) and isinstance(left, str | bytes | bytearray):
            raise TooExpensive  # a format can ask for any width
        elif isinstance(operation, ast.Mult) and (
            hasattr(left, "__len__") or hasattr(right, "__len__")
        ):
            for count, sequence in ((left, words[1]), (right, words[0])):
                if isinstance(count, int):
                    self._charge(max(0, count) * sequence)
        elif isinstance(operation, ast.Mult | ast.FloorDiv | ast.Mod):
            self._charge(words[0] * words[1] >> 8)


def _bits(value: Any) -> int:
    if isinstance(value, Fraction):
        return value.numerator.bit_length() + value.denominator.bit_length()
    return value.bit_length() if isinstance(value, int) else 0
