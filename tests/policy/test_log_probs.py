"""The chunked head gives what the whole array of logits would give, value and gradient."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.policy import log_probs as module
from zerocoder_jax.policy.log_probs import token_log_probs

ROWS, TOKENS, SIZE, VOCABULARY = 2, 7, 8, 33


def example(tied: bool, seed: int = 0):
    keys = jax.random.split(jax.random.key(seed), 4)
    hidden = jax.random.normal(keys[0], (ROWS, TOKENS, SIZE))
    head = jax.random.normal(keys[1], (VOCABULARY, SIZE))
    params = {"embedding": {"table": head}}
    if not tied:
        params["head"] = {"kernel": head.T}
    targets = jax.random.randint(keys[2], (ROWS, TOKENS), 0, VOCABULARY)
    mask = jax.random.bernoulli(keys[3], 0.6, (ROWS, TOKENS))
    return params, hidden, targets, mask


def materialised(params, hidden, targets, mask, temperature=1.0):
    head = params["head"]["kernel"] if "head" in params else params["embedding"]["table"].T
    log_softmax = jax.nn.log_softmax(hidden @ head / temperature)
    chosen = jnp.take_along_axis(log_softmax, targets[..., None], -1)[..., 0]
    entropy = -jnp.sum(jnp.exp(log_softmax) * log_softmax, -1)
    return jnp.where(mask, chosen, 0.0), jnp.where(mask, entropy, 0.0)


def loss_of(function, weights):
    def loss(params, hidden):
        chosen, entropy = function(params, hidden)
        return jnp.sum(weights * jnp.sin(chosen)) + jnp.sum(weights[::-1] * entropy**2)

    return loss


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("chunk", [3, 100])
def test_values_and_gradients_equal_the_materialised_ones_for_every_chunk(tied, chunk):
    params, hidden, targets, mask = example(tied)
    weights = jax.random.normal(jax.random.key(9), mask.shape)
    plain = loss_of(lambda p, h: materialised(p, h, targets, mask, 0.7), weights)
    chunked = loss_of(
        lambda p, h: token_log_probs(
            p, h, targets, mask, temperature=0.7, chunk=chunk, entropy_gradient=True
        ),
        weights,
    )
    expected = jax.value_and_grad(plain, (0, 1))(params, hidden)
    found = jax.jit(jax.value_and_grad(chunked, (0, 1)))(params, hidden)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
        np.testing.assert_allclose(b, a, atol=2e-5)


jitted = jax.jit(token_log_probs, static_argnames="chunk")


@given(mask=st.lists(st.booleans(), min_size=14, max_size=14), chunk=st.sampled_from([1, 4, 14]))
@settings(max_examples=20, deadline=None)
def test_any_mask_keeps_only_its_positions(mask, chunk):
    params, hidden, targets, _ = example(tied=True)
    mask = jnp.array(mask).reshape(ROWS, TOKENS)
    expected = materialised(params, hidden, targets, mask)
    found = jitted(params, hidden, targets, mask, chunk=chunk)
    for a, b in zip(expected, found):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_entropy_is_a_constant_unless_its_gradient_is_asked_for():
    params, hidden, targets, mask = example(tied=True)
    gradient = jax.grad(lambda h: jnp.sum(token_log_probs(params, h, targets, mask)[1]))(hidden)
    np.testing.assert_array_equal(gradient, 0.0)


def test_the_logits_of_all_tokens_never_exist():
    rows, length, vocabulary, chunk = 4, 64, 4096, 16
    params = {"embedding": {"table": jnp.zeros((vocabulary, SIZE))}}
    hidden = jnp.zeros((rows, length, SIZE))
    targets = jnp.zeros((rows, length), jnp.int32)

    def loss(params, hidden):
        return jnp.sum(token_log_probs(params, hidden, targets, chunk=chunk)[0])

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, hidden).compile()
    whole = rows * length * vocabulary * 4
    assert compiled.memory_analysis().temp_size_in_bytes < whole / 2


def test_the_worked_example_of_packing_holds():
    assert doctest.testmod(module, extraglobs={"jnp": jnp, "_Packing": module._Packing}).failed == 0
