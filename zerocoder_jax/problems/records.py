"""Records of data files, each with the place it came from, read without converting anything.

JSON lines, one JSON list, either of them compressed (gzip, zstd, zip) or in UTF-16, and parquet
(extra: ``parquet``).
"""

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.data_streams import DAMAGED, SUFFIXES, data_streams

__all__ = ["SUFFIXES", "MalformedRecord", "Record", "read_records"]

_REQUIRED: Any = object()
_TYPE_NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


# A file in UTF-32 begins as one in UTF-16 does.
_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class MalformedRecord(UserError):
    """A record that is not what its format promises; names the file and the line."""


@dataclass(frozen=True)
class Record:
    """One record and where it stands.

    Attributes:
      where: the file and the line (or row) for messages, for example ``mbpp.jsonl, line 12``.
      file_name: the file's name, without its folder.
      raw: the undecoded line, or the decoded fields where the file was decoded as a whole.
    """

    where: str
    file_name: str
    raw: str | bytes | Mapping[str, Any]

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """The record's fields. Decoded on first use, so that a bad line spoils only itself."""
        fields = self.raw
        if isinstance(fields, str | bytes):
            fields = self.decode(fields, "the record")
        if not isinstance(fields, Mapping):
            raise self.malformed(f"expected a JSON object, found {type(fields).__name__}")
        return fields

    def malformed(self, what: str) -> MalformedRecord:
        """The error that names this record."""
        return MalformedRecord(f"{self.where}: {what}")

    def decode(
        self, text: str | bytes, name: str, parse_int: Callable[[str], Any] | None = None
    ) -> Any:
        """JSON inside the record, such as a field that holds JSON as text.

        ``parse_int`` makes something else than an int of the digits of whole numbers.
        """
        try:
            return json.loads(text, parse_int=parse_int or _int_of_any_length)
        except (ValueError, RecursionError) as error:
            raise self.malformed(f"{name} is not valid JSON ({error})") from None

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(name) is not None

    def _get(self, name: str, kind: type, default: Any) -> Any:
        value = self.fields.get(name)
        if value is None:
            if default is _REQUIRED:
                raise self.malformed(f"field '{name}' is missing")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = type(value).__name__
            raise self.malformed(f"field '{name}' must be {_TYPE_NAMES[kind]}, found {found}")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A text field; without a default its absence is an error."""
        value = self._get(name, str, default)
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can say "\\ud83d", which no tokenizer takes
            raise self.malformed(f"field '{name}' holds half a character") from None
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> int:
        """A field that holds a whole number."""
        return self._get(name, int, default)

    def items(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        """A field that holds a list."""
        return self._get(name, list, default)

    def texts(self, name: str, default: Any = _REQUIRED) -> list[str]:
        """A field that holds a list of texts."""
        values = self._get(name, list, default)
        for value in values:
            if not isinstance(value, str):
                raise self.malformed(f"field '{name}' must be a list of texts")
        return values


def read_records(files: Iterable[Path]) -> Iterator[Record]:
    """The records of the files, in order; nothing is decoded before it is used."""
    for file in files:
        if file.suffix == ".parquet":
            yield from _parquet_rows(file)
        else:
            yield from _json_records(file)


def _int_of_any_length(digits: str) -> int:
    """``int`` alone refuses more than 4300 digits."""
    try:
        return int(digits)
    except ValueError:
        return int(Decimal(digits))


def _json_records(file: Path) -> Iterator[Record]:
    try:
        for place, name, stream in data_streams(file):
            yield from _records_of(place, name, stream)
    except DAMAGED as error:
        raise UserError(f"{file}: cannot be read ({error})") from None


def _records_of(place: str, name: str, stream: BinaryIO) -> Iterator[Record]:
    """The records of one stream: a JSON list or object, or JSON lines, whatever it is named."""
    lines = enumerate(_lines(stream), start=1)
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, b""))
    if _is_object(first) or not (_opens_list(first) or name.endswith(".json")):
        if number:
            yield Record(f"{place}, line {number}", name, first)
        for number, line in lines:
            if line.strip():
                yield Record(f"{place}, line {number}", name, line)
        return
    whole = Record(place, name, first + b"".join(line for _, line in lines))
    values = whole.decode(whole.raw, "the file")  # type: ignore[arg-type]
    for index, value in enumerate(values if isinstance(values, list) else [values], start=1):
        yield Record(f"{place}, record {index}", name, _object(value))


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The stream's lines in UTF-8; what is in UTF-16 or UTF-32 is converted."""
    first = stream.read(4)
    rest = io.BufferedReader(_Rejoined(first.removeprefix(codecs.BOM_UTF8), stream))
    for mark, encoding in _WIDE.items():
        if first.startswith(mark):
            return (line.encode() for line in io.TextIOWrapper(rest, encoding=encoding))
    return iter(rest)


class _Rejoined(io.RawIOBase):
    """A stream of which the first bytes have been read already."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._first[: len(buffer)] or self._stream.read(len(buffer))
        self._first = self._first[len(taken) :] if self._first else b""
        buffer[: len(taken)] = taken
        return len(taken)


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object by itself."""
    try:
        return isinstance(json.loads(line, parse_int=len), dict)
    except (ValueError, RecursionError):
        return False


def _opens_list(line: bytes) -> bool:
    return line.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _object(value: Any) -> Mapping[str, Any] | bytes:
    # A value that is no object goes on as JSON text, to be refused where records are decoded.
    return value if isinstance(value, dict) else json.dumps(value).encode()


def _parquet_rows(file: Path) -> Iterator[Record]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise UserError(
            f"{file}: reading parquet needs pyarrow; install it with"
            " `pip install 'zerocoder_jax[parquet]'`"
        ) from None
    try:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield Record(f"{file}, row {number}", file.name, row)
    except (ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read as parquet ({error})") from None
