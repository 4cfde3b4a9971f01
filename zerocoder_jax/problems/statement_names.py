"""Names that a piece of a program reads, binds or changes."""

import ast
import symtable
import warnings


def names_loaded(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def names_stored(tree: ast.AST) -> set[str]:
    """Every name that is bound anywhere inside, as a variable, a definition or an argument."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.Global(names=declared) | ast.Nonlocal(names=declared):
                names.update(declared)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                names.add(name)
            case ast.AsyncFunctionDef(name=name) | ast.MatchMapping(rest=str(name)):
                names.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add((asname or name).partition(".")[0])
    return names


def names_changed(statement: ast.stmt) -> set[str]:
    """Variables that ``x[0] = 1``, ``x.y = 1`` or ``x.append(1)`` change without binding them."""
    roots: list[ast.expr] = []
    for node in ast.walk(statement):
        match node:
            case ast.Assign(targets=targets):
                roots += targets
            case ast.AugAssign(target=target):
                roots.append(target)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=receiver))):
                roots.append(receiver)
    return {name for root in roots if (name := _root(root))}


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def undefined_names(source: str) -> set[str]:
    """The names that a program looks up and binds nowhere: builtins, and what is not there.

    Raises:
      SyntaxError: the source is no program.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, tree = symtable.symtable(source, "<source>", "exec"), ast.parse(source)
    bound = {
        symbol.get_name()
        for symbol in module.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    for node in ast.walk(tree):
        match node:
            case ast.NamedExpr(target=ast.Name(id=name)):  # binds outside of a comprehension
                bound.add(name)
            case ast.Global(names=names):
                bound.update(names)
    looked_up: set[str] = set()
    pending = [module]
    while pending:
        table = pending.pop()
        looked_up |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and symbol.is_global()
        }
        pending += table.get_children()
    return looked_up - bound


class Substitution(ast.NodeTransformer):
    """Puts expressions in the place of names."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)
