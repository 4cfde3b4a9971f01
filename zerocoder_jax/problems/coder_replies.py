"""From a model's reply to a solution that can be run.

Never raises on a reply: what cannot be used becomes a reason, a short slug that the metrics
count. The rules are what people do who judge replies by hand, and are *chosen*:

- The thought of a thinking model is cut off; of the fenced blocks the first one counts that is
  Python and defines the entry point, or acts as a program, for later ones are usage and variants.
  Blocks marked as Python come before those that are not marked.
- Definitions that this block uses and another one makes are put in front of it.
- A block that the limit of new tokens cut off is no solution.
- Asserts, prints, the ``__main__`` block and other calls of a function beside its definition are
  the model's own trial of it, not part of it, and are dropped; a whole program is kept as it is.
- Imports and helpers of the starter code are put in front where the reply left them out, and
  LeetCode's customary imports in front of ``class Solution``.
"""

import ast
import builtins
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from zerocoder_jax.problems.entry_points import (
    LEETCODE_IMPORTS,
    calls_of,
    parse_quietly,
    parse_starter_code,
)
from zerocoder_jax.problems.fences import (
    Block,
    fenced_blocks,
    split_at_fences,
    with_beginning,
    without_thought,
)
from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.statement_names import undefined_names

# Characters; 2048 new tokens make some 8 thousand.
LONGEST_REPLY = 200_000

# Of several that apply, a reply is refused for the last one.
SOLUTION_REASONS = ("no_code", "no_entry_point", "syntax_error", "cut_off", "too_long")

_CODE_START = re.compile(r"^(?:from \w|import \w|def \w|class \w|@\w)", re.MULTILINE)
_STATEMENT_START = re.compile(
    r"^(?:from \w|import \w|def \w|class \w|@\w|for |while |if |try:|print\(|[\w, ]+=[^=])|\A",
    re.MULTILINE,
)
_PARAGRAPH = re.compile(r"\n\s*\n(?=[A-Za-z])")
_TRIES = 20


@dataclass(frozen=True)
class ParsedSolution:
    """A solution's source, or why there is none.

    Attributes:
      code: the source; None where the reply holds none.
      reason: empty, or one of ``SOLUTION_REASONS``.
    """

    code: str | None
    reason: str = ""


def parse_solution(
    reply: str, problem: Problem, prefix: str = "", *, finished: bool = True
) -> ParsedSolution:
    """The solution in a Coder's reply.

    Args:
      prefix: what ``begun_reply`` began for the reply.
      finished: False where the reply was cut at the limit of new tokens.
    """
    try:
        return _parse(with_beginning(prefix, without_thought(reply)), problem, finished)
    except (RecursionError, MemoryError, ValueError, SyntaxError):
        # Syntax trees too deep to walk or to print, and numbers too long to print.
        return ParsedSolution(None, "syntax_error")


def _parse(text: str, problem: Problem, finished: bool) -> ParsedSolution:
    if len(text) > LONGEST_REPLY:
        return ParsedSolution(None, "too_long")
    blocks = [block for block in fenced_blocks(text) if block.python and block.text.strip()]
    candidates = [
        *(block for block in blocks if block.marked),
        *(block for block in blocks if not block.marked),
        *_unfenced(text, problem),
    ]
    reasons = ["no_code"]
    solutions: list[tuple[str, ast.Module]] = []
    for block in candidates:
        code = block.text.removeprefix("\ufeff")  # a byte order mark
        tree = parse_quietly(code)
        if not finished and not block.closed:
            reasons.append("cut_off")
        elif tree is None:
            reasons.append("syntax_error")
        elif problem.entry_point is None:
            if block.marked or _acts(tree):
                solutions.append((code, tree))
        elif not defines(tree, problem.entry_point):
            reasons.append("no_entry_point")
        else:
            solutions.append((code, tree))
            break
    if not solutions:
        return ParsedSolution(None, max(reasons, key=SOLUTION_REASONS.index))
    code, tree = next((one for one in solutions if _acts(one[1])), solutions[0])
    code = _with_definitions(code, tree, blocks, problem)
    if problem.entry_point is None:
        return ParsedSolution(code.strip("\n") + "\n")
    return _function_solution(code, ast.parse(code), problem)


def _unfenced(text: str, problem: Problem) -> Iterator[Block]:
    """Code without an opening fence: in front of the first fence, from where code begins."""
    first, *rest = split_at_fences(text)
    assert isinstance(first, str)
    begins = _CODE_START if problem.entry_point else _STATEMENT_START
    starts = [match.start() for match in itertools.islice(begins.finditer(first), _TRIES)]
    for start in starts:
        for end in [len(first), *_ends_of_code(first, start)]:
            if parse_quietly(first[start:end]) is not None:
                yield Block(first[start:end], "", bool(rest) or end < len(first))
                return
    if starts:
        yield Block(first[starts[0] :], "", bool(rest))


