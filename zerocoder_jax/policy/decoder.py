"""The decoder of Qwen2, Qwen3 and Llama-style models: one file, from tokens to hidden states.

Flax NNX modules state the parameters (shape, initializer, logical axes) and the mathematics of one
layer. Around them everything is a pure function of plain pytrees: ``forward`` merges the modules
inside the trace. The layers are alike, so their parameters are stacked on a leading axis and
scanned: a program of 28 layers compiles as fast as one of a single layer.

Shape letters: B rows, T tokens, D hidden size, H query heads, K key-value heads, h head size,
F intermediate size, V vocabulary, L layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from zerocoder_jax.policy.attention import AttentionName, attend
from zerocoder_jax.policy.config import PolicyConfig
from zerocoder_jax.policy.path_attention import Paths, attend_paths

# A nested dictionary of arrays: the tree that `abstract_params` describes.
Params = dict[str, Any]

Remat = Literal["none", "minimal", "full"]


@dataclasses.dataclass(frozen=True)
class ActivationSharding:
    """Mesh axes of the activations: rows split over ``batch``, attention heads over ``heads``.

    Parameters tell the compiler most of it; pinning the hidden states between layers keeps it from
    choosing, in the backward pass, to gather rows instead of weights.
    """

    mesh: Mesh
    batch: tuple[str, ...]
    heads: tuple[str, ...]

    def constrain(self, hidden: jax.Array) -> jax.Array:
        """Pin hidden states [B, T, D] to rows over ``batch``."""
        spec = PartitionSpec(self.batch, None, None)
        return jax.lax.with_sharding_constraint(hidden, NamedSharding(self.mesh, spec))


# ---- functions that the rollout shares ----------------------------------------------------------


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """``x / sqrt(mean(x^2) + eps) * scale`` over the last axis, in float32, returned as x's dtype.

    Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    wide = x.astype(jnp.float32)
    normalized = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (normalized * scale.astype(jnp.float32)).astype(x.dtype)


def rotary_tables(positions: jax.Array, config: PolicyConfig) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every position's rotation angles, each float32 [..., h / 2].

    Su et al. 2021, arXiv:2104.09864, with the model's rope scaling applied.
    """
    frequencies, magnitude = _rotary_frequencies(config)
    angles = positions[..., None].astype(jnp.float32) * frequencies  # [..., h / 2]
    return jnp.cos(angles) * magnitude, jnp.sin(angles) * magnitude


def apply_rotary(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotate the heads of ``x`` [..., heads, h] by tables [..., h / 2], in float32.

    Half-split as in Hugging Face checkpoints: dimension i is paired with dimension i + h / 2.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]  # one table for all heads
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def vocabulary_logits(params: Params, hidden: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """Logits [..., V] in float32 of normalized hidden states [..., D], in hidden's precision.

    For a few positions: the trained policy's log-probabilities go through ``log_probs``, which
    never holds all of a batch's logits.
    """
    with _exact_matmuls(hidden.dtype):
        kernel = head_kernel(params).astype(hidden.dtype)
        return jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32) / temperature


def head_kernel(params: Params) -> jax.Array:
    """The output head [D, V]; a tied model's transposed embedding table."""
    return params["head"]["kernel"] if "head" in params else params["embedding"]["table"].T


# ---- modules: parameters and the mathematics of one layer ---------------------------------------


