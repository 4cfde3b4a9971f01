"""Messages between the pool and its worker processes: JSON behind a four-byte length."""

import json
import os
import struct
from typing import Any

_LENGTH = struct.Struct("<I")


def pack(message: Any) -> bytes:
    """One message, ready to be written."""
    body = json.dumps(message).encode()
    return _LENGTH.pack(len(body)) + body


def read_exactly(descriptor: int, count: int) -> bytes | None:
    """So many bytes, or None when the other end is gone."""
    parts = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive(descriptor: int) -> Any:
    """The next message, or None when the other end is gone."""
    head = read_exactly(descriptor, _LENGTH.size)
    body = None if head is None else read_exactly(descriptor, _LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def send(descriptor: int, message: Any) -> None:
    write_all(descriptor, pack(message))


class Incoming:
    """Takes messages apart that arrive in pieces on a non-blocking descriptor."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are complete now."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(json.loads(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return messages
