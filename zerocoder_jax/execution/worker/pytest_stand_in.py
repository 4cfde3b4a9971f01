"""What free-form tests use of pytest, which the sandbox does not have.

``raises``, ``approx``, ``fail``, ``skip``, ``param``, ``fixture`` and ``mark.parametrize`` mean
here what pytest's documentation says of them; marks that only describe a test do nothing.
Everything else of pytest is missing, and a test that needs it ends with ``AttributeError``.
"""

import functools
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any


class Failed(AssertionError):
    """``pytest.fail`` was called, or what had to be raised was not."""


class Skipped(BaseException):
    """``pytest.skip`` was called."""


def fail(reason: str = "", pytrace: bool = True) -> None:
    raise Failed(reason)


def skip(reason: str = "", *, allow_module_level: bool = False) -> None:
    raise Skipped(reason)


class ExceptionInfo:
    """What ``raises`` caught: ``value``, ``type``, ``match``."""

    value: BaseException

    @property
    def type(self) -> type[BaseException]:
        return type_of(self.value)

    def match(self, pattern: str) -> bool:
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{pattern!r} does not match {str(self.value)!r}")
        return True


type_of = type


class _Raises:
    def __init__(self, expected: Any, match: str | None) -> None:
        self._expected, self._match = expected, match
        self._info = ExceptionInfo()

    def __enter__(self) -> ExceptionInfo:
        return self._info

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is None:
            raise Failed(f"did not raise {self._expected!r}")
        if not isinstance(error, self._expected):
            return False
        self._info.value = error
        return self._match is None or self._info.match(self._match)


def raises(
    expected_exception: Any, *call: Any, match: str | None = None, **named: Any
) -> "_Raises | ExceptionInfo":
    """A context that must be left by an exception; with a function, calls it in one."""
    context = _Raises(expected_exception, match)
    if not call:
        return context
    with context as info:
        call[0](*call[1:], **named)
    return info


class approx:
    """Equal to numbers, and to sequences and mappings of numbers, within a tolerance.

    The tolerance is the larger of ``rel`` (1e-6) times the expected value and ``abs`` (1e-12); with
    ``abs`` alone, that one.
    """

    __array_ufunc__ = None
    __array_priority__ = 100

    def __init__(
        self, expected: Any, rel: Any = None, abs: Any = None, nan_ok: bool = False
    ) -> None:
        if isinstance(expected, str | bytes | set | frozenset):
            raise TypeError(f"approx takes numbers, sequences and mappings, not {expected!r}")
        self.expected = expected
        self.rel, self.abs, self.nan_ok = rel, abs, nan_ok

    def __eq__(self, actual: object) -> bool:
        expected: Any = self.expected
        if hasattr(expected, "tolist"):
            expected = expected.tolist()
        if hasattr(actual, "tolist"):
            actual = actual.tolist()
        if isinstance(expected, Mapping):
            return (
                isinstance(actual, Mapping)
                and expected.keys() == actual.keys()
                and all(self._of(expected[key]) == actual[key] for key in expected)
            )
        if isinstance(expected, Sequence):
            return (
                isinstance(actual, Sequence)
                and not isinstance(actual, str | bytes)
                and len(expected) == len(actual)
                and all(self._of(e) == a for e, a in zip(expected, actual))
            )
        return self._near(actual, expected)

    def __ne__(self, actual: object) -> bool:
        return not self == actual

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"

    def _of(self, expected: Any) -> "approx":
        return approx(expected, self.rel, self.abs, self.nan_ok)

    def _near(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, bool) or not (_is_number(expected) and _is_number(actual)):
            return bool(actual == expected)
        if expected != expected:
            return bool(self.nan_ok and actual != actual)
        if actual == expected:
            return True
        if not isinstance(expected, complex) and math.isinf(expected):
            return False
        relative = self.rel if self.rel is not None else (0 if self.abs is not None else 1e-6)
        absolute = self.abs if self.abs is not None else 1e-12
        exact = type_of(expected)
        if exact is Decimal:
            relative, absolute = Decimal(str(relative)), Decimal(str(absolute))
        return bool(_size(expected - actual) <= max(relative * _size(expected), absolute))


_size = abs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | complex | Decimal) or hasattr(value, "__float__")


class _Mark:
    """``pytest.mark``: ``parametrize`` and ``skip`` are heeded, other marks describe."""

    @staticmethod
    def parametrize(names: Any, cases: Any, **_: Any) -> Callable[[Any], Any]:
        listed = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
        rows = [
            getattr(case, "values", None) or (tuple(case) if len(listed) > 1 else (case,))
            for case in cases
        ]

        def marked(function: Any) -> Any:
            function.__dict__.setdefault("_cases", []).append((listed, rows))
            return function

        return marked

    @staticmethod
    def skip(*_: Any, **__: Any) -> Any:
        raise AttributeError("pytest.mark.skip: a skipped test tests nothing")

    skipif = xfail = skip

    def __getattr__(self, name: str) -> Any:
        def mark(*given: Any, **_: Any) -> Any:
            return given[0] if len(given) == 1 and callable(given[0]) else lambda marked: marked

        return mark


mark = _Mark()


class param:
    """One case of ``parametrize``."""

    def __init__(self, *values: Any, id: str | None = None, marks: Any = ()) -> None:
        self.values = values


def fixture(function: Any = None, **named: Any) -> Any:
    """Marks a function whose value tests ask for by its name."""
    if function is None:
        return functools.partial(fixture, **named)
    function._is_fixture = True
    return function


def _fixture_value(name: str, namespace: dict[str, Any], open_ones: list[Iterator[Any]]) -> Any:
    function = namespace.get(name)
    if not getattr(function, "_is_fixture", False):
        raise AttributeError(f"there is no fixture {name!r}")
    arguments = _fixtures(function, namespace, set(), open_ones)
    value = function(**arguments)  # type: ignore[misc]
    if isinstance(value, types.GeneratorType):
        open_ones.append(value)
        return next(value)
    return value


def _fixtures(
    function: Any, namespace: dict[str, Any], given: set[str], open_ones: list[Iterator[Any]]
) -> dict[str, Any]:
    import inspect  # large, and rarely needed

    asked = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and name not in given
    ]
    return {name: _fixture_value(name, namespace, open_ones) for name in asked}


def run_function(function: Any, namespace: dict[str, Any]) -> None:
    """Runs one test function on all its cases, with the fixtures that it asks for.

    Raises what the test raises.
    """
    cases: list[dict[str, Any]] = [{}]
    for names, rows in getattr(function, "_cases", []):
        cases = [{**case, **dict(zip(names, row))} for row in rows for case in cases]
    for case in cases:
        open_ones: list[Iterator[Any]] = []
        try:
            value = function(**case, **_fixtures(function, namespace, {*case}, open_ones))
            if isinstance(value, types.CoroutineType):
                import asyncio

                asyncio.run(value)
        finally:
            for generator in reversed(open_ones):
                next(generator, None)


def run_class(kind: Any, namespace: dict[str, Any]) -> None:
    """Runs the test methods of a class, each on an object of its own."""
    for name in [name for name in dir(kind) if name.startswith("test")]:
        instance = kind()
        if hasattr(instance, "setup_method"):
            instance.setup_method()
        run_function(getattr(instance, name), namespace)
