"""Plain data, from an untrusted process to one that compares it.

``encode`` runs beside the candidate, ``decode`` does not. What is sent is JSON in which lists,
strings, numbers, booleans and None stand for themselves, and everything else is an object with one
key that names its type. An instance of a *subclass* of a plain type is sent as the content its
base class holds, read by the base class's own methods, so that a lying ``__eq__``, ``__len__`` or
``__iter__`` has no say. An object of any other type arrives as ``Opaque``, which equals nothing.

What a report says must be what the function returned, even where the solution has rebound
``json.dumps`` or ``builtins.isinstance``: this module keeps its own builtins, and writes JSON with
the encoder in C, which looks nothing up.
"""

import builtins
import json
import re
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

# Functions look builtins up where their module was when they were defined.
__builtins__ = dict(vars(builtins))  # type: ignore[assignment]

LARGE = 1 << 63
# Far more than chance gives.
_MOST_OF_A_HASH = 64
_PLAIN = (str, bool, type(None), float)
_SEQUENCES = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_BYTES = {bytes: "bytes", bytearray: "bytearray"}
# Dictionaries with an equality of their own.
_DICTIONARIES = {OrderedDict: "ordered", Counter: "counter"}
_TIMES = {date: "date", time: "time", datetime: "datetime"}
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.items()))
_SINGLES = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}
# Types that a value may be: every class of the builtins.
TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
TYPE_NAMES = {kind: name for name, kind in TYPES.items()}
# Numbers, texts and times of NumPy, without objects and records.
_DTYPE = re.compile(r"[<>|=][biufcSUmM][0-9]{1,9}(\[[0-9a-zA-Z]+\])?")


class Malformed(Exception):
    """What arrived was not written by ``encode``."""


class Opaque:
    """An object that is no plain data: equal to nothing, as true as its process said."""

    __slots__ = ("truth",)

    def __init__(self, truth: bool) -> None:
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__  # it may lie in a set


