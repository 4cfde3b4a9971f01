"""Tokens are drawn from the distribution that temperature, top-k and top-p define, and no other."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies
from scipy import stats

from zerocoder_jax.errors import UserError
from zerocoder_jax.rollout import sampling
from zerocoder_jax.rollout.keys import sample_key, token_uniforms
from zerocoder_jax.rollout.sampling import SamplingSettings, sample_tokens

pytestmark = pytest.mark.optimized

DRAWS = 100_000


def exact_distribution(logits, temperature, top_p, top_k):
    """The distribution in float64, by sorting; the definition that the fast way must meet."""
    logits = np.asarray(logits, np.float64)
    if temperature == 0:
        return np.eye(len(logits))[np.argmax(logits)]
    order = np.argsort(-logits, kind="stable")
    weights = np.exp((logits[order] - logits[order[0]]) / temperature)
    if top_k:
        weights[top_k:] = 0.0
    weights /= weights.sum()
    before = np.cumsum(weights) - weights
    weights[before >= top_p] = 0.0
    result = np.zeros(len(logits))
    result[order] = weights / weights.sum()
    return result


@functools.partial(jax.jit, static_argnames="rows")
def draw(logits, seed, temperature, top_p, top_k, rows):
    key = jax.random.key_data(jax.random.key(seed, impl="threefry2x32")).astype(jnp.uint32)
    uniforms = token_uniforms(jnp.broadcast_to(key, (rows, 2)), jnp.arange(rows))
    return sample_tokens(
        jnp.broadcast_to(logits, (rows, logits.shape[0])),
        uniforms,
        jnp.full((rows,), temperature, jnp.float32),
        jnp.full((rows,), top_p, jnp.float32),
        jnp.full((rows,), top_k, jnp.int32),
    )


@pytest.mark.parametrize("top_k", [0, 5, 100])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.6])
def test_the_sampled_distribution_is_the_exact_one(temperature, top_p, top_k):
    logits = np.random.default_rng(3).normal(size=128).astype(np.float32) * 1.5
    sampled = draw(logits, 11, temperature, top_p, top_k, DRAWS)
    exact = exact_distribution(logits, temperature, top_p, top_k)
    counts = np.bincount(np.asarray(sampled.tokens), minlength=len(logits))
    assert counts[exact == 0].sum() == 0
    expected = exact * DRAWS
    # Chi-square wants five expected draws in a cell: rarer tokens share one.
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    if expected[-1] < 5:
        observed, expected = (
            observed[:-1],
            expected[:-1] * observed[:-1].sum() / expected[:-1].sum(),
        )
    if len(observed) > 1:
        assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("top_k", [0, 5, 500])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.6])
def test_so_it_is_over_a_vocabulary_of_many_blocks(temperature, top_p, top_k):
    """Evenly spaced random numbers give each token its share to within one draw."""
    rows, logits = 2000, np.random.default_rng(3).normal(size=9000).astype(np.float32) * 1.5
    uniforms = (np.arange(rows, dtype=np.float32) + 0.5) / rows
    settings = np.float32(temperature), np.float32(top_p), np.int32(top_k)
    sampled = jax.jit(sample_tokens)(
        np.broadcast_to(logits, (rows, 9000)), uniforms, *(np.full(rows, one) for one in settings)
    )
    counts = np.bincount(np.asarray(sampled.tokens), minlength=9000)
    exact = exact_distribution(logits, temperature, top_p, top_k)
    assert counts[exact == 0].sum() == 0
    # A token owns one interval of the numbers; two of its ends may be rounded.
    assert np.abs(counts - exact * rows).max() < 1.5


@pytest.mark.parametrize("vocabulary", [7, 64, 128, 300, 9000])
@pytest.mark.parametrize("spread", [0.02, 1.0, 6.0])
def test_log_probs_are_those_of_the_whole_and_of_the_truncated_distribution(vocabulary, spread):
    logits = np.random.default_rng(5).normal(size=vocabulary).astype(np.float32) * spread
    for temperature, top_p, top_k in [(0.7, 0.8, 0), (1.0, 1.0, 0), (1.3, 0.95, 70), (0.0, 1, 0)]:
        sampled = jax.device_get(draw(logits, 1, temperature, top_p, top_k, 64))
        exact = exact_distribution(logits, temperature, top_p, top_k)
        whole = exact_distribution(logits, temperature or 1.0, 1.0, 0)
        np.testing.assert_allclose(sampled.log_probs, np.log(whole[sampled.tokens]), atol=2e-5)
        np.testing.assert_allclose(
            sampled.sampled_log_probs, np.log(exact[sampled.tokens]), atol=2e-5
        )


@pytest.mark.parametrize("vocabulary", [40, 8900])
def test_padding_of_the_embedding_table_is_never_drawn(vocabulary):
    """Not even where it is most probable; training, which knows nothing of it, gives it a share."""
    size = 9000 if vocabulary > 300 else 256
    logits = np.random.default_rng(7).normal(size=size).astype(np.float32)
    logits[vocabulary:] += 3
    wanted = np.where(np.arange(size) < vocabulary, logits, -np.inf)
    whole = np.log(exact_distribution(logits, 0.8, 1.0, 0))
    sampling = jax.jit(sample_tokens, static_argnames="vocabulary")
    uniforms = (np.arange(64, dtype=np.float32) + 0.5) / 64
    for temperature, top_p, top_k in [(0.8, 1.0, 0), (0.8, 0.9, 0), (0.8, 1.0, 100), (0.0, 1.0, 0)]:
        rows = (np.full(64, one) for one in (np.float32(temperature), np.float32(top_p)))
        sampled = jax.device_get(
            sampling(
                np.broadcast_to(logits, (64, size)),
                *(uniforms, *rows, np.full(64, np.int32(top_k))),
                vocabulary=vocabulary,
            )
        )
        assert (sampled.tokens < vocabulary).all()
        drawn = exact_distribution(wanted, temperature, top_p, top_k)[sampled.tokens]
        np.testing.assert_allclose(sampled.sampled_log_probs, np.log(drawn), atol=2e-5)
        if temperature:
            np.testing.assert_allclose(sampled.log_probs, whole[sampled.tokens], atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=strategies.integers(0, 2**31 - 1),
    spread=strategies.sampled_from([0.0, 0.05, 1.0, 5.0, 40.0]),
    temperature=strategies.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=strategies.floats(0.01, 1.0, exclude_min=True),
    top_k=strategies.integers(0, 400),
)
def test_no_token_outside_the_kept_set_is_ever_drawn(seed, spread, temperature, top_p, top_k):
    logits = np.random.default_rng(seed).normal(size=300).astype(np.float32) * spread
    sampled = jax.device_get(draw(logits, seed, temperature, top_p, top_k, 16))
    scaled = logits / (temperature or 1.0)
    kept = np.exp(sampled.sampled_log_probs)
    assert ((sampled.tokens >= 0) & (sampled.tokens < 300)).all()
    if spread == 0.0:  # All alike: every token is tied with the last one kept.
        return
    # Mass of the strictly more probable tokens, within top-k, is below top-p.
    order = np.sort(scaled)[::-1].astype(np.float64)
    weights = np.exp(order - order[0])
    if temperature == 0:
        assert (sampled.tokens == np.argmax(logits)).all()
        return
    if top_k:
        weights[top_k:] = 0
    for token in sampled.tokens:
        above = order > scaled[token]
        assert weights[above].sum() <= (top_p + 1e-5) * weights.sum()
        assert not top_k or above.sum() < top_k
    assert (kept > 0).all() and (kept <= 1 + 1e-5).all()


def test_a_row_draws_the_same_token_in_any_company():
    random = np.random.default_rng(7)
    logits = (random.normal(size=(12, 9000)) * np.linspace(0.01, 5, 12)[:, None]).astype("float32")
    uniforms = random.random(12).astype("float32")
    temperature = np.resize(np.float32([0.7, 1.0, 0.0]), 12)
    top_p = np.resize(np.float32([0.8, 1.0]), 12)
    top_k = np.resize(np.int32([0, 3, 500, 0, 0]), 12)
    inputs = (logits, uniforms, temperature, top_p, top_k)
    together = jax.device_get(sample_tokens(*inputs))
    for row in range(12):
        alone = jax.device_get(sample_tokens(*(array[row : row + 1] for array in inputs)))
        assert alone.tokens[0] == together.tokens[row]
        np.testing.assert_allclose(alone.log_probs[0], together.log_probs[row], rtol=1e-5)


def rows_of_text_and_flat_rows(rows=12):
    """Inputs of ``sample_tokens``: each third row is flat, so that its top-p needs the search."""
    random = np.random.default_rng(9)
    logits = random.normal(size=(rows, 9000)).astype("float32")
    logits[np.arange(rows) % 3 > 0, :40] += 15
    settings = (np.full(rows, 0.7, "float32"), np.full(rows, 0.8, "float32"), np.zeros(rows, int))
    return logits, random.random(rows).astype("float32"), *settings


def test_a_dead_row_neither_takes_the_search_nor_changes_a_live_token():
    inputs = rows_of_text_and_flat_rows()
    flat = np.arange(12) % 3 == 0
    sample = jax.jit(sample_tokens)
    every, live = jax.device_get((sample(*inputs), sample(*inputs, ~flat)))
    assert (every.searched == flat).all()
    assert not live.searched.any()
    for name in ("tokens", "log_probs", "sampled_log_probs"):
        np.testing.assert_array_equal(getattr(every, name)[~flat], getattr(live, name)[~flat])


def test_the_search_takes_every_row_that_needs_it_whatever_their_number():
    logits, uniforms, *settings = rows_of_text_and_flat_rows(3 * sampling.SEARCHED_ROWS + 3)
    logits = np.where(np.arange(len(logits))[:, None] < 2, logits, logits[:1])
    sampled = jax.device_get(jax.jit(sample_tokens)(logits, uniforms, *settings))
    assert sampled.searched.sum() == len(logits) - 1
    flat = exact_distribution(logits[0], 0.7, 0.8, 0)
    drawn = np.delete(sampled.tokens, 1), np.delete(sampled.sampled_log_probs, 1)
    np.testing.assert_allclose(drawn[1], np.log(flat[drawn[0]]), atol=2e-5)


def test_the_worked_examples_hold():
    assert doctest.testmod(sampling).failed == 0


def test_a_key_belongs_to_one_sample_alone():
    keys = {
        tuple(sample_key(seed, step, problem, role, sample))
        for seed in range(3)
        for step in range(3)
        for problem in (0, 1, 2**32, 2**63)
        for role in range(2)
        for sample in range(8)
    }
    assert len(keys) == 3 * 3 * 4 * 2 * 8
    # The numbers themselves, so that a run of last year can be continued.
    assert sample_key(0, 1, 2, 0, 3).tolist() == [3615557099, 470603362]
    assert sample_key(0, 1, 2, 0, 3).dtype == np.uint32


def test_a_token_depends_on_its_place_in_the_reply_and_not_on_its_row():
    keys = np.stack([sample_key(0, 0, 0, 0, sample) for sample in range(4)])
    produced = np.array([5, 0, 9, 5], np.int32)
    together = np.asarray(token_uniforms(keys, produced))
    swapped = np.asarray(token_uniforms(keys[::-1], produced[::-1]))
    assert (together == swapped[::-1]).all()
    assert len(set(together.tolist())) == 4
    assert ((together >= 0) & (together < 1)).all()


@pytest.mark.parametrize(
    "field, value", [("temperature", -1.0), ("top_p", 0.0), ("top_p", 1.5), ("top_k", -1)]
)
def test_impossible_settings_name_their_field(field, value):
    with pytest.raises(UserError, match=f"config.rollout.{field}"):
        SamplingSettings(**{field: value})
