"""Asserts in the forms of unittest and pytest, rewritten to plain assert statements.

``self.assertEqual(f(1), 2)`` becomes ``assert f(1) == 2``; ``f(1) == pytest.approx(2)`` becomes a
closeness by ``math.isclose`` with pytest's tolerances; a parametrized test takes its first row; a
test case's ``setUp`` and class variables, and fixtures that return a value, become variables.
Frameworks are not needed to run what remains.
"""

import ast

from zerocoder_jax.problems.statement_names import Substitution

_COMPARISONS: dict[str, type[ast.cmpop]] = {
    **{"assertEqual": ast.Eq, "assertEquals": ast.Eq, "assertListEqual": ast.Eq},
    **{"assertTupleEqual": ast.Eq, "assertSetEqual": ast.Eq, "assertDictEqual": ast.Eq},
    **{"assertSequenceEqual": ast.Eq, "assertMultiLineEqual": ast.Eq, "assertNotEqual": ast.NotEq},
    **{"assertIs": ast.Is, "assertIsNot": ast.IsNot, "assertIn": ast.In, "assertNotIn": ast.NotIn},
    **{"assertGreater": ast.Gt, "assertGreaterEqual": ast.GtE, "assertLess": ast.Lt},
    **{"assertLessEqual": ast.LtE},
}
# Conditions on the arguments `a` and `b`.
_CONDITIONS = {
    "assertTrue": "a",
    "assertFalse": "not a",
    "assertIsNone": "a is None",
    "assertIsNotNone": "a is not None",
    "assertIsInstance": "isinstance(a, b)",
    "assertNotIsInstance": "not isinstance(a, b)",
    "assertCountEqual": "sorted(a, key=repr) == sorted(b, key=repr)",
}
_SETUPS = frozenset({"setUp", "setUpClass", "setup_method", "setup_class", "setup"})
# pytest's, for numbers without tolerances of their own.
_RELATIVE, _ABSOLUTE = ast.Constant(1e-6), ast.Constant(1e-12)
_PLACES = 7  # unittest's


def with_plain_asserts(tree: ast.Module) -> ast.Module:
    """The tree with every known form of assert as a plain one; changes it in place."""
    fixtures = _fixtures(tree)
    _Plain(fixtures).visit(tree)
    tree.body = [node for node in tree.body if getattr(node, "name", "") not in fixtures]
    return ast.fix_missing_locations(tree)


def _fixtures(tree: ast.Module) -> dict[str, ast.expr]:
    """Name -> value of the module's fixtures that consist of one return."""
    return {
        node.name: node.body[0].value
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
        and isinstance(node.body[0], ast.Return)
        and node.body[0].value is not None
    }


