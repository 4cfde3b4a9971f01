"""Programs that cannot tell how their text is laid out: docstrings, comments, line numbers.

Two of them whose code is equal apart from that are one program and run once. As with state
(``statelessness.py``), this is proven by an allow-list over the syntax tree: names in it are those
that Python sees, however they were spelled. What could read a docstring or a line number is an
attribute with a special name, a builtin or module that looks attributes up by their names, a frame,
or a class's namespace on its way to a metaclass; whatever is not named here may be one of these.
"""

import ast
import builtins
import re
import string

from .statelessness import MODULES, PLAIN_BUILTINS, is_member


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EXCEPTIONS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_BUILTINS = (
    PLAIN_BUILTINS
    | _EXCEPTIONS
    | _names("classmethod exit hash input object property quit staticmethod super __name__")
)
_MODULES: dict[str, frozenset[str] | None] = {
    **MODULES,
    "__future__": _names("annotations"),
    "abc": _names("ABC abstractmethod"),
    "dataclasses": _names("dataclass field"),
    "datetime": _names("date datetime time timedelta"),
    "decimal": _names("Decimal getcontext ROUND_HALF_UP ROUND_HALF_EVEN"),
    "functools": _names("cache cmp_to_key lru_cache partial reduce"),
    "json": _names("dumps loads"),
    "random": _names("choice randint random randrange sample seed shuffle"),
    "statistics": _names("mean median mode stdev variance"),
    "sys": _names("exit maxsize setrecursionlimit stdin stdout"),
    "time": _names("perf_counter sleep time"),
}
_SPECIAL_NAMES = _names(
    "__abs__ __add__ __and__ __bool__ __call__ __contains__ __delitem__ __enter__ __eq__ __exit__"
    " __float__ __floordiv__ __ge__ __getitem__ __gt__ __hash__ __iadd__ __init__ __int__"
    " __invert__ __isub__ __iter__ __le__ __len__ __lt__ __main__ __mod__ __mul__ __name__ __ne__"
    " __neg__ __next__ __or__ __pos__ __pow__ __radd__ __repr__ __reversed__ __rmul__ __rsub__"
    " __setitem__ __str__ __sub__ __truediv__ __xor__"
)
# Attributes of code, frames, tracebacks, generators and coroutines; and of strings the one that
# looks up attributes by their names.
_REVEALING = re.compile(r"(?:co|f|tb|gi|cr|ag)_\w+|format|format_map")
_HAS_DOCSTRING = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def ignores_layout(tree: ast.Module) -> bool:
    """Whether the program is proven to do the same however its text is laid out."""
    nodes = list(ast.walk(tree))
    modules = _imported(nodes)
    if modules is None:
        return False
    members = set()  # a module's name stands before a dot and a member of it, and nowhere else
    kinds = set()  # the `type` of `type(x)`
    classes, assigned = set(), set()  # names of classes; names that may be something else
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name) as owner, attr=attribute):
                if name in modules and is_member(_MODULES, modules[name], attribute):
                    members.add(owner)
            case ast.Call(func=ast.Name(id="type") as function, args=[_], keywords=[]):
                kinds.add(function)
            case ast.ClassDef(name=name, decorator_list=[]):
                classes.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                assigned.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                assigned.add(name)
            case ast.ClassDef(name=str(name)) | ast.ExceptHandler(name=str(name)):
                assigned.add(name)  # a decorated class may be anything
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                assigned.add(name)
            case ast.MatchMapping(rest=str(name)):
                assigned.add(name)
    for node in nodes:
        match node:
            case ast.Name(id=name):
                if node in kinds:
                    continue
                if not _is_plain(name) or (name in modules and node not in members):
                    return False
                if name in vars(builtins) and name not in _BUILTINS:
                    return False
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if not _is_plain(name):
                    return False
            case ast.ClassDef(bases=bases, keywords=keywords):
                if keywords or not all(_is_plain_base(b, classes, assigned) for b in bases):
                    return False
            case ast.Attribute(attr="format", value=text) if _is_simple_format(text):
                continue
            case ast.Attribute(attr=attribute):
                if not _is_plain(attribute) or _REVEALING.fullmatch(attribute):
                    return False
            case ast.MatchClass(kwd_attrs=attributes):
                if not all(_is_plain(a) and not _REVEALING.fullmatch(a) for a in attributes):
                    return False
    return True


def _imported(nodes: list[ast.AST]) -> dict[str, str] | None:
    """Local names of imported modules; None where something else is imported than is listed."""
    modules: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            if any(alias.name not in _MODULES for alias in node.names):
                return None
            modules.update((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            known = all(is_member(_MODULES, node.module or "", name) for name in names)
            if node.level or not known:
                return None
    return modules


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree, changed: no docstring is left in it."""
    for node in ast.walk(tree):
        if isinstance(node, _HAS_DOCSTRING) and ast.get_docstring(node, clean=False):
            first = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), first))
    return tree


def _is_plain(name: str) -> bool:
    return not name.startswith("__") or name in _SPECIAL_NAMES


def _is_plain_base(base: ast.expr, classes: set[str], assigned: set[str]) -> bool:
    """A class that is no metaclass and has none that could look at the class that is made."""
    match base:
        case ast.Name(id=name):
            known = name in classes or name in _BUILTINS or name == "ABC"
            return known and name not in assigned
        case ast.Attribute(attr="ABC"):
            return True
    return False


def _is_simple_format(receiver: ast.expr) -> bool:
    """A literal whose fields are names and numbers: ``'{0.__doc__}'`` reads an attribute."""
    if not isinstance(receiver, ast.Constant) or not isinstance(receiver.value, str):
        return False
    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(receiver.value)]
    except ValueError:
        return True  # it raises this then, too
    return not any("." in (name or "") or "{" in (spec or "") for name, spec in fields)
