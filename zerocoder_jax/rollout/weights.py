"""Weights as decoding wants them: cast once, layers apart, projections fused, products ``x @ w``.

Training stacks its layers to scan over them; decoding unrolls them, because a scan would slice the
weights and the cache of a layer out of the stack at every token. Query, key and value are one
product, and so are gate and up: a small batch is fed faster by a few wide products.

A projection is a dictionary: ``kernel`` [in, out], and where they exist ``bias`` [out] and, with
8-bit weights, ``scale`` [out] (float32), by which the product's columns are multiplied. Low-rank
adapters stand beside the kernel, as in training: ``a`` [in, R] and ``b`` [R, out], which holds
LoRA's factor. Added to a kernel in 16 bits, a small change of its numbers would be rounded away.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from zerocoder_jax.policy import LoraSettings, Params, PolicyConfig

# Each projection of a layer: the block of the training tree and its parts there, side by side.
_PARTS = {
    "qkv": ("attention", ("query", "key", "value")),
    "output": ("attention", ("output",)),
    "gate_up": ("mlp", ("gate", "up")),
    "down": ("mlp", ("down",)),
}

# {"embedding": [V, D], "layers": [one dictionary a layer], "final_norm": [D], "head": projection}
DecodeWeights = dict[str, Any]
Projection = dict[str, jax.Array]


def project(x: jax.Array, projection: Projection) -> jax.Array:
    """``x @ kernel * scale + bias + (x @ a) @ b`` in x's dtype, [..., out] from x [..., in]."""
    y = x @ projection["kernel"].astype(x.dtype)
    if "scale" in projection:
        y = (y * projection["scale"]).astype(x.dtype)
    if "bias" in projection:
        y = y + projection["bias"]
    if "a" in projection:
        y = y + (x @ projection["a"]) @ projection["b"]
    return y


def vocabulary_logits(hidden: jax.Array, head: Projection) -> jax.Array:
    """Float32 logits [..., V] of normalized hidden states [..., D]."""
    kernel = head["kernel"].astype(hidden.dtype)
    logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
    return logits * head["scale"] if "scale" in head else logits


def layer_weights(
    layers: Params,
    index: jax.Array | int,
    adapters: Params | None = None,
    *,
    dtype: DTypeLike,
    quantized: bool = False,
    tensor_shards: int = 1,
    lora_scale: float = 1.0,
) -> dict[str, Any]:
    """One layer of the training tree's stack (``params["layers"]``) in the layout of decoding.

    Args:
        layers: arrays [L, ...]. The layer is cut out, then cast, then fused: with sharded arrays
            what travels between devices is the cast copy of a single layer.
        index: which layer; traced, so that one program serves all of them.
        adapters: ``lora["layers"]`` of ``lora.init_lora``, for any of the projections.
        dtype: of kernels, biases and adapters; norms stay float32.
        quantized: kernels as int8 with a scale per column; adapters stay as they are.
        tensor_shards: over how many devices the heads and the feed-forward width are split.
        lora_scale: the adapters' alpha / rank.
    """

    def cut(stacks: Params) -> Params:
        return jax.tree.map(
            lambda stack: jax.lax.dynamic_index_in_dim(stack, index, 0, False), stacks
        )

    layer, low_rank = cut(layers), cut(adapters or {})
    attention = layer["attention"]
    result = {
        "attention_norm": layer["attention_norm"]["scale"].astype(jnp.float32),
        "mlp_norm": layer["mlp_norm"]["scale"].astype(jnp.float32),
    }
    for norm in ("query_norm", "key_norm"):
        if norm in attention:
            result[norm] = attention[norm]["scale"].astype(jnp.float32)
    for name, (block, parts) in _PARTS.items():
        projection = _fuse(
            [layer[block][part] for part in parts],
            [low_rank.get(block, {}).get(part) for part in parts],
            dtype=dtype,
            shards=tensor_shards,
            lora_scale=lora_scale,
        )
        result[name] = quantize(projection) if quantized else projection
    return result


def outer_weights(params: Params, *, dtype: DTypeLike, quantized: bool = False) -> DecodeWeights:
    """Embedding, final norm and output head in the layout of decoding.

    A tied model gets its table twice: rows to look tokens up in, columns for ``x @ head``.
    """
    table = params["embedding"]["table"].astype(dtype)
    kernel = params["head"]["kernel"].astype(dtype) if "head" in params else table.T
    head: Projection = {"kernel": kernel}
    return {
        "embedding": table,
        "final_norm": params["final_norm"]["scale"].astype(jnp.float32),
        "head": quantize(head) if quantized else head,
    }


