"""Asserts whose outcome is plain without running anything: they say nothing about a solution.

Cheap to see, cheap to write, and a Tester that is rewarded for agreeing with everybody finds them:
``assert f(1) == f(1)``, ``assert f(1) or True``, ``assert (x := f(1)) == x``. What is merely weak
(``assert f(1) is not None``, ``assert isinstance(f(1), int)``) is none of these: some solution
fails it, and its mutation score says what it is worth.
"""

import ast
import copy

_ALWAYS_TRUE = frozenset({"ascii", "object", "repr", "type"})
# What takes the function itself without calling it.
_LOOKING = frozenset({"bool", "callable", "hash", "id", "isinstance", "repr", "str", "type"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
_DISPLAYS = (ast.List, ast.Tuple, ast.Set, ast.Dict)
_INVERSE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Eq: ast.NotEq, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.Is: ast.IsNot, ast.In: ast.NotIn},
    **{ast.NotEq: ast.Eq, ast.GtE: ast.Lt, ast.LtE: ast.Gt, ast.IsNot: ast.Is, ast.NotIn: ast.In},
}


def depends_on_call(tree: ast.AST, entry_point: str, results: set[str]) -> bool:
    """Whether something may call the entry point, or reads a variable that holds what it gave.

    Args:
      tree: an expression or a statement.
      entry_point: ``function`` or ``Class.method``.
      results: names of such variables.
    """
    owner, _, method = entry_point.rpartition(".")
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in results:
                return True
            case ast.Call(func=ast.Name(id=name)) if not owner and name == method:
                return True
            case ast.Call(func=ast.Attribute(attr=name)) if owner and name == method:
                return True
            case ast.Call(func=function, args=arguments, keywords=keywords):
                if isinstance(function, ast.Name) and function.id in _LOOKING:
                    continue
                given = [*arguments, *(keyword.value for keyword in keywords)]
                if any(_names(argument) & {owner or method} for argument in given):
                    return True
    return False


def is_tautology(test: ast.expr, entry_point: str, results: set[str]) -> bool:
    """Whether the condition of an assert has the same outcome whatever the entry point returns."""
    if any(isinstance(node, ast.NamedExpr) for node in ast.walk(test)):
        test = _Unnamed(test).visit(copy.deepcopy(test))
    return _Outcome(entry_point, results).is_fixed(test)


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


class _Unnamed(ast.NodeTransformer):
    """Puts the value in the place of ``(name := value)`` and of the name."""

    def __init__(self, test: ast.expr) -> None:
        named = (node for node in ast.walk(test) if isinstance(node, ast.NamedExpr))
        self._values = {node.target.id: node.value for node in named}

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        value: ast.AST = self.visit(node.value)
        return value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)


