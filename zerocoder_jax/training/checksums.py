"""Checksums of a folder's files: a disk that changes a bit is noticed before its number is used."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zerocoder_jax.atomic_write import write_atomically

FILE_NAME = "checksums.json"
_BLOCK = 1 << 22
# hashlib computes without the interpreter's lock.
_THREADS = 8


class Damaged(Exception):
    """A file is not what was written; the message names it."""


def write_checksums(folder: Path) -> None:
    """Write ``FILE_NAME``: size and BLAKE2 digest of every file in the folder's subfolders. What
    lies beside those is orbax's own, written again later and not read here."""
    files = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(_THREADS) as threads:
        sums = list(threads.map(_sum, files))
    named = {str(path.relative_to(folder)): one for path, one in zip(files, sums)}
    write_atomically(folder / FILE_NAME, json.dumps(named, indent=1) + "\n")


def verify(folder: Path, part: str = "") -> None:
    """Compare the files of the folder, or of one part of it, with their checksums.

    Raises:
        Damaged: a file is missing, cut or changed, or the checksums themselves are.
    """
    try:
        sums = json.loads((folder / FILE_NAME).read_bytes())
        wanted = {name: one for name, one in sums.items() if name.startswith(part)}
    except (OSError, ValueError, AttributeError) as error:
        raise Damaged(f"{FILE_NAME} cannot be read") from error
    if not wanted:
        raise Damaged(f"{FILE_NAME} names no file")

    def check(name: str) -> str:
        try:
            found = _sum(folder / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        return "" if found == wanted[name] else f"{name} has changed since it was written"

    with ThreadPoolExecutor(_THREADS) as threads:
        for problem in threads.map(check, wanted):
            if problem:
                raise Damaged(problem)


def _sum(path: Path) -> dict[str, int | str]:
    digest, size = hashlib.blake2b(digest_size=16), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "blake2b": digest.hexdigest()}
