"""From a model's reply to one test that can be run, or to the reason why it is refused.

One reply is one test: the first assert that calls the entry point (``asserts_per_test`` keeps up
to n of them), with the imports and statements that it needs and nothing else. Taking the assert
out instead of running the reply makes most cheating pointless: definitions of the entry point
stay behind, and so the test always judges the solution under test. Other forms of asserts are
rewritten (``assert_forms.py``), and standard modules that it names without importing them are
imported: an accepted test can run. What is refused is counted:

=====================  =============================================================================
no_code                nothing that looks like Python (stdio: no input with an output)
syntax_error           no part of it parses
cut_off                the limit of new tokens fell into the test
too_long               a reply or a test of unreasonable size
no_assert              Python without an assert (stdio: an empty output)
not_data               (stdio) a program or an explanation stands for the input or the output
no_call                no assert calls the entry point
constant_assert        names nothing, as ``assert True``; ``execution/vacuous.py`` finds the others
guarded_assert         stands in a try, an if, a loop or a with: it might never be judged
exits                  ends the process: ``exit()``, ``sys.exit()``, ``os._exit()``, SystemExit
inspection_import      needs a module that can look at or change the solution or the judge
inspection             the same without an import: ``f.__code__``, ``globals()``, ``json.codecs``
nondeterministic       asks for the time, for an address or for a seed of the system
rebinds_entry_point    gives the entry point's name to something else on the way
missing_package        imports what the sandbox does not have
undefined_name         uses what nothing defines: a solution's helper, a fixture of pytest
=====================  =============================================================================

Never raises on a reply.
"""

import ast
import builtins
import copy
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from zerocoder_jax.problems.allowed_names import ALLOWED_MODULES, refusal
from zerocoder_jax.problems.assert_forms import with_plain_asserts
from zerocoder_jax.problems.coder_replies import LONGEST_REPLY, bound_names
from zerocoder_jax.problems.entry_points import parse_quietly, parse_starter_code
from zerocoder_jax.problems.fences import fenced_blocks, with_beginning, without_thought
from zerocoder_jax.problems.problem import AssertTest, Problem, Test
from zerocoder_jax.problems.statement_names import (
    Substitution,
    names_changed,
    names_loaded,
    names_stored,
    undefined_names,
)
from zerocoder_jax.problems.stdio_replies import LONGEST_TEST, stdio_test

TEST_REASONS = (
    "no_code",
    "syntax_error",
    "cut_off",
    "too_long",
    "no_assert",
    "not_data",
    "no_call",
    "constant_assert",
    "guarded_assert",
    "exits",
    "inspection_import",
    "inspection",
    "nondeterministic",
    "rebinds_entry_point",
    "missing_package",
    "undefined_name",
)


# The sandbox brings a stand-in of pytest.
_PACKAGES = frozenset({"numpy"})
_ALIASES = {"np": "numpy"}
# An assert in a line: behind the marks of a list, of a doctest or of a label, perhaps in backticks.
_ASSERT_LINE = re.compile(
    r"^\s*(?:(?:[-*+•]|\d+[.)]|>>>|(?:test|case|example)[\w #]*:)\s*)*(`*)(assert\b.*)$",
    re.IGNORECASE,
)
_INLINE_ASSERT = re.compile(r"`(assert\b[^`]+)`")
_LARGEST_INLINED = 500  # nodes of a syntax tree
_EXIT_NAMES = frozenset({"exit", "quit", "SystemExit", "KeyboardInterrupt"})
_EXIT_ATTRIBUTES = frozenset({"exit", "_exit", "abort", "kill", "execv"})


@dataclass(frozen=True)
class ParsedTest:
    """A test, or why there is none.

    Attributes:
      test: None where the reply holds none that may be run.
      reason: empty, or one of ``TEST_REASONS``.
    """

    test: Test | None
    reason: str = ""


class _Refused(Exception):
    """The reason, as its only argument."""


def parse_test(
    reply: str,
    problem: Problem,
    asserts_per_test: int = 1,
    prefix: str = "",
    *,
    finished: bool = True,
    packages: Collection[str] = (),
) -> ParsedTest:
    """The test in a Tester's reply.

    Args:
      asserts_per_test: up to so many asserts form the test.
      prefix: what ``begun_reply`` began for the reply.
      finished: False where the reply was cut at the limit of new tokens.
      packages: what the sandbox has besides the standard library (``execution.packages``).
    """
    text = with_beginning(prefix, without_thought(reply))
    if len(text) > LONGEST_REPLY:
        return ParsedTest(None, "too_long")
    if problem.entry_point is None:
        found = stdio_test(text, finished)
        return ParsedTest(None, found) if isinstance(found, str) else ParsedTest(found)
    try:
        # The last line of a reply that was cut may be half of one.
        whole = text if finished else text.rpartition("\n")[0]
        return ParsedTest(_assert_test(whole, problem, asserts_per_test, packages))
    except _Refused as refusal:
        reason = refusal.args[0]
        cut = not finished and reason in ("no_code", "no_assert", "syntax_error")
        return ParsedTest(None, "cut_off" if cut else reason)
    except (RecursionError, MemoryError, ValueError, SyntaxError):
        # Syntax trees too deep to walk or to print, and numbers too long to print.
        return ParsedTest(None, "syntax_error")