def _ends_of_code(text: str, start: int) -> list[int]:
    """Where prose may begin behind code: paragraphs that are not indented, the last ones first."""
    ends = [match.start() for match in _PARAGRAPH.finditer(text, start)]
    return ends[: -_TRIES - 1 : -1]


def _acts(tree: ast.Module) -> bool:
    """Whether running it does anything: beside definitions it calls something."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(
        isinstance(child, ast.Call)
        for node in tree.body
        if not isinstance(node, definitions)
        for child in ast.walk(node)
    )


def _with_definitions(code: str, tree: ast.Module, blocks: list[Block], problem: Problem) -> str:
    """The code behind those of the reply's other blocks that define what it uses."""
    missing = undefined_names(code) - set(dir(builtins))
    joined: list[str] = []
    for block in blocks:
        other = parse_quietly(block.text) if missing else None
        if other is None or block.text == code:
            continue
        if problem.entry_point is None and _acts(other):
            continue
        if problem.entry_point is not None and defines(other, problem.entry_point):
            continue
        if missing & {name for node in other.body for name in bound_names(node)}:
            joined.append(block.text)
            missing |= undefined_names(block.text) - set(dir(builtins))
    return "\n\n".join([*joined, code])


def defines(tree: ast.Module, entry_point: str) -> bool:
    """Whether the module defines ``f``, or ``Solution`` with its method ``f``."""
    owner, _, name = entry_point.rpartition(".")
    if not owner:
        return any(name in bound_names(node) for node in tree.body)
    return any(
        isinstance(node, ast.ClassDef)
        and node.name == owner
        and any(name in bound_names(member) for member in node.body)
        for node in tree.body
    )


def bound_names(node: ast.stmt) -> set[str]:
    """The names that a statement binds in the scope it stands in."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {
        child.id
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load)
    }


def _function_solution(code: str, tree: ast.Module, problem: Problem) -> ParsedSolution:
    assert problem.entry_point is not None
    name = problem.entry_point.rpartition(".")[2]
    trials = [node for node in tree.body if _is_trial(node, tree, name)]
    if trials:
        code = _without(code, tree, trials)
    return ParsedSolution(_behind_future_imports(_preamble(problem, tree), code.strip("\n") + "\n"))


def _behind_future_imports(preamble: str, code: str) -> str:
    """Both, with the preamble where it is allowed: future imports (and a docstring) come first."""
    tree = parse_quietly(code) if preamble and "__future__" in code else None
    lines = [
        node.end_lineno or node.lineno
        for node in (tree.body if tree else [])
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    if not lines:
        return preamble + code
    # Lines as the parser counts them: form feeds and the like end none.
    source = re.split(r"(?<=\n)", code)
    return "".join(source[: lines[-1]]) + preamble + "".join(source[lines[-1] :])


def _is_trial(node: ast.stmt, tree: ast.Module, name: str) -> bool:
    """Whether a top-level statement only tries the function out."""
    match node:
        case ast.Assert():
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="print" | "exit" | "quit"))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="main" | "testmod"))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=called))) if called != name:
            # `main()`, `run_tests()`: a function of the reply's own that calls the entry point.
            return bool(calls_of(node, name)) or any(
                isinstance(other, ast.FunctionDef)
                and other.name == called
                and bool(calls_of(other, name))
                for other in tree.body
            )
        case ast.Assign() if calls_of(node, name):
            return not bound_names(node) & _names_used_in_definitions(tree)
        case ast.Expr() | ast.For() | ast.While() | ast.If() | ast.Try() | ast.With():
            return bool(calls_of(node, name))
    return False


def _names_used_in_definitions(tree: ast.Module) -> set[str]:
    return {
        child.id
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)
    }


def _without(code: str, tree: ast.Module, dropped: list[ast.stmt]) -> str:
    """The source without some top-level statements; comments and layout of the rest stay."""
    kept = [node for node in tree.body if node not in dropped]
    lines = code.splitlines(keepends=True)
    gone = {
        number
        for node in dropped
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    if any(node.lineno in gone or node.end_lineno in gone for node in kept):  # `f(1); x = 2`
        return "\n".join(map(ast.unparse, kept))
    remaining = "".join(line for number, line in enumerate(lines, 1) if number not in gone)
    # Lines are counted differently by form feeds and the like: never trust the cut unseen.
    again = parse_quietly(remaining)
    if again is None or len(again.body) != len(kept):
        return "\n".join(map(ast.unparse, kept))
    return remaining


def _preamble(problem: Problem, tree: ast.Module) -> str:
    """Imports and helpers of the starter code that the reply leaves out."""
    assert problem.entry_point is not None
    owner, _, name = problem.entry_point.rpartition(".")
    leetcode = LEETCODE_IMPORTS if owner == "Solution" else ""
    starter = parse_starter_code(problem.starter_code)
    present = {bound for node in tree.body for bound in bound_names(node)}
    missing = [
        node
        for node in (starter.body if starter else [])
        if isinstance(
            node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign
        )
        and not bound_names(node) & (present | {owner or name})
    ]
    return leetcode + "".join(ast.unparse(node) + "\n" for node in missing) + "\n" * bool(missing)
