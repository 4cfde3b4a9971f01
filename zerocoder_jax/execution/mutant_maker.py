"""The process that finds mutants: the one place that knows mutmut.

Started by the pool (``python -m zerocoder_jax.execution.mutant_maker``), because importing mutmut
takes longer than a run and because its parser reads what a model wrote. It runs nothing of it.
Pinned to mutmut 3.8.1; tests/execution/test_mutants.py says so when its interface moves.

mutmut parses a module with libcst and renders a mutant by walking all of it, both in pure Python:
400 assignments took a minute. So a source is cut into pieces (a function or a class, or the parts
of one that is long or nests deeply), and only its piece is walked for a mutant. Pieces are searched
in a random order, mutants are drawn before they are rendered, and whatever there is when the time
is over counts.
"""

import ast
import contextlib
import os
import random
import re
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import libcst
from libcst.metadata import PositionProvider
from mutmut.mutation.file_mutation import (
    Mutation,
    MutationVisitor,
    OuterFunctionProvider,
    deep_replace,
)
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from zerocoder_jax.execution.worker.frames import receive, send
from zerocoder_jax.execution.worker.isolation import die_with_parent

_MEMORY_BYTES = 2 << 30
_MAX_BYTES = 200_000  # of a source
_MAX_BYTES_OF_ALL = 8 << 20  # of a source's mutants together
# Of a piece: the parser takes a millisecond for 100 bytes, and more for each where they nest.
_PIECE_BYTES = 3000
_PIECE_DEPTH = 200
# Pieces are searched until there is this much to draw each mutant from: the draw of a long source
# ends with this, not with the time, and is the same on a busy machine.
_FOUND_PER_MUTANT = 20
_FIND_SECONDS = _RENDER_SECONDS = 2.5
_RECURSION_LIMIT = 20_000  # of walking a tree that Python's own parser made with its lower one

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# Evaluated where something is defined: a mutant would fail before any test.
_UNMUTATED = frozenset({"annotation", "decorator_list", "returns"})


@dataclass(frozen=True)
class _Piece:
    """Bytes ``start`` to ``end`` of a source: a statement or an expression.

    Attributes:
      before, after: what makes a module of its text: the head of a block, or brackets.
      inside: it stands in a function or a class.
    """

    start: int
    end: int
    before: bytes
    after: bytes
    inside: bool


class _Cutter:
    """Cuts a source into pieces that the parser is quick with."""

    def __init__(self, source: bytes, tree: ast.Module) -> None:
        self._source = source
        self._lines = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", source)
        self._offsets = [0]
        for line in self._lines:
            self._offsets.append(self._offsets[-1] + len(line))
        self._depths: dict[ast.AST, int] = {}
        self.pieces: list[_Piece] = []
        self._measure(tree)
        for statement in tree.body:
            self._cut(statement, inside=False)

    def _measure(self, node: ast.AST) -> int:
        depths = map(self._measure, ast.iter_child_nodes(node))
        self._depths[node] = depth = 1 + max(depths, default=0)
        return depth

    def _cut(self, node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Name):  # there is nothing to mutate
            return
        piece = self._piece(node, inside)
        if piece and piece.end - piece.start <= _PIECE_BYTES and self._depths[node] <= _PIECE_DEPTH:
            self.pieces.append(piece)
            return
        if isinstance(node, ast.JoinedStr):  # Python 3.11 does not know where its parts stand
            return
        inside |= isinstance(node, _SCOPES)
        for name, value in ast.iter_fields(node):
            if name in _UNMUTATED or isinstance(value, ast.arguments):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self._cut(child, inside)

    def _piece(self, node: ast.AST, inside: bool) -> _Piece | None:
        """The node as a piece; None for one that is no statement and no expression by itself."""
        if not isinstance(node, ast.stmt | ast.expr) or isinstance(node, ast.Starred | ast.Slice):
            return None
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        start = self._offsets[first] + node.col_offset
        end = self._offsets[last] + (node.end_col_offset or 0)
        if isinstance(node, ast.expr):
            return _Piece(start, end, b"[(", b")]", inside)
        if self._source[start:end].startswith(b"elif"):
            return None
        space = self._lines[first][: node.col_offset]
        block = b"if x:\n" + (space if space.isspace() else b" ") if space else b""
        return _Piece(start, end, block, b"", inside)


class _TimeIsOver(Exception):
    pass


