"""A free-form test and a solution in two processes that ask each other.

The test runs where the candidate never does: the names of the solution that it uses are stand-ins
(``mirrors.py``), and what comes back from their calls is plain data, or a stand-in again. So a
lying ``__eq__``, a rebound builtin or a walk over frames on the candidate's side has nothing to lie
to, to rebind or to find; every comparison is made here. Objects have one identity in both processes
(``objects.py``), and functions that the test passes are called back.
"""

import builtins
import contextlib
import copy
import marshal
import operator
import os
import struct
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import free_form, mirrors, objects, values
from .run import CHANNEL, REPORT, kind_of_exception, new_module

__builtins__ = dict(vars(builtins))  # type: ignore[assignment]  # see values.py

_LENGTH = struct.Struct("<I")
_MAX_MESSAGE = 64 << 20


class SolutionGone(BaseException):
    """The other process ended, or said what makes no sense, while this one waited for it."""


class Peer(mirrors.Asking):
    """One side of a dialogue.

    One message is under way at a time: whoever asks waits, and answers what it is asked meanwhile.

    Attributes:
      asked: how often the candidate was called.
      refused: why the test cannot be judged, if it asked for what must not count.
      swallowed: an assertion failed in a function of the test that the candidate had called.
      expects_stop: ``StopIteration`` may come out of a call.
      ended: how the candidate ended, if it did.
    """

    def __init__(self, is_test: bool) -> None:
        self.compares_here = is_test
        self._table = objects.Table(is_test)
        self._lock = threading.RLock()
        self._send, self._receive = _send, _receive
        self._printed = 0
        self._loop: Any = None
        self._solution: dict[str, Any] = {}
        self.asked = 0
        self.refused = ""
        self.swallowed = False
        self.expects_stop = False
        self.ended = ""
        mirrors.take_part(self)

    # ---- asking --------------------------------------------------------------------------------

    def ask(self, what: str, *arguments: Any) -> Any:
        """What the other side answers; raises what it raised."""
        with self._lock:
            if self.ended:
                raise SolutionGone
            self.asked += what in ("call", "operate", "await")
            self._say([what, *arguments])
            while True:
                match self._hear():
                    case ("value", value):
                        return value
                    case ("raised", BaseException() as error):
                        raise self._arriving(error, what, arguments)
                    case ("ended", str(kind)):
                        self._gone(kind)
                    case (str(request), *asked):
                        self._answer(request, asked)
                    case _:
                        self._gone("error")

    def wait_until_loaded(self) -> None:
        match self._hear():
            case ("ended", str(kind)):
                self._gone(kind)
            case answer if answer != ("value", "ready"):
                self._gone("error")

    def _arriving(
        self, error: BaseException, what: str, arguments: tuple[Any, ...]
    ) -> BaseException:
        """An exception of the candidate, as the test sees it.

        One that ends an iteration does so only where an iterator was asked for the next item, or
        where the test names it. Otherwise it would end an ``all(map(f, ...))`` of the test, which
        would hold before anything is compared; as out of a generator (PEP 479) it comes as a
        ``RuntimeError``.
        """
        if not self.compares_here:
            return error
        if isinstance(error, StopIteration | StopAsyncIteration):
            of_iterator = what in ("operate", "await") and arguments[0] in ("__next__", "__anext__")
            if not of_iterator and not self.expects_stop:
                return RuntimeError(f"the solution raised {type(error).__name__}")
        # Nor one by which a runner of tests takes a test for skipped.
        steers = any(kind.__module__.startswith("unittest") for kind in type(error).__mro__)
        if steers or not isinstance(error, Exception | SystemExit | KeyboardInterrupt):
            return RuntimeError(f"the solution raised {type(error).__name__}")
        return error

    def same(self, one: Any, other: Any) -> bool:
        """Whether two objects of the candidate are equal: by their fields, compared here."""
        if type(one) is not type(other) or not getattr(type(one), "_has_equality", False):
            return False
        alike = bool(self.ask("state", one) == self.ask("state", other))
        if (self.ask("operate", "__eq__", one, other) is True) != alike:
            self.refuse("objects of the solution are equal by their own word alone")
        return alike

    def hash_of(self, value: Any) -> int:
        return self._table.hash_of(value)

    def is_theirs(self, value: Any) -> bool:
        return self._table.is_theirs(value)

    def refuse(self, words: str) -> NoReturn:
        self.refused = words
        raise mirrors.Refused(words)

    # ---- answering -----------------------------------------------------------------------------

    def serve(self, solution: dict[str, Any]) -> NoReturn:
        """The candidate's side: answers until the test is over."""
        self._solution = solution
        self._say(("value", "ready"))
        while True:
            match self._hear():
                case (str(request), *asked):
                    self._answer(request, asked)
                case _:
                    raise SolutionGone

    def _answer(self, request: str, asked: list[Any]) -> None:
        answer: tuple[str, Any]
        try:
            answer = ("value", self._carry_out(request, asked))
        except SolutionGone:
            raise
        except BaseException as error:
            self.swallowed |= isinstance(error, AssertionError)
            answer = ("raised", error.with_traceback(None))
        try:
            self._say(answer)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            self._say(("raised", TypeError(f"it cannot be handed over: {error}")))

    def _carry_out(self, request: str, asked: list[Any]) -> Any:
        if request == "names" and not self.compares_here:
            return tuple(
                (name, _by_name(self._solution[name])) for name in asked if name in self._solution
            )
        match request, asked:
            case "operate" | "await", [str(name), target, *arguments]:
                pass
            case _, [target, *arguments]:
                name = ""
            case _:
                raise SolutionGone
        if not self._table.is_own(target):
            target, name, arguments = self._of_other(target, name, arguments)
        match request, arguments:
            case "call", [list(positional), dict(named)]:
                if self.compares_here and isinstance(target, type):
                    self._check_class(target)
                return target(*positional, **named)
            case "get", [name] if mirrors.may_read(target, name):
                return getattr(target, name)
            case "set", [name, value] if mirrors.may_read(target, name):
                return setattr(target, name, value)
            case "delete", [name] if mirrors.may_read(target, name):
                return delattr(target, name)
            case "get" | "set" | "delete", [name, *_]:
                raise AttributeError(f"{name} is not to be read from another process")
            case "operate", _:
                return _operate(name, target, arguments)
            case "await", _ if not self.compares_here:
                return self._wait_for(name, target, arguments)
            case "state", [] if not self.compares_here:
                return _state(target)
            case "fields", []:
                return [*target.__dataclass_fields__]
        raise SolutionGone

    def _of_other(self, target: Any, name: str, arguments: list[Any]) -> tuple[Any, str, list[Any]]:
        """Data of a class of its own, on the candidate's side, may be asked too."""
        if self.compares_here or not self._table.number(target):
            raise SolutionGone
        return target, name, arguments

    @staticmethod
    def _check_class(target: type) -> None:
        if target.__module__ != "__main__":
            raise TypeError("only classes of the test can be called")

    def _wait_for(self, name: str, target: Any, arguments: list[Any]) -> Any:
        """Runs a coroutine of the candidate to its end, in a loop of this process."""
        import asyncio

        self._loop = self._loop or asyncio.Runner()

        async def awaited() -> Any:
            if name == "__await__":
                return await target
            return await getattr(type(target), name)(target, *arguments)

        return self._loop.run(awaited())

    # ---- messages ------------------------------------------------------------------------------

    def _say(self, body: Any) -> None:
        if not self.compares_here:
            body = (*body, self._new_output())
        try:
            self._send(values.to_json(self._table.pack_message(tuple(body))))
        except OSError:
            self._gone("gone")

    def _hear(self) -> Any:
        try:
            body = self._table.unpack_message(values.from_json(self._receive()))
        except (OSError, EOFError, values.Malformed):
            self._gone("gone")
        if type(body) is not tuple or not body:
            self._gone("error")
        if self.compares_here:
            *body, printed = body
            if printed and type(printed) is str:
                sys.stdout.write(printed)
        return tuple(body)

    def _gone(self, how: str) -> NoReturn:
        self.ended = how
        raise SolutionGone

    def _new_output(self) -> str:
        """What the candidate has printed since its last message: a test may capture it."""
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        size = os.fstat(1).st_size
        if size <= self._printed:
            return ""
        printed = os.pread(1, size - self._printed, self._printed)
        self._printed = size
        return printed.decode("utf-8", "replace")


