"""What every parameter is called in a Hugging Face checkpoint and in a GGUF file.

Checkpoints keep one tensor per layer and projections as [out, in]; here layers are stacked and
projections are [in, out]. ``checkpoint_tensors`` is that correspondence, for loading and saving.
"""

import dataclasses
from collections.abc import Iterator

import jax

from zerocoder_jax.policy.config import PolicyConfig
from zerocoder_jax.policy.decoder import abstract_params

ParameterPath = tuple[str, ...]

# Parameter -> (Hugging Face name, GGUF name); {} is the layer.
_NAMES: dict[ParameterPath, tuple[str, str]] = {
    ("embedding", "table"): ("model.embed_tokens.weight", "token_embd.weight"),
    ("final_norm", "scale"): ("model.norm.weight", "output_norm.weight"),
    ("head", "kernel"): ("lm_head.weight", "output.weight"),
}
_LAYER_NAMES: dict[str, tuple[str, str]] = {
    "attention_norm": ("input_layernorm", "attn_norm"),
    "attention.query": ("self_attn.q_proj", "attn_q"),
    "attention.key": ("self_attn.k_proj", "attn_k"),
    "attention.value": ("self_attn.v_proj", "attn_v"),
    "attention.output": ("self_attn.o_proj", "attn_output"),
    "attention.query_norm": ("self_attn.q_norm", "attn_q_norm"),
    "attention.key_norm": ("self_attn.k_norm", "attn_k_norm"),
    "mlp_norm": ("post_attention_layernorm", "ffn_norm"),
    "mlp.gate": ("mlp.gate_proj", "ffn_gate"),
    "mlp.up": ("mlp.up_proj", "ffn_up"),
    "mlp.down": ("mlp.down_proj", "ffn_down"),
}
for _module, (_hugging_face, _gguf) in _LAYER_NAMES.items():
    for _leaf, _suffix in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
        _NAMES["layers", *_module.split("."), _leaf] = (
            f"model.layers.{{}}.{_hugging_face}.{_suffix}",
            f"blk.{{}}.{_gguf}.{_suffix}",
        )


@dataclasses.dataclass(frozen=True)
class CheckpointTensor:
    """One tensor of a checkpoint and the place of its values in the parameter tree."""

    path: ParameterPath
    # Row of the stacked parameter; None where layers have no part in it.
    layer: int | None
    name: str
    gguf_name: str
    # As stored in the checkpoint.
    shape: tuple[int, ...]
    # The checkpoint keeps [out, in] where the parameter is [in, out].
    transposed: bool


def checkpoint_tensors(config: PolicyConfig) -> Iterator[CheckpointTensor]:
    """Every tensor that a checkpoint of ``config`` has: no more, no less."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(config)):
        path = tuple(key.key for key in keys)
        name, gguf_name = _NAMES[path]
        transposed = path[-1] == "kernel"
        stacked = path[0] == "layers"
        shape = leaf.shape[1:] if stacked else leaf.shape
        for layer in range(config.num_layers) if stacked else (None,):
            yield CheckpointTensor(
                path=path,
                layer=layer,
                name=name.format(layer),
                gguf_name=gguf_name.format(layer),
                shape=shape[::-1] if transposed else shape,
                transposed=transposed,
            )


def projection_module(target: str) -> str:
    """transformers' module of a projection: "query" -> "self_attn.q_proj"."""
    for module, (hugging_face, _) in _LAYER_NAMES.items():
        if module.split(".")[-1] == target:
            return hugging_face
    raise KeyError(target)
