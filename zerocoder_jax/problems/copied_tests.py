"""Tests whose input the statement itself gives: a Tester that copies an example finds nothing out.

A test of a function is a copy when every call of the entry point in it has the arguments of a call
that the statement shows; a test of a program when its input is an example input of the statement.
What the test expects does not matter: the choice of the input is what a Tester is for.

Recognized are calls written out (``f([1], 2) == 3``, doctests), values after a label (``Input: a =
[1], b = 2``) or a word (``For a = 3 the output is 4``), and, for programs, what follows a label
such as "Input" or "Sample Input 1".
"""

import ast
import re
from collections.abc import Iterable
from functools import lru_cache

from zerocoder_jax.problems.entry_points import parse_quietly
from zerocoder_jax.problems.problem import CallTest, Problem, StdioTest, Test
from zerocoder_jax.problems.sections import INPUT, labelled_sections

# A statement's longest call that is looked at, in characters.
_LONGEST_CALL = 2_000
_OPENING = tuple("([{")
# A literal, perhaps with the argument's name before it: `nums = [`, `s: "abc"`, `-3.5`.
_VALUE = re.compile(
    r"""(\s*(?:[A-Za-z_]\w*\s*[=:]\s*)?)
    ([(\[{] | "[^"\n]*" | '[^'\n]*' | -?\d[\d.e]*\b | (?:True|False|None)\b)""",
    re.VERBOSE,
)
_GIVEN = re.compile(r"\b(?:for|given|if|when|with)\s+(?=[A-Za-z_]\w*\s*=[^=])", re.IGNORECASE)

Arguments = tuple[str, ...]


def is_copied(test: Test, problem: Problem) -> bool:
    """Whether the test's input is an example of the problem's statement."""
    if isinstance(test, StdioTest):
        return _lines(test.stdin) in _example_inputs(problem.prompt)
    entry_point = problem.entry_point or ""
    examples = _example_calls(_statement(problem), entry_point)
    if isinstance(test, CallTest):
        return tuple(map(repr, test.arguments)) in examples
    tree = parse_quietly(test.code)
    calls = _calls(tree, entry_point) if tree else []
    return bool(calls) and all(call in examples for call in calls)


def has_examples(problem: Problem) -> bool:
    """Whether the statement gives an example that a test could copy."""
    if problem.entry_point is None:
        return bool(_example_inputs(problem.prompt))
    return bool(_example_calls(_statement(problem), problem.entry_point))


def _statement(problem: Problem) -> str:
    starter = problem.starter_code
    return problem.prompt if starter in problem.prompt else f"{problem.prompt}\n{starter}"


def _lines(text: str) -> Arguments:
    """The words of a program's input, line by line; blank lines do not count."""
    return tuple(" ".join(line.split()) for line in text.splitlines() if line.strip())


@lru_cache(maxsize=4096)
def _example_inputs(statement: str) -> frozenset[Arguments]:
    sections = labelled_sections(statement)
    return frozenset(
        lines
        for section in sections
        if section.label == INPUT and (lines := _lines(section.text)) and not _is_prose(lines)
    )


def _is_prose(lines: Arguments) -> bool:
    """Whether a section "Input" describes the input's format instead of showing one."""
    return any(len(re.findall(r"[A-Za-z]{2,}", line)) >= 4 for line in lines)


@lru_cache(maxsize=4096)
def _example_calls(statement: str, entry_point: str) -> frozenset[Arguments]:
    name = entry_point.rpartition(".")[2]
    found: set[Arguments] = set()
    for match in re.finditer(rf"(?<!def )\b{re.escape(name)}\s*\(", statement):
        expression = _balanced(statement[match.start() : match.start() + _LONGEST_CALL])
        tree = parse_quietly(expression)
        if tree is not None:
            # Prose such as "f(n)" is no example: an example's arguments hold no names.
            found.update(call for call in _calls(tree, name) if _is_value(tree))
    for section in labelled_sections(statement):
        if section.label == INPUT:
            found.add(_leading_values(section.text))
    found.update(_leading_values(statement[match.end() :]) for match in _GIVEN.finditer(statement))
    return frozenset(found - {()})


def _is_value(tree: ast.AST) -> bool:
    """Whether nothing but the called function's name has to be looked up."""
    return sum(isinstance(node, ast.Name) for node in ast.walk(tree)) <= 1


def _balanced(text: str) -> str:
    """The text up to the parenthesis that closes its first one; all of it where none does."""
    depth = 0
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return text[: index + 1]
    return text


def _leading_values(text: str) -> Arguments:
    """The literals that a text begins with: ``nums = [2, 7], target = 9``, ``[2, 7]``, ``12``."""
    values: list[str] = []
    while (match := _VALUE.match(text)) is not None:
        literal = _balanced(text[match.end(1) :]) if match[2] in _OPENING else match[2]
        try:
            values.append(repr(ast.literal_eval(literal)))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            break
        text = text[match.end(1) + len(literal) :].lstrip().removeprefix(",")
    return tuple(values)


def _calls(tree: ast.AST, entry_point: str) -> list[Arguments]:
    """The arguments of each call, as normalized source; a variable's is that of its value."""
    name = entry_point.rpartition(".")[2]
    values = _constants(ast.walk(tree))
    calls = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called == name:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                calls.append(tuple(_source(argument, values) for argument in given))
    return calls


def _constants(nodes: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """Variables and the value that they are given."""
    values: dict[str, ast.expr] = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = value
    return values


def _source(argument: ast.expr, values: dict[str, ast.expr]) -> str:
    if isinstance(argument, ast.Name):
        argument = values.get(argument.id, argument)
    try:
        return repr(ast.literal_eval(argument))
    except (ValueError, TypeError, SyntaxError):
        return ast.unparse(argument)
