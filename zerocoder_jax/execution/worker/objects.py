"""Objects that the two processes of a dialogue share, and how they cross.

Scalars, tuples and frozensets cross as they are. A list, a dict or another *container* gets a
number the first time it crosses, and a copy on the other side for as long as the test holds it:
with every message go the contents that have changed, so that both sides see one object, whichever
of them changes it and however often it is passed. Everything else (a generator, a function, an
object) stays where it is; the other side gets a stand-in for it (``mirrors.py``), which asks.

Numbers that the test gives are negative, those of the candidate positive. The test decides what is
forgotten: what nobody but its table holds.
"""

import builtins
import functools
import gc
import importlib
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from types import BuiltinFunctionType, MethodDescriptorType, ModuleType
from typing import Any

from . import mirrors, values
from .values import Malformed

__builtins__ = dict(vars(builtins))  # type: ignore[assignment]  # see values.py

_PLAIN = frozenset({str, bool, type(None), float})
_SCALARS = frozenset(
    {complex, bytes, Fraction, Decimal, range, date, time, datetime, timedelta}
    | {type(...), type(NotImplemented)}
)
CONTAINERS: dict[type, str] = {
    list: "list",
    dict: "dict",
    set: "set",
    deque: "deque",
    bytearray: "bytearray",
    OrderedDict: "ordered",
    Counter: "counter",
    defaultdict: "defaultdict",
}
_KINDS = {name: kind for kind, name in CONTAINERS.items()}
_SUBCLASSED = (OrderedDict, Counter, defaultdict, list, dict, set, deque, bytearray)
_IMMUTABLE: dict[str, type] = {
    kind.__name__: kind for kind in (int, float, str, tuple, frozenset, bytes, complex)
}
_VIEW_NAMES = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
# Modules whose functions a test may hand over by name; there, as here, they are the same.
_BY_NAME = ("builtins", "math", "cmath", "_operator")
# ``sys.getrefcount`` of what only the table holds: the entry's reference and the argument.
_ALONE = 2


class Entry:
    """One object of the table.

    Attributes:
      object: it, or what stands for it here.
      kind: of a container its type's name; ``"own"`` for what the other side has a stand-in of,
        ``"mirror"`` for a stand-in, ``"value"`` for an immutable object of a class of its own.
      seen: of a container its parts when it crossed last.
    """

    __slots__ = ("kind", "object", "seen")

    def __init__(self, value: Any, kind: str) -> None:
        self.object, self.kind = value, kind
        self.seen: list[Any] | None = None


def _without_collector(method: Callable[..., Any]) -> Callable[..., Any]:
    """A message makes many objects and drops none: the collector would only look at them all.

    100,000 small lists cross in 1.3 s of processor time instead of 2.7 s.
    """

    @functools.wraps(method)
    def paused(*given: Any) -> Any:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return method(*given)
        finally:
            if was_enabled:
                gc.enable()

    return paused


