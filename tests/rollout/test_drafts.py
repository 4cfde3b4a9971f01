"""Drafts decide how many tokens come out of a pass, and never which."""

import dataclasses
import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.rollout import (
    EngineSettings,
    RolloutEngine,
    SamplingSettings,
    drafts,
    sample_key,
)
from zerocoder_jax.rollout.drafts import SUFFIX_TOKENS, Texts, draft

STOP = 3
CONFIG = PolicyConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    qkv_bias=True,
    tie_embeddings=True,
)
SHAPES = EngineSettings(rows=6, window=3, max_prompt_tokens=24)
PROMPTS = [[5, 6, 7, 8, 5, 6], [9] * 20, [11, 12]]


@functools.cache
def policy():
    made = init_policy(CONFIG, jax.random.key(1))
    params = jax.tree.map(lambda array: array * 6 if array.ndim > 1 else array, made.params)
    return dataclasses.replace(made, params=params, stop_token_ids=(STOP,), pad_token_id=1)


@functools.cache
def engine(draft_tokens):
    shapes = dataclasses.replace(SHAPES, draft_tokens=draft_tokens)
    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=40), shapes)
    made.load(policy().params)
    return made


def replies(draft_tokens, sampling, limits=None):
    """By (prompt, sample): tokens and log-probs; more samples than rows, so that some wait."""
    keys = np.stack([sample_key(4, 0, 0, 0, sample) for sample in range(9)])
    options = {"sampling": [sampling] * 3, "limits": limits}
    found = engine(draft_tokens).generate(PROMPTS, 3, keys, **options)
    return {(one.prompt_index, one.sample_index): one for one in found}


@pytest.mark.parametrize("draft_tokens", [1, 4])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingSettings(temperature=0.0, max_new_tokens=40),
        SamplingSettings(temperature=0.6, top_p=0.8, max_new_tokens=40),
        SamplingSettings(temperature=1.0, top_k=3, max_new_tokens=40),
    ],
    ids=["greedy", "top_p", "top_k"],
)
def test_replies_are_those_of_plain_decoding(draft_tokens, sampling):
    plain, drafted = replies(0, sampling), replies(draft_tokens, sampling)
    assert engine(draft_tokens).statistics.drafted_tokens > 0
    assert plain.keys() == drafted.keys()
    for place, one in plain.items():
        np.testing.assert_array_equal(drafted[place].tokens, one.tokens)
        np.testing.assert_allclose(drafted[place].log_probs, one.log_probs, atol=2e-5)
        np.testing.assert_allclose(
            drafted[place].sampled_log_probs, one.sampled_log_probs, atol=2e-5
        )
        assert drafted[place].finished == one.finished


def test_a_reply_ends_at_its_own_limit_in_the_middle_of_a_draft():
    limits = np.array([1, 2, 3, 5, 8, 13, 21, 34, 40])
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=40)
    plain, drafted = replies(0, sampling, limits), replies(4, sampling, limits)
    for place, one in plain.items():
        np.testing.assert_array_equal(drafted[place].tokens, one.tokens)


def test_accepted_drafts_save_passes_over_the_weights():
    """Greedy samples of one prompt are equal, so the first to be finished is the others' draft."""
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=40)
    replies(0, sampling)
    plain = engine(0).statistics
    replies(4, sampling)
    drafted = engine(4).statistics
    assert drafted.tokens == plain.tokens == plain.live_row_steps
    assert drafted.live_row_steps < 0.95 * drafted.tokens
    assert 0 <= drafted.wasted_rows < 1


def longest_earlier_occurrence(text, count):
    """``draft`` by its definition."""
    best = (0, -1)
    for end in range(len(text) - 1):
        matched = 0
        while matched < min(SUFFIX_TOKENS, end + 1) and text[end - matched] == text[-1 - matched]:
            matched += 1
        best = max(best, (matched, end))
    matched, end = best
    return text[end + 1 : end + 1 + count] if matched else None


@settings(max_examples=200, deadline=None)
@given(strategies.lists(strategies.integers(0, 3), min_size=1, max_size=30))
def test_a_draft_is_what_followed_the_longest_earlier_occurrence(text):
    padded = np.zeros((1, 40), np.int32)
    padded[0, : len(text)] = text
    drawn = _draft(jnp.asarray(padded), jnp.array([len(text)])).tolist()[0]
    wanted = longest_earlier_occurrence(text, 3)
    if wanted is not None:
        assert drawn[: len(wanted)] == wanted


@jax.jit
def _draft(tokens, lengths):
    return draft(Texts(tokens, lengths), 3)


def test_the_worked_examples_hold():
    assert doctest.testmod(drafts).failed == 0
