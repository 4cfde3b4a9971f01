"""A Hugging Face directory as a source of weights: configuration, tokenizer, slices of tensors."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16, which safetensors then returns)
import numpy as np
from safetensors import SafetensorError, safe_open

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.config import PolicyConfig, config_from_hugging_face
from zerocoder_jax.policy.tokenizer import (
    ChatTokenizer,
    read_directory_tokenizer,
    read_json_object,
)

# Stored by old checkpoints although it follows from the configuration.
_DERIVED = "rotary_emb.inv_freq"

_READABLE = ("BF16", "F16", "F32")


class SafetensorsCheckpoint:
    """Reads slices of tensors from one ``model.safetensors`` or from the shards of an index."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.origin = str(directory)
        self._files = _open_files(directory)
        # Tensor name -> file that holds it.
        self._file_of: dict[str, Path] = {}
        for path, file in self._files.items():
            self._file_of |= {name: path for name in file.keys() if _DERIVED not in name}  # noqa: SIM118

    def config(self) -> PolicyConfig:
        """The configuration in ``config.json``."""
        path = self.directory / "config.json"
        if not path.exists():
            raise UserError(f"{path} is missing; give the directory of a whole checkpoint")
        try:
            fields = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: malformed JSON: {error}; download the file again") from error
        return config_from_hugging_face(fields, str(path))

    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer beside the weights."""
        return read_directory_tokenizer(self.directory)

    def generation_config(self) -> dict[str, Any]:
        """The sampling defaults beside the weights; empty where there are none."""
        return read_json_object(self.directory / "generation_config.json")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        return {name: tuple(self._slice(name).get_shape()) for name in self._file_of}

    def file_of(self, name: str) -> str:
        """The file that holds a tensor; the whole checkpoint for one that no file holds."""
        return str(self._file_of.get(name, self.directory))

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """One slice of a tensor in its stored precision; nothing else of the file is read."""
        tensor = self._slice(name)
        if tensor.get_dtype() not in _READABLE:
            raise UserError(
                f"{self.file_of(name)}: tensor {name} is {tensor.get_dtype()}; readable are "
                + ", ".join(_READABLE)
            )
        return tensor[index]

    def _slice(self, name: str) -> Any:
        return self._files[self._file_of[name]].get_slice(name)


def _open_files(directory: Path) -> dict[Path, Any]:
    """Open every file of weights; what cannot be opened is refused by name."""
    if not directory.is_dir():
        raise UserError(f"{directory}: there is no such directory; set config.policy.source")
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if index.exists():
        try:
            paths = sorted(
                {directory / f for f in json.loads(index.read_text())["weight_map"].values()}
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{index}: malformed index; download the file again") from error
    elif single.exists():
        paths = [single]
    else:
        raise UserError(
            f"{directory}: neither model.safetensors nor model.safetensors.index.json is there; "
            "weights in other formats must be converted to safetensors"
        )
    files = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} is missing, though {index.name} names it; download it again")
        try:
            files[path] = safe_open(str(path), framework="np")
        except SafetensorError as error:
            raise UserError(f"{path}: {_defect(path, error)}; download the file again") from error
    return files


def _defect(path: Path, error: SafetensorError) -> str:
    """What is wrong with a file that the library refuses; names the first tensor cut off."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
    except (struct.error, ValueError, OverflowError, MemoryError):
        return f"truncated or not a safetensors file ({error})"
    for name, entry in header.items():
        if name != "__metadata__" and 8 + header_size + entry["data_offsets"][1] > size:
            return f"truncated: tensor {name} ends beyond the end of the file"
    return f"malformed ({error})"