class _Plain(ast.NodeTransformer):
    def __init__(self, fixtures: dict[str, ast.expr]) -> None:
        self._fixtures = fixtures

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        self.generic_visit(node)
        match node.value:
            case ast.Call(func=ast.Attribute(attr=name), args=arguments, keywords=keywords):
                condition = _condition(name, arguments, keywords)
                if condition is not None:
                    return ast.copy_location(ast.Assert(condition, None), node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Compare(ops=[ast.Eq() | ast.NotEq() as op], comparators=[right]):
                close = _approximate(node.left, right) or _approximate(right, node.left)
                if close is not None:
                    return close if isinstance(op, ast.Eq) else ast.UnaryOp(ast.Not(), close)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        names = {argument.arg for argument in node.args.args}
        given: list[ast.stmt] = [
            assignment
            for decorator in node.decorator_list
            if (assignment := _first_row(decorator)) is not None
        ]
        given += [_assign(name, self._fixtures[name]) for name in names & self._fixtures.keys()]
        node.body = [*given, *node.body]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """Puts what a test case prepares in front of each of its tests."""
        self.generic_visit(node)
        methods = [member for member in node.body if isinstance(member, ast.FunctionDef)]
        tests = [method for method in methods if method.name.startswith("test")]
        if not tests:
            return node
        prepared = [member for member in node.body if isinstance(member, ast.Assign)]
        prepared += [
            statement
            for method in methods
            if method.name in _SETUPS
            for statement in method.body
            if isinstance(statement, ast.Assign)
        ]
        for test in tests:
            test.body = [_WithoutSelf().visit(statement) for statement in [*prepared, *test.body]]
        return node


class _WithoutSelf(ast.NodeTransformer):
    """``self.double`` as the variable ``double``."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        match node.value:
            case ast.Name(id="self" | "cls"):
                return ast.Name(node.attr, node.ctx)
        return node


def _condition(
    name: str, arguments: list[ast.expr], keywords: list[ast.keyword]
) -> ast.expr | None:
    match name, arguments:
        case _, [left, right, *_] if name in _COMPARISONS:
            compare = ast.Compare(left, [_COMPARISONS[name]()], [right])
            return _Plain({}).visit_Compare(compare)
        case "assertAlmostEqual" | "assertAlmostEquals", [left, right, *places]:
            return _almost_equal(left, right, places, keywords)
        case "assertNotAlmostEqual", [left, right, *places]:
            return ast.UnaryOp(ast.Not(), _almost_equal(left, right, places, keywords))
        case _, [first, *rest] if name in _CONDITIONS:
            needed = {"a": first, **({"b": rest[0]} if rest else {})}
            tree = ast.parse(_CONDITIONS[name], mode="eval").body
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            return Substitution(needed).visit(tree) if names & {"a", "b"} <= needed.keys() else None
    return None


def _almost_equal(
    left: ast.expr, right: ast.expr, places: list[ast.expr], keywords: list[ast.keyword]
) -> ast.expr:
    """unittest's: the difference rounds to zero at so many places, or is at most ``delta``."""
    named = {keyword.arg: keyword.value for keyword in keywords}
    tolerance = named.get("delta")
    if tolerance is None:
        match named.get("places", places[0] if places else None):
            case ast.Constant(value=int(digits)):
                tolerance = ast.Constant(0.5 * 10.0**-digits)
            case _:
                tolerance = ast.Constant(0.5 * 10.0**-_PLACES)
    return _is_close(left, right, ast.Constant(0.0), tolerance)


def _approximate(value: ast.expr, approx: ast.expr) -> ast.expr | None:
    """``value == approx(expected)`` as closeness, for numbers and lists that are written out."""
    match approx:
        case ast.Call(
            func=ast.Name(id="approx") | ast.Attribute(attr="approx"),
            args=[expected, *tolerances],
            keywords=keywords,
        ):
            named = dict(zip(("rel", "abs"), tolerances))
            named |= {keyword.arg: keyword.value for keyword in keywords if keyword.arg}
        case _:
            return None
    # A tolerance that is given alone replaces both.
    relative = named.get("rel", ast.Constant(0.0) if "abs" in named else _RELATIVE)
    absolute = named.get("abs", _ABSOLUTE)
    if isinstance(expected, ast.Constant | ast.UnaryOp | ast.BinOp):
        return _is_close(value, expected, relative, absolute)
    if not isinstance(expected, ast.List | ast.Tuple):
        return None  # perhaps no number: pytest's own
    names = [ast.Name(name, ast.Load()) for name in ("found", "left", "right")]
    close = _is_close(names[1], names[2], relative, absolute)
    test = ast.parse(
        "len((found := value)) == count and all(close for left, right in zip(found, expected))",
        mode="eval",
    ).body
    count = ast.Constant(len(expected.elts))
    filled = {"value": value, "count": count, "close": close, "expected": expected}
    return Substitution(filled).visit(test)


def _is_close(left: ast.expr, right: ast.expr, relative: ast.expr, absolute: ast.expr) -> ast.expr:
    function = ast.Attribute(ast.Name("math", ast.Load()), "isclose", ast.Load())
    tolerances = [ast.keyword("rel_tol", relative), ast.keyword("abs_tol", absolute)]
    return ast.Call(function, [left, right], tolerances)


def _first_row(decorator: ast.expr) -> ast.Assign | None:
    """``@pytest.mark.parametrize("a, b", [(1, 2), ...])`` as ``a, b = (1, 2)``."""
    match decorator:
        case ast.Call(
            func=ast.Attribute(attr="parametrize"),
            args=[names, ast.List(elts=[row, *_]) | ast.Tuple(elts=[row, *_]), *_],
        ):
            pass
        case _:
            return None
    if isinstance(row, ast.Call) and ast.unparse(row.func).endswith("param"):
        row = row.args[0] if len(row.args) == 1 else ast.Tuple(row.args, ast.Load())
    match names:
        case ast.Constant(value=str(text)):
            return _assign(text, row)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            texts = [part.value for part in parts if isinstance(part, ast.Constant)]
            return _assign(", ".join(map(str, texts)), row)
    return None


def _assign(names: str, value: ast.expr) -> ast.Assign:
    parts = [part.strip() for part in names.split(",") if part.strip()]
    targets: list[ast.expr] = [ast.Name(part, ast.Store()) for part in parts]
    target = targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())
    return ast.Assign([target], value)
