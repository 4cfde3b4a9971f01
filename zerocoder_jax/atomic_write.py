"""Writing a file whole or not at all: beside its place first, then there by one rename."""

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path


def write_atomically(
    path: Path, content: str | Iterable[str], *, encoding: str = "utf-8", errors: str = "strict"
) -> None:
    """Replace ``path`` in one piece: a reader finds the old file or the new one, never a half.

    That holds after a kill or a power cut too, and where several processes, on several machines
    that share a disk, write the same file at once: the last one to finish wins.

    Args:
        path: in a folder that exists.
        content: the text, or its pieces in order.
        encoding, errors: as of ``open``.

    Raises:
        OSError: the file cannot be written; what was there before stays.
    """
    unfinished = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.writing")
    try:
        with unfinished.open("w", encoding=encoding, errors=errors) as file:
            file.writelines([content] if isinstance(content, str) else content)
            file.flush()
            # Otherwise the rename may reach the disk before the content does.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
