"""Which function a problem asks for: its name, its arguments, the imports that it may rely on."""

import ast
import builtins
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

# LeetCode's users find these imported; solutions in its style rely on that.
LEETCODE_IMPORTS = """\
import collections, functools, heapq, itertools, math, re, string
from typing import *
from collections import *
from itertools import *
from functools import *
from heapq import *
from bisect import *
from math import ceil, comb, factorial, floor, gcd, inf, isqrt, lcm, log2, prod, sqrt
"""

# Lines of "# class ListNode:" and its indented body.
_COMMENTED_CODE = re.compile(r"^# ?( *(?:class \w|def |self\.|pass\b).*)$", re.MULTILINE)
_BUILTINS = frozenset(dir(builtins))


def parse_quietly(source: str) -> ast.Module | None:
    """The syntax tree, or None where the source is no Python; never raises, never warns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parse_starter_code(starter_code: str) -> ast.Module | None:
    """The syntax tree of starter code, which may end with a signature that has no body yet.

    Classes that LeetCode defines in comments (``# class ListNode:``) are definitions in it.
    """
    if re.search(r"^# *class \w", starter_code, re.MULTILINE):
        starter_code = _COMMENTED_CODE.sub(r"\1", starter_code)
    bare = starter_code.rstrip()
    return parse_quietly(starter_code) or parse_quietly(f"{bare}\n        pass")


def calls_of(tree: ast.AST, name: str) -> list[ast.Call]:
    """The calls of a plain name anywhere in the tree."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def find_entry_point(tests: Sequence[str], reference: str = "") -> str | None:
    """The function that the tests are about.

    Tests dress the call up (``assert set(f(x)) == {1}``, ``assert math.isclose(f(x), 1)``,
    ``assert f(Pair(1, 2)) == 3``), so the names they call are held against the functions that
    the reference defines; without a reference, against what is not a builtin. Of several, the
    one called by most tests wins, then the one called first.
    """
    functions, classes = _definitions(reference)
    counts: Counter[str] = Counter()
    for test in tests:
        tree = parse_quietly(test)
        if tree is None:
            continue
        called = [
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        for name in dict.fromkeys(called):
            counts[name] += 1
    candidates = [name for name in counts if name in functions]
    if not candidates and not functions:
        candidates = [name for name in counts if name not in _BUILTINS and name not in classes]
    return max(candidates, key=lambda name: counts[name], default=None)


def _definitions(source: str) -> tuple[set[str], set[str]]:
    tree = parse_quietly(source)
    functions: set[str] = set()
    classes: set[str] = set()
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef):
            functions.add(node.name)
        elif isinstance(node, ast.ClassDef):
            classes.add(node.name)
        elif isinstance(node, ast.Assign):  # `area = lambda side: side ** 2`
            functions |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return functions, classes


def signature(entry_point: str, tests: Iterable[str]) -> str:
    """``def name(arg1, arg2):`` as the tests call it; says nothing else about tests or reference.

    Names of arguments appear only where a test uses them as keywords. Where tests pass different
    numbers of arguments, what all of them pass is followed by ``*args``.
    """
    calls = [
        call
        for test in tests
        if (tree := parse_quietly(test)) is not None
        for call in calls_of(tree, entry_point)
    ]
    counts = [len(call.args) for call in calls if not _has_star(call)] or [0]
    arguments = [f"arg{index + 1}" for index in range(min(counts))]
    if max(counts) > min(counts) or any(map(_has_star, calls)):
        arguments.append("*args")
    keywords = {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}
    arguments += sorted(keywords)
    return f"def {entry_point}({', '.join(arguments)}):"


def _has_star(call: ast.Call) -> bool:
    return any(isinstance(argument, ast.Starred) for argument in call.args)
