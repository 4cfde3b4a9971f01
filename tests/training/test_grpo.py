"""Advantages, ratios and divergences: against float64 NumPy, by hand, and by what must hold."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zerocoder_jax.training.grpo import (
    group_advantages,
    grpo_loss,
    informative_groups,
    kl_divergence,
)
from zerocoder_jax.training.grpo_variants import VARIANTS

DEFAULTS = {
    "clip_low": 0.2,
    "clip_high": 0.2,
    "ratio": "token",
    "kl_coefficient": 0.0,
    "kl_estimator": "k3",
    "aggregation": "token_mean",
    "entropy_coefficient": 0.0,
}
reward_values = st.sampled_from([-1.0, 0.0, 0.1, 0.3, 1.0, 1.7])
reward_groups = arrays(np.float64, (3, 8), elements=reward_values)
masks = arrays(bool, (3, 8))
enough = settings(max_examples=100, deadline=None)


def reference_advantages(rewards: np.ndarray, mask: np.ndarray, normalize_std: bool) -> np.ndarray:
    """One group after another, in float64."""
    advantages = np.zeros(rewards.shape)
    for g in range(len(rewards)):
        group = rewards[g][mask[g]]
        if len(set(group.tolist())) > 1:
            centred = group - group.mean()
            scale = group.std(ddof=1) + 1e-6 if normalize_std else 1.0
            advantages[g][mask[g]] = centred / scale
    return advantages


def loss_of(log_probs, old=None, *, advantages, mask=None, importance_cap=0.0, **changes):
    """``grpo_loss`` of one micro-batch that is the whole batch."""
    level = changes.pop("importance_level", "token")
    given = {name: changes.pop(name, None) for name in ("reference", "entropy", "rollout")}
    mask = jnp.ones(log_probs.shape, bool) if mask is None else mask
    return grpo_loss(
        log_probs,
        old,
        given["reference"],
        jnp.asarray(advantages, jnp.float32),
        mask,
        given["entropy"],
        given["rollout"],
        settings=SimpleNamespace(**(DEFAULTS | changes)),
        total_tokens=mask.sum(),
        total_sequences=len(mask),
        max_new_tokens=8,
        importance_cap=importance_cap,
        importance_level=level,
    )


@enough
@given(rewards=reward_groups, mask=masks, normalize_std=st.booleans())
def test_advantages_are_those_of_float64(rewards, mask, normalize_std) -> None:
    found = group_advantages(rewards, mask, normalize_std=normalize_std)
    expected = reference_advantages(rewards, mask, normalize_std)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == jnp.float32


@enough
@given(rewards=reward_groups, mask=masks, noise=reward_groups)
def test_masked_samples_influence_no_advantage(rewards, mask, noise) -> None:
    before = group_advantages(rewards, mask, normalize_std=True)
    after = group_advantages(np.where(mask, rewards, noise * np.nan), mask, normalize_std=True)
    np.testing.assert_array_equal(before, after)
    assert not np.any(np.asarray(before)[~mask])


def test_advantages_of_a_group_by_hand() -> None:
    rewards, mask = jnp.array([[1.0, 0.0, 0.0, 1.0]]), jnp.ones((1, 4), bool)
    centred = group_advantages(rewards, mask, normalize_std=False)
    np.testing.assert_allclose(centred, [[0.5, -0.5, -0.5, 0.5]])
    # ddof=1: the squared deviations sum to 1, over 3.
    scaled = group_advantages(rewards, mask, normalize_std=True)
    np.testing.assert_allclose(scaled, centred * np.sqrt(3.0), rtol=1e-5)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
def test_equal_rewards_have_no_advantage_whatever_their_rounding(reward: float) -> None:
    rewards = np.full((1, 7), reward)
    advantages = group_advantages(rewards, np.ones((1, 7), bool), normalize_std=True)
    assert not np.any(np.asarray(advantages))


def test_a_single_sample_has_no_advantage() -> None:
    mask = np.array([[True, False, False]])
    advantages = group_advantages(np.array([[1.0, 0.0, 0.0]]), mask, normalize_std=True)
    assert advantages.tolist() == [[0.0, 0.0, 0.0]]


def test_only_groups_with_two_rewards_are_informative() -> None:
    rewards = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = np.array([[True] * 3, [True] * 3, [True, True, False], [False] * 3])
    assert informative_groups(rewards, mask).tolist() == [True, False, False, False]


def test_the_first_update_is_the_policy_gradient() -> None:
    """Where old and new policy are the same, the gradient is that of ``-A log p``."""
    log_probs = jnp.log(jnp.array([[0.3, 0.6], [0.9, 0.2]]))
    gradient = jax.grad(lambda l: loss_of(l, advantages=[2.0, -1.0])[0])(log_probs)
    np.testing.assert_allclose(gradient, [[-0.5, -0.5], [0.25, 0.25]], rtol=1e-6)


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [
        (1.0, 1.25, True),
        (1.0, 1.3, False),
        (1.0, 0.5, True),
        (-1.0, 0.85, True),
        (-1.0, 0.7, False),
    ],
)
def test_the_clip_range_is_not_symmetric(advantage: float, ratio: float, moves: bool) -> None:
    """clip_low 0.2, clip_high 0.28: no gradient where the ratio has gone far enough already."""
    old = jnp.log(jnp.array([[0.5]]))

    def loss(log_probs):
        return loss_of(log_probs, old, advantages=[advantage], clip_high=0.28)

    gradient, sums = jax.grad(loss, has_aux=True)(old + np.log(ratio))
    assert bool(gradient[0, 0] != 0.0) == moves
    assert float(sums["clipped"]) == (0.0 if moves else 1.0)


def test_a_sequence_ratio_is_a_geometric_mean() -> None:
    old = jnp.zeros((1, 4))
    log_probs = jnp.log(jnp.array([[2.0, 0.5, 1.1, 7.0]]))
    mask = jnp.array([[True, True, True, False]])
    loss, _ = loss_of(log_probs, old, advantages=[1.0], mask=mask, ratio="sequence")
    assert float(loss) == pytest.approx(-(1.1 ** (1 / 3)), rel=1e-6)


def test_divergence_estimators_by_hand() -> None:
    policy, reference = jnp.log(jnp.array([0.5, 0.2])), jnp.log(jnp.array([0.25, 0.4]))
    difference = np.log([0.5, 2.0])
    expected = {
        "k1": -difference,
        "k2": difference**2 / 2,
        "k3": np.array([0.5, 2.0]) - difference - 1,
    }
    for estimator, values in expected.items():
        np.testing.assert_allclose(kl_divergence(policy, reference, estimator), values, rtol=1e-5)


def test_k3_keeps_its_digits_where_policies_are_close() -> None:
    difference = np.float32(3e-4)
    found = kl_divergence(jnp.zeros(1), jnp.full(1, difference), "k3")
    exact = np.expm1(np.float64(difference)) - np.float64(difference)
    np.testing.assert_allclose(found, exact, rtol=1e-3)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant_length"])
def test_nothing_under_the_mask_influences_loss_gradient_or_sums(ratio, aggregation) -> None:
    rng = np.random.default_rng(0)
    shape = (3, 5)
    mask = np.arange(5) < np.array([[5], [2], [0]])
    clean = {name: rng.normal(size=shape).astype(np.float32) - 2 for name in "abcde"}

    def run(filling: float):
        log_probs, old, reference, entropy, rollout = (
            jnp.asarray(np.where(mask, values, filling)) for values in clean.values()
        )
        return jax.value_and_grad(
            lambda l: loss_of(
                l,
                old,
                advantages=[1.0, -2.0, 3.0],
                mask=jnp.asarray(mask),
                reference=reference,
                entropy=entropy,
                rollout=rollout,
                kl_coefficient=0.1,
                entropy_coefficient=0.1,
                importance_cap=2.0,
                ratio=ratio,
                aggregation=aggregation,
            ),
            has_aux=True,
        )(log_probs)

    (loss, sums), gradient = run(0.0)
    assert np.isfinite(loss)
    assert np.asarray(gradient)[mask].all()
    assert not np.asarray(gradient)[~mask].any()
    assert float(sums["tokens"]) == 7.0
    assert float(sums["sequences"]) == 2.0
    for filling in (np.nan, np.inf, -1e30):
        (other_loss, other_sums), other_gradient = run(filling)
        assert float(other_loss) == float(loss)
        assert {k: float(v) for k, v in other_sums.items()} == {
            k: float(v) for k, v in sums.items()
        }
        np.testing.assert_array_equal(other_gradient, gradient)


def test_an_extreme_ratio_stays_finite() -> None:
    old, new = jnp.full((2, 1), -200.0), jnp.zeros((2, 1))
    for first, second in ((old, new), (new, old)):
        loss, gradient = jax.value_and_grad(
            lambda l, other=second: loss_of(
                l, other, advantages=[-1.0, 0.0], reference=other, kl_coefficient=0.1
            )[0]
        )(first)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_sums_are_of_what_was_given() -> None:
    log_probs = jnp.log(jnp.array([[0.5, 0.25]]))
    assert set(loss_of(log_probs, advantages=[1.0])[1]) == {"tokens", "sequences", "clipped"}
    _, sums = loss_of(
        log_probs,
        advantages=[1.0],
        reference=log_probs - 0.5,
        entropy=jnp.array([[0.7, 0.9]]),
        rollout=log_probs + jnp.array([[0.1, -0.2]]),
    )
    assert float(sums["kl"]) == pytest.approx(2 * (np.exp(-0.5) - 0.5), rel=1e-5)
    assert float(sums["entropy"]) == pytest.approx(1.6)
    assert float(sums["sampling_gap"]) == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": "word"}, "unknown ratio"),
        ({"aggregation": "sum"}, "unknown aggregation"),
        ({"kl_estimator": "k4", "reference": jnp.zeros((1, 2))}, "unknown KL estimator"),
        ({"kl_coefficient": 0.1}, "no reference"),
        ({"entropy_coefficient": 0.1}, "no entropy"),
        ({"importance_cap": 2.0}, "no rollout"),
    ],
)
def test_a_setting_without_meaning_or_input_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_of(jnp.zeros((1, 2)), advantages=[1.0], **changes)


def test_a_reply_is_weighted_by_the_product_over_its_tokens_where_asked_for() -> None:
    """Two replies, the second of one token; by hand."""
    log_probs = jnp.zeros((2, 2))
    rollout = jnp.log(jnp.array([[1 / 1.5, 1 / 0.5], [1 / 3.0, 1e9]]))
    mask = jnp.array([[True, True], [True, False]])
    given = {"advantages": [1.0, 1.0], "mask": mask, "rollout": rollout, "importance_cap": 2.0}
    tokens, _ = loss_of(log_probs, **given)
    assert float(tokens) == pytest.approx(-(1.5 + 0.5 + 2.0) / 3, rel=1e-5)
    replies, _ = loss_of(log_probs, **given, importance_level="sequence")
    assert float(replies) == pytest.approx(-(0.75 + 0.75 + 2.0) / 3, rel=1e-5)


def test_one_improbable_token_does_not_outweigh_a_batch() -> None:
    """The estimate is cut at 10, as veRL's, on either side of the reference."""
    log_probs = jnp.array([-18.0, -60.0, -0.1, -2.0])
    reference = jnp.array([-0.1, -0.1, -60.0, -1.0])
    for estimator in ("k3", "k3_straight"):
        kl = kl_divergence(log_probs, reference, estimator)
        np.testing.assert_allclose(kl, [10, 10, 10, np.e - 2], rtol=1e-5)


