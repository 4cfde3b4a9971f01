"""Splitting an assert into what the candidate computes and what is judged outside.

``assert sorted(f([3, 1])) == [1, 3]`` becomes the expression ``sorted(f([3, 1]))``, which the
candidate's process evaluates and reports as plain data, and the judgement ``_ == [1, 3]``, which
is made where the candidate never ran. The expected value never enters the candidate's process.
"""

import ast
from dataclasses import dataclass

from .evaluation import BINARY, CONSTANTS, FUNCTIONS, NotJudgeable, Reported, dotted
from .statelessness import is_data

# Longer tests are run as they are: a bound on what the parser has to take from a stranger.
MAX_TEST_CHARACTERS = 50_000

# Around a call of the entry point these belong to the candidate's side: they only change the form
# of the value that is reported, and may need the object itself (an iterator, an object of its own).
# None of them makes a wrong value right for a candidate that does not know the right one.
SHAPING = frozenset(
    {"list", "tuple", "set", "frozenset", "dict", "sorted", "next", "iter", "vars"}
    | {"len", "sum", "min", "max", "any", "all", "str", "repr"}
)
# Packages that only tests import; in the candidate's process they are not to be found.
_OF_TESTS = frozenset({"pytest", "unittest"})
# Types whose values are one object each.
_SINGLE = (type(None), bool, type(...))
# What the judge means by these names, a test must not mean otherwise.
_JUDGED_NAMES = {name.partition(".")[0] for name in (*FUNCTIONS, *CONSTANTS)}


@dataclass(frozen=True)
class Step:
    """One step of a test in the candidate's process.

    Attributes:
      mode: ``"exec"`` or ``"eval"``; the value of an ``eval`` is reported.
      source: the statement or expression.
      calls: it calls the entry point.
    """

    mode: str
    source: str
    calls: bool = False


@dataclass(frozen=True)
class Judgement:
    """One assert, seen from outside.

    Attributes:
      expression: its condition; a ``Reported`` stands for each reported value.
    """

    expression: ast.expr


@dataclass(frozen=True)
class SplitTest:
    steps: tuple[Step, ...]
    judgements: tuple[Judgement, ...]


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
            if not splitter.prepares(statement):
                return None
            calls = statement in splitter.callers
            splitter.steps.append(Step("exec", ast.unparse(statement), calls))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a stray string
        else:
            return None
    if not judgements or not splitter.has_reports:
        return None
    return SplitTest(_needed(splitter.steps), tuple(judgements))


def _needed(steps: list[Step]) -> tuple[Step, ...]:
    """Without assignments that no later step reads: they may say what is expected."""
    needed: list[Step] = []
    read: set[str] = set()
    for step in reversed(steps):
        tree = ast.parse(step.source)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        bound = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
        is_assignment = isinstance(tree.body[0], ast.Assign | ast.AnnAssign)
        if is_assignment and not bound & read and not step.calls:
            continue
        read |= {name.id for name in names if isinstance(name.ctx, ast.Load)}
        needed.append(step)
    return tuple(reversed(needed))


