"""Tests that pass whatever the solution returns, found by running them on impostors.

``assert (f(3) == 10) is not None`` tests nothing, and a Tester that is rewarded for agreeing with
every solution finds such tests. They are told by what they do, not by how they are written: an
*impostor* has the name of the entry point and returns the same wrong value for whatever it is
given, and a test that passes on every impostor is *vacuous*. It has ``Status.VACUOUS`` with every
solution, and counts as a reply without a test.

The impostors return a nested list of what they were given, a text, 0, and None. They have little in
common on purpose, and are plain data, which is the same whether a test sees it or a copy of it. A
test has to fail on one of them only, so that weak tests remain tests, and their mutation score says
what they are worth:

- of a type or a range (``isinstance(f(3), list)``, ``f(3) > 0``, ``f(3) is not None``): another
  type fails;
- of a value (``f([]) == []``, ``f(1) is True``): most impostors fail;
- of two calls (``f(2) != f(3)``, ``f(1, 2) == f(2, 1)``, ``f(f(x)) == f(x)``): a constant fails
  the first, the list fails the others;
- of the arguments after the call: one of them is emptied by the impostor that returns None.

What is lost is ``f(3) == f(3)``, which nearly every program passes, and tests that rule out a value
that no impostor returns, such as ``f(3) != 10``: a program that is wrong in any other way passes.
There is no impostor that raises: it fails every test that lets exceptions through, so one that
does nothing but call would not be found.
"""

import ast
from collections.abc import Callable, Generator, Sequence
from typing import Any

from zerocoder_jax.execution.status import Status
from zerocoder_jax.execution.tasks import (
    CompileJob,
    Job,
    MutationResult,
    Program,
    RunJob,
    Task,
    test_key,
)
from zerocoder_jax.execution.worker.statelessness import is_data
from zerocoder_jax.problems import AssertTest, Problem, Test
from zerocoder_jax.problems.entry_points import parse_quietly

_KEPT = 100_000

_EMPTYING = """for given in args:
    if isinstance(given, (list, dict, set)):
        given.clear()
"""
# Bodies of functions. The list comes first: hardly an honest test passes on it.
_IMPOSTORS = ("return [args, [args]]", "return 'x'", "return 0", _EMPTYING + "return None")


class VacuousTests:
    """Finds vacuous tests with the jobs of a task, and remembers them.

    Args:
      seconds: time limit of a test with an impostor.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[tuple[str, str], bool] = {}

    def left_out(
        self,
        problem: Problem,
        tests: Sequence[Test | None],
        task_of: Callable[[list[Test | None]], Task],
    ) -> Task:
        """The task of the tests that are not vacuous; the others are ``VACUOUS`` in its result."""
        columns = yield from self.columns(problem, tests)
        kept = [None if column in columns else test for column, test in enumerate(tests)]
        result = yield from task_of(kept)
        statuses = result.original if isinstance(result, MutationResult) else result
        statuses[..., columns] = Status.VACUOUS
        return result

    def columns(
        self, problem: Problem, tests: Sequence[Test | None]
    ) -> Generator[list[Job], Any, list[int]]:
        """The places of vacuous tests."""
        entry_point = problem.entry_point or ""
        keys = {
            column: (entry_point, test_key(test) or "")
            for column, test in enumerate(tests)
            if isinstance(test, AssertTest) and not _compares_with_a_value(test, entry_point)
        }
        unknown = {key: tests[column] for column, key in keys.items() if key not in self._known}
        if unknown and entry_point:
            if len(self._known) > _KEPT:
                self._known.clear()
            self._known |= yield from self._judged(entry_point, unknown)
        return [column for column, key in keys.items() if self._known.get(key, False)]

    def _judged(
        self, entry_point: str, unknown: dict[Any, Test | None]
    ) -> Generator[list[Job], Any, dict[Any, bool]]:
        """Whether each test passes on every impostor; nothing on a test without a verdict."""
        sources = tuple(_source(entry_point, body) for body in _IMPOSTORS)
        ((first, *others),) = yield [CompileJob(sources)]
        judged = dict.fromkeys(unknown, True)
        for programs in [first], others:
            asked = {key: test for key, test in unknown.items() if judged.get(key)}
            jobs = [self._job(program, entry_point, asked) for program in programs if asked]
            for verdicts in (yield jobs) if jobs else ():
                for key, verdict in zip(asked, verdicts):
                    if verdict.status is Status.UNAVAILABLE:
                        judged.pop(key, None)
                    elif key in judged:
                        judged[key] &= verdict.status is Status.PASSED
        return judged

    def _job(self, program: Program, entry_point: str, tests: dict[Any, Any]) -> Job:
        limits = (self._seconds,) * len(tests)
        return RunJob(program, entry_point, tuple(tests.values()), limits)


def _source(entry_point: str, body: str) -> str:
    owner, _, name = entry_point.rpartition(".")
    first = "self, " if owner else ""
    function = f"def {name}({first}*args, **kwargs):\n{_indented(body)}"
    return f"class {owner}:\n{_indented(function)}" if owner else function


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


def _compares_with_a_value(test: AssertTest, entry_point: str) -> bool:
    """Whether it is plain without a run that no two impostors pass: ``f(data) == data``."""
    tree = parse_quietly(test.code)
    if tree is None or test.setup.strip() or not tree.body:
        return False
    return all(_is_comparison(statement, entry_point) for statement in tree.body)


def _is_comparison(statement: ast.stmt, entry_point: str) -> bool:
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            return any(
                _is_call(call, entry_point) and is_data(value)
                for call, value in ((left, right), (right, left))
            )
    return False


def _is_call(node: ast.expr, entry_point: str) -> bool:
    owner, _, name = entry_point.rpartition(".")
    match node:
        case ast.Call(func=ast.Name(id=called)) if not owner and called == name:
            pass
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id=kind), args=[]), attr=called)
        ) if (kind, called) == (owner, name):
            pass
        case _:
            return False
    return all(map(is_data, node.args)) and all(is_data(word.value) for word in node.keywords)