@pytest.mark.parametrize(("estimator", "unbiased"), [("k3", False), ("k3_straight", True)])
def test_the_gradient_of_the_kl_estimate_is_that_of_the_divergence(estimator, unbiased) -> None:
    """In expectation over the policy's own samples, computed exactly over a small vocabulary."""
    logits = jnp.array([0.3, -1.2, 0.9, 0.1])
    reference = jax.nn.log_softmax(jnp.array([-0.5, 0.4, 0.2, 1.0]))
    probabilities = jax.nn.softmax(logits)

    def estimate(logits):
        log_probs = jax.nn.log_softmax(logits)
        return jnp.sum(probabilities * kl_divergence(log_probs, reference, estimator))

    def divergence(logits):
        log_probs = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_probs) * (log_probs - reference))

    assert estimate(logits) == pytest.approx(float(divergence(logits)), rel=1e-5)
    found, exact = jax.grad(estimate)(logits), jax.grad(divergence)(logits)
    assert np.allclose(found, exact, atol=1e-6) == unbiased
    if not unbiased:  # It belongs to the divergence in the other direction.
        np.testing.assert_allclose(found, probabilities - jnp.exp(reference), atol=1e-6)


def test_variants_change_only_fields_of_the_config() -> None:
    from configs.base import get_config

    for changes in VARIANTS.values():
        config = get_config().lock()
        config.grpo.update(changes)
        assert {name: config.grpo[name] for name in changes} == changes
