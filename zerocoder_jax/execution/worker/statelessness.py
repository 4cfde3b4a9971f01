"""Programs that cannot carry anything from one call to the next.

Most small solutions are functions over plain data. Where that can be *proven*, the tests of a
solution may share one process, because there is nothing in it that a test could leave behind; all
others get a process for each test. The proof is an allow-list over the syntax tree: whatever is
not named here is not proven.

Why it is enough. State lives in objects that outlast a call. From such a program these can be
reached: module-level names (bound once, to functions and immutable constants; nothing rebinds
them: no ``global``, no walrus), default values (immutable constants), what is imported (functions,
classes and constants of a few modules without state), builtins (a few). None of them can be
changed without storing to an attribute, or by a builtin or method that is not on the list.
"""

import ast
import importlib
import re
from collections import Counter, OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BUILTINS = _names(
    "abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter"
    " float format frozenset hex int isinstance issubclass iter len list map max min next oct ord"
    " pow print range repr reversed round set slice sorted str sum tuple zip NotImplemented"
    " ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError"
    " NameError NotImplementedError OverflowError RecursionError RuntimeError StopIteration"
    " TypeError ValueError ZeroDivisionError"
)
# Of each module these names; None: every function, class, number and string of it.
_MODULES: dict[str, frozenset[str] | None] = {
    "bisect": None,
    "cmath": None,
    "collections": _names("Counter OrderedDict defaultdict deque namedtuple"),
    "copy": _names("copy deepcopy"),
    "fractions": _names("Fraction"),
    "functools": _names("cmp_to_key partial reduce"),
    "heapq": None,
    "itertools": None,
    "math": None,
    "operator": _names("add and_ eq floordiv itemgetter mod mul ne neg or_ sub truediv xor"),
    "re": _names(
        "A ASCII I IGNORECASE M MULTILINE S DOTALL X VERBOSE compile escape findall finditer"
        " fullmatch match search split sub subn"
    ),
    "string": _names(
        "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation"
        " whitespace printable capwords"
    ),
    "sys": _names("maxsize"),
    "typing": _names(
        "Any Callable Dict FrozenSet Generator Iterable Iterator List Mapping Optional Sequence"
        " Set Tuple Union"
    ),
}
_METHODS = frozenset(
    name
    for kind in (
        *(str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range),
        *(Counter, OrderedDict, defaultdict, deque, re.Pattern, re.Match),
    )
    for name in dir(kind)
    if not name.startswith("_")
)
_EXPRESSIONS = (
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.Set, ast.ListComp),
    *(ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.Compare),
    *(ast.FormattedValue, ast.JoinedStr, ast.Constant, ast.Subscript, ast.Starred, ast.List),
    *(ast.Tuple, ast.Slice, ast.Call, ast.comprehension, ast.keyword, ast.arguments, ast.arg),
    *(ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
_STATEMENTS = (
    *(ast.Return, ast.Delete, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While),
    *(ast.If, ast.Raise, ast.Try, ast.ExceptHandler, ast.Assert, ast.Expr, ast.Pass, ast.Break),
    *(ast.Continue, ast.Nonlocal),
)


def keeps_no_state(tree: ast.Module) -> bool:
    """Whether the program is proven to be the same after any call as before it."""
    try:
        return _Proof(tree).holds()
    except RecursionError:
        return False


def is_data(node: ast.expr) -> bool:
    """Whether an expression is made of literals alone: new objects each time it is evaluated."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return all(map(is_data, node.elts))
    if isinstance(node, ast.Dict):
        return all(k is not None and is_data(k) for k in node.keys) and all(
            map(is_data, node.values)
        )
    if isinstance(node, ast.UnaryOp):
        return is_data(node.operand)
    return isinstance(node, ast.BinOp) and is_data(node.left) and is_data(node.right)


class _Proof:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._modules: dict[str, str] = {}  # local name -> module
        self._names: set[str] = set(_BUILTINS)

    def holds(self) -> bool:
        # Every import first: a function may use what is imported below it.
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and not self._import(node):
                return False
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef):
                self._names.add(node.name)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._names.add(node.id)
            elif isinstance(node, ast.arg):
                self._names.add(node.arg)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self._names.add(node.name)
        if self._modules.keys() & (self._names | set(_BUILTINS)):
            return False  # a name that is a module here and something else there
        return all(map(self._top_level, self._tree.body))

    def _import(self, node: ast.Import | ast.ImportFrom) -> bool:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name not in _MODULES:
                    return False
                self._modules[alias.asname or alias.name] = alias.name
            return True
        for alias in node.names:
            if node.level or not _is_member(node.module or "", alias.name):
                return False
            self._names.add(alias.asname or alias.name)
        return True

    def _top_level(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return True  # checked already
        if isinstance(node, ast.FunctionDef):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
            return all(map(_is_immutable, defaults)) and self._function(node)
        if isinstance(node, ast.Assign):
            targets = all(isinstance(target, ast.Name) for target in node.targets)
            return targets and _is_immutable(node.value)
        if isinstance(node, ast.Expr):
            return self._harmless(node)
        return _is_main_block(node)

    def _function(self, node: ast.FunctionDef) -> bool:
        if node.decorator_list:
            return False
        parts = [node.args, *node.body, *([node.returns] if node.returns else [])]
        return all(map(self._harmless, parts))

    def _harmless(self, root: ast.AST) -> bool:
        pending: list[ast.AST] = [root]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.FunctionDef):
                if not self._function(node):
                    return False
                continue
            if isinstance(node, ast.Attribute):
                if not self._attribute(node):
                    return False
                if not isinstance(node.value, ast.Name) or node.value.id not in self._modules:
                    pending.append(node.value)
                continue
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load) and node.id not in self._names:
                    return False
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if not isinstance(node, (*_EXPRESSIONS, *_STATEMENTS)):
                return False
            pending += ast.iter_child_nodes(node)
        return True

    def _attribute(self, node: ast.Attribute) -> bool:
        if not isinstance(node.ctx, ast.Load):
            return False
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            return _is_member(self._modules[node.value.id], node.attr)
        return node.attr in _METHODS


def _is_member(module: str, name: str) -> bool:
    if module not in _MODULES or name.startswith("_") or name == "*":
        return False
    named = _MODULES[module]
    if named is not None:
        return name in named
    member = getattr(importlib.import_module(module), name, None)
    return isinstance(member, FunctionType | BuiltinFunctionType | type | int | float | str)


def _is_immutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(map(_is_immutable, node.elts))
    if isinstance(node, ast.UnaryOp):
        return _is_immutable(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_immutable(node.left) and _is_immutable(node.right)
    return isinstance(node, ast.Constant)


def _is_main_block(node: ast.stmt) -> bool:
    """``if __name__ == "__main__":`` without an else: never entered when tests call functions."""
    return (
        isinstance(node, ast.If)
        and not node.orelse
        and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")
    )
