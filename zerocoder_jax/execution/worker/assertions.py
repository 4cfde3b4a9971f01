"""Splitting an assert into what the candidate computes and what is judged outside.

``assert sorted(f([3, 1])) == [1, 3]`` becomes the expression ``sorted(f([3, 1]))``, which the
candidate's process evaluates and reports as plain data, and the judgement ``_ == [1, 3]``, which
is made where the candidate never ran. The expected value never enters the candidate's process.

The judgement is walked here, node by node, over a short list of operations whose cost is bounded:
the test was written by a model too.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Longer tests are run as they are: a bound on what the parser has to take from a stranger.
MAX_TEST_CHARACTERS = 50_000

# Around a call of the entry point these belong to the candidate's side: they only change the form
# of the value that is reported, and may need the object itself (an iterator, a generator).
_SHAPING = frozenset(
    {"list", "tuple", "set", "frozenset", "dict", "sorted", "next", "iter", "vars"}
)

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
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
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


class TooExpensive(Exception):
    """A judgement that would cost more than any honest one."""


def _round(number: Any, digits: int | None = None) -> Any:
    """``round``, but not to a place that takes a power of ten with a billion digits."""
    if digits is not None and abs(digits) > 400:
        raise TooExpensive
    return round(number, digits)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (abs, all, any, bool, complex, dict, float, frozenset, int)},
    **{f.__name__: f for f in (isinstance, len, list, max, min, set, sorted, str, sum)},
    **{f.__name__: f for f in (tuple, type, ord, chr)},
    "round": _round,
    "math.isclose": math.isclose,
    "math.isnan": math.isnan,
    "math.isinf": math.isinf,
    "math.sqrt": math.sqrt,
    "math.fabs": math.fabs,
}
_CONSTANTS: dict[str, Any] = {
    **{t.__name__: t for t in (int, str, float, bool, list, tuple, dict, set, frozenset)},
    **{t.__name__: t for t in (bytes, complex)},
    "math.pi": math.pi,
    "math.e": math.e,
    "math.inf": math.inf,
    "math.nan": math.nan,
}


class NotJudgeable(Exception):
    """The assert has a part that must be run as Python: it is a free-form test."""


@dataclass(frozen=True)
class Step:
    """One step of a test in the candidate's process.

    Attributes:
      mode: ``"exec"`` or ``"eval"``; the value of an ``eval`` is reported.
      source: the statement or expression.
    """

    mode: str
    source: str


@dataclass(frozen=True)
class Judgement:
    """One assert, seen from outside.

    Attributes:
      expression: its condition; a ``_Reported`` stands for each reported value.
    """

    expression: ast.expr


@dataclass(frozen=True)
class SplitTest:
    steps: tuple[Step, ...]
    judgements: tuple[Judgement, ...]


class _Reported(ast.expr):
    """A place in a judgement that the value with this index fills."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index


def split_test(tree: ast.Module, entry_point: str) -> SplitTest | None:
    """Splits a test of asserts (and plain statements between them); None for a free-form test.

    Args:
      tree: the parsed test.
      entry_point: ``function`` or ``Class.method``.
    """
    splitter = _Splitter(entry_point)
    judgements = []
    for statement in tree.body:
        if isinstance(statement, ast.Assert):
            try:
                judgements.append(splitter.judgement(statement.test))
            except (NotJudgeable, RecursionError):
                return None
        elif isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign):
            splitter.steps.append(Step("exec", ast.unparse(statement)))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a stray string
        else:
            return None
    if not judgements:
        return None
    return SplitTest(tuple(splitter.steps), tuple(judgements))