class _Finder(MutationVisitor):
    """mutmut's search, with a deadline, in decorated functions too, and not in docstrings.

    Comments that hide lines from mutmut are for people, not for a model that is rewarded.

    Attributes:
      found: the mutations so far, and whether each stands in a function or a class.
    """

    def __init__(self, inside: bool, deadline: float) -> None:
        super().__init__(mutation_operators, IgnoredCode(set(), set(), set()))
        self.metadata = {PositionProvider: {}, OuterFunctionProvider: {}}  # asked, not needed
        self.found: list[tuple[Mutation, bool]] = []
        self._scopes = int(inside)
        self._deadline = deadline

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if time.monotonic() > self._deadline:
            raise _TimeIsOver
        self._scopes += self._is_scope(node)
        return super().on_visit(node)

    def on_leave(self, original_node: libcst.CSTNode) -> None:
        super().on_leave(original_node)
        self._scopes -= self._is_scope(original_node)

    @staticmethod
    def _is_scope(node: libcst.CSTNode) -> bool:
        return isinstance(node, libcst.FunctionDef | libcst.ClassDef | libcst.Lambda)

    def _create_mutations(self, node: libcst.CSTNode) -> None:
        super()._create_mutations(node)
        self.found += [(mutation, self._scopes > 0) for mutation in self.mutations]
        self.mutations.clear()

    def _skip_node_and_children(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.Expr):  # a docstring: no program runs differently for it
            return isinstance(node.value, libcst.BaseString)
        if isinstance(node, libcst.FunctionDef):  # mutmut leaves decorated ones alone
            node = node.with_changes(decorators=())
        return super()._skip_node_and_children(node)


def mutants_of(source: str, module_level: bool, limit: int | None, seed: int) -> list[str]:
    """Sources of a solution's mutants, in the order of the places that they change.

    Args:
      source: a module.
      module_level: also mutate statements outside of functions and classes.
      limit: at most this many, drawn at random; None takes all for which there is time.
      seed: of the draw.
    """
    text = source.encode()
    if len(text) > _MAX_BYTES:
        return []
    tree = ast.parse(text)
    sys.setrecursionlimit(_RECURSION_LIMIT)
    most = min(limit or len(text), 1 + _MAX_BYTES_OF_ALL // (len(text) + 1))
    order = random.Random(seed)
    found = _mutations(text, tree, module_level, order, _FOUND_PER_MUTANT * most)
    order.shuffle(found)
    deadline = time.monotonic() + _RENDER_SECONDS
    mutants: dict[tuple[int, str], tuple[tuple[int, int], bytes]] = {}
    for place, piece, module, mutation in found:
        if len(mutants) == most or (mutants and time.monotonic() > deadline):
            break
        changed = deep_replace(module, mutation.original_node, mutation.mutated_node)
        rendered = cast(libcst.Module, changed).code
        with contextlib.suppress(SyntaxError):
            key = (piece.start, _meaning(rendered))
            if key not in mutants and key[1] != _meaning(module.code):
                part = rendered.encode()[len(piece.before) :].removesuffix(piece.after)
                mutants[key] = (place, text[: piece.start] + part + text[piece.end :])
    return [mutant.decode() for _, mutant in sorted(mutants.values())]


def _meaning(source: str) -> str:
    """Equal for pieces that differ in layout alone, as ``g(x)`` and ``g(x, )`` do."""
    return ast.dump(ast.parse(source))


def _mutations(
    text: bytes, tree: ast.Module, module_level: bool, order: random.Random, most: int
) -> list[tuple[tuple[int, int], _Piece, libcst.Module, Mutation]]:
    """Mutations, each with its place, its piece and that piece parsed."""
    pieces = _Cutter(text, tree).pieces
    order.shuffle(pieces)
    deadline = time.monotonic() + _FIND_SECONDS
    found: list[tuple[tuple[int, int], _Piece, libcst.Module, Mutation]] = []
    for piece in pieces:
        if len(found) >= most or time.monotonic() > deadline:
            break
        module = libcst.parse_module(piece.before + text[piece.start : piece.end] + piece.after)
        finder = _Finder(piece.inside, deadline)
        with contextlib.suppress(_TimeIsOver):
            module.visit(finder)
        found += [
            ((piece.start, number), piece, module, mutation)
            for number, (mutation, inside) in enumerate(finder.found)
            if module_level or inside
        ]
    return found


def main() -> None:
    """Serves the pool on descriptors 0 and 1."""
    die_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing that a library prints gets between the messages
    send(answers, {"ready": True})
    while (job := receive(0)) is not None:
        send(answers, [job["id"], [[0, _found(job)]], True])


def _found(job: dict[str, Any]) -> list[str]:
    """Bad model output is never an error: what cannot be parsed has no mutants."""
    default = sys.getrecursionlimit()
    try:
        return mutants_of(job["source"], job["module_level"], job["limit"], job["seed"])
    except Exception:
        return []
    finally:
        sys.setrecursionlimit(default)


if __name__ == "__main__":
    main()