class Table:
    """One side's half of the shared objects; the two halves are kept alike by messages.

    Args:
      is_test: whether this is the test's side.
    """

    def __init__(self, is_test: bool) -> None:
        self._is_test = is_test
        self._sign = -1 if is_test else 1
        self._last = 0
        self._entries: dict[int, Entry] = {}
        self._numbers: dict[int, int] = {}  # id of an object -> its number
        self._mirrors: dict[int, type] = {}  # number of a class -> the class of its stand-ins
        self._hashes: dict[int, int] = {}
        # Of the message that is being packed.
        self._classes: list[Any] = []
        self._objects: list[Any] = []
        self._to_write: list[int] = []
        self._added: list[int] = []

    # ---- numbers -------------------------------------------------------------------------------

    def number(self, value: Any) -> int | None:
        """The number under which an object has crossed."""
        return self._numbers.get(id(value))

    def is_theirs(self, value: Any) -> bool:
        """Whether an object came from the other side."""
        number = self.number(value)
        return number is not None and number * self._sign < 0

    def is_own(self, value: Any) -> bool:
        """Whether the other side has a stand-in for an object of this one."""
        number = self.number(value)
        return number is not None and self._entries[number].kind == "own"

    def hash_of(self, mirror: Any) -> int:
        number = self._numbers[id(mirror)]
        return self._hashes.get(number, number)

    def _add(self, value: Any, kind: str) -> int:
        self._last += self._sign
        self._put(self._last, value, kind)
        self._added.append(self._last)
        return self._last

    def _put(self, number: int, value: Any, kind: str) -> Entry:
        entry = self._entries[number] = Entry(value, kind)
        self._numbers[id(value)] = number
        return entry

    def _forget(self, number: int) -> None:
        entry = self._entries.pop(number, None)
        if entry is not None:
            if self._numbers.get(id(entry.object)) == number:
                del self._numbers[id(entry.object)]
            self._hashes.pop(number, None)

    def _collect(self) -> list[int]:
        """Forgets what nobody here holds any more; the other side is to do the same."""
        gone = []
        for number, entry in list(self._entries.items()):
            collected = entry.kind == "mirror" or (self._is_test and entry.kind != "own")
            if collected and sys.getrefcount(entry.object) <= _ALONE and not _has_changed(entry):
                gone.append(number)
        del entry
        for number in gone:
            self._forget(number)
        return gone

    # ---- packing -------------------------------------------------------------------------------

    @_without_collector
    def pack_message(self, body: Any) -> Any:
        """``[forgotten, classes, objects, contents, body]``, as JSON.

        Raises what a hostile or unknown object raises; the table is then as it was.
        """
        forgotten = self._collect() if self._entries else []
        self._classes, self._objects, self._to_write, self._added = [], [], [], []
        try:
            packed = self.pack(body)
            self._to_write += [n for n, entry in self._entries.items() if _has_changed(entry)]
            contents = []
            for number in self._to_write:  # grows meanwhile
                contents.append(self._content(number))
        except BaseException:
            for number in self._added:
                self._forget(number)
            raise
        return [forgotten, self._classes, self._objects, contents, packed]

    def pack(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return values.encode(value)
        number = self._numbers.get(id(value))
        if number is not None:
            return {"ref": number}
        if kind is tuple:
            return {"tuple": [self.pack(item) for item in value]}
        if kind is frozenset:
            return {"frozenset": [self.pack(item) for item in value]}
        if kind in CONTAINERS:
            return self._pack_container(value, CONTAINERS[kind])
        if kind in _SCALARS or value is None:
            return values.encode(value)
        if kind is slice:
            return {"slice": [self.pack(part) for part in (value.start, value.stop, value.step)]}
        if kind in _VIEW_NAMES:
            (of,) = gc.get_referents(value)
            return {"view": [_VIEW_NAMES[kind], self.pack(of)]}
        if issubclass(kind, type):
            return self._pack_class(value)
        if issubclass(kind, BaseException):
            return self._pack_error(value)
        return self._pack_rare(value, kind)

    def _pack_rare(self, value: Any, kind: type) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is getattr(numpy, "ndarray", None):
            return self._pack_container(value, "array")
        if numpy is not None and issubclass(kind, numpy.generic):
            return values.encode(value)
        for base in _SUBCLASSED:
            if issubclass(kind, base):
                return self._pack_container(value, CONTAINERS[base])
        for name, plain in _IMMUTABLE.items():
            if issubclass(kind, plain):
                described = self._pack_class(kind)
                number = self._add(value, "value")
                return {"sub": [number, described, name, self._plain(value, plain)]}
        if self._is_test and (path := _path_of(value)) is not None:
            return {"global": path}
        if issubclass(kind, ModuleType):
            raise TypeError("a module cannot be handed over")
        described = self._pack_class(kind)
        number = self._add(value, "own")
        self._objects.append([number, described, _own_hash(value)])
        return {"ref": number}

    def _plain(self, value: Any, base: type) -> Any:
        """What an instance of a subclass holds, by the base class's own methods."""
        if base in (tuple, frozenset):
            return self.pack(base(base.__iter__(value)))  # type: ignore[attr-defined]
        return values.encode(value)

    def _pack_container(self, value: Any, kind: str) -> Any:
        number = self._add(value, kind)
        if kind != "array" and type(value) is not _KINDS[kind]:
            self._pack_class(type(value))
        self._to_write.append(number)
        return {"ref": number}

    def _content(self, number: int) -> Any:
        entry = self._entries[number]
        kind, value = entry.kind, entry.object
        entry.seen = _parts(kind, value)
        own_class = None
        if kind == "array":
            content: Any = values.encode_array(value)["array"]
        else:
            content = entry.seen
            if not _is_plain(content):
                content = [self.pack(part) for part in content]
            if type(value) is not _KINDS[kind]:
                own_class = self._pack_class(type(value))
        return [number, kind, own_class, content]

    def _pack_error(self, error: BaseException) -> Any:
        described = self._pack_class(type(error))
        try:
            text = str.__str__(str(error))
        except Exception:
            text = ""
        arguments = error.args
        if isinstance(error, OSError) and error.filename is not None:
            arguments = (*arguments[:2], error.filename)  # which it leaves out of its arguments
        elif isinstance(error, BaseExceptionGroup):
            arguments = (error.message, error.exceptions)
        number = self._add(error, "value")
        state = {k: v for k, v in vars(error).items() if not _is_hidden(k)}
        return {
            "error": [
                number,
                described,
                [self.pack(argument) for argument in arguments],
                text,
                [[name, self.pack(item)] for name, item in state.items()],
                self.pack(error.__cause__),
            ]
        }

    def _pack_class(self, kind: type) -> Any:
        if kind in values.TYPE_NAMES:
            return {"type": values.TYPE_NAMES[kind]}
        number = self._numbers.get(id(kind))
        if number is None:
            bases = [self._pack_class(base) for base in kind.__bases__ if base is not object]
            number = self._add(kind, "own")
            self._classes.append([number, *mirrors.describe(kind), bases])
        return {"ref": number}

    # ---- unpacking -----------------------------------------------------------------------------

    @_without_collector
    def unpack_message(self, message: Any) -> Any:
        """The body of a message; the objects in it are in the table, with their new contents.

        Raises ``Malformed`` for what no ``pack_message`` wrote.
        """
        try:
            forgotten, classes, objects, contents, body = message
            for number in forgotten:
                self._forget(number)
            for number, module, name, how, specials, bases in classes:
                self._new_class(number, module, name, how, specials, bases)
            for number, described, hashed in objects:
                self._check_new(number)
                self._put(number, object.__new__(self._class(described)), "mirror")
                if type(hashed) is int:
                    self._hashes[number] = hashed
            for number, kind, own_class, content in contents:
                if number not in self._entries:
                    self._check_new(number)
                    self._put(number, self._empty(kind, own_class, content), kind)
            unpacked = self.unpack(body)
            for number, kind, _, content in contents:
                self._refill(self._entries[number], kind, content)
            return unpacked
        except Malformed:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def _refill(self, entry: Entry, kind: str, content: Any) -> None:
        if entry.kind != kind:
            raise Malformed("another kind of container")
        if kind == "array":
            entry.object[...] = values.decode_array(content)
        else:
            parts = content if _is_plain(content) else [self.unpack(part) for part in content]
            _FILL[kind](entry.object, parts)
        entry.seen = _parts(kind, entry.object)

    def unpack(self, data: Any) -> Any:
        kind = type(data)
        if kind in _PLAIN or kind is int:
            return data
        if kind is not dict or not data:
            raise Malformed("not a value")
        match data:
            case {"ref": number}:
                return self._entries[number].object
            case {"tuple": items}:
                return tuple([self.unpack(item) for item in items])
            case {"frozenset": items}:
                return frozenset([self.unpack(item) for item in items])
            case {"slice": [start, stop, step]}:
                return slice(*map(self.unpack, (start, stop, step)))
            case {"view": ["keys" | "values" | "items" as name, of]}:
                return getattr(self.unpack(of), name)()
            case {"sub": [number, described, name, content]}:
                return self._unpack_sub(number, described, name, content)
            case {"error": [number, described, arguments, str(text), state, cause]}:
                error = self._unpack_error(number, described, arguments, text, state)
                error.__cause__ = self.unpack(cause)
                return error
            case {"global": [module, *path]} if not self._is_test and module in _BY_NAME:
                return operator.attrgetter(".".join(path))(importlib.import_module(module))
        return values.decode(data)

    def _unpack_sub(self, number: int, described: Any, name: str, content: Any) -> Any:
        self._check_new(number)
        base = _IMMUTABLE[name]
        own_class = self._class(described)
        plain = self.unpack(content)
        if type(plain) is not base or not issubclass(own_class, base):
            raise Malformed("another type than it says")
        value = base.__new__(own_class, plain)
        return self._put(number, value, "value").object

    def _unpack_error(
        self, number: int, described: Any, arguments: Any, text: str, state: Any
    ) -> BaseException:
        self._check_new(number)
        kind = self._class(described)
        error = mirrors.new_error(kind, tuple(map(self.unpack, arguments)), text)
        self._put(number, error, "value")
        for name, value in state:
            if type(name) is str and not _is_hidden(name):
                vars(error)[name] = self.unpack(value)
        return error

    def _check_new(self, number: Any) -> None:
        """Objects of the other side have its sign, and each is described once."""
        if type(number) is not int or number * self._sign >= 0 or number in self._entries:
            raise Malformed("not a new number")

    def _class(self, described: Any) -> type:
        """The class that stand-ins of a described class's instances have."""
        match described:
            case {"type": name}:
                kind: Any = values.TYPES[name]
                return kind if issubclass(kind, BaseException) else mirrors.of_local(kind)
            case {"ref": number} if number in self._mirrors:
                return self._mirrors[number]
            case {"ref": number}:
                kind = self._entries[number].object
                if isinstance(kind, type) and self._entries[number].kind in ("own", "class"):
                    # An exception of this side on its way back, or a class that both sides have.
                    local: Any = kind
                    return kind if issubclass(kind, BaseException) else mirrors.of_local(local)
        raise Malformed("not a class")

    def _new_class(
        self, number: int, module: str, name: str, how: Any, specials: list[str], bases: list[Any]
    ) -> None:
        self._check_new(number)
        # The bases are classes of builtins or were described before.
        found = [self._class(base) for base in bases]
        mirror, as_value = mirrors.new_class(module, name, how, specials, found)
        self._mirrors[number] = mirror
        entry = self._entries[number] = Entry(as_value, "class")
        self._numbers.setdefault(id(entry.object), number)

    def _empty(self, kind: str, own_class: Any, content: Any) -> Any:
        if kind == "array":
            return values.decode_array(content)
        base: Any = _KINDS[kind]
        if own_class is None:
            return base()
        mirror = self._class(own_class)
        if not issubclass(mirror, base):
            raise Malformed("another type than it says")
        return base.__new__(mirror)


def _is_hidden(name: str) -> bool:
    return name.startswith("__") and name != "__notes__"


def _is_plain(parts: list[Any]) -> bool:
    """Whether parts are their own JSON: most lists are of numbers, or of texts."""
    kinds = {*map(type, parts)}
    if kinds == {int}:
        return min(parts) > -values.LARGE and max(parts) < values.LARGE
    return kinds <= _PLAIN


def _own_hash(value: Any) -> int | None:
    """What an object's own ``__hash__`` says; None where it has none."""
    if type(value).__hash__ in (object.__hash__, None):
        return None
    try:
        return hash(value)
    except Exception:
        return None


def _path_of(value: Any) -> list[str] | None:
    """Module and name of a builtin function, or of a method of a builtin type."""
    if type(value) is BuiltinFunctionType and value.__module__ in _BY_NAME:
        return [value.__module__, value.__name__]
    if type(value) is MethodDescriptorType and value.__objclass__ in values.TYPE_NAMES:
        return ["builtins", value.__objclass__.__name__, value.__name__]
    return None


# ---- containers --------------------------------------------------------------------------------


def _parts(kind: str, value: Any) -> list[Any]:
    """What a container holds, read by its base class's own methods."""
    if kind == "list":
        return [*list.__iter__(value)]
    if kind in ("dict", "counter"):
        return [*dict.keys(value), *dict.values(value)]
    if kind == "ordered":
        return [*OrderedDict.keys(value), *OrderedDict.values(value)]
    if kind == "defaultdict":
        return [value.default_factory, *dict.keys(value), *dict.values(value)]
    if kind == "set":
        return [*set.__iter__(value)]
    if kind == "deque":
        return [value.maxlen, *deque.__iter__(value)]
    if kind == "bytearray":
        return [bytes(value)]
    return [value.dtype.str, value.shape, value.tobytes()]


def _has_changed(entry: Entry) -> bool:
    seen = entry.seen
    if seen is None:
        return False
    if entry.kind == "list":  # the common one, without a copy
        held = entry.object
        return list.__len__(held) != len(seen) or not all(
            map(operator.is_, list.__iter__(held), seen)
        )
    parts = _parts(entry.kind, entry.object)
    if entry.kind in ("array", "bytearray"):
        return parts != seen
    return len(parts) != len(seen) or not all(map(operator.is_, parts, seen))


def _fill_list(value: Any, parts: list[Any]) -> None:
    list.__setitem__(value, slice(None), parts)


def _fill_dict(value: Any, parts: list[Any]) -> None:
    half = len(parts) // 2
    dict.clear(value)
    dict.update(value, zip(parts[:half], parts[half:]))


def _fill_ordered(value: Any, parts: list[Any]) -> None:
    half = len(parts) // 2
    OrderedDict.clear(value)
    for key, item in zip(parts[:half], parts[half:]):
        OrderedDict.__setitem__(value, key, item)


def _fill_defaultdict(value: Any, parts: list[Any]) -> None:
    value.default_factory = parts[0]
    _fill_dict(value, parts[1:])


def _fill_set(value: Any, parts: list[Any]) -> None:
    set.clear(value)
    set.update(value, parts)


def _fill_deque(value: Any, parts: list[Any]) -> None:
    if value.maxlen != parts[0]:
        deque.__init__(value, maxlen=parts[0])
    deque.clear(value)
    deque.extend(value, parts[1:])


def _fill_bytearray(value: Any, parts: list[Any]) -> None:
    bytearray.__setitem__(value, slice(None), parts[0])


_FILL: dict[str, Callable[[Any, list[Any]], None]] = {
    "list": _fill_list,
    "dict": _fill_dict,
    "counter": _fill_dict,
    "ordered": _fill_ordered,
    "defaultdict": _fill_defaultdict,
    "set": _fill_set,
    "deque": _fill_deque,
    "bytearray": _fill_bytearray,
}