class _Splitter:
    """Collects the candidate's steps while it rewrites conditions into judgements."""

    def __init__(self, entry_point: str) -> None:
        self.name = entry_point.rpartition(".")[2]
        self.steps: list[Step] = []
        self._values = 0
        self.callers: set[ast.AST] = set()  # expressions with a call of the entry point in them
        self._results: set[str] = set()  # variables that hold what the entry point returned

    @property
    def has_reports(self) -> bool:
        """Whether anything that the candidate computes is judged."""
        return self._values > 0

    def prepares(self, statement: ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign) -> bool:
        """Whether the candidate may run a statement between the asserts.

        Not one that calls the entry point and does more with the value than shape it: a comparison
        in it would show the candidate what is expected, and believe its objects.
        """
        if _has_function(statement):
            return False
        if isinstance(statement, ast.Import | ast.ImportFrom):
            bound = {(a.asname or a.name).partition(".")[0] for a in statement.names}
            if bound & _OF_TESTS or getattr(statement, "module", None) in _OF_TESTS:
                return False
            plain_math = isinstance(statement, ast.Import) and statement.names[0].name == "math"
            bound -= {"math"} if plain_math and len(statement.names) == 1 else set()
        else:
            names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            bound = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
            value = statement.value
            calls = value is not None and self._find_callers(statement)
            self._results -= bound
            if calls:
                targets = statement.targets if isinstance(statement, ast.Assign) else []
                if len(targets) != 1 or not isinstance(targets[0], ast.Name):
                    return False
                if value is None or not self._belongs_inside(value):
                    return False
                self._results.add(targets[0].id)
        return not bound & _JUDGED_NAMES

    def judgement(self, condition: ast.expr) -> Judgement:
        """The judgement on an assert's condition, its steps appended to ``steps``."""
        self._find_callers(condition)
        return Judgement(self.outside(condition))

    def _find_callers(self, node: ast.AST) -> bool:
        found = isinstance(node, ast.Call) and self._is_entry(node.func)
        found |= isinstance(node, ast.Name) and node.id in self._results
        for child in ast.iter_child_nodes(node):
            found |= self._find_callers(child)
        if found:
            self.callers.add(node)
        return found

    def outside(self, node: ast.expr) -> ast.expr:
        """``node`` with every value that the candidate computes taken out."""
        if node not in self.callers:
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
            # What is reported is a copy: whether two values are one object, and whether two
            # objects of the solution are equal, is seen where they keep their identity.
            if first in self.callers and node.left in self.callers:
                raise NotJudgeable
            by_identity = any(isinstance(operation, ast.Is | ast.IsNot) for operation in node.ops)
            single = isinstance(first, ast.Constant) and type(first.value) in _SINGLE
            if by_identity and not single:
                raise NotJudgeable
            return ast.Compare(left, node.ops, comparators)
        if isinstance(node, ast.Call) and dotted(node.func) in FUNCTIONS:
            arguments = [self.outside(argument) for argument in node.args]
            keywords = [ast.keyword(k.arg, self.outside(k.value)) for k in node.keywords]
            call = ast.Call(node.func, arguments, keywords)
            _check_call(call)
            return call
        raise NotJudgeable

    def _constant(self, node: ast.expr) -> ast.expr:
        if node in self.callers:
            raise NotJudgeable
        _check_operations(node)
        return node

    def _is_entry(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id == self.name
        return isinstance(function, ast.Attribute) and function.attr == self.name

    def _belongs_inside(self, node: ast.expr) -> bool:
        """A call of the entry point, its result by name, or shaping, parts and fields of these."""
        if isinstance(node, ast.Name):
            return node.id in self._results
        if isinstance(node, ast.Subscript):
            return self._belongs_inside(node.value) and _is_place(node.slice)
        if isinstance(node, ast.Attribute):
            return not node.attr.startswith("_") and self._belongs_inside(node.value)
        if not isinstance(node, ast.Call):
            return False
        if self._is_entry(node.func):
            return True
        return (
            isinstance(node.func, ast.Name)
            and node.func.id in SHAPING
            and len(node.args) == 1
            and not node.keywords
            and self._belongs_inside(node.args[0])
        )

    def _report(self, node: ast.expr) -> ast.expr:
        if _has_function(node):
            raise NotJudgeable
        self.steps.append(Step("eval", ast.unparse(node), calls=True))
        self._values += 1
        return Reported(self._values - 1)


def _has_function(node: ast.AST) -> bool:
    """Whether there is a function of the test, which is to stay in a process of the test's own."""
    return any(isinstance(inner, ast.Lambda) for inner in ast.walk(node))


def _is_place(node: ast.expr) -> bool:
    """Whether a subscript is made of literals."""
    if isinstance(node, ast.Slice):
        bounds = (node.lower, node.upper, node.step)
        return all(bound is None or is_data(bound) for bound in bounds)
    return is_data(node)


def _check_call(node: ast.Call) -> None:
    if any(k.arg is None for k in node.keywords):
        raise NotJudgeable
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise NotJudgeable


def _check_operator(node: ast.BinOp) -> None:
    if type(node.op) not in BINARY:
        raise NotJudgeable


def _check_operations(node: ast.expr) -> None:
    """That every node of an expression is one that ``evaluate`` knows."""
    pending: list[ast.AST] = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, ast.Constant):
            continue
        if isinstance(current, ast.Name | ast.Attribute):
            if dotted(current) not in CONSTANTS:
                raise NotJudgeable
        elif isinstance(current, ast.Call):
            if dotted(current.func) not in FUNCTIONS:
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
