"""The bytes of data files: plain, compressed, or members of a zip archive."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from zerocoder_jax.errors import UserError

_TEXTS = (".jsonl", ".json")
SUFFIXES = (
    *(f"{text}{packed}" for packed in ("", ".gz", ".zst") for text in _TEXTS),
    ".parquet",
    ".zip",
)


# What reading such a stream raises where the file is damaged or cannot be read.
DAMAGED = (OSError, EOFError, UnicodeError, zlib.error, zipfile.BadZipFile)


def data_streams(file: Path) -> Iterator[tuple[str, str, BinaryIO]]:
    """(place for messages, name without compression, stream) of a file, or of each zip member.

    Raises:
      UserError: it needs a package that is not installed, or a zip archive holds no data.
      OSError: or another one of ``DAMAGED``.
    """
    if file.suffix == ".zip":
        yield from _zip_members(file)
    elif file.suffix == ".gz":
        with gzip.open(file) as stream:
            yield str(file), file.stem, cast(BinaryIO, stream)
    elif file.suffix == ".zst":
        yield str(file), file.stem, _decompressed(file)
    else:
        with file.open("rb") as plain:
            yield str(file), file.name, plain


def _zip_members(file: Path) -> Iterator[tuple[str, str, BinaryIO]]:
    with zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(_TEXTS))
        if not names:
            raise UserError(f"{file}: an archive without {' or '.join(_TEXTS)} files")
        if any(archive.getinfo(name).flag_bits & 1 for name in names):
            raise UserError(f"{file}: the archive is encrypted; unpack it first")
        for name in names:
            with archive.open(name) as stream:
                yield f"{file}, {name}", Path(name).name, cast(BinaryIO, stream)


def _decompressed(file: Path) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise UserError(
            f"{file}: reading .zst needs zstandard; install it with `pip install zstandard`, or"
            f" decompress the file with `zstd -d {file}`"
        ) from None
    try:
        with zstandard.open(file, "rb") as stream:
            return io.BytesIO(stream.read())
    except zstandard.ZstdError as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
