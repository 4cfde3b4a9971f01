"""Decoding the last rows of a call by drafts: several tokens in one pass over the weights.

When few rows are left, a step reads all weights for a few tokens. What a row writes next has often
been written before: in its prompt, in the other replies to that prompt, or earlier in the reply. So
the text behind the longest earlier occurrence of the row's last tokens is its draft, one pass
computes the logits after each draft token, and each position is sampled with its own random number.
Draft tokens are accepted as long as they are the sampled ones. The tokens are therefore those of
plain decoding: a draft decides how many come out of a pass, never which.

Shape letters: R rows, D tokens fed to a pass (the last one and D - 1 drafted), C tokens of a text,
W passes of a window, K key-value heads, G query heads that share one, h head size, S slots.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.rollout.cache import Cache
from zerocoder_jax.rollout.decode import Rows, Window, sample_rows
from zerocoder_jax.rollout.layers import run_layers
from zerocoder_jax.rollout.weights import DecodeWeights, vocabulary_logits

# Batches of at most this many rows on each device are decoded by drafts, when no sample waits.
DRAFT_ROWS = 16
# Longest run of last tokens that is looked for.
SUFFIX_TOKENS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Texts:
    """What each row may draft from: text that ends with the row's own reply, its last token last.

    Attributes:
        tokens: int32 [R, C], padded on the right.
        lengths: int32 [R], at least 1.
    """

    tokens: Any
    lengths: Any


def draft(texts: Texts, count: int) -> jax.Array:
    """``count`` tokens for each row, int32 [R, count]: those behind the longest earlier occurrence
    of the row's last tokens, the latest of several. Without one they are any tokens.

    >>> text = jnp.array([[5, 1, 2, 3, 4, 9, 2, 3, 7, 1, 2, 3, 0, 0]])
    >>> draft(Texts(text, jnp.array([12])), 2).tolist()
    [[4, 9]]
    """
    capacity = texts.tokens.shape[1]

    def of_row(text: jax.Array, length: jax.Array) -> jax.Array:
        place = jnp.arange(capacity)
        matching = place < length - 1
        matched = jnp.zeros((capacity,), jnp.int32)
        for back in range(SUFFIX_TOKENS):
            last = text[jnp.maximum(length - 1 - back, 0)]
            inside = (place >= back) & (back < length)
            matching &= inside & (jnp.roll(text, back) == last)
            matched += matching
        # The longest, and of equal ones the latest.
        end = jnp.argmax(matched * capacity + place * (matched > 0))
        return text[jnp.minimum(end + 1 + jnp.arange(count), capacity - 1)]

    return jax.vmap(of_row)(texts.tokens, texts.lengths)


def draft_window(
    weights: DecodeWeights,
    cache: Cache,
    rows: Rows,
    texts: Texts,
    *,
    config: PolicyConfig,
    compute_dtype: Any,
    window: int,
    fed: int,
    stop_tokens: tuple[int, ...],
    vocabulary: int | None = None,
    tensor_axis: str | None = None,
) -> tuple[Cache, Window]:
    """Sample up to ``window * fed`` tokens for each live row in up to ``window`` passes.

    Rows advance by different numbers of tokens, so that they leave the common clock of the ring:
    a token at position p of a row is written to slot ``(start + p) % S``, as before, and after a
    window of drafts a row is decoded by drafts until it is finished. The ring has D - 1 slots more
    than a whole row needs, for drafts that are not accepted.

    Args:
        cache: donated and updated in place.
        rows: as for ``decode_window``; ``position`` says where the fed token stands.
        texts: with room for ``window * fed`` more tokens in each row.
        fed: D, at least 2.
    """
    num_rows, room = rows.token.shape[0], (window + 1) * fed
    stops = jnp.asarray(stop_tokens, jnp.int32)
    row = jnp.arange(num_rows)
    place = jnp.arange(fed)

    def goes_on(state: tuple[Cache, Window, Texts]) -> jax.Array:
        return (state[1].steps[0] < window) & jnp.any(state[1].live)

    def one_pass(state: tuple[Cache, Window, Texts]) -> tuple[Cache, Window, Texts]:
        cache, done, texts = state
        keys, values = list(cache.keys), list(cache.values)
        last = texts.tokens[row, texts.lengths - 1]
        tokens = jnp.concatenate([last[:, None], draft(texts, fed - 1)], axis=1)  # [R, D]
        new = done.produced - rows.produced  # [R], in this window
        position = (rows.position + new)[:, None] + place  # [R, D]
        slot = (rows.start[:, None] + position) % cache.slots

        def attend(layer: int, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            keys[layer] = _write(keys[layer], key, slot)
            values[layer] = _write(values[layer], value, slot)
            return _attend(query, keys[layer], values[layer], rows.start, position)

        hidden = run_layers(
            weights,
            config,
            tokens,
            position,
            attend,
            compute_dtype=compute_dtype,
            tensor_axis=tensor_axis,
        ).reshape(num_rows * fed, -1)
        with jax.named_scope("head"):
            logits = vocabulary_logits(hidden, weights["head"])  # [R D, V] of this shard
        sampled = sample_rows(
            logits,
            jax.tree.map(lambda array: jnp.repeat(array, fed, axis=0), rows),
            (done.produced[:, None] + place).ravel(),
            jnp.repeat(done.live, fed),
            tensor_axis,
            vocabulary=vocabulary,
        )
        drawn, log_probs, sampled_log_probs, searched = (
            array.reshape(num_rows, fed) for array in sampled
        )
        # A draft token is right if it is what was sampled there, and so was all before it.
        right = jnp.cumprod((drawn[:, :-1] == tokens[:, 1:]).astype(jnp.int32), axis=1)
        accepted = 1 + jnp.sum(right, axis=1)  # [R], sampled tokens that continue the reply
        ends = jnp.any(drawn[..., None] == stops, axis=-1)
        ends |= done.produced[:, None] + place + 1 >= rows.limit[:, None]
        first_end = jnp.where(jnp.any(ends, axis=1), jnp.argmax(ends, axis=1), fed)
        stopped = first_end < accepted
        count = jnp.where(done.live, jnp.minimum(accepted, first_end + 1), 0)

        def put(buffer: jax.Array, part: jax.Array) -> jax.Array:
            """The rows' new tokens behind those that they have; what is too much is overwritten."""
            return buffer.at[new[:, None] + place, row[:, None]].set(part)

        done = Window(
            steps=done.steps + 1,
            produced=done.produced + count,
            live=done.live & ~stopped,
            tokens=put(done.tokens, drawn),
            log_probs=put(done.log_probs, log_probs),
            sampled_log_probs=put(done.sampled_log_probs, sampled_log_probs),
            searched=done.searched + jnp.any(searched & (place < count[:, None])),
            passes=done.passes + (count > 0),
        )
        written = texts.tokens.at[row[:, None], texts.lengths[:, None] + place].set(drawn)
        return Cache(keys, values), done, Texts(written, texts.lengths + count)

    nothing = Window(
        steps=jnp.zeros((1,), jnp.int32),
        produced=rows.produced,
        live=rows.live,
        tokens=jnp.zeros((room, num_rows), jnp.int32),
        log_probs=jnp.zeros((room, num_rows), jnp.float32),
        sampled_log_probs=jnp.zeros((room, num_rows), jnp.float32),
        searched=jnp.zeros((1,), jnp.int32),
        passes=jnp.zeros((num_rows,), jnp.int32),
    )
    with jax.named_scope("draft_window"):
        cache, done, _ = jax.lax.while_loop(goes_on, one_pass, (cache, nothing, texts))
    return cache, done


