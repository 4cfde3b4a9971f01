"""A GGUF file as a source of weights: configuration and tokenizer from its metadata, tensors
dequantized.

Any quantization that the ``gguf`` package can undo is read, to float32. A file that stores an
output head of its own is read as an untied model even where the original model ties head and
embedding, because the two were quantized differently: what is computed is what the file says, as
llama.cpp and transformers do.
"""

import math
import re
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.config import PolicyConfig, RopeScaling, TypedFields
from zerocoder_jax.policy.tokenizer import ChatTokenizer, gguf_tokenizer
from zerocoder_jax.policy.weight_names import checkpoint_tensors

_FAMILIES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama"}


# Metadata that is read, or that is neutral while it has one of the values given here.
_ROPE_METADATA: dict[str, tuple[Any, ...] | None] = {
    "freq_base": None,
    "dimension_count": None,
    "scale_linear": None,
    "scaling.type": None,
    "scaling.factor": None,
    "scaling.attn_factor": None,
    "scaling.original_context_length": None,
    "scaling.finetuned": None,
    "scaling.yarn_beta_fast": None,
    "scaling.yarn_beta_slow": None,
    "scaling.yarn_ext_factor": (-1.0, 1.0),
    "scaling.yarn_attn_factor": (1.0,),
}
_ATTENTION_METADATA: dict[str, tuple[Any, ...] | None] = {
    "head_count": None,
    "head_count_kv": None,
    "key_length": None,
    "value_length": None,
    "layer_norm_rms_epsilon": None,
    "causal": (True,),
    "sliding_window": (0,),
}

# Numbers of quantizations that were part of the format once.
_REMOVED = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}

# What llama.cpp calls the sampling defaults of a generation config.
_SAMPLING_METADATA = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


