"""A GGUF file as a source of weights: configuration and tokenizer from its metadata, tensors
dequantized.

Any quantization that the ``gguf`` package can undo is read, to float32. A file that stores an
output head of its own is read as an untied model even where the original model ties head and
embedding, because the two were quantized differently: what is computed is what the file says, as
llama.cpp and transformers do.
"""

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.config import PolicyConfig, RopeScaling
from zerocoder_jax.policy.tokenizer import ChatTokenizer, gguf_tokenizer
from zerocoder_jax.policy.weight_names import checkpoint_tensors

_FAMILIES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama"}


class GgufCheckpoint:
    """Reads slices of dequantized tensors; names them as a Hugging Face checkpoint does."""

    def __init__(self, path: Path):
        self.origin = str(path)
        self._reader = _open(path)
        self._metadata = {
            key: field.contents() for key, field in self._reader.fields.items() if field.types
        }
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._latest: dict[str, np.ndarray] = {}
        self._config = self._read_config()
        self._gguf_names = {t.name: t.gguf_name for t in checkpoint_tensors(self._config)}

    def config(self) -> PolicyConfig:
        """The configuration in the metadata."""
        return self._config

    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer in the metadata."""
        return gguf_tokenizer(self._metadata, self.origin)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor; one that no parameter corresponds to keeps its GGUF name."""
        names = {gguf_name: name for name, gguf_name in self._gguf_names.items()}
        return {
            names.get(name, name): tuple(int(size) for size in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def file_of(self, name: str) -> str:
        """The file, and the tensor's name in it where that is another."""
        inside = self._gguf_names.get(name, name)
        return self.origin if inside == name else f"{self.origin} ({inside})"

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """One slice of a tensor, float32."""
        # A copy: the caller may keep it after the file is gone.
        return np.array(self._dequantized(name)[index], dtype=np.float32)

    def _dequantized(self, name: str) -> np.ndarray:
        # Shards of one tensor are asked for one after the other; blocks run along rows, so a tensor
        # is dequantized whole, once, and kept until the next one is asked for.
        if name not in self._latest:
            self._latest.clear()  # Before the next one is made.
            self._latest[name] = self._dequantize(name)
        return self._latest[name]

    def _dequantize(self, name: str) -> np.ndarray:
        tensor = self._tensors[self._gguf_names[name]]
        try:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise UserError(
                f"{self.origin}: tensor {tensor.name} has quantization "
                f"{tensor.tensor_type.name}, which cannot be read; use a file of another one"
            ) from error
        if self._config.family == "llama":
            heads = {
                "attn_q.weight": self._config.num_heads,
                "attn_k.weight": self._config.num_kv_heads,
            }.get(tensor.name.split(".", 2)[-1])
            if heads:
                values = _half_split_rows(values, heads)
        return values

    def _read_config(self) -> PolicyConfig:
        family = self._metadata.get("general.architecture")
        if family not in _FAMILIES:
            raise UserError(
                f"{self.origin}: architecture {family!r} is not supported; supported are "
                + ", ".join(_FAMILIES)
            )

        def field(name: str, default: Any = None) -> Any:
            return self._metadata.get(f"{family}.{name}", default)

        def required(name: str) -> Any:
            value = field(name)
            if value is None:
                raise UserError(f"{self.origin}: metadata field {family}.{name} is missing")
            return value

        if field("expert_count"):
            raise UserError(f"{self.origin}: mixture-of-experts models are not supported")
        if field("attention.sliding_window"):
            raise UserError(f"{self.origin}: sliding-window attention is not supported")
        heads, hidden_size = required("attention.head_count"), required("embedding_length")
        table = self._tensors.get("token_embd.weight")
        if table is None:
            raise UserError(f"{self.origin}: tensor token_embd.weight is missing")
        return PolicyConfig(
            family=_FAMILIES[family],  # type: ignore[arg-type]
            vocab_size=len(self._metadata.get("tokenizer.ggml.tokens", ())) or int(table.shape[1]),
            hidden_size=hidden_size,
            intermediate_size=required("feed_forward_length"),
            num_layers=required("block_count"),
            num_heads=heads,
            num_kv_heads=field("attention.head_count_kv", heads),
            head_dim=field("attention.key_length", hidden_size // heads),
            rope_theta=float(field("rope.freq_base", 10_000.0)),
            rope_scaling=self._rope_scaling(family),
            # Stored as float32; its shortest decimal is what the model's author wrote (1e-06).
            rms_norm_eps=float(str(np.float32(required("attention.layer_norm_rms_epsilon")))),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            tie_embeddings="output.weight" not in self._tensors,
            max_positions=field("context_length", 32_768),
        )

    def _rope_scaling(self, family: str) -> RopeScaling | None:
        def field(name: str, default: Any = None) -> Any:
            return self._metadata.get(f"{family}.rope.scaling.{name}", default)

        kind = field("type", "none")
        if kind == "none":
            return None
        if kind not in ("linear", "yarn"):
            raise UserError(f"{self.origin}: rope scaling {kind!r} is not supported")
        return RopeScaling(
            kind=kind,
            factor=float(field("factor", 1.0)),
            original_max_positions=int(
                field("original_context_length")
                or self._metadata.get(f"{family}.context_length", 32_768)
            )
            if kind == "yarn"
            else 0,
            beta_fast=float(field("yarn_beta_fast", 32.0)),
            beta_slow=float(field("yarn_beta_slow", 1.0)),
        )


class _CheckedReader(gguf.GGUFReader):
    """Reads a vocabulary at once, where the library reads it number by number; takes no truncated
    file for a whole one, and names the tensor at which it ends."""

    def _build_fields(self, offs: int, count: int) -> int:
        # The same memory as a plain array: slices of a memory map take three times as long.
        self.data: Any = np.asarray(self.data)
        return super()._build_fields(offs, count)

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        values = super()._get(offset, dtype, count, override_order)
        if len(values) < count:
            raise ValueError(f"it ends after {len(self.data)} bytes")
        return values

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[gguf.GGUFValueType]]:
        # From another byte order, and of other kinds, as the library does it.
        if raw_type != gguf.GGUFValueType.ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        header = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
        kind, count = gguf.GGUFValueType(header[0][0]), int(header[1][0])
        types, begin = [gguf.GGUFValueType.ARRAY, kind], orig_offs + 12
        if kind in self.gguf_scalar_to_np:
            values = self._get(begin, self.gguf_scalar_to_np[kind], count)
            return 12 + values.nbytes, [*header, values], [2], types
        if kind != gguf.GGUFValueType.STRING:
            return super()._get_field_parts(orig_offs, raw_type)
        # Each string is its length, 8 bytes, and its bytes.
        strings, buffer, end = [], memoryview(self.data), begin
        for _ in range(count):
            length = int.from_bytes(buffer[end : end + 8], sys.byteorder)
            strings.append(self.data[end + 8 : end + 8 + length])
            end += 8 + length
            if end > len(buffer):
                raise ValueError(f"it ends within {count} strings")
        return end - orig_offs, [*header, *strings], list(range(2, 2 + count)), types

    def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
        for field in fields:
            _, name, _, dimensions, type_number, offset = field.parts
            block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type_number[0])]
            size = int(np.prod(dimensions)) * block_bytes // block
            if start_offs + int(offset[0]) + size > len(self.data):
                raise UserError(
                    f"truncated: tensor {bytes(name).decode()} ends beyond the end of the file"
                )
        super()._build_tensors(start_offs, fields)


def _open(path: Path) -> gguf.GGUFReader:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; set config.policy.source")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"{path}: not a GGUF file")
    try:
        return _CheckedReader(path)
    except UserError as error:
        raise UserError(f"{path}: {error}; download the file again") from error
    # The library runs off the end of its memory map in several ways.
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise UserError(
            f"{path}: truncated or malformed in its metadata ({error}); download the file again"
        ) from error


def _half_split_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a Llama query or key projection from GGUF's interleaved pairs to half-split ones."""
    rows, width = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(rows, width)