class _Splitter:
    """Collects the candidate's steps while it rewrites conditions into judgements."""

    def __init__(self, entry_point: str) -> None:
        self.name = entry_point.rpartition(".")[2]
        self.steps: list[Step] = []
        self._values = 0
        self._callers: set[ast.AST] = set()  # expressions with a call of the entry point in them

    def judgement(self, condition: ast.expr) -> Judgement:
        """The judgement on an assert's condition, its steps appended to ``steps``."""
        self._find_callers(condition)
        return Judgement(self.outside(condition))

    def _find_callers(self, node: ast.AST) -> bool:
        found = isinstance(node, ast.Call) and self._is_entry(node.func)
        for child in ast.iter_child_nodes(node):
            found |= self._find_callers(child)
        if found:
            self._callers.add(node)
        return found

    def outside(self, node: ast.expr) -> ast.expr:
        """``node`` with every value that the candidate computes taken out."""
        if node not in self._callers:
            _check_operations(node)
            return node
        if self._belongs_inside(node):
            return self._report(node)
        # Only the first operand may call the candidate: what Python would not evaluate, because
        # an earlier operand decides, must not be evaluated here either.
        if isinstance(node, ast.BoolOp):
            first, *rest = node.values
            return ast.BoolOp(node.op, [self.outside(first), *map(self._constant, rest)])
        if isinstance(node, ast.UnaryOp):
            return ast.UnaryOp(node.op, self.outside(node.operand))
        if isinstance(node, ast.BinOp):
            _check_operator(node)
            return ast.BinOp(self.outside(node.left), node.op, self.outside(node.right))
        if isinstance(node, ast.Compare):
            left = self.outside(node.left)
            first, *rest = node.comparators
            comparators = [self.outside(first), *map(self._constant, rest)]
            return ast.Compare(left, node.ops, comparators)
        if isinstance(node, ast.Call) and _dotted(node.func) in _FUNCTIONS:
            arguments = [self.outside(argument) for argument in node.args]
            keywords = [ast.keyword(k.arg, self.outside(k.value)) for k in node.keywords]
            call = ast.Call(node.func, arguments, keywords)
            _check_call(call)
            return call
        raise NotJudgeable

    def _constant(self, node: ast.expr) -> ast.expr:
        if node in self._callers:
            raise NotJudgeable
        _check_operations(node)
        return node

    def _is_entry(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id == self.name
        return isinstance(function, ast.Attribute) and function.attr == self.name

    def _belongs_inside(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        if self._is_entry(node.func):
            return True
        return (
            isinstance(node.func, ast.Name)
            and node.func.id in _SHAPING
            and len(node.args) == 1
            and not node.keywords
            and self._belongs_inside(node.args[0])
        )

    def _report(self, node: ast.expr) -> ast.expr:
        self.steps.append(Step("eval", ast.unparse(node)))
        self._values += 1
        return _Reported(self._values - 1)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _check_call(node: ast.Call) -> None:
    if any(k.arg is None for k in node.keywords):
        raise NotJudgeable
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise NotJudgeable


def _check_operator(node: ast.BinOp) -> None:
    if type(node.op) not in _BINARY:
        raise NotJudgeable


def _check_operations(node: ast.expr) -> None:
    """That every node of an expression is one that ``evaluate`` knows."""
    pending: list[ast.AST] = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, ast.Constant):
            continue
        if isinstance(current, ast.Name | ast.Attribute):
            if _dotted(current) not in _CONSTANTS:
                raise NotJudgeable
        elif isinstance(current, ast.Call):
            if _dotted(current.func) not in _FUNCTIONS:
                raise NotJudgeable
            _check_call(current)
            pending += [*current.args, *(k.value for k in current.keywords)]
        elif isinstance(current, ast.Dict):
            if None in current.keys:
                raise NotJudgeable
            pending += [*(k for k in current.keys if k), *current.values]
        elif isinstance(current, ast.List | ast.Tuple | ast.Set):
            pending += current.elts
        elif isinstance(current, ast.BinOp):
            _check_operator(current)
            pending += [current.left, current.right]
        elif isinstance(current, ast.UnaryOp):
            pending.append(current.operand)
        elif isinstance(current, ast.BoolOp):
            pending += current.values
        elif isinstance(current, ast.Compare):
            pending += [current.left, *current.comparators]
        else:
            raise NotJudgeable


def _guard(operation: ast.operator, left: Any, right: Any) -> None:
    """``10**10**8`` and ``'a' * 10**11`` are not for the judge to compute."""
    if isinstance(operation, ast.Pow) and not (
        isinstance(right, int | float) and abs(right) <= 4096 and _bits(left) <= 4096
    ):
        raise TooExpensive
    if isinstance(operation, ast.Mult):
        for count, sequence in ((left, right), (right, left)):
            is_repetition = isinstance(count, int) and hasattr(sequence, "__len__")
            if is_repetition and count * len(sequence) > 1_000_000:
                raise TooExpensive
    if isinstance(operation, ast.Mod) and isinstance(left, str | bytes):
        raise TooExpensive  # a format can ask for any width


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def evaluate(node: ast.expr, values: Sequence[Any] | Mapping[int, Any]) -> Any:
    """The value of a judgement; raises what Python would raise.

    Args:
      node: an expression that ``split_test`` let through.
      values: the reported values; looking one up may raise.
    """
    if isinstance(node, _Reported):
        return values[node.index]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        return _CONSTANTS[_dotted(node)]
    if isinstance(node, ast.List):
        return [evaluate(item, values) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(evaluate(item, values) for item in node.elts)
    if isinstance(node, ast.Set):
        return {evaluate(item, values) for item in node.elts}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
        return {evaluate(k, values): evaluate(v, values) for k, v in pairs if k is not None}
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](evaluate(node.operand, values))
    if isinstance(node, ast.BinOp):
        left, right = evaluate(node.left, values), evaluate(node.right, values)
        _guard(node.op, left, right)
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.BoolOp):
        return _evaluate_boolean(node, values)
    if isinstance(node, ast.Compare):
        left = evaluate(node.left, values)
        result: Any = True
        for operation, comparator in zip(node.ops, node.comparators):
            right = evaluate(comparator, values)
            result = _COMPARISONS[type(operation)](left, right)
            if not result:
                return result
            left = right
        return result
    if isinstance(node, ast.Call):
        arguments = [evaluate(argument, values) for argument in node.args]
        keywords = {k.arg: evaluate(k.value, values) for k in node.keywords if k.arg}
        return _FUNCTIONS[_dotted(node.func)](*arguments, **keywords)
    raise NotJudgeable


def _evaluate_boolean(node: ast.BoolOp, values: Sequence[Any] | Mapping[int, Any]) -> Any:
    wanted = isinstance(node.op, ast.Or)
    result: Any = None
    for operand in node.values:
        result = evaluate(operand, values)
        if bool(result) == wanted:
            break
    return result