def _assert_test(
    text: str, problem: Problem, asserts_per_test: int, packages: Collection[str]
) -> AssertTest:
    entry_point = problem.entry_point or ""
    starter = parse_starter_code(problem.starter_code)
    known = {entry_point.partition(".")[0], *dir(builtins)}
    known.update(*(bound_names(node) for node in (starter.body if starter else [])))
    tree = with_plain_asserts(_module(text))
    refusals = []
    kept: list[ast.stmt] = []
    asserts = 0
    for scope in _scopes(tree.body, entry_point):
        for position, node in enumerate(scope):
            if asserts == asserts_per_test:
                break
            try:
                found = _judge(node, scope[:position], entry_point, known, packages)
            except _Refused as refusal:
                refusals.append(refusal)
                continue
            if found:
                kept += [statement for statement in found if statement not in kept]
                asserts += 1
    if _exits(tree, entry_point):
        raise _Refused("exits")
    if asserts == 0:
        raise refusals[0] if refusals else _Refused("no_assert")
    code = "\n".join(dict.fromkeys(map(ast.unparse, kept)))
    if len(code) > LONGEST_TEST:
        raise _Refused("too_long")
    return AssertTest(code)


def _module(text: str) -> ast.Module:
    """What parses of the reply: its Python blocks and, where these hold no assert, its lines."""
    blocks = [block.text for block in fenced_blocks(text) if block.python and block.text.strip()]
    has_assert = any("assert" in block for block in blocks)
    body: list[ast.stmt] = []
    for source in blocks if has_assert else [*blocks, text]:
        tree = parse_quietly(source.removeprefix("\ufeff"))
        # Prose around the assert, or a reply that was cut off behind it.
        body += tree.body if tree is not None else _asserts_among_lines(source)
    if not body:
        looks_like_code = bool(blocks) or "assert" in text
        raise _Refused("syntax_error" if looks_like_code else "no_code")
    return ast.Module(body, type_ignores=[])


def _asserts_among_lines(source: str) -> list[ast.stmt]:
    """The asserts that parse by themselves, each over as many lines as it needs (up to 50)."""
    lines = source.splitlines()
    found: list[ast.stmt] = []
    index = 0
    while index < len(lines):
        end = index + 1
        if match := _ASSERT_LINE.match(lines[index]):
            first = match[2].partition(match[1])[0] if match[1] else match[2]
            for end in range(index + 1, min(index + 50, len(lines)) + 1):
                tree = parse_quietly("\n".join([first, *lines[index + 1 : end]]).strip())
                if tree is not None:
                    found += tree.body
                    break
            else:
                end = index + 1
        else:
            trees = map(parse_quietly, _INLINE_ASSERT.findall(lines[index]))
            found += [statement for tree in trees if tree for statement in tree.body]
        index = end
    return found


def _scopes(body: list[ast.stmt], entry_point: str) -> Iterator[list[ast.stmt]]:
    """Statements in the order in which they would run: the module's, then each test function's.

    The ``__main__`` block is part of the module. A test function (``test_*``, also as a method)
    sees the module's statements before its own.
    """
    owner = entry_point.partition(".")[0]
    module: list[ast.stmt] = []
    functions: list[ast.FunctionDef] = []
    for node in body:
        match node:
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                module += node.body
            case ast.FunctionDef(name=name) if name.startswith("test") and name != owner:
                functions.append(node)
            case ast.ClassDef(name=name) if name != owner:
                tests = [
                    member
                    for member in node.body
                    if isinstance(member, ast.FunctionDef) and member.name.startswith("test")
                ]
                functions += tests
                module += [] if tests else [node]
            case _:
                module.append(node)
    yield module
    context = [node for node in module if not isinstance(node, ast.Assert)]
    for function in functions:
        yield context + function.body


def _judge(
    node: ast.stmt,
    before: list[ast.stmt],
    entry_point: str,
    known: set[str],
    packages: Collection[str],
) -> list[ast.stmt] | None:
    """The assert with the statements it needs; None for a statement that is no matter of ours."""
    if isinstance(node, ast.Try | ast.TryStar | ast.If | ast.For | ast.While | ast.With):
        inside = [child for child in ast.walk(node) if isinstance(child, ast.Assert)]
        if any(_calls_entry_point(child.test, before, entry_point) for child in inside):
            raise _Refused("guarded_assert")
        return None
    if not isinstance(node, ast.Assert):
        return None
    asked = _inlined(node.test, before, entry_point)
    if not _calls_entry_point(asked, before, entry_point):
        names = any(isinstance(child, ast.Name) for child in ast.walk(node.test))
        raise _Refused("no_call" if names else "constant_assert")
    # The message is not needed and could hold code.
    kept = [*_needed(node, before, entry_point), ast.Assert(test=node.test, msg=None)]
    undefined = undefined_names("\n".join(map(ast.unparse, kept))) - known
    imports = _imports(undefined, packages)
    kept = [*imports, *kept]
    if _imported_packages(kept) - {*sys.stdlib_module_names, *packages, "pytest"}:
        raise _Refused("missing_package")
    if reason := refusal(kept):
        raise _Refused(reason)
    for statement in kept:
        if entry_point.partition(".")[0] in names_stored(statement):
            raise _Refused("rebinds_entry_point")
    if undefined - set().union(*map(bound_names, imports)):
        raise _Refused("undefined_name")
    return kept