def _by_name(value: Any) -> tuple[str, Any]:
    """A value of the solution's namespace; modules are the same in the test's process."""
    if isinstance(value, types.ModuleType):
        return "module", value.__name__
    return "value", value


def _operate(name: str, target: Any, arguments: list[Any]) -> Any:
    """A special method, looked up where the interpreter does: at the class."""
    if name in mirrors.BINARY:
        return mirrors.BINARY[name](target, *arguments)
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](target, *arguments)
    if name not in mirrors.SPECIALS:
        raise SolutionGone
    return getattr(type(target), name)(target, *arguments)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "__eq__": operator.eq,
    "__iter__": iter,
    "__repr__": repr,
    "__str__": str,
    "__format__": format,
    "__dir__": dir,
    "__copy__": copy.copy,
    "__deepcopy__": lambda value, _: copy.deepcopy(value),
}


def _state(target: Any) -> dict[str, Any]:
    """The fields that an equality may look at."""
    fields = getattr(type(target), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(target, name) for name, field in fields.items() if field.compare}
    state = dict(getattr(target, "__dict__", {}))
    for base in type(target).__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{base.__name__.lstrip('_')}{slot}" if slot.startswith("__") else slot
            if hasattr(target, name) and slot != "__dict__":
                state[name] = getattr(target, name)
    if not state and type(target).__module__ != "solution":
        raise TypeError(f"a {type(target).__name__} has no fields to compare")
    return state


