"""From a model's reply to one test that can be run, or to the reason why it is refused.

One reply is one test: the first assert that calls the entry point (``asserts_per_test`` keeps up
to n of them), with the imports and statements that it needs and nothing else. Taking the assert
out instead of running the reply makes most cheating pointless: definitions of the entry point
stay behind, and so the test always judges the solution under test. What is refused is counted:

=====================  =============================================================================
no_code                nothing that looks like Python (stdio: no pair of blocks)
syntax_error           no part of it parses
too_long               a reply or a test of unreasonable size
no_assert              Python without an assert (stdio: an empty output)
no_call                no assert calls the entry point
constant_assert        its outcome does not depend on the call: see ``tautologies.py``
guarded_assert         stands in a try, an if, a loop or a with: it might never be judged
exits                  ends the process: ``exit()``, ``sys.exit()``, ``os._exit()``, SystemExit
inspection_import      needs a module that can look at or change the solution or the judge
inspection             the same without an import: ``f.__code__``, ``globals()``, ``json.codecs``
nondeterministic       asks for the time, for an address or for a seed of the system
rebinds_entry_point    gives the entry point's name to something else on the way
undefined_name         compares with what only a solution could define
=====================  =============================================================================

Never raises on a reply.
"""

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass

from zerocoder_jax.problems.allowed_names import ALLOWED_MODULES, refusal
from zerocoder_jax.problems.coder_replies import LONGEST_REPLY, bound_names
from zerocoder_jax.problems.entry_points import parse_quietly
from zerocoder_jax.problems.fences import fenced_blocks, without_thought
from zerocoder_jax.problems.problem import AssertTest, Problem, StdioTest, Test
from zerocoder_jax.problems.statement_names import names_changed, names_loaded, names_stored
from zerocoder_jax.problems.tautologies import depends_on_call, is_tautology

LONGEST_TEST = 10_000

TEST_REASONS = (
    "no_code",
    "syntax_error",
    "too_long",
    "no_assert",
    "no_call",
    "constant_assert",
    "guarded_assert",
    "exits",
    "inspection_import",
    "inspection",
    "nondeterministic",
    "rebinds_entry_point",
    "undefined_name",
)


# Methods by which an object could agree with every value.
_COMPARING = frozenset(
    [
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__bool__",
        "__contains__",
        "__len__",
    ]
)
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
    reply: str, problem: Problem, asserts_per_test: int = 1, prefix: str = ""
) -> ParsedTest:
    """The test in a Tester's reply; ``prefix`` is what ``begun_reply`` began for it."""
    text = without_thought(prefix + reply)
    if len(text) > LONGEST_REPLY:
        return ParsedTest(None, "too_long")
    try:
        if problem.entry_point is None:
            return ParsedTest(_stdio_test(text))
        return ParsedTest(_assert_test(text, problem, asserts_per_test))
    except _Refused as refusal:
        return ParsedTest(None, refusal.args[0])
    except (RecursionError, MemoryError, ValueError):
        # Syntax trees too deep to walk or to print, and numbers too long to print.
        return ParsedTest(None, "syntax_error")


def _stdio_test(text: str) -> StdioTest:
    """The first two fenced blocks: input and output."""
    blocks = fenced_blocks(text)
    if len(blocks) < 2:
        raise _Refused("no_code")
    stdin, stdout = blocks[0].text, blocks[1].text
    if not stdout.strip():
        raise _Refused("no_assert")
    if len(stdin) + len(stdout) > LONGEST_TEST:
        raise _Refused("too_long")
    return StdioTest(stdin, stdout)


def _assert_test(text: str, problem: Problem, asserts_per_test: int) -> AssertTest:
    entry_point = problem.entry_point or ""
    known = {entry_point.partition(".")[0], *dir(builtins), *ALLOWED_MODULES}
    known.update(re.findall(r"\w+", problem.starter_code))  # a ListNode that comes with it
    trees = list(_modules(text))
    refusals = []
    kept: list[ast.stmt] = []
    asserts = 0
    for tree in trees:
        for scope in _scopes(tree.body, entry_point):
            for position, node in enumerate(scope):
                if asserts == asserts_per_test:
                    break
                try:
                    found = _judge(node, scope[:position], entry_point, known)
                except _Refused as refusal:
                    refusals.append(refusal)
                    continue
                if found:
                    kept += [statement for statement in found if statement not in kept]
                    asserts += 1
    if _exits(trees, entry_point):
        raise _Refused("exits")
    if asserts == 0:
        raise refusals[0] if refusals else _Refused("no_assert")
    code = "\n".join(map(ast.unparse, kept))
    if len(code) > LONGEST_TEST:
        raise _Refused("too_long")
    return AssertTest(code)


