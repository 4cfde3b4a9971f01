"""Drawing a token from each row of logits: temperature, top-k, top-p and greedy, row by row.

No vocabulary is sorted. A row needs one number in [0, 1) and inverts its cumulative distribution:
first over blocks of the vocabulary, then inside one block. A truncation is a threshold, "keep every
token at least this probable"; almost always it lies among the ``CANDIDATES`` most probable tokens,
which are found without a sort because they lie in the blocks with the largest maxima. Where it does
not (a flat distribution, a large top-k) a binary search over the float's bits finds it exactly.

Shape letters: R rows, V vocabulary, N blocks, b tokens of a block, C candidates.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zerocoder_jax.errors import UserError

# Most probable tokens among which a truncation is looked for before the exact search.
CANDIDATES = 64
# Rows that one pass of the exact search takes: a step seldom has more than one that needs it.
SEARCHED_ROWS = 4
# Tokens of a block. 151936 and 152064, the vocabularies of Qwen, are multiples of 128.
BLOCK = 128


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """How the tokens of a reply are drawn.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable token (greedy).
        top_p: keep the smallest set of most probable tokens that holds this mass; 1 keeps all.
        top_k: keep so many most probable tokens, before ``top_p`` is applied to what they hold;
            0 keeps all.
        max_new_tokens: a reply is cut here.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        for name, valid, range_ in (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (keep all) or more"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
        ):
            if not valid:
                raise UserError(
                    f"config.rollout.{name} is {getattr(self, name)}: it must be {range_}"
                )


class Sampled(NamedTuple):
    """One token per row and what it cost.

    Attributes:
        tokens: int32 [R].
        log_probs: float32 [R], at the row's temperature with nothing truncated, which is what
            training follows; at temperature 1 where greedy.
        sampled_log_probs: float32 [R], under the distribution that was drawn from; 0 where greedy.
        searched: bool [R], the row's truncation took the exact search.
    """

    tokens: jax.Array
    log_probs: jax.Array
    sampled_log_probs: jax.Array
    searched: jax.Array


def sample_tokens(
    logits: jax.Array,
    uniforms: jax.Array,
    temperature: jax.Array,
    top_p: jax.Array,
    top_k: jax.Array,
    live: jax.Array | None = None,
    *,
    vocabulary: int | None = None,
) -> Sampled:
    """Draw one token per row by inverting the row's cumulative distribution.

    Of tokens that are exactly as probable as the last one kept, all are kept (at the border of
    the ``CANDIDATES``, those among them).

    Args:
        logits: float32 [R, V].
        uniforms: float32 [R] in [0, 1).
        temperature, top_p: float32 [R]; top_k: int32 [R]; with the meanings of
            ``SamplingSettings``.
        live: bool [R]; what is returned for a row that is not means nothing, and costs nothing.
            A finished or free row sees one token, its distribution is nearly flat, and most such
            rows would need the exact search. Default: all rows are.
        vocabulary: ids from here on are padding of the embedding table, which no tokenizer can
            decode: none is drawn. They keep their share of ``log_probs``, as in training. Default:
            every id may be drawn.
    """
    with jax.named_scope("sampling"):
        live = jnp.ones(temperature.shape, bool) if live is None else live
        greedy = temperature == 0.0
        top_k = jnp.where(greedy, 1, top_k)
        temperature = jnp.where(greedy, 1.0, temperature)
        truncates = (top_k > 0) | (top_p < 1.0)

        first_padding = logits.shape[1] if vocabulary is None else vocabulary
        padding = logits[:, first_padding:]
        if padding.shape[1]:
            logits = jnp.where(jnp.arange(logits.shape[1]) < first_padding, logits, -jnp.inf)
        blocks = _in_blocks(logits)  # [R, N, b]
        block_maxima = jnp.max(blocks, axis=-1)  # [R, N]
        largest = jnp.max(block_maxima, axis=-1)  # [R]
        centred = blocks - largest[:, None, None]
        # At most 0, and 0 for the most probable token.
        scaled = centred / temperature[:, None, None]
        everything = jnp.sum(jnp.exp(scaled), axis=(1, 2))  # [R]

        # A row's settings and logits alone decide which branch draws its token, so the token does
        # not depend on the rest of the batch. lax.cond skips a branch that no live row needs.
        settled, token, log_prob = _when_any(
            live & truncates,
            lambda: _draw_from_candidates(scaled, everything, block_maxima, uniforms, top_p, top_k),
        )
        searched = live & truncates & ~settled
        drawn = [
            (settled & truncates, token, log_prob),
            _when_any(
                live & ~truncates,
                lambda: _draw_from_all(scaled, uniforms, jnp.full_like(uniforms, -jnp.inf)),
            ),
            _when_any(searched, lambda: _search(scaled, uniforms, top_p, top_k, searched)),
        ]
        chosen_by = [drawn[0][0], ~truncates, searched]
        token = jnp.select(chosen_by, [token for _, token, _ in drawn], 0)
        log_prob = jnp.select(chosen_by, [log_prob for *_, log_prob in drawn], 0.0)
        chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0]
        unreachable = jnp.exp((padding - largest[:, None]) / temperature[:, None])
        whole = everything + jnp.sum(unreachable, axis=-1)
        untruncated = (chosen - largest) / temperature - jnp.log(whole)
        return Sampled(token, untruncated, jnp.where(greedy, 0.0, log_prob), searched)