def _inlined(test: ast.expr, before: list[ast.stmt], entry_point: str) -> ast.expr:
    """The condition with the calls themselves in the place of variables that hold their results.

    ``result = f(1)`` and ``assert result == 2`` ask what ``assert f(1) == 2`` asks.
    """
    values: dict[str, ast.expr] = {}
    for statement in before:
        bindings: dict[str, ast.expr] = {}
        match statement:
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
            ):
                bindings = _bindings(target, Substitution(values).visit(copy.deepcopy(value)))
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="sort"))):
                continue
        for name in bound_names(statement) | names_changed(statement):
            values.pop(name, None)
        for name, value in bindings.items():
            small = sum(1 for _ in ast.walk(value)) <= _LARGEST_INLINED
            if small and _calls_entry_point(value, before, entry_point):
                values[name] = value
    return Substitution(values).visit(copy.deepcopy(test)) if values else test


def _bindings(target: ast.expr, value: ast.expr) -> dict[str, ast.expr]:
    """Name -> value of an assignment; ``a, b = f(1)`` binds ``f(1)[0]`` and ``f(1)[1]``."""
    match target, value:
        case ast.Name(id=name), _:
            return {name: value}
        case ast.Tuple(elts=targets) | ast.List(elts=targets), _ if not any(
            isinstance(one, ast.Starred) for one in targets
        ):
            if isinstance(value, ast.Tuple | ast.List):
                parts = value.elts if len(value.elts) == len(targets) else []
            else:
                constants = map(ast.Constant, range(len(targets)))
                parts = [ast.Subscript(value, number, ast.Load()) for number in constants]
            pairs = zip(targets, parts)
            return {one.id: part for one, part in pairs if isinstance(one, ast.Name)}
    return {}


def _imports(undefined: set[str], packages: Collection[str]) -> list[ast.stmt]:
    """Imports of the modules that are named without one, where there are such modules."""
    imports: list[ast.stmt] = []
    for name in sorted(undefined):
        module = _ALIASES.get(name, name)
        if module in packages or module in ALLOWED_MODULES - _PACKAGES:
            imports.append(ast.Import([ast.alias(module, name if name != module else None)]))
    return imports


def _imported_packages(statements: list[ast.stmt]) -> set[str]:
    packages: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            match node:
                case ast.Import(names=aliases):
                    packages |= {alias.name.partition(".")[0] for alias in aliases}
                case ast.ImportFrom(module=str(module), level=0):
                    packages.add(module.partition(".")[0])
    return packages


def _calls_entry_point(tree: ast.AST, before: list[ast.stmt], entry_point: str) -> bool:
    """Whether ``f(...)``, or for ``Solution.f`` a call on a fresh ``Solution()``, is in there."""
    owner, _, method = entry_point.rpartition(".")
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if not owner and name == method:
                return True
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if (
                owner and name == method and _is_instance(receiver, before, owner)
            ):
                return True
    return False


def _is_instance(receiver: ast.expr, before: list[ast.stmt], owner: str) -> bool:
    match receiver:
        case ast.Call(func=ast.Name(id=name)):
            return name == owner
        case ast.Name(id=variable):
            return any(
                isinstance(node, ast.Assign)
                and variable in bound_names(node)
                and _is_instance(node.value, [], owner)
                for node in before
            )
    return False


def _needed(node: ast.Assert, before: list[ast.stmt], entry_point: str) -> list[ast.stmt]:
    """The earlier statements on which the assert depends, in their order: a backward slice."""
    owner = entry_point.partition(".")[0]
    wanted = names_loaded(node.test) - {owner}
    kept: list[ast.stmt] = []
    for statement in reversed(before):
        if isinstance(statement, ast.Assert) or owner in bound_names(statement):
            continue
        if not (bound_names(statement) | names_changed(statement)) & wanted:
            continue
        if isinstance(statement, ast.Try | ast.TryStar | ast.While | ast.With):
            raise _Refused("guarded_assert")
        kept.append(statement)
        wanted |= names_loaded(statement) - {owner}
    return kept[::-1]


def _exits(tree: ast.Module, entry_point: str) -> bool:
    """Whether the reply tries to end the process anywhere outside of dropped definitions."""
    owner = entry_point.partition(".")[0]
    for statement in tree.body:
        if owner in bound_names(statement):
            continue
        for node in ast.walk(statement):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in _EXIT_NAMES:
                    return True
                case ast.Call(func=ast.Attribute(attr=name)) if name in _EXIT_ATTRIBUTES:
                    return True
                case ast.Raise(exc=ast.Name(id=name)) if name in _EXIT_NAMES:
                    return True
    return False