def _modules(text: str) -> Iterator[ast.Module]:
    """What parses of the reply: its Python blocks or, without fences, its lines."""
    blocks = [block.text for block in fenced_blocks(text) if block.python and block.text.strip()]
    sources = blocks or [text]
    parsed = False
    for source in sources:
        tree = parse_quietly(source)
        if tree is None:
            # Prose around the assert, or a reply that was cut off behind it.
            tree = _asserts_among_lines(source)
        if tree is not None and tree.body:
            parsed = True
            yield tree
    if not parsed:
        looks_like_code = bool(blocks) or "assert" in text
        raise _Refused("syntax_error" if looks_like_code else "no_code")


def _asserts_among_lines(source: str) -> ast.Module | None:
    """The asserts that parse by themselves, each over as many lines as it needs (up to 50)."""
    lines = source.splitlines()
    found: list[ast.stmt] = []
    index = 0
    while index < len(lines):
        end = index + 1
        if lines[index].lstrip().startswith("assert"):
            for end in range(index + 1, min(index + 50, len(lines)) + 1):
                tree = parse_quietly("\n".join(lines[index:end]).strip())
                if tree is not None:
                    found += tree.body
                    break
            else:
                end = index + 1
        index = end
    return ast.Module(body=found, type_ignores=[]) if found else None


def _scopes(body: list[ast.stmt], entry_point: str) -> Iterator[list[ast.stmt]]:
    """Statements in the order in which they would run: the module's, then each test function's.

    The ``__main__`` block is part of the module. A test function (``test_*``, no required
    arguments, also as a method) sees the module's statements before its own.
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
                functions += [
                    member
                    for member in node.body
                    if isinstance(member, ast.FunctionDef) and member.name.startswith("test")
                ]
                module.append(node)
            case _:
                module.append(node)
    yield module
    context = [node for node in module if not isinstance(node, ast.Assert)]
    for function in functions:
        yield context + function.body


def _judge(
    node: ast.stmt, before: list[ast.stmt], entry_point: str, known: set[str]
) -> list[ast.stmt] | None:
    """The assert with the statements it needs; None for a statement that is no matter of ours."""
    if isinstance(node, ast.Try | ast.TryStar | ast.If | ast.For | ast.While | ast.With):
        inside = [child for child in ast.walk(node) if isinstance(child, ast.Assert)]
        if any(_calls_entry_point(child.test, before, entry_point) for child in inside):
            raise _Refused("guarded_assert")
        return None
    if not isinstance(node, ast.Assert):
        return None
    if not _calls_entry_point(node.test, before, entry_point):
        names = any(isinstance(child, ast.Name) for child in ast.walk(node.test))
        raise _Refused("no_call" if names else "constant_assert")
    if is_tautology(node.test, entry_point, _results(before, entry_point)):
        raise _Refused("constant_assert")
    # The message is not needed and could hold code.
    kept = [*_needed(node, before, entry_point), ast.Assert(test=node.test, msg=None)]
    if reason := refusal(kept):
        raise _Refused(reason)
    for statement in kept:
        if entry_point.partition(".")[0] in names_stored(statement):
            raise _Refused("rebinds_entry_point")
        if _COMPARING & names_stored(statement):
            raise _Refused("constant_assert")  # an object of the test's own that equals everything
    if _names_beside_calls(node.test, entry_point) & _foreign_names(kept, known):
        raise _Refused("undefined_name")
    return kept


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


def _foreign_names(kept: list[ast.stmt], known: set[str]) -> set[str]:
    """Names that only a solution can define, and variables that are made of these."""
    defined = known.union(*map(names_stored, kept))
    foreign: set[str] = set().union(*map(names_loaded, kept)) - defined
    for statement in kept:
        if names_loaded(statement) & foreign:
            foreign |= bound_names(statement) | names_changed(statement)
    return foreign


def _names_beside_calls(test: ast.expr, entry_point: str) -> set[str]:
    """Names in a condition, without those in arguments of the entry point: these are inputs."""
    method = entry_point.rpartition(".")[2]
    names: set[str] = set()
    pending: list[ast.AST] = [test]
    while pending:
        match pending.pop():
            case ast.Name(id=name):
                names.add(name)
            case ast.Call(func=ast.Name(id=name)) if name == method:
                continue
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if name == method:
                pending.append(receiver)
            case node:
                pending += ast.iter_child_nodes(node)
    return names


def _results(before: list[ast.stmt], entry_point: str) -> set[str]:
    """Names of the variables and functions that hold, or make, what the entry point returns."""
    results: set[str] = set()
    for statement in before:
        if depends_on_call(statement, entry_point, results):
            results |= bound_names(statement) | names_changed(statement)
    return results


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


def _exits(trees: list[ast.Module], entry_point: str) -> bool:
    """Whether the reply tries to end the process anywhere outside of dropped definitions."""
    owner = entry_point.partition(".")[0]
    for tree in trees:
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