def _write(ring: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
    """One layer [R', K, S, h] with new entries [R, D, K, h] at slots [R, D] of its first rows."""
    row = jnp.arange(slot.shape[0])[:, None]
    return ring.at[row, :, slot].set(new.astype(ring.dtype))


def _attend(
    query: jax.Array, keys: jax.Array, values: jax.Array, start: jax.Array, position: jax.Array
) -> jax.Array:
    """Mixture [R, D, H, h] of the values at positions up to each query's own.

    Few rows are left, and all of their slots are read.

    Args:
        query: [R, D, H, h]; position: int32 [R, D].
        keys, values: [R', K, S, h]; start: int32 [R].
    """
    rows, fed, heads, size = query.shape
    kv_heads, slots = keys.shape[1], keys.shape[2]
    held = (jnp.arange(slots) - start[:, None]) % slots  # [R, S], the position that a slot holds
    seen = held[:, None] <= position[..., None]  # [R, D, S]
    grouped = (query * size**-0.5).reshape(rows, fed, kv_heads, heads // kv_heads, size)
    logits = jnp.einsum(
        "rdkgh,rksh->rkgds", grouped, keys[:rows], preferred_element_type=jnp.float32
    )
    shares = jax.nn.softmax(jnp.where(seen[:, None, None], logits, -1e30), axis=-1)
    mixed = jnp.einsum("rkgds,rksh->rdkgh", shares.astype(values.dtype), values[:rows])
    return mixed.reshape(rows, fed, heads, size).astype(query.dtype)


def texts_of_rows(
    own: Sequence[np.ndarray | None],
    others: Sequence[Sequence[np.ndarray]],
    capacity: int,
    room: int = 0,
) -> Texts:
    """The texts of rows, in which a row's own comes last.

    Args:
        own: int32 [n], each row's prompt and the reply so far; None for a free row.
        others: other replies to the same prompt, the most useful last: the first are left out
            where there is no room.
        capacity: C.
        room: tokens of it that stay free.

    >>> texts = texts_of_rows([np.array([1, 2])], [[np.array([7, 8, 9]), np.array([5])]], 4)
    >>> texts.tokens.tolist(), texts.lengths.tolist()
    ([[5, 1, 2, 0]], [3])
    """
    tokens = np.zeros((len(own), capacity), np.int32)
    lengths = np.ones(len(own), np.int32)
    for row, text in enumerate(own):
        if text is None:
            continue
        parts, free = [text], capacity - room - len(text)
        for other in reversed(others[row]):
            free -= len(other)
            if free < 0:
                break
            parts.insert(0, other)
        whole = np.concatenate(parts)
        tokens[row, : len(whole)] = whole
        lengths[row] = len(whole)
    return Texts(tokens, lengths)
