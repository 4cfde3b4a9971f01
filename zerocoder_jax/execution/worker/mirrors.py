"""Stand-ins for objects of a dialogue's other side.

A class of the other side is mirrored by one here, with the special methods that it has; what its
instances are asked for is answered there. What a stand-in says of an object is data like any other
that comes from there. So the operations are those that end in data to be compared here:

- ``==`` never asks alone: two stand-ins of a class with an equality of its own are equal when
  their fields are, compared here; a stand-in equals no plain data.
- ``in`` goes through the object and compares here.
- ``<`` and arithmetic take two stand-ins. With plain data they are refused: the other side would
  learn it, and could answer what pleases.

An object whose class derives from a type of plain data *is* that data here, content and all, with
the attributes of the object. Exceptions are exceptions of the same name, with the same bases.
"""

import builtins
import functools
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    TracebackType,
)
from typing import Any, NoReturn

from .values import Malformed

__builtins__ = dict(vars(builtins))  # type: ignore[assignment]  # see values.py

DATA: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(OrderedDict, Counter, defaultdict, list, dict, set, deque, bytearray),
        *(int, float, complex, str, tuple, frozenset, bytes),
    )
}
# What ``isinstance`` must never say of a stand-in.
_DATA_AND_TYPES = (
    *(*DATA.values(), Decimal, Fraction, date, time, timedelta, range),
    *(type, BaseException, type(None)),
)


def _special_names(text: str) -> frozenset[str]:
    return frozenset(f"__{name}__" for name in text.split())


_ASKED = _special_names(
    "iter next len bool getitem setitem delitem enter int float complex index abs neg pos invert"
    " round trunc floor ceil reversed"
)
_AWAITED = _special_names("anext aenter aexit")
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name)
    for name in _special_names(
        "lt le gt ge add sub mul matmul truediv floordiv mod pow lshift rshift and or xor"
    )
}
SPECIALS = _ASKED | _AWAITED | BINARY.keys() | _special_names("call contains exit await aiter")
# Asked of every object.
_ALWAYS = _special_names("repr str format dir copy deepcopy")
_TEXTS = _special_names("repr str format")
_READABLE = _special_names("name qualname doc dict")
_OPAQUE = (
    *(FunctionType, GeneratorType, CoroutineType, AsyncGeneratorType),
    *(FrameType, CodeType, TracebackType),
)
# Verdicts on plain data: what holds of a text must not be asked of an object in its place.
_VERDICTS = frozenset({"startswith", "endswith", "issubset", "issuperset", "isdisjoint"}) | {
    name for kind in DATA.values() for name in dir(kind) if name.startswith("is")
}


class Refused(TypeError):
    """Something that cannot be judged from outside was asked of an object of the other side."""


class Asking:
    """What a stand-in needs of its dialogue; ``dialogue.Peer`` is one."""

    def ask(self, what: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def same(self, one: Any, other: Any) -> bool:
        raise NotImplementedError

    def hash_of(self, value: Any) -> int:
        raise NotImplementedError

    def is_theirs(self, value: Any) -> bool:
        raise NotImplementedError

    def refuse(self, words: str) -> NoReturn:
        raise NotImplementedError

    compares_here = True


# A process takes part in one dialogue.
peer = Asking()


def take_part(asking: Asking) -> None:
    """Sets the dialogue that all stand-ins of this process belong to."""
    global peer
    peer = asking


def may_read(owner: Any, name: object) -> bool:
    """Whether the other side may read, set or delete an attribute.

    Neither side reads the other's code or what stands in its frames: a test would tell a mutant
    from its original, a solution what is expected.
    """
    if type(name) is not str or "." in name:
        return False
    if isinstance(owner, FunctionType) and name == "__dict__":
        return False
    if name.startswith("__") and name.endswith("__"):
        return name in _READABLE
    inside = isinstance(owner, _OPAQUE) and name.partition("_")[0] in ("gi", "cr", "ag", "f", "co")
    return not inside and not isinstance(owner, FrameType | CodeType | TracebackType)


# ---- classes -----------------------------------------------------------------------------------


class RemoteMeta(type):
    """The type of mirrored classes: to call one makes an object on the other side."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        if bases:
            raise TypeError("a class of the other process cannot be derived from")
        return super().__new__(mcs, name, bases, namespace)

    def __call__(cls, *positional: Any, **named: Any) -> Any:
        return peer.ask("call", cls, list(positional), named)

    def __getattr__(cls, name: str) -> Any:
        return _get(cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        peer.ask("set", cls, name, value)

    def __iter__(cls) -> Iterator[Any]:
        return peer.ask("operate", "__iter__", cls)  # type: ignore[no-any-return]

    def __len__(cls) -> int:
        return _exactly(int, peer.ask("operate", "__len__", cls))

    def __getitem__(cls, key: Any) -> Any:
        return peer.ask("operate", "__getitem__", cls, key)

    def __contains__(cls, value: Any) -> bool:
        return any(item is value for item in cls)

    def __bool__(cls) -> bool:
        return True


class Remote(metaclass=RemoteMeta):
    """An object of the other side."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return _get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        peer.ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        peer.ask("delete", self, name)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an object of the other process cannot be pickled")


