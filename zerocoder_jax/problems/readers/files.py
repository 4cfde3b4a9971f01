"""The files of a data set: one file, a directory, or a download from the Hugging Face hub."""

import re
from pathlib import Path

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.records import SUFFIXES

# Identifier, folder, revision.
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")
# What tools write beside the data, in the formats of data.
_FOREIGN = frozenset(
    f"{name}.json"
    for name in (
        *("config", "dataset_dict", "dataset_info", "dataset_infos", "index", "metadata"),
        *("package", "package-lock", "state", "stats", "summary"),
    )
)


def data_files(path: str, split: str = "all", splits: tuple[str, ...] = ()) -> list[Path]:
    """The data files at ``path``, sorted by name.

    A directory is searched through all its folders. Where ``split`` is not ``"all"`` and files
    carry its name (``train.jsonl``, ``data/train-00000-of-00001.parquet``), only those are taken;
    where none does, those that carry none of the names ``splits``. Hidden files and those that
    tools write beside data (``dataset_infos.json``) are passed over, and ``.json`` files where
    there are JSON lines or parquet. A path that does not exist and looks like ``owner/name`` or
    ``owner/name/folder``, perhaps with ``@revision``, is downloaded from the hub and cached.

    Raises:
      UserError: nothing there, no data files, files of other splits only, or no connection to the
        hub.
    """
    place = Path(path).expanduser()
    if not place.exists():
        hub_id = _HUB_ID.fullmatch(path)
        if hub_id is None:
            raise UserError(f"{path}: no such file or directory")
        place = _download(hub_id[1], hub_id[2].strip("/"), hub_id[3])
    if place.is_file():
        return [place]
    files = _data_files_below(place)
    if not files:
        raise UserError(f"{path}: a directory without {', '.join(SUFFIXES)} files")
    if split == "all":
        return files
    of_split = [file for file in files if file.name.startswith(split)]
    unnamed = [file for file in files if not file.name.startswith(splits)]
    if not of_split and not unnamed:
        raise UserError(f"{path}: no files of split '{split}', only {files[0].name} and the like")
    return of_split or unnamed


def _data_files_below(place: Path) -> list[Path]:
    files = sorted(
        file
        for file in place.rglob("*")
        if file.name.endswith(SUFFIXES)
        and file.is_file()
        and file.name not in _FOREIGN
        and not any(part.startswith(".") for part in file.relative_to(place).parts)
    )
    tables = [file for file in files if ".jsonl" in file.name or file.suffix == ".parquet"]
    return tables or files


def _download(hub_id: str, folder: str, revision: str | None) -> Path:
    hint = f"{hub_id}: no such file or directory, and not to be had from the Hugging Face hub"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(f"{hint}: huggingface_hub is not installed") from None
    patterns = [f"{folder}/*{suffix}" if folder else f"*{suffix}" for suffix in SUFFIXES]
    try:
        copy = snapshot_download(
            hub_id, repo_type="dataset", revision=revision, allow_patterns=patterns
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{hint} ({reason})") from None
    return Path(copy) / folder