# What a way of drawing returns: whether a row was settled [R], its token [R], its log-prob [R].
_Draw = tuple[jax.Array, jax.Array, jax.Array]


def _when_any(wanted: jax.Array, draw: Callable[[], _Draw]) -> _Draw:
    rows = wanted.shape
    nothing = (jnp.zeros(rows, bool), jnp.zeros(rows, jnp.int32), jnp.zeros(rows, jnp.float32))
    return jax.lax.cond(jnp.any(wanted), draw, lambda: nothing)


def _in_blocks(logits: jax.Array) -> jax.Array:
    """Logits [R, V] as [R, N, b], filled up with -inf where V is not a multiple of the block."""
    rows, vocabulary = logits.shape
    padding = -vocabulary % BLOCK
    if padding:
        logits = jnp.pad(logits, ((0, 0), (0, padding)), constant_values=-jnp.inf)
    return logits.reshape(rows, -1, BLOCK)


def _draw_from_candidates(
    scaled: jax.Array,
    everything: jax.Array,
    block_maxima: jax.Array,
    uniforms: jax.Array,
    top_p: jax.Array,
    top_k: jax.Array,
) -> _Draw:
    """Draw among the most probable tokens; settled where they hold all that is to be kept.

    With masses .5 .3 .1 .1 and top-p 0.7, the mass *before* each token is 0 .5 .8 .9: the tokens
    that begin below .7 are kept, the first two.
    """
    rows, num_blocks, block = scaled.shape
    pool, first = scaled.reshape(rows, -1), None
    if num_blocks > CANDIDATES:
        # The C largest numbers lie in the C blocks with the largest maxima.
        first = jax.lax.top_k(block_maxima, CANDIDATES)[1]  # [R, C]
        pool = jnp.take_along_axis(scaled, first[..., None], axis=1).reshape(rows, -1)
    values, places = jax.lax.top_k(pool, CANDIDATES)  # [R, C], most probable first
    tokens = places
    if first is not None:
        tokens = jnp.take_along_axis(first, places // block, axis=1) * block + places % block

    masses = jnp.exp(values)
    rank = jnp.arange(CANDIDATES)
    in_top_k = (top_k[:, None] == 0) | (rank < top_k[:, None])
    held = jnp.sum(jnp.where(in_top_k, masses, 0.0), axis=-1)  # [R]
    wanted = jnp.where(top_p < 1.0, top_p * jnp.where(top_k > 0, held, everything), jnp.inf)
    up_to = jnp.cumsum(masses, axis=-1)
    kept = in_top_k & (up_to - masses < wanted[:, None])
    settled = jnp.where(top_k > 0, top_k <= CANDIDATES, up_to[:, -1] >= wanted)
    # A vocabulary smaller than the candidates has padding among them, and nothing outside.
    settled |= scaled.shape[1] * block <= CANDIDATES

    index, mass = _invert(jnp.where(kept, masses, 0.0), uniforms)
    chosen = jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]
    token = jnp.take_along_axis(tokens, index[:, None], axis=-1)[:, 0].astype(jnp.int32)
    return settled, token, chosen - jnp.log(mass)


def _search(
    scaled: jax.Array,
    uniforms: jax.Array,
    top_p: jax.Array,
    top_k: jax.Array,
    searched: jax.Array,
) -> _Draw:
    """Draw with an exact threshold in the rows that are ``searched``, a few rows at a time."""
    rows = uniforms.shape[0]
    width = min(SEARCHED_ROWS, rows)
    order = jnp.argsort(~searched, stable=True)  # [R], the searched rows first
    count = jnp.sum(searched)
    inputs = [jnp.asarray(array) for array in (scaled, uniforms, top_p, top_k)]

    def search_next(state: tuple[jax.Array, _Draw]) -> tuple[jax.Array, _Draw]:
        done, (_, token, log_prob) = state
        # The last pass may take rows again: they get the same token.
        some = jax.lax.dynamic_slice(order, (done,), (width,))
        part, uniform, p, k = (array[some] for array in inputs)
        _, new_token, new_log_prob = _draw_from_all(part, uniform, _exact_threshold(part, p, k))
        token = token.at[some].set(new_token)
        return done + width, (searched, token, log_prob.at[some].set(new_log_prob))

    nothing = (searched, jnp.zeros((rows,), jnp.int32), jnp.zeros((rows,), jnp.float32))
    start = (jnp.int32(0), nothing)
    return jax.lax.while_loop(lambda state: state[0] < count, search_next, start)[1]


