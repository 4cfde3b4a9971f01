"""A free-form test and a solution in two processes that exchange plain data.

The test runs where the candidate never does: what it sees under the entry point's name is a
stand-in that sends the arguments over, and what comes back are plain values. So a lying
``__eq__``, a rebound builtin or a walk over frames on the candidate's side has nothing to lie to,
to rebind or to find. What a call changes in its arguments is carried back, as if the two shared
them.
"""

import builtins
import errno
import importlib
import marshal
import os
import struct
from collections import Counter, OrderedDict, deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

from . import values
from .run import CHANNEL, REPORT, kind_of_exception, new_module, resolve

_LENGTH = struct.Struct("<I")
_MAX_MESSAGE = 16 << 20


class CannotBeSent(BaseException):
    """An argument is no plain data (a function, an object): the test must run inline."""


class SolutionGone(BaseException):
    """The candidate's process ended while the test waited for it."""


def _read(count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(CHANNEL, count - len(data))
        if not part:
            raise SolutionGone
        data += part
    return data


def _receive() -> Any:
    (length,) = _LENGTH.unpack(_read(_LENGTH.size))
    if length > _MAX_MESSAGE:
        raise SolutionGone
    return values.loads(_read(length))


def _send(message: Any) -> None:
    body = values.dumps(message)
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(CHANNEL, data) :]


def answer_calls(entry_point: str, code: bytes) -> NoReturn:
    """The candidate's side: loads the solution, then calls its entry point when asked to."""
    leave, send, receive, dumps = os._exit, _send, _receive, values.dumps
    load = marshal.loads
    try:
        namespace = new_module("solution")
        exec(load(code), namespace)
        function = resolve(namespace, entry_point)
        send("ready")
        while True:
            positional, named = receive()
            before = dumps([positional, named])
            try:
                result = function(*positional, **named)
                changed = dumps([positional, named]) != before
                send(("value", result, (positional, named) if changed else None))
            except SolutionGone:
                break
            except Exception as error:
                send(("raised", type(error).__name__, kind_of_exception(error), _message(error)))
    except BaseException as error:
        try:
            send(("ended", kind_of_exception(error)))
        except BaseException:
            leave(1)
    leave(0)


class StandIn:
    """What the test calls in the place of the entry point."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.ended = ""

    def wait_until_loaded(self) -> None:
        if self._reply() != "ready":
            raise SolutionGone

    def __call__(self, *positional: Any, **named: Any) -> Any:
        _refuse_objects(list(positional))
        _refuse_objects(named)
        try:
            _send((list(positional), named))
        except OSError:
            self.ended = "gone"
            raise SolutionGone from None
        match self._reply():
            case ("value", result, None):
                return result
            case ("value", result, state):
                _carry_back(state, positional, named)
                return result
            case ("raised", name, kind, str(message)):
                raise _exception(name, kind, message)
        self.ended = "error"
        raise SolutionGone

    def _reply(self) -> Any:
        try:
            reply = _receive()
        except (SolutionGone, OSError, values.Malformed):
            self.ended = "gone"
            raise SolutionGone from None
        if type(reply) is tuple and len(reply) == 2 and reply[0] == "ended":
            self.ended = str(reply[1])
            raise SolutionGone
        return reply


_SCALARS = (
    *(str, int, float, bool, type(None), complex, bytes, bytearray, Fraction, Decimal, range),
    *(date, time, datetime, timedelta),
)


def _refuse_objects(value: Any) -> None:
    """Only exact plain data can be sent over and still be what the test passed."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset, deque):
        for item in value:
            _refuse_objects(item)
    elif kind in (dict, OrderedDict, Counter):
        for key, item in value.items():
            _refuse_objects(key)
            _refuse_objects(item)
    elif kind is values.Opaque:
        # It came from the solution: a reason to believe it less, not to let it judge itself.
        raise TypeError("an object of the solution cannot be its argument")
    elif kind not in _SCALARS:
        raise CannotBeSent


def _message(error: Exception) -> str:
    """What an exception says; its arguments may be anything."""
    try:
        (argument,) = error.args if len(error.args) == 1 else (error,)
        return str.__str__(str(argument))
    except Exception:
        return ""


def _exception(name: object, kind: object, message: str) -> BaseException:
    """The built-in exception of this name, so that a test can expect it.

    Those that end an iteration do not come through, as they do not out of a generator (PEP 479):
    an ``all(map(f, ...))`` of the test would be over, and hold, before anything is compared.
    """
    if kind == "forbidden":
        return PermissionError(errno.EPERM, message)
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    if isinstance(found, type) and issubclass(found, (StopIteration, StopAsyncIteration)):
        return RuntimeError(f"the solution raised {found.__name__}")
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(message)
        except TypeError:  # one that takes other arguments
            pass
    return MemoryError() if kind == "memory" else RuntimeError(message)


def _carry_back(state: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Gives the test's own lists, dicts and sets the content they have on the other side."""
    try:
        new_positional, new_named = state
        pairs = [*zip(positional, new_positional), *((named[k], new_named[k]) for k in named)]
    except (TypeError, ValueError, KeyError):
        return
    for mine, theirs in pairs:
        if type(mine) is not type(theirs):
            continue
        if isinstance(mine, list):
            mine[:] = theirs
        elif isinstance(mine, deque):
            mine.clear()
            mine.extend(theirs)
        elif isinstance(mine, dict | set):
            mine.clear()
            mine.update(theirs)


def run_test(token: str, sources: list[str], entry_point: str, modules: list[str]) -> NoReturn:
    """The test's side: its statements, then the token, if the candidate still answers."""
    mark = token.encode()
    stand_in = StandIn(entry_point.rpartition(".")[2])
    try:
        stand_in.wait_until_loaded()
        namespace = new_module("test")
        for name in modules:
            namespace[name] = importlib.import_module(name)
        owner, _, name = entry_point.rpartition(".")
        if owner:
            namespace[owner] = type(owner, (), {name: lambda self, *a, **k: stand_in(*a, **k)})
        namespace[name] = stand_in
        for source in sources:
            exec(compile(source, "test", "exec", dont_inherit=True), namespace)
        outcome = b"~gone" if stand_in.ended else b"."
    except CannotBeSent:
        outcome = b"?"
    except SolutionGone:
        outcome = b"~" + (stand_in.ended or "gone").encode()
    except BaseException as error:
        outcome = b"!" + kind_of_exception(error).encode()
    os.write(REPORT, mark + outcome + b"\n")
    os._exit(0)
