"""Files of a run on disks that fill up, go away for a moment, or are lost.

What a run cannot do without (metrics, rollouts, checkpoints) is tried again and then ends the run
in one line; what is a copy (report, TensorBoard, console) warns once and the run continues.
"""

import contextlib
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from zerocoder_jax.errors import Restartable

Result = TypeVar("Result")

# Seconds between the attempts: a network disk may be away for a moment, a full one be emptied.
WAITS = (1.0, 4.0, 15.0)


class StorageFailed(Restartable):
    """Something that a run cannot do without could not be written."""


def reason(error: BaseException) -> str:
    """One line: what the system said, without the numbers around it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    # tensorstore's form: "...: Failed to write 64 bytes to file 7: No space left on device [...]".
    if found := re.search(r"([^:\[\]]+) \[os_error_code=", text):
        return found[1].strip()
    return f"{type(error).__name__}: {text[:200]}"


def keep_trying(write: Callable[[], Result], what: str | Path) -> Result:
    """``write()``, again after each of ``WAITS`` where it raises ``OSError``.

    Raises:
        StorageFailed: it failed every time; says what, and why.
    """
    for wait in WAITS:
        try:
            return write()
        except OSError as error:
            warn(f"{what} could not be written ({reason(error)}): trying again in {wait:.0f} s")
            time.sleep(wait)
    try:
        return write()
    except OSError as error:
        raise StorageFailed(
            f"{what} cannot be written: {reason(error)}. What was written before is whole; "
            "once that is mended, the same command continues the run"
        ) from error


class Copies:
    """Writes what a run can do without: the first failure of each destination is a warning.

    Attributes:
        failed: the destinations that have failed so far.
    """

    def __init__(self) -> None:
        self.failed: set[str] = set()

    def write(self, name: str, write: Callable[[], Any]) -> None:
        """``write()``, whose failure costs nothing but this copy."""
        try:
            write()
        except Exception as error:  # of whatever library writes there
            if name not in self.failed:
                warn(f"{name} could not be written ({reason(error)}): the run continues without it")
            self.failed.add(name)


def warn(text: str) -> None:
    """One line on stderr; a closed terminal is no reason to stop."""
    with contextlib.suppress(OSError):
        print(f"warning: {' '.join(text.split())}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line on standard output, which a reader may have left."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def append_line(path: Path, line: str) -> None:
    """Append a line whole or not at all; the file is opened anew, so that it is the one of this
    name and not one that was removed.

    Raises:
        OSError: nothing was appended.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            data = line.encode() + b"\n"
            while data:
                data = data[file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, end)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; lines that are no JSON object are left out.

    A line is unreadable when its process was killed while writing it or is writing it just now.
    """
    if not path.exists():
        return []
    records = []
    # Split at line feeds alone: str.splitlines would also cut at U+2028 inside a string.
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def now() -> str:
    """The time as it stands in a run's files: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