_arrived = bytearray()


def _receive() -> bytes:
    """The next message; ``EOFError`` when the other side is gone."""
    while len(_arrived) < _LENGTH.size:
        _read_more(1 << 16)
    (length,) = _LENGTH.unpack_from(_arrived)
    end = _LENGTH.size + length
    if length > _MAX_MESSAGE:
        raise EOFError
    while len(_arrived) < end:
        _read_more(max(1 << 16, end - len(_arrived)))
    body = bytes(_arrived[_LENGTH.size : end])
    del _arrived[:end]
    return body


def _read_more(most: int) -> None:
    part = os.read(CHANNEL, most)
    if not part:
        raise EOFError
    _arrived.extend(part)


def _send(body: bytes) -> None:
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(CHANNEL, data) :]


def answer_calls(entry_point: str | None, code: bytes) -> NoReturn:
    """The candidate's side: loads the solution, then answers what the test asks of it."""
    leave, load = os._exit, marshal.loads
    peer = Peer(is_test=False)
    try:
        namespace = new_module("solution")
        exec(load(code), namespace)
        peer.serve(namespace)
    except SolutionGone:
        pass
    except BaseException as error:
        try:
            peer._say(("ended", kind_of_exception(error)))
        except BaseException:
            leave(1)
    leave(0)


def run_test(token: str, sources: list[str], entry_point: str | None) -> NoReturn:
    """The test's side: its statements, then the token, if the candidate still answers."""
    mark = token.encode()
    peer = Peer(is_test=True)
    try:
        peer.wait_until_loaded()
        test = free_form.FreeFormTest(sources, entry_point or "", peer)
        test.run()
        outcome = b"!" + test.failure.encode() if test.failure else b"."
    except SolutionGone:
        outcome = b""
    except BaseException as error:
        outcome = b"!" + kind_of_exception(error).encode()
    if peer.ended:
        outcome = b"~" + peer.ended.encode()
    os.write(REPORT, mark + outcome + b"\n")
    os._exit(0)
