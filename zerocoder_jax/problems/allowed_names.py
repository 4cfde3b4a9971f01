"""What a sampled test may reach: an allow-list of modules and of their public members.

A test judges by values alone. A test that could look into the interpreter (frames, modules of
modules, ``sys.modules``), read a clock or draw numbers that differ from run to run could tell a
mutant from its original, or one solution from another, by something else than what they return.
So a module stands in a test only in ``module.member``, and a member is a public name of the module
that is no module itself: ``json.loads``, never ``json.codecs``. No attribute begins with an
underscore, and none is one of those by which generators, coroutines and tracebacks lead to frames.

The state of ``random`` is the same at the start of every run, so its functions are allowed; what
takes a seed from the system is not.
"""

import ast
import functools
import importlib
import string
import sys
import types
from collections.abc import Iterator, Sequence

INSPECTION_IMPORT = "inspection_import"
INSPECTION = "inspection"
NONDETERMINISTIC = "nondeterministic"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Modules from which values are made. Anything else has no business in a test of one function.
_MODULES = _words(
    "array bisect cmath collections collections.abc copy dataclasses datetime decimal enum"
    " fractions functools heapq itertools json math numbers numpy numpy.linalg operator random re"
    " statistics string textwrap typing __future__"
)
# Known by name and never imported here; `sys.maxsize` is a number, `sys.modules` a way out.
_LISTED = {
    "pytest": _words("approx raises"),
    "sys": _words("maxsize float_info maxunicode getsizeof"),
}
ALLOWED_MODULES = frozenset(name for name in (*_MODULES, *_LISTED) if "." not in name)
_UNREPEATABLE = frozenset({"time", "uuid", "secrets"})

# They take attributes by name, evaluate text, read files, or take a seed from the system.
_FORBIDDEN_MEMBERS = {
    "numpy": _words(
        "fromfile genfromtxt load loadtxt memmap save savetxt savez savez_compressed test"
        " DataSource fromregex info lookfor show_config source"
    ),
    "operator": _words("attrgetter methodcaller"),
    "string": _words("Formatter"),
    "typing": _words("ForwardRef get_type_hints"),
}
_UNSEEDED = {"random": _words("Random SystemRandom")}

_FORBIDDEN_NAMES = _words(
    "breakpoint compile delattr eval exec getattr globals help input locals open setattr vars"
)
_ADDRESSES = _words("hash id")  # of objects: they differ from process to process
_CLOCK_ATTRIBUTES = _words("now today utcnow")
_FRAME_PREFIXES = ("ag_", "co_", "cr_", "f_", "gi_", "tb_")


@functools.cache
def _exported(module: str) -> frozenset[str]:
    """What ``from module import *`` binds; nothing for a module that is not here or not allowed."""
    if module not in _MODULES:  # whatever else a model names is never imported
        return frozenset()
    try:
        namespace = importlib.import_module(module)
    except ImportError:
        return frozenset()
    public = [name for name in dir(namespace) if not name.startswith("_")]
    return frozenset(getattr(namespace, "__all__", public))


@functools.cache
def allowed_members(module: str) -> frozenset[str]:
    """The members of a module that a test may name; empty for a module that is not allowed."""
    if module in _LISTED:
        return _LISTED[module]
    exported = _exported(module) - _FORBIDDEN_MEMBERS.get(module, frozenset())
    namespace = sys.modules.get(module)
    return frozenset(
        name
        for name in exported
        if not name.startswith("_")
        and not isinstance(getattr(namespace, name, None), types.ModuleType)
    )


def _is_hidden(module: str, name: str) -> bool:
    """Whether a module has a member that a test may not name."""
    return name not in allowed_members(module) and hasattr(sys.modules.get(module), name)


def refusal(statements: Sequence[ast.stmt]) -> str:
    """Why these statements may not be run as one test: one of the three reasons, or empty."""
    return next(_Reach(statements).refusals(), "")