class _Documentation:
    """``__doc__`` of a class and of its instances; without it a class here has None."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return _get(owner if instance is None else instance, "__doc__")


def _remote_object() -> type:
    """The class of stand-ins that hold no data."""

    def equal(self: Any, other: Any) -> Any:
        if self is other:
            return True
        if not peer.compares_here:
            return peer.ask("operate", "__eq__", self, other)
        if isinstance(other, RemoteObject):
            return peer.same(self, other)
        if not isinstance(other, _DATA_AND_TYPES):
            peer.refuse("an object of the solution is compared with one that is no plain data")
        return False

    def unequal(self: Any, other: Any) -> Any:
        return not equal(self, other)

    return type.__new__(
        RemoteMeta,
        "RemoteObject",
        (Remote,),
        {
            "__slots__": (),
            "__eq__": equal,
            "__ne__": unequal,
            "__hash__": lambda self: peer.hash_of(self),
            **{name: _special(name) for name in _ALWAYS},
        },
    )


def _get(owner: Any, name: str) -> Any:
    if name == "__dataclass_fields__":
        return _fields(owner)
    if name.startswith("__") and name.endswith("__") and name not in _READABLE:
        raise AttributeError(name)
    if peer.compares_here and name in _VERDICTS and not isinstance(owner, tuple(DATA.values())):
        peer.refuse(f"{name} is asked of an object of the solution that is no plain data")
    return peer.ask("get", owner, name)


def _fields(owner: Any) -> Any:
    """What ``dataclasses`` looks for: the names of the fields, whose values are then asked for."""
    names = [_exactly(str, name) for name in peer.ask("fields", owner)]
    import dataclasses

    return dataclasses.make_dataclass("Fields", names).__dataclass_fields__  # type: ignore[attr-defined]


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"not a plain {kind.__name__}")
    return value


def _special(name: str) -> Callable[..., Any]:
    if name == "__call__":

        def method(self: Any, *positional: Any, **named: Any) -> Any:
            return peer.ask("call", self, list(positional), named)

    elif name == "__contains__":

        def method(self: Any, *given: Any, **named: Any) -> Any:
            if not peer.compares_here:
                return peer.ask("operate", name, self, *given)
            return any(item is given[0] or item == given[0] for item in self)

    elif name == "__exit__":

        def method(self: Any, *given: Any, **named: Any) -> Any:
            return _left(peer.ask("operate", name, self, *given[:2], None), given[1])

    elif name == "__await__":

        def method(self: Any, *given: Any, **named: Any) -> Any:
            return peer.ask("await", name, self)
            yield

    elif name == "__aiter__":

        def method(self: Any, *given: Any, **named: Any) -> Any:
            return peer.ask("operate", name, self)

    elif name in BINARY:

        def method(self: Any, *given: Any, **named: Any) -> Any:
            if peer.compares_here and not isinstance(given[0], Remote):
                peer.refuse(f"{name} of an object of the solution and plain data")
            return peer.ask("operate", name, self, *given)

    else:

        def method(self: Any, *given: Any, **named: Any) -> Any:
            return peer.ask("operate", name, self, *given)

    if name not in _AWAITED:
        return method

    async def awaited(self: Any, *given: Any) -> Any:
        if name != "__aexit__":
            return peer.ask("await", name, self)
        return _left(peer.ask("await", name, self, *given[:2], None), given[1])

    return awaited


def _left(swallows: Any, error: BaseException | None) -> bool:
    """What ``__exit__`` says. It has no say over what the test would have done next."""
    if swallows and error is not None and peer.compares_here:
        peer.refuse("a context manager of the solution swallows an exception in the test")
    return bool(swallows)


RemoteObject = _remote_object()


def describe(kind: type) -> tuple[str, str, str, list[str]]:
    """``(module, name, how, specials)`` of a class, for ``new_class`` on the other side."""
    how = "object" if kind.__eq__ is object.__eq__ else "equal"
    for name, base in DATA.items():
        if issubclass(kind, base):
            how = name
            break
    if issubclass(kind, BaseException):
        how = "error"
    classes = [base for base in kind.__mro__ if base is not object]
    if how in DATA:  # the data does the rest here
        classes = classes[: classes.index(DATA[how])]
    held = {name for base in classes for name, value in vars(base).items() if value is not None}
    specials = held & (_TEXTS if how in DATA else SPECIALS)
    return kind.__module__, kind.__qualname__, how, sorted(specials)


def new_class(
    module: Any, name: Any, how: Any, specials: list[str], bases: list[type]
) -> tuple[type, type]:
    """The class that stand-ins of a described class's instances have, and what the class is here.

    The two differ where the class is one of the standard library's, which is there on both sides.
    """
    if type(module) is not str or type(name) is not str or not {*specials} <= SPECIALS | _TEXTS:
        raise Malformed("not a class")
    local = _local(module, name)
    methods: dict[str, Any] = {special: _special(special) for special in specials}
    name = name.rpartition(".")[2]
    if how == "error":
        if local is not None and issubclass(local, BaseException):
            return local, local
        mirror = _error_class(module, name, [b for b in bases if issubclass(b, BaseException)])
        return mirror, mirror
    if how in DATA:
        namespace = {"__module__": module, **methods}
        mirror = type.__new__(RemoteMeta, name, (Remote, DATA[how]), namespace)
    else:
        if "__await__" in methods and module == "builtins":
            methods.update(send=_send_into, throw=_throw_into, close=_close)
        if local is not None and not issubclass(local, _DATA_AND_TYPES):
            methods["__class__"] = property(lambda self: local)
        methods["_has_equality"] = how == "equal"
        mirrored = tuple(base for base in bases if issubclass(base, RemoteObject))
        try:
            mirror = _new_remote(name, mirrored or (RemoteObject,), module, methods)
        except TypeError:  # an order of bases that has none here
            mirror = _new_remote(name, (RemoteObject,), module, methods)
    return mirror, mirror if local is None else local


def _new_remote(name: str, bases: tuple[type, ...], module: str, methods: dict[str, Any]) -> type:
    namespace = {"__slots__": (), "__module__": module, "__doc__": _Documentation(), **methods}
    return type.__new__(RemoteMeta, name, bases, namespace)


def _send_into(self: Any, value: Any) -> NoReturn:
    raise StopIteration(peer.ask("await", "__await__", self))


def _throw_into(self: Any, *error: Any) -> NoReturn:
    raise error[-1] if isinstance(error[-1], BaseException) else error[0]


def _close(self: Any) -> None:
    """A coroutine that was never awaited has begun nothing."""


@functools.cache
def of_local(kind: Any) -> type:
    """The class of stand-ins for instances of a class that both sides have."""
    return new_class(*describe(kind), [])[0]


def _local(module: str, name: str) -> type | None:
    """The class of the standard library with this name, if its module is loaded here."""
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    if module == "builtins":
        known = {kind.__name__: kind for kind in _OPAQUE[:4]}
        return known.get(name) or getattr(builtins, name, None)
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


# ---- exceptions --------------------------------------------------------------------------------


def _error_class(module: str, name: str, bases: list[type]) -> type:
    namespace = {"__module__": module, "__str__": _text_of, "__getattr__": _error_attribute}
    try:
        return type(name, tuple(bases) or (Exception,), namespace)
    except TypeError:
        return type(name, (bases[0],), namespace)


def _text_of(error: BaseException) -> str:
    text = vars(error).get("__text__")
    return text if text is not None else BaseException.__str__(error)


def _error_attribute(error: BaseException, name: str) -> Any:
    if not peer.is_theirs(error):
        raise AttributeError(name)
    return _get(error, name)


def new_error(kind: type, arguments: tuple[Any, ...], text: str) -> BaseException:
    """An exception with these arguments, made by its builtin class alone."""
    if not issubclass(kind, BaseException):
        raise Malformed("not an exception")
    try:
        error: BaseException = kind(*arguments)
    except Exception:  # one that takes other arguments
        error = kind.__new__(kind)
        error.args = arguments
    if "__text__" not in vars(error) and kind.__str__ is _text_of:
        vars(error)["__text__"] = text
    return error