class GgufCheckpoint:
    """Reads slices of dequantized tensors; names them as a Hugging Face checkpoint does."""

    def __init__(self, path: Path):
        """``path`` is the file, or any one of the files that a large model is split into."""
        self.origin = str(path)
        readers = {part: _open(part) for part in _parts(path)}
        self._metadata = _metadata(next(iter(readers.values())))
        self._tensors = {
            tensor.name: tensor for reader in readers.values() for tensor in reader.tensors
        }
        self._file_of = {
            tensor.name: part for part, reader in readers.items() for tensor in reader.tensors
        }
        self._check_split(readers)
        self._latest: dict[str, np.ndarray] = {}
        self._config = self._read_config()
        self._gguf_names = {t.name: t.gguf_name for t in checkpoint_tensors(self._config)}

    def config(self) -> PolicyConfig:
        """The configuration in the metadata."""
        return self._config

    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer in the metadata."""
        return gguf_tokenizer(self._metadata, self.origin)

    def generation_config(self) -> dict[str, Any]:
        """The sampling defaults in the metadata, in the names of ``generation_config.json``."""
        found = {
            name: self._metadata[f"general.sampling.{key}"]
            for key, name in _SAMPLING_METADATA.items()
            if f"general.sampling.{key}" in self._metadata
        }
        return {"do_sample": True, **found} if found else {}

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
        file = str(self._file_of.get(inside, self.origin))
        return file if inside == name else f"{file} ({inside})"

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
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if self._config.family == "llama":
            heads = {
                "attn_q.weight": self._config.num_heads,
                "attn_k.weight": self._config.num_kv_heads,
            }.get(tensor.name.split(".", 2)[-1])
            if heads:
                values = _half_split_rows(values, heads)
        return values

    def _check_split(self, readers: dict[Path, gguf.GGUFReader]) -> None:
        """Refuse parts that do not make one model."""
        for number, (part, reader) in enumerate(readers.items()):
            found = _metadata(reader)
            # A file that was merged from parts says that there are 0.
            count = found.get("split.count") or 1
            if count != len(readers) or found.get("split.no", 0) != number:
                raise UserError(
                    f"{part}: it is not part {number + 1} of {len(readers)}; the files of one "
                    "model must lie together under the names that they were published with"
                )
        expected = self._metadata.get("split.tensors.count") or len(self._tensors)
        if expected != len(self._tensors):
            raise UserError(
                f"{self.origin}: its parts have {len(self._tensors)} tensors together, but "
                f"{expected} are announced; they do not belong together"
            )

    def _read_config(self) -> PolicyConfig:
        read = TypedFields(self._metadata, self.origin)
        family = self._metadata.get("general.architecture")
        if family not in _FAMILIES:
            read.refuse(
                f"architecture {family!r} is not supported; supported are {', '.join(_FAMILIES)}"
            )
        if self._metadata.get(f"{family}.expert_count"):
            read.refuse("mixture-of-experts models are not supported")
        if self._metadata.get(f"{family}.attention.sliding_window"):
            read.refuse("sliding-window attention is not supported")
        table = self._tensors.get("token_embd.weight")
        if table is None:
            read.refuse("tensor token_embd.weight is missing")
        heads = read.integer(f"{family}.attention.head_count")
        hidden_size = read.integer(f"{family}.embedding_length")
        head_dim = read.integer(f"{family}.attention.key_length", hidden_size // heads)
        self._refuse_unsupported(read, family, head_dim)
        # Stored as float32; its shortest decimal is what the model's author wrote (1e-06).
        epsilon = np.float32(read.number(f"{family}.attention.layer_norm_rms_epsilon"))
        return PolicyConfig(
            family=_FAMILIES[family],  # type: ignore[arg-type]
            vocab_size=len(self._metadata.get("tokenizer.ggml.tokens", ())) or int(table.shape[1]),
            hidden_size=hidden_size,
            intermediate_size=read.integer(f"{family}.feed_forward_length"),
            num_layers=read.integer(f"{family}.block_count"),
            num_heads=heads,
            num_kv_heads=read.integer(f"{family}.attention.head_count_kv", heads),
            head_dim=head_dim,
            rope_theta=read.number(f"{family}.rope.freq_base", 10_000.0),
            rope_scaling=_rope_scaling(read, f"{family}."),
            rms_norm_eps=float(str(epsilon)),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            tie_embeddings="output.weight" not in self._tensors,
            max_positions=read.integer(f"{family}.context_length", 32_768),
        )

    def _refuse_unsupported(self, read: TypedFields, family: str, head_dim: int) -> None:
        """Refuse, by name, what would change the attention and is not computed here."""
        for group, known in (("rope.", _ROPE_METADATA), ("attention.", _ATTENTION_METADATA)):
            prefix = f"{family}.{group}"
            for field, value in self._metadata.items():
                neutral = known.get(field.removeprefix(prefix), ())
                if field.startswith(prefix) and neutral is not None and value not in neutral:
                    read.refuse(f"metadata field {field} = {value!r} is not supported")
        for field in (f"{family}.rope.dimension_count", f"{family}.attention.value_length"):
            if read.integer(field, head_dim) != head_dim:
                read.refuse(f"metadata field {field} is not the head size {head_dim}: heads that "
                            "rotate in part or differ in width are not supported")  # fmt: skip
        for name in self._tensors:
            if name.startswith(("rope_freqs", "rope_factors")):
                read.refuse(
                    f"tensor {name} stretches each rotary frequency on its own, which is not "
                    "supported in GGUF files; use the model's Hugging Face directory"
                )


def _rope_scaling(read: TypedFields, prefix: str) -> RopeScaling | None:
    """How llama.cpp stretches the rotary frequencies by this metadata."""
    scaling = f"{prefix}rope.scaling."
    # Older files have one factor, of linear scaling; so has a factor without a kind.
    factors = (f"{scaling}factor", f"{prefix}rope.scale_linear")
    factor = next((field for field in factors if read.fields.get(field)), None)
    kind = read.text(f"{scaling}type", "linear" if factor else "none")
    sharpened = read.number(f"{scaling}attn_factor", 1.0)
    if kind != "yarn" and sharpened != 1.0:
        read.refuse(f"metadata field {scaling}attn_factor is supported with yarn alone")
    if kind == "none" or (kind == "linear" and factor is None):
        return None
    if kind not in ("linear", "yarn"):
        read.refuse(f"rope scaling {kind!r} is not supported; supported are linear and yarn")
    stretch = read.number(factor or factors[0])
    if kind == "linear":
        return RopeScaling(kind="linear", factor=stretch)
    context = read.integer(f"{prefix}context_length", 32_768)
    return RopeScaling(
        kind="yarn",
        factor=stretch,
        original_max_positions=read.integer(f"{scaling}original_context_length", context),
        beta_fast=read.number(f"{scaling}yarn_beta_fast", 32.0),
        beta_slow=read.number(f"{scaling}yarn_beta_slow", 1.0),
        # A factor on what the paper's formula gives.
        attention_factor=None
        if sharpened == 1.0
        else sharpened * (0.1 * math.log(stretch) + 1.0 if stretch > 1 else 1.0),
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
            _, name_bytes, _, dimensions, type_number, offset = field.parts
            name = bytes(name_bytes).decode()
            block, block_bytes = _block_of(name, int(type_number[0]))
            size = int(np.prod(dimensions)) * block_bytes // block
            if start_offs + int(offset[0]) + size > len(self.data):
                raise UserError(
                    f"truncated: tensor {name} ends beyond the end of the file; download the file "
                    "again"
                )
        super()._build_tensors(start_offs, fields)


def _block_of(name: str, number: int) -> tuple[int, int]:
    """Values and bytes of a block of quantization ``number``, which must be readable."""
    advice = "use a file of another quantization"
    if number in _REMOVED:
        raise UserError(
            f"tensor {name} has quantization {_REMOVED[number]}, which was removed from the "
            f"format; {advice}"
        )
    if number not in list(gguf.GGMLQuantizationType):
        raise UserError(
            f"tensor {name} has quantization number {number}, which the installed gguf package "
            f"does not know; {advice}"
        )
    kind = gguf.GGMLQuantizationType(number)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros(block_bytes, np.uint8), kind)
    except NotImplementedError as error:
        raise UserError(
            f"tensor {name} has quantization {kind.name}, which cannot be read; {advice}"
        ) from error
    return block, block_bytes


def _metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {key: field.contents() for key, field in reader.fields.items() if field.types}


def _parts(path: Path) -> list[Path]:
    """The files of the model that ``path`` belongs to, in order: NAME-00001-of-00003.gguf."""
    split = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if split is None or not path.is_file():
        return [path]
    name, _, count = split.groups()
    parts = [path.with_name(f"{name}-{i:05d}-of-{count}.gguf") for i in range(1, int(count) + 1)]
    for part in parts:
        if not part.is_file():
            raise UserError(
                f"{part} is missing, though {path.name} is one of {len(parts)} parts; download it"
            )
    return parts


def _open(path: Path) -> gguf.GGUFReader:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; set config.policy.source")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"{path}: not a GGUF file")
    try:
        return _CheckedReader(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
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
