"""Running a free-form test: its statements, then the tests that it defines and leaves to a runner.

Functions ``test_*``, classes of ``unittest``, a ``check(candidate)`` and a main guard are run as
pytest, unittest and the data sets do. A test that has not called the candidate when all that is
over has not tested it, and does not pass.
"""

import ast
import builtins
import importlib
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from . import mirrors, pytest_stand_in
from .preloaded import PRELOADED
from .run import kind_of_exception, new_module

_NAMEABLE = frozenset(name for name in PRELOADED if "." not in name)
_STOPS = frozenset({"StopIteration", "StopAsyncIteration"})


class FreeFormTest:
    """One free-form test in the process that is its own.

    Args:
      sources: its set-up, if it has one, and its code.
      entry_point: ``function`` or ``Class.method``.
      peer: the test's side of the dialogue.

    Attributes:
      failure: empty, or why it does not pass though nothing was raised.
    """

    def __init__(self, sources: list[str], entry_point: str, peer: Any) -> None:
        self._sources = sources
        self._entry_point = entry_point
        self._peer = peer
        self._unittest = _UnittestWatch()
        self._read: set[str] = set()
        self.failure = ""

    def run(self) -> None:
        """Runs all of it. Raises what the test raises."""
        namespace = new_module("__main__")
        sys.modules.setdefault("pytest", pytest_stand_in)  # type: ignore[arg-type]
        trees = [ast.parse(source) for source in self._sources]
        for node in (node for tree in trees for node in ast.walk(tree)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._read.add(node.id)
            elif isinstance(node, ast.Attribute):
                self._read.add(node.attr)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                if any((name or "").partition(".")[0] == "unittest" for name in imported):
                    self._unittest.watch()
        self._peer.expects_stop = bool(_STOPS & self._read)
        self._bind_names(namespace, _free_names(trees))
        try:
            for source in self._sources:
                exec(compile(source, "test", "exec", dont_inherit=True), namespace)
        except SystemExit as end:
            if not self._unittest.ran or self._peer.is_theirs(end):  # unittest.main() ends so
                raise
        self._run_what_is_left(namespace)
        self.failure = self._judge()

    def _bind_names(self, namespace: dict[str, Any], names: set[str]) -> None:
        """Gives the test the names that it takes from the solution, and modules by theirs."""
        owner, _, method = self._entry_point.rpartition(".")
        modules = names & _NAMEABLE
        for name in modules:
            namespace[name] = importlib.import_module(name)
        wanted = (names | {owner or method}) - modules - {""}
        for name, (kind, value) in self._peer.ask("names", *sorted(wanted)):
            if name in wanted:  # and no builtin that the test relies on
                namespace[name] = importlib.import_module(value) if kind == "module" else value
        if owner:
            instances = namespace[owner]

            def candidate(*positional: Any, **named: Any) -> Any:
                return getattr(instances(), method)(*positional, **named)

            candidate.__name__ = method
            namespace[method] = candidate

    def _run_what_is_left(self, namespace: dict[str, Any]) -> None:
        """Runs what the test defines for a runner and does not run itself."""
        own = {name: value for name, value in namespace.items() if name not in self._read}
        for name, value in own.items():
            if isinstance(value, FunctionType) and value.__module__ == "__main__":
                if name.startswith("test"):
                    pytest_stand_in.run_function(value, namespace)
                elif name == "check" and value.__code__.co_argcount == 1:
                    value(namespace[self._entry_point.rpartition(".")[2]])
        classes = [
            value
            for value in own.values()
            if isinstance(value, type) and not isinstance(value, mirrors.RemoteMeta)
        ]
        for value in classes:
            if self._unittest.is_case(value):
                if not self._unittest.ran:
                    self._unittest.run(value)
            elif value.__name__.startswith("Test") and value.__module__ == "__main__":
                pytest_stand_in.run_class(value, namespace)

    def _judge(self) -> str:
        if self._peer.refused:
            return "refused"
        if self._unittest.failure:
            return self._unittest.failure
        if self._peer.swallowed:
            return "assertion"
        return "" if self._peer.asked else "unasked"


def _free_names(trees: list[ast.Module]) -> set[str]:
    """Names that a test reads and does not define: modules, and names of the solution."""
    read: set[str] = set()
    defined: set[str] = set(dir(builtins))
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            defined.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            defined.add(node.rest)
    return read - defined


class _UnittestWatch:
    """What unittest finds: ``unittest.main(exit=False)`` raises nothing.

    Attributes:
      ran: a method of a test case was run.
      failure: the kind of the first exception.
    """

    def __init__(self) -> None:
        self.ran = False
        self.failure = ""
        self._module: Any = None

    def watch(self) -> None:
        """Imports unittest and has its results noted here too."""
        if self._module is not None:
            return
        self._module = importlib.import_module("unittest")
        sys.argv = ["test"]
        result = self._module.TestResult
        for name in ("startTest", "addError", "addFailure", "addSubTest", "addUnexpectedSuccess"):
            setattr(result, name, self._noting(name, getattr(result, name)))

    def _noting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            self.ran = True
            error = given[-1]
            if name == "addUnexpectedSuccess":
                self.failure = self.failure or "assertion"
            elif name != "startTest" and error is not None:
                self.failure = self.failure or kind_of_exception(error[1])
            return method(*given)

        return noted

    def is_case(self, value: type) -> bool:
        return self._module is not None and issubclass(value, self._module.TestCase)

    def run(self, case: type) -> None:
        suite = self._module.defaultTestLoader.loadTestsFromTestCase(case)
        suite.run(self._module.TestResult())