def _draw_from_all(scaled: jax.Array, uniforms: jax.Array, threshold: jax.Array) -> _Draw:
    """Draw from the whole vocabulary, from logits of at least ``threshold`` [R]."""
    rows, _, block = scaled.shape
    threshold = threshold[:, None]
    masses = jnp.where(scaled >= threshold[..., None], jnp.exp(scaled), 0.0)
    block_masses = jnp.sum(masses, axis=-1)  # [R, N]
    chosen_block, mass = _invert(block_masses, uniforms)
    before = jnp.sum(
        jnp.where(jnp.arange(block_masses.shape[1]) < chosen_block[:, None], block_masses, 0.0),
        axis=-1,
    )
    inside = jnp.take_along_axis(scaled, chosen_block[:, None, None], axis=1)[:, 0]  # [R, b]
    inside_masses = jnp.where(inside >= threshold, jnp.exp(inside), 0.0)
    own = jnp.take_along_axis(block_masses, chosen_block[:, None], axis=-1)[:, 0]
    index, _ = _invert(inside_masses, (uniforms * mass - before) / own)
    chosen = jnp.take_along_axis(inside, index[:, None], axis=-1)[:, 0]
    token = (chosen_block * block + index).astype(jnp.int32)
    return jnp.ones((rows,), bool), token, chosen - jnp.log(mass)


def _invert(masses: jax.Array, uniforms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the cumulative mass passes ``uniform * total``: index int32 [R], total [R].

    Never an entry without mass, whatever the rounding of the sums.

    >>> masses = jnp.array([[1.0, 0.0, 3.0, 0.0]] * 3)
    >>> _invert(masses, jnp.array([0.0, 0.25, 1.0]))[0].tolist()
    [0, 2, 2]
    """
    up_to = jnp.cumsum(masses, axis=-1)
    total = up_to[:, -1]
    passed = up_to > (uniforms * total)[:, None]
    entries = jnp.arange(masses.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(masses > 0.0, entries, 0), axis=-1)
    first_passed = jnp.argmax(passed & (masses > 0.0), axis=-1).astype(jnp.int32)
    return jnp.where(jnp.any(passed, axis=-1), first_passed, last), total


def _exact_threshold(scaled: jax.Array, top_p: jax.Array, top_k: jax.Array) -> jax.Array:
    """The smallest logit that top-k and then top-p keep, float32 [R], for any distribution.

    Distances below the most probable token are not negative, and floats that are not negative
    are ordered like their bits: 31 steps of a binary search over the bits end at the exact one.
    """
    distance = -scaled  # [R, N, b]
    bits = jax.lax.bitcast_convert_type(jnp.maximum(distance, 0.0), jnp.int32)
    masses = jnp.exp(scaled)
    rows = scaled.shape[0]

    def smallest(enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """The smallest bits [R] for which ``enough`` (monotone) holds; it holds at infinity."""

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = low + (high - low) // 2
            fits = enough(middle)
            return jnp.where(fits, low, middle + 1), jnp.where(fits, middle, high)

        infinity = jax.lax.bitcast_convert_type(jnp.float32(jnp.inf), jnp.int32)
        ends = (jnp.zeros((rows,), jnp.int32), jnp.full((rows,), infinity))
        return jax.lax.fori_loop(0, 31, halve, ends)[1]

    def within(bound: jax.Array) -> jax.Array:
        return bits <= bound[:, None, None]

    everything = jnp.iinfo(jnp.int32).max
    no_bound = jnp.full((rows,), everything)
    k_bound = jax.lax.cond(
        jnp.any(top_k > 0),
        lambda: smallest(lambda bound: jnp.sum(within(bound), axis=(1, 2)) >= top_k),
        lambda: no_bound,
    )
    k_bound = jnp.where(top_k > 0, k_bound, no_bound)

    def mass(bound: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(within(bound), masses, 0.0), axis=(1, 2))

    wanted = top_p * mass(k_bound)
    p_bound = smallest(lambda bound: mass(bound) >= wanted)
    p_bound = jnp.where(top_p < 1.0, p_bound, everything)
    bound = jnp.minimum(k_bound, p_bound)
    cut = -jax.lax.bitcast_convert_type(bound, jnp.float32)
    return jnp.where(bound == everything, -jnp.inf, cut)