class _Reach:
    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        self._nodes = [node for statement in statements for node in ast.walk(statement)]
        self._modules = self._module_names()
        # Module names that stand where they may: before the dot of an attribute.
        self._dotted = {
            node.value
            for node in self._nodes
            if isinstance(node, ast.Attribute) and self._module(node.value)
        }
        # `random.seed(0)`: called, with a number or a text.
        self._seeded = {
            node.func
            for node in self._nodes
            if isinstance(node, ast.Call)
            and [type(argument) for argument in node.args] == [ast.Constant]
            and node.args[0].value is not None  # type: ignore[attr-defined]
        }

    def _module_names(self) -> dict[str, str]:
        """Name in the test -> module, for imports and for modules that are named without one."""
        imported: dict[str, str] = {}
        bound: set[str] = set()
        for node in self._nodes:
            match node:
                case ast.Import(names=aliases):
                    for alias in aliases:
                        name = alias.asname or alias.name.partition(".")[0]
                        imported[name] = alias.name if alias.asname else name
                case ast.ImportFrom(module=str(module), names=aliases):
                    for alias in aliases:
                        if f"{module}.{alias.name}" in _MODULES:
                            imported[alias.asname or alias.name] = f"{module}.{alias.name}"
                        else:
                            bound.add(alias.asname or alias.name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                    bound.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    bound.add(name)
        unbound = (ALLOWED_MODULES | _UNREPEATABLE) - bound
        return {**{name: name for name in unbound}, **imported}

    def _module(self, node: ast.expr) -> str:
        """The module that ``name`` or ``name.submodule`` stands for; empty for anything else."""
        match node:
            case ast.Name(id=name):
                return self._modules.get(name, "")
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                module = f"{self._modules.get(name, '')}.{attribute}"
                return module if module in _MODULES else ""
        return ""

    def refusals(self) -> Iterator[str]:
        """The reasons against the statements, node by node."""
        for node in self._nodes:
            match node:
                case ast.Import(names=aliases):
                    for alias in aliases:
                        yield from self._import(alias.name)
                case ast.ImportFrom(module=module, names=aliases, level=level):
                    yield from self._import("." if level else module or ".")
                    for alias in aliases:
                        yield from self._imported_member(module or ".", alias.name)
                case ast.Attribute():
                    yield from self._attribute(node)
                case ast.MatchClass(kwd_attrs=attributes):
                    for attribute in attributes:
                        yield from _public(attribute)
                case ast.Name(id=name) if name in _ADDRESSES:
                    yield NONDETERMINISTIC
                case ast.Name(id=name) if name in _FORBIDDEN_NAMES or name.startswith("__"):
                    yield INSPECTION
                case ast.Name(ctx=ast.Load()) if self._module(node) and node not in self._dotted:
                    yield INSPECTION  # a module in a variable could be asked for anything

    def _import(self, module: str) -> Iterator[str]:
        if module in _UNREPEATABLE:
            yield NONDETERMINISTIC
        elif module not in _MODULES and module not in _LISTED:
            yield INSPECTION_IMPORT

    def _imported_member(self, module: str, name: str) -> Iterator[str]:
        if module == "random" and name == "seed":
            yield NONDETERMINISTIC  # allowed as `random.seed(0)` only, which shows its argument
        elif name == "*":
            named = {node.id for node in self._nodes if isinstance(node, ast.Name)}
            for exported in named & _exported(module):
                yield from self._imported_member(module, exported)
        elif f"{module}.{name}" not in _MODULES:
            yield from self._member(module, name)

    def _member(self, module: str, name: str) -> Iterator[str]:
        if module in _UNREPEATABLE or name in _UNSEEDED.get(module, ()):
            yield NONDETERMINISTIC
        elif name not in allowed_members(module):
            yield INSPECTION_IMPORT if module == "sys" else INSPECTION

    def _attribute(self, node: ast.Attribute) -> Iterator[str]:
        if not isinstance(node.ctx, ast.Load):
            yield INSPECTION
        elif module := self._module(node.value):
            if not self._module(node):
                yield from self._member(module, node.attr)
            elif node not in self._dotted:
                yield INSPECTION
        elif isinstance(node.value, ast.Name) and node.value.id in ALLOWED_MODULES:
            # A variable here may be the module elsewhere: `(lambda json: 1)(0) and json.codecs`.
            if _is_hidden(node.value.id, node.attr):
                yield INSPECTION
        elif node.attr in ("format", "format_map") and not _formats_plainly(node.value):
            yield INSPECTION
        if node.attr in _CLOCK_ATTRIBUTES or (node.attr == "seed" and node not in self._seeded):
            yield NONDETERMINISTIC
        yield from _public(node.attr)


def _public(attribute: str) -> Iterator[str]:
    if attribute.startswith(("_", *_FRAME_PREFIXES)) or attribute == "mro":
        yield INSPECTION


def _formats_plainly(text: ast.expr) -> bool:
    """Whether a format is written out and asks for no attribute: ``"{0.__class__}"`` is one."""
    if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
        return False
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text.value) if field]
    except ValueError:
        return False
    return not any(mark in field for field in fields for mark in ".[")