def encode(value: Any) -> Any:
    """``value`` as something that ``json.dumps`` writes and ``decode`` reads back.

    Raises whatever walking a hostile object raises; ``RecursionError`` for one that holds itself.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -LARGE < value < LARGE else {"int": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind is tuple:
        return {"tuple": [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    return _encode_rare(value, kind)


def _encode_rare(value: Any, kind: type) -> Any:
    if kind in _DICTIONARIES:
        items = kind.items(value)  # type: ignore[attr-defined]
        return {_DICTIONARIES[kind]: [[encode(key), encode(item)] for key, item in items]}
    for base, name in _SEQUENCES.items():
        if issubclass(kind, base):
            items = [encode(item) for item in base.__iter__(value)]
            return items if base is list else {name: items}
    if issubclass(kind, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in dict.items(value)]}
    if issubclass(kind, int):  # the base's own arithmetic gives a real int, whatever is overridden
        return encode(int.__add__(value, 0))
    if issubclass(kind, float):
        return float.__add__(value, 0.0)
    if issubclass(kind, str):
        return str.__str__(value)
    for base, name in _BYTES.items():
        if issubclass(kind, base):
            return {name: base.hex(value)}
    if issubclass(kind, complex):
        exact = complex.__add__(value, 0)
        return {"complex": [exact.real, exact.imag]}
    if kind is Fraction:
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if kind is Decimal:
        return {"decimal": str(value)}
    if kind is range:
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if kind is deque:
        return {"deque": [encode(item) for item in value]}
    if kind in _TIMES:
        return {_TIMES[kind]: value.isoformat()}
    if kind is timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if kind in _VIEWS:
        return {"set": [encode(item) for item in value]}
    for name, single in _SINGLES.items():
        if value is single:
            return {"single": name}
    if kind is type and value in TYPE_NAMES:
        return {"type": TYPE_NAMES[value]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        return encode_array(value)
    if numpy is not None and issubclass(kind, numpy.generic):
        return encode_array(value) | {"scalar": True}
    return {"opaque": bool(value)}


def encode_array(value: Any) -> dict[str, Any]:
    """An array of NumPy, or a scalar: its shape, type and bytes; ``object`` items one by one."""
    array = sys.modules["numpy"].asarray(value)
    if array.dtype.hasobject:
        content: Any = [encode(item) for item in array.ravel().tolist()]
    else:
        content = array.tobytes().hex()
    return {"array": [array.dtype.str, list(array.shape), content]}


def decode_array(data: Any) -> Any:
    """What ``encode_array`` was given, if this process has NumPy; else a list."""
    dtype, shape, content = data
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise Malformed("an array without NumPy")
    shape = tuple(map(int, shape))
    if dtype == "|O":
        array = numpy.empty(len(content), object)
        array[:] = [_decode(item) for item in content]
        return array.reshape(shape)
    if type(dtype) is not str or not _DTYPE.fullmatch(dtype):
        raise Malformed("not a type of NumPy")
    return numpy.frombuffer(bytearray.fromhex(content), dtype).reshape(shape)


def decode(data: Any) -> Any:
    """The value that ``encode`` was given; ``Malformed`` where that cannot be."""
    try:
        return _decode(data)
    except (TypeError, LookupError, ValueError, ArithmeticError) as error:
        raise Malformed(str(error)) from None
    except (RecursionError, MemoryError) as error:
        raise Malformed(str(error)) from None


def _decode(data: Any) -> Any:
    kind = type(data)
    if kind in _PLAIN or kind is int:
        return data
    if kind is list:
        return [_decode(item) for item in data]
    if kind is not dict or not data:
        raise Malformed("not a value")
    name, content = next(iter(data.items()))
    if name == "array":
        array = decode_array(content)
        return array[()] if "scalar" in data else array
    if len(data) != 1:
        raise Malformed("not a value")
    return _DECODERS[name](content) if name in _DECODERS else _unknown(name)


def _unknown(name: object) -> Any:
    raise Malformed(f"no type {name!r}")


def _decode_complex(parts: Any) -> complex:
    real, imaginary = map(float, parts)
    return complex(real, imaginary)


def _decode_fraction(parts: Any) -> Fraction:
    numerator, denominator = map(_decode, parts)
    if type(numerator) is not int or type(denominator) is not int:
        raise Malformed("not a fraction")  # of a text it would compute any power of ten
    return Fraction(numerator, denominator)


def _decode_hashed(items: Any) -> list[Any]:
    """Items of a set, or keys; were they made to share a hash, time would grow as their square."""
    decoded = [_decode(item) for item in items]
    counts = Counter(map(hash, decoded))
    if max(counts.values(), default=0) > _MOST_OF_A_HASH:
        raise Malformed("items that share a hash")
    return decoded


def _decode_dictionary(items: Any, kind: Callable[[Any], Any]) -> Any:
    keys = _decode_hashed([key for key, _ in items])
    return kind(dict(zip(keys, [_decode(item) for _, item in items])))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(_decode(item) for item in items),
    "set": lambda items: set(_decode_hashed(items)),
    "frozenset": lambda items: frozenset(_decode_hashed(items)),
    "dict": lambda items: _decode_dictionary(items, dict),
    "ordered": lambda items: _decode_dictionary(items, OrderedDict),
    "counter": lambda items: _decode_dictionary(items, Counter),
    "range": lambda parts: range(*map(_decode, parts)),
    "deque": lambda items: deque(_decode(item) for item in items),
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda parts: timedelta(*map(int, parts)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": _decode_complex,
    "fraction": _decode_fraction,
    "decimal": Decimal,
    "single": lambda name: _SINGLES[name],
    "type": lambda name: TYPES[name],
    "opaque": lambda truth: Opaque(truth is True),
}


# Its arguments are those of ``json.dumps``; all of it is in C.
_write_json = json.encoder.c_make_encoder(  # type: ignore[attr-defined, misc]
    None, None, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True
)

# Each NaN is an object of its own, as where it was computed.
_read_json = json.JSONDecoder(parse_constant=float).decode


def to_json(data: Any) -> bytes:
    """``json.dumps`` of what ``encode`` gives, as one line of ASCII."""
    return "".join(_write_json(data, 0)).encode()


def dumps(value: Any) -> bytes:
    """``encode``, as one line of ASCII."""
    return to_json(encode(value))


def loads(line: bytes) -> Any:
    """``decode`` of one line; ``Malformed`` for anything that ``dumps`` did not write."""
    return decode(from_json(line))


def from_json(line: bytes) -> Any:
    """The JSON of one line; ``Malformed`` where it is none."""
    try:
        return _read_json(line.decode("ascii"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(str(error)) from None