def quantize(projection: Projection) -> Projection:
    """The kernel as int8: each column's largest magnitude becomes 127.

    Rounding errors are at most half a step, ``scale / 2``.
    """
    kernel = projection["kernel"].astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(kernel), axis=0), jnp.finfo(jnp.float32).tiny) / 127.0
    rounded = jnp.round(kernel / scale).astype(jnp.int8)
    return projection | {"kernel": rounded, "scale": scale}


def layer_specs(
    config: PolicyConfig, *, quantized: bool = False, lora: LoraSettings | None = None
) -> dict[str, Any]:
    """How a layer is split over the mesh axis "tensor": heads and feed-forward width."""
    by_output: dict[str, P] = {"kernel": P(None, "tensor")}
    by_input: dict[str, P] = {"kernel": P("tensor", None)}
    if quantized:
        by_output["scale"], by_input["scale"] = P("tensor"), P()
    specs: dict[str, Any] = {
        "attention_norm": P(),
        "mlp_norm": P(),
        "qkv": by_output | ({"bias": P("tensor")} if config.qkv_bias else {}),
        "output": by_input,
        "gate_up": by_output,
        "down": by_input,
    }
    if config.qk_norm:
        specs |= {"query_norm": P(), "key_norm": P()}
    for name, (_, parts) in _PARTS.items():
        if lora and set(parts) & set(lora.targets):
            # Like the kernel; the small axis is whole everywhere.
            inputs, outputs = specs[name]["kernel"]
            specs[name] = specs[name] | {"a": P(inputs, None), "b": P(None, outputs)}
    return specs


def outer_specs(*, quantized: bool = False) -> DecodeWeights:
    """The head is split over the vocabulary; the embedding is whole on every device."""
    head = {"kernel": P(None, "tensor")} | ({"scale": P("tensor")} if quantized else {})
    return {"embedding": P(), "final_norm": P(), "head": head}


def weight_specs(
    config: PolicyConfig, *, quantized: bool = False, lora: LoraSettings | None = None
) -> DecodeWeights:
    """``PartitionSpec`` for every array of the decode weights."""
    layer = layer_specs(config, quantized=quantized, lora=lora)
    return outer_specs(quantized=quantized) | {"layers": [layer] * config.num_layers}


def decode_weights(
    params: Params,
    config: PolicyConfig,
    adapters: Params | None = None,
    *,
    dtype: DTypeLike,
    quantized: bool = False,
    lora_scale: float = 1.0,
) -> DecodeWeights:
    """All weights at once, for one device: what tests and plans call."""
    options: dict[str, Any] = {"dtype": dtype, "quantized": quantized}
    stacks = (adapters or {}).get("layers")
    return outer_weights(params, **options) | {
        "layers": [
            layer_weights(params["layers"], index, stacks, lora_scale=lora_scale, **options)
            for index in range(config.num_layers)
        ]
    }


def _fuse(
    parts: list[Projection],
    adapters: list[Projection | None],
    *,
    dtype: DTypeLike,
    shards: int,
    lora_scale: float,
) -> Projection:
    """Projections side by side; with several shards, each shard's columns stand together.

    Two parts with columns a0 a1 and b0 b1 on two shards become a0 b0 a1 b1, so that an even
    split gives every device its share of each part. Adapters of rank r of n of the parts become
    ``a`` [in, n r], side by side, and ``b`` [n r, out], in whose columns each part has r rows of
    its own and zeros in all others.
    """

    def side_by_side(arrays: list[jax.Array]) -> jax.Array:
        arrays = [array.astype(dtype) for array in arrays]
        if len(arrays) == 1:
            return arrays[0]
        leading = arrays[0].shape[:-1]
        split = [array.reshape(*leading, shards, -1) for array in arrays]
        return jnp.concatenate(split, axis=-1).reshape(*leading, -1)

    fused = {name: side_by_side([part[name] for part in parts]) for name in parts[0]}
    present = [adapter for adapter in adapters if adapter is not None]
    if present:
        fused["a"] = jnp.concatenate([adapter["a"].astype(dtype) for adapter in present], axis=1)
        rows, above, blocks = fused["a"].shape[1], 0, []
        for part, adapter in zip(parts, adapters):
            # A part without an adapter has a block of no rows: only zeros.
            b = jnp.zeros((0, part["kernel"].shape[1])) if adapter is None else adapter["b"]
            below = rows - above - b.shape[0]
            blocks.append(jnp.pad((lora_scale * b).astype(dtype), ((above, below), (0, 0))))
            above += b.shape[0]
        fused["b"] = side_by_side(blocks)
    return fused
