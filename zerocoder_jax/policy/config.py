"""The shape of a policy: everything about a decoder that is known before its weights are read.

A configuration comes from a Hugging Face ``config.json`` or from GGUF metadata. What the decoder
does not compute (mixtures of experts, sliding windows, unknown rope scalings) is refused here, by
name, before a single weight is read.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

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
    family = fields.get("model_type")
    if family not in ARCHITECTURES:
        raise UserError(
            f"{origin}: model_type {family!r} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )
    _refuse_unsupported(fields, family, origin)

    def required(name: str) -> Any:
        if fields.get(name) is None:
            raise UserError(f"{origin}: field {name!r} is missing; the checkpoint is incomplete")
        return fields[name]

    heads = required("num_attention_heads")
    # transformers 5 writes rope_theta into rope_parameters, which also replaces rope_scaling.
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if (rope.get("partial_rotary_factor") or fields.get("partial_rotary_factor") or 1.0) != 1.0:
        raise UserError(f"{origin}: partial_rotary_factor is not supported; heads rotate whole")
    max_positions = fields.get("max_position_embeddings", 32_768)
    return PolicyConfig(
        family=family,
        vocab_size=required("vocab_size"),
        hidden_size=required("hidden_size"),
        intermediate_size=required("intermediate_size"),
        num_layers=required("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=fields.get("num_key_value_heads") or heads,
        # A Qwen3 configuration without the field means 128, whatever the width.
        head_dim=fields.get("head_dim")
        or (128 if family == "qwen3" else required("hidden_size") // heads),
        rope_theta=float(rope.get("rope_theta") or fields.get("rope_theta") or 10_000.0),
        rope_scaling=_rope_scaling(rope, max_positions, origin),
        rms_norm_eps=float(fields.get("rms_norm_eps", 1e-6)),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        tie_embeddings=bool(fields.get("tie_word_embeddings", False)),
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


def _refuse_unsupported(fields: Mapping[str, Any], family: str, origin: str) -> None:
    if any("expert" in name and value for name, value in fields.items()):
        raise UserError(f"{origin}: mixture-of-experts models are not supported; use a dense one")
    layer_types = fields.get("layer_types") or ()
    if fields.get("use_sliding_window") or "sliding_attention" in layer_types:
        raise UserError(
            f"{origin}: sliding-window attention is in use and not supported; set "
            "use_sliding_window to false (and every layer type to full_attention) if the model "
            "was trained without it"
        )
    if family != "qwen2" and fields.get("attention_bias"):
        raise UserError(f"{origin}: attention_bias is not supported for model_type {family!r}")
    if fields.get("mlp_bias"):
        raise UserError(f"{origin}: mlp_bias is not supported")
    if fields.get("hidden_act", "silu") != "silu":
        raise UserError(
            f"{origin}: hidden_act {fields['hidden_act']!r} is not supported; only silu"
        )
    if fields.get("quantization_config"):
        raise UserError(
            f"{origin}: quantized safetensors (quantization_config) are not supported; use the "
            "unquantized checkpoint or a GGUF file"
        )


def _rope_scaling(fields: Mapping[str, Any], max_positions: int, origin: str) -> RopeScaling | None:
    # "type" is the spelling of older checkpoints and of Qwen's documentation.
    kind: Any = fields.get("rope_type") or fields.get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "yarn", "llama3"):
        raise UserError(
            f"{origin}: rope scaling {kind!r} is not supported; supported are linear, yarn, llama3"
        )
    if fields.get("factor") is None:
        raise UserError(f"{origin}: rope scaling {kind!r} has no factor")
    for name, harmless in (("mscale", None), ("mscale_all_dim", None), ("truncate", True)):
        if fields.get(name, harmless) != harmless:
            raise UserError(f"{origin}: rope scaling field {name!r} is not supported")
    return RopeScaling(
        kind=kind,
        factor=float(fields["factor"]),
        original_max_positions=int(fields.get("original_max_position_embeddings") or max_positions)
        if kind != "linear"
        else 0,
        beta_fast=float(fields.get("beta_fast") or 32.0),
        beta_slow=float(fields.get("beta_slow") or 1.0),
        attention_factor=fields.get("attention_factor"),
        low_frequency_factor=float(fields.get("low_freq_factor") or 1.0),
        high_frequency_factor=float(fields.get("high_freq_factor") or 4.0),
    )