class _Outcome:
    def __init__(self, entry_point: str, results: set[str]) -> None:
        self._entry_point = entry_point
        self._results = results

    def _depends(self, node: ast.AST) -> bool:
        return depends_on_call(node, self._entry_point, self._results)

    def is_fixed(self, node: ast.expr) -> bool:
        """Whether an expression is always true, or always false."""
        if not _names(node):
            return True
        match node:
            case ast.Lambda() | ast.JoinedStr() | ast.GeneratorExp():
                return True
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                # `assert (f(1), 2)` always holds
                return any(not isinstance(part, ast.Starred) for part in parts)
            case ast.Dict(keys=keys):
                return any(key is not None for key in keys)
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                loops = node.generators
                return not any(loop.ifs or self._depends(loop.iter) for loop in loops)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.is_fixed(operand)
            case ast.BoolOp(op=ast.Or(), values=values):
                return self._some_is_fixed(values) or _has_contrary(values)
            case ast.BoolOp(values=values):
                # A condition on the test's own variables is harmless beside the call.
                asked = [v for v in values if self._depends(v) or not _names(v)]
                return any(map(self.is_fixed, asked)) or _has_contrary(values)
            case ast.IfExp(test=condition, body=body, orelse=otherwise):
                both = self.is_fixed(body) and self.is_fixed(otherwise)
                return both or self.is_fixed(condition)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                pairs = zip([left, *comparators], ops, comparators)
                outcomes = [self._outcome(*pair) for pair in pairs]
                return False in outcomes or None not in outcomes
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._is_fixed_call(name, arguments)
        return False

    def _some_is_fixed(self, values: list[ast.expr]) -> bool:
        return any(self.is_fixed(value) or not self._depends(value) for value in values)

    def _is_fixed_call(self, name: str, arguments: list[ast.expr]) -> bool:
        match name, arguments:
            case _ if name in _ALWAYS_TRUE:
                return True
            case "bool", [value]:
                return self.is_fixed(value)
            case "any", [ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts)]:
                return self._some_is_fixed(parts)
            case "all", [ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts)]:
                return any(map(self.is_fixed, parts))
            case "isinstance", [value, kinds]:
                own = ast.Call(ast.Name("type", ast.Load()), [value], [])
                return "object" in _names(kinds) or ast.dump(own) == ast.dump(kinds)
            case "hasattr", [_, ast.Constant(value=str(attribute))]:
                return attribute.startswith("__")
        return False

    def _outcome(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> bool | None:
        """Of one comparison; None where it depends on the call; True where fixed but unknown."""
        equal = isinstance(op, ast.Eq | ast.LtE | ast.GtE | ast.Is | ast.In)
        if isinstance(op, ast.In | ast.NotIn):
            if isinstance(right, ast.List | ast.Tuple | ast.Set):
                parts = map(ast.dump, right.elts)
                return equal if ast.dump(left) in parts else self._both_known(left, right)
        elif ast.dump(left) == ast.dump(right):
            return equal
        elif isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
            by_identity = isinstance(op, ast.Is | ast.IsNot)
            if any(self._is_unlike_all(side, by_identity) for side in (left, right)):
                return not equal
        return self._both_known(left, right)

    def _both_known(self, left: ast.expr, right: ast.expr) -> bool | None:
        return True if self._has_known_value(left) and self._has_known_value(right) else None

    def _is_unlike_all(self, node: ast.expr, by_identity: bool) -> bool:
        """Whether nothing that the entry point returns can equal this, or be it."""
        match node:
            case ast.Lambda() | ast.Call(func=ast.Name(id="object"), args=[]):
                return True
            case ast.Name(id=name):
                return name == self._entry_point
        return by_identity and isinstance(node, (*_DISPLAYS, *_COMPREHENSIONS, ast.GeneratorExp))

    def _has_known_value(self, node: ast.expr) -> bool:
        """Whether an expression has the same value whatever the entry point returns."""
        if not self._depends(node):
            return True
        match node:
            case ast.BinOp(left=left, op=ast.Sub() | ast.BitXor() | ast.Div() | ast.FloorDiv()):
                return ast.dump(left) == ast.dump(node.right)
            case ast.BinOp(op=ast.Mult() | ast.BitAnd() | ast.Pow(), right=ast.Constant(value=0)):
                return True
            case ast.BinOp(left=ast.Constant(value=0), op=ast.Mult() | ast.BitAnd()):
                return True
            case ast.Call(func=ast.Name(id="len"), args=[ast.List() | ast.Tuple() as display]):
                return not any(isinstance(part, ast.Starred) for part in display.elts)
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return self.is_fixed(node)
            case ast.Call(func=ast.Name(id="bool" | "isinstance" | "hasattr")):
                return self.is_fixed(node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return all(map(self._has_known_value, parts))
        return False


def _has_contrary(values: list[ast.expr]) -> bool:
    """Whether one operand of ``or`` (of ``and``) is the negation of another."""
    said = {ast.dump(value) for value in values}
    return any(ast.dump(_negation(value)) in said for value in values)


def _negation(node: ast.expr) -> ast.expr:
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            return ast.Compare(left, [_INVERSE[type(op)]()], comparators)
    return ast.UnaryOp(ast.Not(), node)
