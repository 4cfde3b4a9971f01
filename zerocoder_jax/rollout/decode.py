"""Decode up to ``window`` tokens per row in one device loop, without returning to the host.

The loop ends after ``window`` steps, or earlier when fewer than ``least_live`` rows are unfinished:
the host then refills rows or moves them together.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.rollout.attention import DecodeAttentionName, decode_attention
from zerocoder_jax.rollout.cache import Cache, write_token
from zerocoder_jax.rollout.keys import token_uniforms
from zerocoder_jax.rollout.layers import run_layers
from zerocoder_jax.rollout.sampling import Sampled, sample_tokens
from zerocoder_jax.rollout.weights import DecodeWeights, vocabulary_logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Rows:
    """What the device must know of each row; small, and sent anew with every window.

    Attributes:
        token: int32 [R], the last token of the row, which is fed next.
        start: int32 [R], the time of the prompt's first token; see ``cache``.
        position: int32 [R], of that token in its text.
        produced: int32 [R], how many tokens have been sampled.
        limit: int32 [R], the row is finished when it has produced so many.
        live: bool [R]; the results of a row that is not are ignored.
        key: uint32 [R, 2].
        temperature, top_p: float32 [R]; top_k: int32 [R].
    """

    token: Any
    start: Any
    position: Any
    produced: Any
    limit: Any
    live: Any
    key: Any
    temperature: Any
    top_p: Any
    top_k: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Window:
    """What a window produced.

    Attributes:
        steps: int32 [1], how many steps ran.
        produced: int32 [R], of each row in all, after the window.
        live: bool [R], after the window.
        tokens: int32 [W, R]; those of a row end where ``produced`` says.
        log_probs, sampled_log_probs: float32 [W, R]; see ``sampling.Sampled``.
        searched: int32 [1], steps in which a row's truncation took the exact search.
        passes: int32 [R], steps in which the row was live; with drafts fewer than its tokens.
    """

    steps: jax.Array
    produced: jax.Array
    live: jax.Array
    tokens: jax.Array
    log_probs: jax.Array
    sampled_log_probs: jax.Array
    searched: jax.Array
    passes: jax.Array


def decode_window(
    weights: DecodeWeights,
    cache: Cache,
    rows: Rows,
    clock: jax.Array,
    least_live: jax.Array,
    *,
    config: PolicyConfig,
    compute_dtype: Any,
    window: int,
    stop_tokens: tuple[int, ...],
    vocabulary: int | None = None,
    attention: DecodeAttentionName = "xla",
    tensor_axis: str | None = None,
) -> tuple[Cache, Window]:
    """Sample up to ``window`` tokens for each live row.

    Args:
        cache: donated and updated in place. R may be less than its rows: the first R are decoded.
        clock: int32 [1], the time at which the first token fed here is written.
        least_live: int32 [1], at least 1: the window ends early when fewer rows live.
        window: W, the most steps; every step feeds one token a row and samples the next.
        stop_tokens: ids that end a row; the stop token itself belongs to the reply.
        vocabulary: see ``sampling.sample_tokens``.
    """
    num_rows = rows.token.shape[0]
    stops = jnp.asarray(stop_tokens, jnp.int32)

    def goes_on(state: tuple[Cache, Window, jax.Array]) -> jax.Array:
        _, done, _ = state
        return (done.steps[0] < window) & (jnp.sum(done.live) >= least_live[0])

    def step(state: tuple[Cache, Window, jax.Array]) -> tuple[Cache, Window, jax.Array]:
        cache, done, token = state
        now = clock[0] + done.steps[0]
        keys, values = list(cache.keys), list(cache.values)
        position = now - rows.start  # [R]
        lengths = jnp.where(done.live, position + 1, 1)

        def attend(layer: int, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            keys[layer] = write_token(keys[layer], key, now)
            values[layer] = write_token(values[layer], value, now)
            return decode_attention(
                query, keys[layer], values[layer], now, lengths, implementation=attention
            )

        hidden = run_layers(
            weights,
            config,
            token,
            position,
            attend,
            compute_dtype=compute_dtype,
            tensor_axis=tensor_axis,
        )  # [R, D]
        with jax.named_scope("head"):
            logits = vocabulary_logits(hidden, weights["head"])  # [R, V] of this shard
        sampled = sample_rows(
            logits, rows, done.produced, done.live, tensor_axis, vocabulary=vocabulary
        )

        produced = done.produced + done.live
        stopped = jnp.any(sampled.tokens[:, None] == stops, axis=-1) | (produced >= rows.limit)
        row = (done.steps[0], 0)
        done = Window(
            steps=done.steps + 1,
            produced=produced,
            live=done.live & ~stopped,
            tokens=jax.lax.dynamic_update_slice(done.tokens, sampled.tokens[None], row),
            log_probs=jax.lax.dynamic_update_slice(done.log_probs, sampled.log_probs[None], row),
            sampled_log_probs=jax.lax.dynamic_update_slice(
                done.sampled_log_probs, sampled.sampled_log_probs[None], row
            ),
            searched=done.searched + jnp.any(sampled.searched),
            passes=done.passes + done.live,
        )
        return Cache(keys, values), done, sampled.tokens

    nothing = Window(
        steps=jnp.zeros((1,), jnp.int32),
        produced=rows.produced,
        live=rows.live,
        tokens=jnp.zeros((window, num_rows), jnp.int32),
        log_probs=jnp.zeros((window, num_rows), jnp.float32),
        sampled_log_probs=jnp.zeros((window, num_rows), jnp.float32),
        searched=jnp.zeros((1,), jnp.int32),
        passes=jnp.zeros((num_rows,), jnp.int32),
    )
    with jax.named_scope("decode_window"):
        cache, done, _ = jax.lax.while_loop(goes_on, step, (cache, nothing, rows.token))
    return cache, done


def sample_rows(
    logits: jax.Array,
    rows: Rows,
    produced: jax.Array,
    live: jax.Array,
    tensor_axis: str | None,
    *,
    vocabulary: int | None = None,
) -> Sampled:
    """Sample each row; devices that hold parts of the vocabulary share the rows among them.

    Args:
        logits: float32 [R, V] of this device's part of the vocabulary.
        rows: keys and settings.
        produced: int32 [R], tokens before the one that is sampled.
        live: bool [R].
        vocabulary: see ``sampling.sample_tokens``.
    """
    uniforms = token_uniforms(rows.key, produced)
    inputs = (uniforms, rows.temperature, rows.top_p, rows.top_k, live)
    if tensor_axis is None:
        return sample_tokens(logits, *inputs, vocabulary=vocabulary)
    shards = jax.lax.axis_size(tensor_axis)
    if logits.shape[0] % shards:
        whole = jax.lax.all_gather(logits, tensor_axis, axis=1, tiled=True)
        return sample_tokens(whole, *inputs, vocabulary=vocabulary)
    share = jax.lax.all_to_all(logits, tensor_axis, split_axis=0, concat_axis=1, tiled=True)
    own_rows = logits.shape[0] // shards
    first = jax.lax.axis_index(tensor_axis) * own_rows
    own = [jax.lax.dynamic_slice_in_dim(array, first, own_rows) for array in inputs]
    sampled = sample_tokens(share, *own, vocabulary=vocabulary)
    return Sampled(*(jax.lax.all_gather(array, tensor_axis, tiled=True) for array in sampled))
