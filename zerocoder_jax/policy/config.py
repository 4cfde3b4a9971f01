"""The shape of a policy: everything about a decoder that is known before its weights are read.

A configuration comes from a Hugging Face ``config.json`` or from GGUF metadata. What the decoder
does not compute (mixtures of experts, sliding windows, unknown rope scalings) is refused here, by
name, before a single weight is read.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from zerocoder_jax.errors import UserError

Family = Literal["qwen2", "qwen3", "llama"]

# transformers' class of each family, which `config.json` names.
ARCHITECTURES: dict[Family, str] = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context that a model was trained on.

    ``linear`` divides every frequency by ``factor`` (Chen et al. 2023, arXiv:2306.15595). ``yarn``
    divides low frequencies, keeps high ones, blends between and sharpens the attention (Peng et
    al. 2023, arXiv:2309.00071). ``llama3`` divides low frequencies only, blending by wavelength.
    """

    kind: Literal["linear", "yarn", "llama3"]
    factor: float
    # The context length before stretching; unused by "linear".
    original_max_positions: int = 0
    # YaRN: number of turns over the original context from which on a frequency is kept, and
    # below which it is divided by the whole factor.
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    # YaRN: cosine and sine are multiplied by this; None is the paper's 0.1 ln(factor) + 1.
    attention_factor: float | None = None
    # Llama 3: wavelengths, as fractions of the original context, where the blend begins and ends.
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Sizes and switches of one decoder. Hashable, so that a jitted function may close over it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-6
    # A bias on the query, key and value projections: Qwen2.
    qkv_bias: bool = False
    # RMSNorm on each head's query and key before the rotation: Qwen3.
    qk_norm: bool = False
    # The output head is the transposed embedding table.
    tie_embeddings: bool = False
    max_positions: int = 32_768
    family: Family = "qwen2"

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"policy: {self.num_heads} attention heads cannot share {self.num_kv_heads} "
                "key-value heads evenly; correct num_attention_heads or num_key_value_heads"
            )
        if self.head_dim % 2:
            raise UserError(
                f"policy: head_dim {self.head_dim} is odd; rotary embedding needs pairs"
            )

    @property
    def context(self) -> int:
        """Tokens of the longest text for which the rotary embedding was made."""
        scaling = self.rope_scaling
        stretched = int(scaling.factor * scaling.original_max_positions) if scaling else 0
        return max(self.max_positions, stretched)

    @property
    def query_size(self) -> int:
        """Width of all query heads together; not always ``hidden_size`` (Qwen3)."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def num_matmul_parameters(self) -> int:
        """Parameters that each token is multiplied with: N in 6N FLOPs per trained token.

        The embedding look-up multiplies nothing; the output head does, tied or not.
        """
        attention = 2 * self.hidden_size * (self.query_size + self.kv_size)
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_layers * (attention + mlp) + self.hidden_size * self.vocab_size


def config_from_hugging_face(fields: Mapping[str, Any], origin: str) -> PolicyConfig:
    """The configuration in a ``config.json``, already parsed; ``origin`` names it in errors."""
    read = TypedFields(fields, origin)
    family = read.text("model_type")
    if family not in ARCHITECTURES:
        raise UserError(
            f"{origin}: model_type {family!r} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )
    _refuse_unsupported(read, family)
    heads, hidden_size = read.integer("num_attention_heads"), read.integer("hidden_size")
    max_positions = read.integer("max_position_embeddings", 32_768)
    theta, scaling = _rope(read, max_positions)
    # A Qwen3 configuration without the field means 128, whatever the width.
    head_dim = read.integer("head_dim", 128 if family == "qwen3" else hidden_size // heads)
    return PolicyConfig(
        family=family,
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=read.integer("intermediate_size"),
        num_layers=read.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=read.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        rope_theta=theta,
        rope_scaling=scaling,
        rms_norm_eps=read.number("rms_norm_eps", 1e-6),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        tie_embeddings=read.boolean("tie_word_embeddings", False),
        max_positions=max_positions,
    )


def config_to_hugging_face(config: PolicyConfig) -> dict[str, Any]:
    """The architectural fields of a ``config.json`` from which transformers builds this decoder."""
    rope: dict[str, Any] = {"rope_type": "default"}
    scaling = config.rope_scaling
    if scaling is not None:
        rope = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind != "linear":
            rope["original_max_position_embeddings"] = scaling.original_max_positions
        if scaling.kind == "yarn":
            rope |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
            if scaling.attention_factor is not None:
                rope["attention_factor"] = scaling.attention_factor
        if scaling.kind == "llama3":
            rope["low_freq_factor"] = scaling.low_frequency_factor
            rope["high_freq_factor"] = scaling.high_frequency_factor
    fields: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_positions,
        # Both spellings: transformers before 5 reads the first two, 5 and later the third.
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling is None else rope,
        "rope_parameters": {"rope_theta": config.rope_theta, **rope},
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": 0.0,
    }
    if config.family != "qwen2":
        fields["attention_bias"] = False
    if config.family != "llama":
        fields["use_sliding_window"] = False
    return fields


class TypedFields:
    """Fields of a configuration by name and type; what is absent, null or of another type is
    answered by the default or refused by name."""

    def __init__(self, fields: Any, origin: str, prefix: str = ""):
        """``prefix`` stands before every name in errors."""
        if not isinstance(fields, Mapping):
            raise UserError(f"{origin}: {prefix.rstrip('.') or 'the file'} is {_shown(fields)}; "
                            "an object is expected")  # fmt: skip
        self.fields = fields
        self.origin = origin
        self.prefix = prefix

    def refuse(self, reason: str) -> NoReturn:
        """Raise ``UserError`` with the file's name before the reason."""
        raise UserError(f"{self.origin}: {reason}")

    def below(self, name: str) -> "TypedFields":
        """The object in a field; an empty one where it is absent."""
        value = self.fields.get(name)
        return TypedFields({} if value is None else value, self.origin, f"{self.prefix}{name}.")

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive integer; the field is required where there is no default."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self._refuse_type(name, value, "a positive integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive, finite number."""
        value = self._value(name, default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            self._refuse_type(name, value, "a positive number")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            self._refuse_type(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            self._refuse_type(name, value, "a string")
        return value

    def _value(self, name: str, default: Any) -> Any:
        value = self.fields.get(name)
        if value is None and default is None:
            self.refuse(f"field {self.prefix + name!r} is missing; the checkpoint is incomplete")
        return default if value is None else value

    def _refuse_type(self, name: str, value: Any, expected: str) -> NoReturn:
        self.refuse(f"field {self.prefix + name!r} is {_shown(value)}; {expected} is expected")


def _shown(value: Any) -> str:
    """A value as JSON writes it, on one line, cut after 40 characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."


