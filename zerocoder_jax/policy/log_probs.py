"""Log-probabilities and entropy of chosen tokens, without the [tokens, vocabulary] array.

With a vocabulary of 152k entries the logits of a micro-batch are larger than the model: 10 GB in
float32 for 16k tokens. Here they exist for one chunk of tokens at a time, in the forward and in the
backward pass, which makes them again from the hidden states; what is kept in between is one
normaliser per token. Only positions that count go through the head: they are packed to the front
of each shard and the loop over chunks ends where they end, so its cost follows the number of
response tokens while the program stays the same.

Shape letters: S shards of rows, N tokens of a shard, C of a chunk, D hidden size, V vocabulary.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from zerocoder_jax.parallel import partition_spec
from zerocoder_jax.policy.decoder import ActivationSharding


def token_log_probs(
    params: Any,
    hidden: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None = None,
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
    entropy_gradient: bool = False,
    sharding: ActivationSharding | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``log softmax(hidden @ head / temperature)[target]`` and the entropy of that distribution.

    Args:
        params: the policy's parameters; reads ``head.kernel`` [D, V], or ``embedding.table`` [V, D]
            of a tied policy, and converts it to the dtype of ``hidden``.
        hidden: [..., D] after the final norm.
        targets: int32 [...].
        mask: bool [...], the positions wanted; the others cost next to nothing and give 0. All by
            default.
        temperature: divides the logits.
        chunk: tokens of one shard whose logits exist at the same time.
        entropy_gradient: False treats the entropy as a constant in the backward pass.
        sharding: where the first axis of ``hidden`` is cut along; None on a single device.

    Returns:
        log_probs, entropy: both float32 [...], entropy in nats.
    """
    shape, size = targets.shape, hidden.shape[-1]
    shards = 1
    if sharding is not None:
        shards = math.prod(sharding.mesh.shape[axis] for axis in sharding.batch)
    mask = jnp.ones(shape, bool) if mask is None else mask
    rows = hidden.reshape(shards, -1, size)  # [S, N, D]
    tied = "head" not in params
    head = params["embedding"]["table"] if tied else params["head"]["kernel"]
    settings = _Settings(
        temperature=temperature,
        chunk=min(chunk, rows.shape[1]),
        tied=tied,
        entropy_gradient=entropy_gradient,
        sharding=sharding,
    )
    exact = "highest" if hidden.dtype == jnp.float32 else None
    with jax.named_scope("log_probs"), jax.default_matmul_precision(exact):
        log_probs, entropy = _chunked(
            settings,
            rows,
            settings.gathered(settings.sharded(head.astype(hidden.dtype))),
            targets.reshape(shards, -1),
            mask.reshape(shards, -1),
        )
    return log_probs.reshape(shape), entropy.reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The static part of the computation."""

    temperature: float
    chunk: int
    tied: bool
    entropy_gradient: bool
    sharding: ActivationSharding | None

    def constrain(self, array: jax.Array, *axes: Any) -> jax.Array:
        if self.sharding is None:
            return array
        layout = NamedSharding(self.sharding.mesh, PartitionSpec(*axes))
        return jax.lax.with_sharding_constraint(array, layout)

    @property
    def batch(self) -> tuple[str, ...]:
        return self.sharding.batch if self.sharding else ()

    @property
    def vocabulary(self) -> tuple[str, ...]:
        # The table of logical axes cuts the vocabulary where it cuts heads.
        return self.sharding.heads if self.sharding else ()

    def sharded(self, head: jax.Array) -> jax.Array:
        """The head, or its gradient, cut up as its parameter is."""
        axes = ("vocab", "embed") if self.tied else ("embed", "vocab")
        return self.constrain(head, *partition_spec(axes))

    def gathered(self, head: jax.Array) -> jax.Array:
        """The head, whole along D: collected once, before the loop and not in it, and after the
        cast, so that the smaller copy travels."""
        axes = (self.vocabulary, None) if self.tied else (None, self.vocabulary)
        return self.constrain(head, *axes)

    def logits(self, hidden: jax.Array, head: jax.Array) -> jax.Array:
        """Float32 logits [S, C, V] of hidden states [S, C, D]."""
        product = "scd,vd->scv" if self.tied else "scd,dv->scv"
        logits = jnp.einsum(product, hidden, head, preferred_element_type=jnp.float32)
        return self.constrain(logits, self.batch, None, self.vocabulary) / self.temperature


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(
    settings: _Settings, hidden: jax.Array, head: jax.Array, targets: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _chunked_forward(settings, hidden, head, targets, mask)[0]


def _chunked_forward(
    settings: _Settings, hidden: jax.Array, head: jax.Array, targets: jax.Array, mask: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    packing = _Packing.of(mask, settings.chunk)

    def one_chunk(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        logits = settings.logits(packing.take(hidden, i), head)  # [S, C, V]
        target = packing.take(targets, i)  # [S, C]
        largest = jnp.max(logits, axis=-1, keepdims=True)
        exponentials = jnp.exp(logits - largest)
        total = jnp.sum(exponentials, axis=-1)
        normaliser = jnp.log(total) + largest[..., 0]
        mean_logit = jnp.sum(exponentials * logits, axis=-1) / total
        # A masked sum, where a gather would collect a vocabulary that is cut among devices.
        chosen = jnp.sum(jnp.where(_is_target(logits, target), logits, 0.0), axis=-1)
        made = (chosen - normaliser, normaliser - mean_logit, normaliser)
        return tuple(packing.put(kept, value, i) for kept, value in zip(carry, made))

    empty = packing.empty((), jnp.float32)
    log_probs, entropy, normaliser = jax.lax.fori_loop(
        0, packing.chunks, one_chunk, (empty, empty, empty)
    )
    result = (packing.unpack(log_probs), packing.unpack(entropy))
    return result, (hidden, head, targets, mask, normaliser, entropy)


def _chunked_backward(
    settings: _Settings, residuals: Any, cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, head, targets, mask, normaliser, entropy = residuals
    log_prob_weight, entropy_weight = cotangents
    packing = _Packing.of(mask, settings.chunk)

    def one_chunk(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_gradient, head_gradient = carry
        states = packing.take(hidden, i)  # [S, C, D]
        logits = settings.logits(states, head)  # [S, C, V]
        log_softmax = logits - packing.slice(normaliser, i)[..., None]
        softmax = jnp.exp(log_softmax)
        # d log_prob / d logits = onehot - softmax
        weight = packing.take(log_prob_weight, i)[..., None]
        is_target = _is_target(logits, packing.take(targets, i))
        slope = jnp.where(is_target, weight, 0.0) - weight * softmax
        if settings.entropy_gradient:
            # d entropy / d logits = -softmax * (log softmax + entropy)
            spread = log_softmax + packing.slice(entropy, i)[..., None]
            slope -= packing.take(entropy_weight, i)[..., None] * softmax * spread
        # Slots after the last wanted token repeat a token that is not theirs.
        slope = jnp.where(packing.valid(i)[..., None], slope / settings.temperature, 0.0)
        slope = slope.astype(hidden.dtype)  # [S, C, V]
        to_hidden = "scv,vd->scd" if settings.tied else "scv,dv->scd"
        to_head = "scv,scd->svd" if settings.tied else "scd,scv->sdv"
        operands = (slope, states) if settings.tied else (states, slope)
        head_gradient += jnp.einsum(to_head, *operands, preferred_element_type=jnp.float32)
        return packing.put(hidden_gradient, jnp.einsum(to_hidden, slope, head), i), head_gradient

    # Each shard of rows sums up a gradient of its own, and they meet once after the loop.
    axes = (settings.vocabulary, None) if settings.tied else (None, settings.vocabulary)
    zeros = jnp.zeros((hidden.shape[0], *head.shape), jnp.float32)
    hidden_gradient, head_gradient = jax.lax.fori_loop(
        0,
        packing.chunks,
        one_chunk,
        (
            packing.empty((hidden.shape[-1],), hidden.dtype),
            settings.constrain(zeros, settings.batch, *axes),
        ),
    )
    return (
        packing.unpack(hidden_gradient),
        # Pinned to the parameter's cut, the sum is scattered instead of repeated everywhere.
        settings.sharded(jnp.sum(head_gradient, axis=0).astype(head.dtype)),
        None,
        None,
    )


_chunked.defvjp(_chunked_forward, _chunked_backward)


def _is_target(logits: jax.Array, target: jax.Array) -> jax.Array:
    entries = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return entries == target[..., None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Packing:
    """The wanted positions of each shard, moved to the front and padded to whole chunks.

    >>> packing = _Packing.of(jnp.array([[False, True, False, True, True]]), 2)
    >>> packing.order.tolist(), int(packing.chunks)
    ([[1, 3, 4, 0, 2, 0]], 2)
    >>> packing.unpack(jnp.array([[10, 30, 40, 7, 7, 7]])).tolist()
    [[0, 10, 0, 30, 40]]
    """

    # [S, M] int32, M the multiple of the chunk above N: where each slot's token comes from.
    order: jax.Array
    # [S, N] int32: the slot that each token went to; [S, N] bool: whether it is wanted.
    slot: jax.Array
    mask: jax.Array
    # int32: how many chunks hold wanted tokens, in the fullest shard.
    chunks: jax.Array
    chunk: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, mask: jax.Array, chunk: int) -> "_Packing":
        padding = -mask.shape[1] % chunk
        order = jnp.argsort(~mask, axis=1, stable=True).astype(jnp.int32)
        wanted = jnp.sum(mask, axis=1, dtype=jnp.int32)  # [S]
        # Slots of wanted tokens count up from 0; those of the others do not matter.
        slot = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
        return cls(
            order=jnp.pad(order, ((0, 0), (0, padding))),
            slot=slot,
            mask=mask,
            chunks=(jnp.max(wanted) + chunk - 1) // chunk,
            chunk=chunk,
        )

    def slice(self, packed: jax.Array, i: jax.Array) -> jax.Array:
        """Chunk ``i`` of a packed array [S, M, ...]."""
        return jax.lax.dynamic_slice_in_dim(packed, i * self.chunk, self.chunk, axis=1)

    def take(self, unpacked: jax.Array, i: jax.Array) -> jax.Array:
        """Chunk ``i``, in packed order, of an array [S, N, ...]."""
        return _rows(unpacked, self.slice(self.order, i))

    def valid(self, i: jax.Array) -> jax.Array:
        """Which slots of chunk ``i`` hold wanted tokens, [S, C]."""
        slots = i * self.chunk + jnp.arange(self.chunk, dtype=jnp.int32)
        return slots[None, :] < jnp.sum(self.mask, axis=1, dtype=jnp.int32)[:, None]

    def put(self, packed: jax.Array, value: jax.Array, i: jax.Array) -> jax.Array:
        """``packed`` with chunk ``i`` replaced."""
        return jax.lax.dynamic_update_slice_in_dim(
            packed, value.astype(packed.dtype), i * self.chunk, axis=1
        )

    def empty(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """A packed array of zeros [S, M, *shape]."""
        return jnp.zeros((*self.order.shape, *shape), dtype)

    def unpack(self, packed: jax.Array) -> jax.Array:
        """A packed array [S, M, ...] in the tokens' own order [S, N, ...], 0 where unwanted."""
        values = _rows(packed, self.slot)
        mask = self.mask.reshape(self.mask.shape + (1,) * (values.ndim - 2))
        return jnp.where(mask, values, jnp.zeros((), values.dtype))


def _rows(array: jax.Array, index: jax.Array) -> jax.Array:
    """``array[s, index[s, i]]`` for an array [S, N, ...] and an index [S, M]."""
    return jax.vmap(lambda rows, chosen: jnp.take(rows, chosen, axis=0, mode="clip"))(array, index)