class Linear(nnx.Module):
    """``x @ kernel + bias``, and a low-rank adapter beside it where one is given."""

    def __init__(
        self,
        stack: tuple[int, ...],
        shape: tuple[int, int],
        axes: tuple[str, str],
        *,
        bias: bool = False,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.kernel = _param(stack, shape, axes, _normal, dtype, rngs)
        if bias:
            self.bias = _param(stack, shape[1:], axes[1:], nnx.initializers.zeros, dtype, rngs)
        self.has_bias = bias

    def __call__(
        self, x: jax.Array, adapter: Mapping[str, jax.Array] | None = None, scale: float = 1.0
    ) -> jax.Array:
        # The cast stands before the product, so that on a mesh a shard is cast first and the
        # smaller copy is what travels.
        y = x @ self.kernel[...].astype(x.dtype)
        if self.has_bias:
            y = y + self.bias[...].astype(x.dtype)
        if adapter is not None:
            low_rank = x @ adapter["a"].astype(x.dtype)  # [..., rank]
            y = y + (low_rank @ adapter["b"].astype(x.dtype)) * scale
        return y


class RMSNorm(nnx.Module):
    """``rms_norm`` with a learned scale."""

    def __init__(
        self,
        stack: tuple[int, ...],
        size: int,
        axis: str,
        eps: float,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.scale = _param(stack, (size,), (axis,), nnx.initializers.ones, dtype, rngs)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return rms_norm(x, self.scale[...], self.eps)


class Embedding(nnx.Module):
    """One row of the table per token."""

    def __init__(self, vocabulary: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.table = _param((), (vocabulary, size), ("vocab", "embed"), _normal, dtype, rngs)

    def __call__(self, tokens: jax.Array, dtype: DTypeLike) -> jax.Array:
        return jnp.take(self.table[...], tokens, axis=0).astype(dtype)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(
        self, config: PolicyConfig, stack: tuple[int, ...], *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        c = config
        linear = functools.partial(Linear, stack, dtype=dtype, rngs=rngs)
        into_kv = ((c.hidden_size, c.kv_size), ("embed", "kv_heads"))
        self.query = linear((c.hidden_size, c.query_size), ("embed", "heads"), bias=c.qkv_bias)
        self.key = linear(*into_kv, bias=c.qkv_bias)
        self.value = linear(*into_kv, bias=c.qkv_bias)
        self.output = linear((c.query_size, c.hidden_size), ("heads", "embed"))
        if c.qk_norm:
            norm = functools.partial(RMSNorm, stack, dtype=dtype, rngs=rngs)
            self.query_norm = norm(c.head_dim, "head_dim", c.rms_norm_eps)
            self.key_norm = norm(c.head_dim, "head_dim", c.rms_norm_eps)
        self.config = c

    def __call__(self, x: jax.Array, context: "_Context", adapters: "_Adapters") -> jax.Array:
        c, (rows, length, _) = self.config, x.shape
        query = adapters.apply("query", self.query, x).reshape(rows, length, c.num_heads, -1)
        key = adapters.apply("key", self.key, x).reshape(rows, length, c.num_kv_heads, -1)
        value = adapters.apply("value", self.value, x).reshape(key.shape)
        if c.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        query = apply_rotary(query, context.cos, context.sin)  # [B, T, H, h]
        key = apply_rotary(key, context.cos, context.sin)  # [B, T, K, h]
        mixed = context.attend(query, key, value)
        return adapters.apply("output", self.output, mixed.reshape(rows, length, c.query_size))


class FeedForward(nnx.Module):
    """SwiGLU: ``down(silu(gate(x)) * up(x))``; Shazeer 2020, arXiv:2002.05202."""

    def __init__(
        self, config: PolicyConfig, stack: tuple[int, ...], *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        linear = functools.partial(Linear, stack, dtype=dtype, rngs=rngs)
        wide, narrow = config.intermediate_size, config.hidden_size
        self.gate = linear((narrow, wide), ("embed", "mlp"))
        self.up = linear((narrow, wide), ("embed", "mlp"))
        self.down = linear((wide, narrow), ("mlp", "embed"))

    def __call__(self, x: jax.Array, adapters: "_Adapters") -> jax.Array:
        gate = jax.nn.silu(adapters.apply("gate", self.gate, x))  # [B, T, F]
        return adapters.apply("down", self.down, gate * adapters.apply("up", self.up, x))


class DecoderLayer(nnx.Module):
    """Attention, then the feed-forward network, each normalized before and added to the stream."""

    def __init__(
        self, config: PolicyConfig, stack: tuple[int, ...], *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        norm = functools.partial(RMSNorm, stack, config.hidden_size, "embed", config.rms_norm_eps)
        self.attention_norm = norm(dtype=dtype, rngs=rngs)
        self.attention = Attention(config, stack, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm(dtype=dtype, rngs=rngs)
        self.mlp = FeedForward(config, stack, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, context: "_Context", adapters: "_Adapters") -> jax.Array:
        with jax.named_scope("attention"):
            x = x + self.attention(self.attention_norm(x), context, adapters.below("attention"))
        with jax.named_scope("mlp"):
            return x + self.mlp(self.mlp_norm(x), adapters.below("mlp"))


class Decoder(nnx.Module):
    """Embedding, a stack of layers, the final norm, and an output head unless it is tied."""

    def __init__(self, config: PolicyConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.embedding = Embedding(config.vocab_size, config.hidden_size, dtype=dtype, rngs=rngs)
        self.layers = DecoderLayer(config, (config.num_layers,), dtype=dtype, rngs=rngs)
        norm = functools.partial(RMSNorm, (), config.hidden_size, "embed", config.rms_norm_eps)
        self.final_norm = norm(dtype=dtype, rngs=rngs)
        if not config.tie_embeddings:
            shape = (config.hidden_size, config.vocab_size)
            self.head = Linear((), shape, ("embed", "vocab"), dtype=dtype, rngs=rngs)
        self.config = config


# ---- the pure functions around them -------------------------------------------------------------


def forward(
    graphdef: nnx.GraphDef,
    params: Params,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array | Paths,
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "none",
    attention: AttentionName = "xla",
    lora: Params | None = None,
    lora_scale: float = 1.0,
    sharding: ActivationSharding | None = None,
) -> jax.Array:
    """Hidden states [B, T, D] after the final norm, in ``compute_dtype``.

    Args:
        graphdef: of ``decoder_graphdef(config)``.
        params: the tree of ``abstract_params``, in any floating dtype.
        tokens: int32 [B, T]. Causality follows the order of the slots.
        positions: int32 [B, T], rotary positions; any value at padding.
        mask: bool [B, T], true at real tokens. Padding may stand on either side, except for
            "cudnn", which wants it on the right. Hidden states at padding mean nothing.
            Or the ``Paths`` of prefix trees, of which each row of tokens is one; they name their
            own attention.
        compute_dtype: of activations and products. float32 is exact on every device: its products
            are not rounded to TensorFloat-32 or bfloat16.
        remat: what the backward pass recomputes: "full" all of a layer, "minimal" all but the
            results of matrix products with weights, "none" nothing.
        attention: "xla", "cudnn" or "splash"; see ``attention.attend``.
        lora: adapters of ``lora.init_lora``, added to the projections they name.
        lora_scale: their alpha / rank.
        sharding: mesh axes of the activations; None on a single device.
    """
    with _exact_matmuls(compute_dtype):
        model = nnx.merge(graphdef, params)
        layer_graphdef, layer_params = nnx.split(model.layers)
        cos, sin = rotary_tables(positions, model.config)
        context = _Context(cos, sin, _attention(mask, attention, sharding))

        def layer_step(x: jax.Array, stacked: tuple[Any, Params]) -> tuple[jax.Array, None]:
            layer_params, layer_lora = stacked
            layer = nnx.merge(layer_graphdef, layer_params)
            x = layer(x, context, _Adapters(layer_lora, lora_scale))
            return (sharding.constrain(x) if sharding else x), None

        with jax.named_scope("embedding"):
            x = model.embedding(tokens, compute_dtype)  # [B, T, D]
            x = sharding.constrain(x) if sharding else x
        with jax.named_scope("layers"):
            layer_lora = (lora or {}).get("layers", {})
            x, _ = jax.lax.scan(_remat(layer_step, remat), x, (layer_params, layer_lora))
        with jax.named_scope("final_norm"):
            return model.final_norm(x)


@functools.cache
def decoder_graphdef(config: PolicyConfig) -> nnx.GraphDef:
    """The decoder's static half: hashable, equal for equal configurations, for any dtype."""
    return nnx.split(_abstract_decoder(config, jnp.dtype(jnp.float32)))[0]


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def init_params(config: PolicyConfig, key: jax.Array, dtype: DTypeLike = jnp.float32) -> Params:
    """Random weights: normal with deviation 0.02, norms at one, biases at zero."""
    model = Decoder(config, dtype=dtype, rngs=nnx.Rngs(params=key))
    return nnx.to_pure_dict(nnx.state(model))


def abstract_params(config: PolicyConfig, dtype: DTypeLike = jnp.float32) -> Params:
    """The parameter tree with a ``ShapeDtypeStruct`` for each array; allocates nothing."""
    return nnx.to_pure_dict(nnx.state(_abstract_decoder(config, jnp.dtype(dtype))))


def logical_axes(config: PolicyConfig) -> Params:
    """The parameter tree with a tuple of logical axis names for each array.

    Names: layers, vocab, embed, heads, kv_heads, mlp, head_dim.
    """
    state = nnx.state(_abstract_decoder(config, jnp.dtype(jnp.float32)))
    variables = jax.tree.map(
        lambda variable: variable.get_metadata()["logical_axes"],
        state,
        is_leaf=lambda node: isinstance(node, nnx.Variable),
    )
    return nnx.to_pure_dict(variables)


# ---- private ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Context:
    """What every layer reads and none changes."""

    cos: jax.Array  # [B, T, h / 2] float32
    sin: jax.Array
    attend: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _attention(
    mask: jax.Array | Paths, implementation: AttentionName, sharding: ActivationSharding | None
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Mixed values [B, T, H, h] as a function of queries, keys and values."""
    layout: dict[str, Any] = {}
    if sharding:
        layout = {
            "mesh": sharding.mesh, "batch_axes": sharding.batch, "head_axes": sharding.heads
        }  # fmt: skip
    if isinstance(mask, Paths):
        return functools.partial(attend_paths, paths=mask, **layout)
    return functools.partial(attend, mask=mask, implementation=implementation, **layout)


@dataclasses.dataclass(frozen=True)
class _Adapters:
    """The part of the adapters' tree that belongs to a module; empty without adapters."""

    tree: Mapping[str, Any]
    scale: float

    def below(self, name: str) -> "_Adapters":
        return _Adapters(self.tree.get(name, {}), self.scale)

    def apply(self, name: str, linear: Linear, x: jax.Array) -> jax.Array:
        return linear(x, self.tree.get(name), self.scale)


_normal = nnx.initializers.normal(stddev=0.02)


def _param(
    stack: tuple[int, ...],
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    initializer: jax.nn.initializers.Initializer,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Param:
    """A parameter [*stack, *shape] that carries the names of its axes."""
    value = initializer(rngs.params(), (*stack, *shape), dtype)
    return nnx.Param(value, logical_axes=("layers",) * len(stack) + axes)


@functools.cache
def _abstract_decoder(config: PolicyConfig, dtype: jnp.dtype) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(params=0)))


def _remat(step: Any, remat: Remat) -> Any:
    if remat == "none":
        return step
    policies = {
        "full": jax.checkpoint_policies.nothing_saveable,
        "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    }
    # Inside a scan nothing can be merged across the barrier, so none is needed.
    return jax.checkpoint(step, policy=policies[remat], prevent_cse=False)


def _exact_matmuls(dtype: DTypeLike) -> Any:
    """While tracing: float32 products in full precision; other dtypes at the device's default."""
    return jax.default_matmul_precision("highest" if jnp.dtype(dtype) == jnp.float32 else None)


def _rotary_frequencies(config: PolicyConfig) -> tuple[jax.Array, float]:
    """Radians per position, float32 [h / 2], and the factor on cosine and sine."""
    size, scaling = config.head_dim, config.rope_scaling
    exponents = jnp.arange(0, size, 2, dtype=jnp.float32) / size
    frequencies = 1.0 / (config.rope_theta**exponents)
    if scaling is None:
        return frequencies, 1.0
    stretched = frequencies / scaling.factor
    if scaling.kind == "linear":
        return stretched, 1.0
    if scaling.kind == "llama3":
        # Blend by how many wavelengths fit into the original context.
        turns = scaling.original_max_positions * frequencies / (2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
        return stretched * (1 - keep) + frequencies * keep, 1.0

    def dimension_with_turns(turns: float) -> float:
        """The (fractional) dimension that turns so often over the original context."""
        context = scaling.original_max_positions
        return size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    first = max(math.floor(dimension_with_turns(scaling.beta_fast)), 0)
    last = min(math.ceil(dimension_with_turns(scaling.beta_slow)), size - 1)
    width = max(last - first, 0.001)
    stretch = jnp.clip((jnp.arange(size // 2, dtype=jnp.float32) - first) / width, 0.0, 1.0)
    magnitude = scaling.attention_factor
    if magnitude is None:
        magnitude = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
    return stretched * stretch + frequencies * (1 - stretch), magnitude