def _refuse_unsupported(read: TypedFields, family: str) -> None:
    fields = read.fields
    if any("expert" in name and value for name, value in fields.items()):
        read.refuse("mixture-of-experts models are not supported; use a dense one")
    layer_types = fields.get("layer_types") or []
    if not isinstance(layer_types, list):
        read.refuse(f"field 'layer_types' is {_shown(layer_types)}; a list is expected")
    if read.boolean("use_sliding_window", False) or "sliding_attention" in layer_types:
        read.refuse(
            "sliding-window attention is in use and not supported; set use_sliding_window to false "
            "(and every layer type to full_attention) if the model was trained without it"
        )
    for layer_type in layer_types:
        if layer_type != "full_attention":
            read.refuse(f"layer type {layer_type!r} is not supported; only full_attention is")
    if family != "qwen2" and read.boolean("attention_bias", False):
        read.refuse(f"attention_bias is not supported for model_type {family!r}")
    if read.boolean("mlp_bias", False):
        read.refuse("mlp_bias is not supported")
    if read.text("hidden_act", "silu") != "silu":
        read.refuse(f"hidden_act {fields['hidden_act']!r} is not supported; only silu")
    if fields.get("quantization_config"):
        read.refuse(
            "quantized safetensors (quantization_config) are not supported; use the unquantized "
            "checkpoint or a GGUF file"
        )


# Fields of rope_scaling and rope_parameters that are read, whatever the kind of scaling.
_ROPE_FIELDS = {
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
    "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor",
    "low_freq_factor", "high_freq_factor",
}  # fmt: skip
# Fields that change nothing while they have this value.
_ROPE_NEUTRAL = {"mscale": None, "mscale_all_dim": None, "truncate": True, "finetuned": True}


def _rope(read: TypedFields, max_positions: int) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary frequencies.

    transformers before 5 has rope_theta and rope_scaling, 5 has rope_parameters with both in it,
    by layer type where layers differ.
    """
    old, new = read.below("rope_scaling"), read.below("rope_parameters")
    if set(new.fields) & {"full_attention", "sliding_attention", "linear_attention"}:
        new = new.below("full_attention")
    theta = 10_000.0  # transformers' default
    thetas = [one.number("rope_theta") for one in (read, old, new) if one.fields.get("rope_theta")]
    if thetas:
        theta = thetas[0]
    scalings = [_rope_scaling(one, max_positions) for one in (old, new) if one.fields]
    if len(set(thetas)) > 1 or len(set(scalings)) > 1:
        read.refuse("rope_theta, rope_scaling and rope_parameters contradict one another")
    for one in (read, old, new):
        if one.number("partial_rotary_factor", 1.0) != 1.0:
            read.refuse("partial_rotary_factor is not supported; heads rotate whole")
    return theta, scalings[0] if scalings else None


def _rope_scaling(read: TypedFields, max_positions: int) -> RopeScaling | None:
    for name, value in read.fields.items():
        if name not in _ROPE_FIELDS and value != _ROPE_NEUTRAL.get(name) and value is not None:
            read.refuse(f"rope scaling field {name!r} is not supported")
    # "type" is the spelling of older checkpoints and of Qwen's documentation.
    kind: Any = read.text("rope_type", read.text("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "yarn", "llama3"):
        read.refuse(f"rope scaling {kind!r} is not supported; supported are linear, yarn, llama3")
    if read.fields.get("factor") is None:
        read.refuse(f"rope scaling {kind!r} has no factor")
    factor = read.number("factor")
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor)
    attention_factor = read.fields.get("attention_factor")
    return RopeScaling(
        kind=kind,
        factor=factor,
        original_max_positions=read.integer("original_max_position_embeddings", max_positions),
        beta_fast=read.number("beta_fast", 32.0),
        beta_slow=read.number("beta_slow", 1.0),
        attention_factor=None if attention_factor is None else read.number("attention_factor"),
        low_frequency_factor=read.number("low_freq_factor", 1.0),
        high_frequency_factor=read.number("high_freq_factor", 4.0),
    )
