"""Group-relative policy optimization (GRPO): advantages, and the loss with its named variants.

Pure functions of arrays. The loss is a *contribution*: it is divided by the token and sequence
counts of the whole batch, which the caller passes in, so that the contributions of micro-batches
and devices add up to the loss of the batch, however it was cut.

Sources: GRPO (Shao et al., 2024, arXiv 2402.03300), Dr. GRPO (Liu et al., 2025, arXiv
2503.20783), DAPO (Yu et al., 2025, arXiv 2503.14476), GSPO (Zheng et al., 2025, arXiv
2507.18071), the k1, k2 and k3 estimators (Schulman, 2020, "Approximating KL divergence"), truncated
importance sampling (Ionides, 2008).
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

# Added to a group's standard deviation, as veRL does.
STD_EPSILON = 1e-6
# Log-ratios are cut here before they are exponentiated: a ratio of e^20 is far outside every clip
# range, and e^89 would be infinite in float32 and make the whole batch's gradient NaN.
LARGEST_LOG_RATIO = 20.0
# The largest k3 estimate of one token, veRL's.
LARGEST_KL = 10.0


class GrpoSettings(Protocol):
    """What the loss reads of ``config.grpo``; ``configs/base.py`` says what each field means."""

    clip_low: float
    clip_high: float
    ratio: str
    kl_coefficient: float
    kl_estimator: str
    aggregation: str
    entropy_coefficient: float


def informative_groups(rewards: Array, mask: Array) -> Array:
    """Which groups hold two different rewards, and so a signal.

    Args:
        rewards: [G, N] float, the samples of one problem and role in each row.
        mask: [G, N] bool, False for samples that take no part.

    Returns:
        [G] bool. DAPO leaves out the others (``config.grpo.drop_equal_groups``).
    """
    largest = jnp.max(jnp.where(mask, rewards, -jnp.inf), axis=1)
    smallest = jnp.min(jnp.where(mask, rewards, jnp.inf), axis=1)
    return largest > smallest


def group_advantages(rewards: Array, mask: Array, *, normalize_std: bool) -> Array:
    """The rewards of each group relative to the group: ``(r - mean) / (std + 1e-6)``.

    The standard deviation has ``ddof=1``. A group whose rewards are all equal, or that has a
    single sample, gets zeros exactly: the rounding error of its mean divided by its tiny standard
    deviation would otherwise be a random gradient.

    Args:
        rewards: [G, N] float, the samples of one problem and role in each row.
        mask: [G, N] bool, False for samples that take no part; their rewards may be anything.
        normalize_std: False only centres (Dr. GRPO).

    Returns:
        [G, N] float32, 0 where masked.
    """
    rewards = jnp.where(mask, jnp.asarray(rewards, jnp.float32), 0.0)  # [G, N]
    count = jnp.sum(mask, axis=1, keepdims=True)  # [G, 1]
    mean = jnp.sum(rewards, axis=1, keepdims=True) / jnp.maximum(count, 1)
    advantages = jnp.where(mask, rewards - mean, 0.0)
    if normalize_std:
        variance = jnp.sum(advantages**2, axis=1, keepdims=True) / jnp.maximum(count - 1, 1)
        advantages = advantages / (jnp.sqrt(variance) + STD_EPSILON)
    return jnp.where(informative_groups(rewards, mask)[:, None], advantages, 0.0)


def kl_divergence(log_probs: Array, reference_log_probs: Array, estimator: str) -> Array:
    """Single-sample estimate of ``KL(policy || reference)`` per token, from the policy's samples.

    With ``d = log reference - log policy``: k1 ``-d`` (unbiased, may be negative), k2 ``d^2 / 2``
    (biased, its *gradient* is that of the divergence), k3 ``exp(d) - d - 1`` (unbiased and never
    negative, cut at 10 as in veRL: one token's ``exp(d)`` would outweigh a batch). The gradient of
    k1 as a loss is zero in expectation: it is there to be compared with. That of k3 is biased: in
    expectation it belongs to the divergence in the other direction, ``KL(reference || policy)``.
    k3_straight has the value of k3 and the gradient of k2, which is unbiased for samples of the
    policy itself.
    """
    difference = jnp.minimum(reference_log_probs - log_probs, LARGEST_LOG_RATIO)
    # expm1, since exp(d) - 1 has lost its digits where d is small, which is nearly everywhere.
    k3 = jnp.minimum(jnp.expm1(difference) - difference, LARGEST_KL)
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return 0.5 * difference**2
    if estimator == "k3":
        return k3
    if estimator == "k3_straight":
        k2 = 0.5 * difference**2
        return k2 + jax.lax.stop_gradient(k3 - k2)
    raise ValueError(f"unknown KL estimator {estimator!r}: one of k1, k2, k3, k3_straight")


def aggregate(
    values: Array,
    mask: Array,
    aggregation: str,
    *,
    total_tokens: Array | float,
    total_sequences: Array | float,
    max_new_tokens: int,
) -> Array:
    """This micro-batch's part of the mean of ``values`` [B, T] over the whole batch."""
    values = jnp.where(mask, values, 0.0)
    if aggregation == "token_mean":
        return jnp.sum(values) / total_tokens
    if aggregation == "sequence_mean":
        lengths = jnp.maximum(jnp.sum(mask, axis=1), 1)  # [B]
        return jnp.sum(jnp.sum(values, axis=1) / lengths) / total_sequences
    if aggregation == "constant_length":
        return jnp.sum(values) / (total_sequences * max_new_tokens)
    raise ValueError(
        f"unknown aggregation {aggregation!r}: one of token_mean, sequence_mean, constant_length"
    )


def grpo_loss(
    log_probs: Array,
    old_log_probs: Array | None,
    reference_log_probs: Array | None,
    advantages: Array,
    mask: Array,
    entropy: Array | None,
    rollout_log_probs: Array | None,
    *,
    settings: GrpoSettings,
    total_tokens: Array | float,
    total_sequences: Array | float,
    max_new_tokens: int,
    importance_cap: float = 0.0,
    importance_level: str = "token",
) -> tuple[Array, dict[str, Array]]:
    """One micro-batch's contribution to the GRPO loss of the whole batch.

    ``-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)`` per token, plus
    ``kl_coefficient`` times the KL estimate, minus ``entropy_coefficient`` times the entropy,
    aggregated over the whole batch. With ``settings.ratio == "sequence"`` the ratio of every token
    is that of its sequence, ``exp(mean over tokens of the log-ratio)`` (GSPO).

    Args:
        log_probs: [B, T] float32 of the policy being trained; gradients flow through it.
        old_log_probs: [B, T] of the policy that sampled, by the training graph; None where this is
            the first update since (the ratio is then 1, its gradient that of the log-probs).
        reference_log_probs: [B, T] of the frozen initial policy; None where no KL is wanted.
        advantages: [B] float32, one a sequence.
        mask: [B, T] bool, True at response tokens. Nothing else influences the loss or a gradient,
            not even a NaN.
        entropy: [B, T] of the policy's distribution; None where neither bonus nor metric is wanted.
        rollout_log_probs: [B, T] as the sampler computed them; for the sampling gap and, where
            ``importance_cap`` is above 0, the weights ``min(exp(old - rollout), cap)``.
        settings: ``config.grpo``.
        total_tokens: response tokens of the whole batch (all micro-batches and devices).
        total_sequences: sequences of the whole batch.
        max_new_tokens: ``config.rollout.max_new_tokens``, the constant of Dr. GRPO.
        importance_cap: ``config.rollout.importance_cap``; 0 applies no weights.
        importance_level: ``config.rollout.importance_level``; with "sequence" every token's weight
            is that of its reply, ``min(exp(sum over tokens of old - rollout), cap)``.

    Returns:
        The loss, and sums over this micro-batch that add up like the loss: ``tokens``,
        ``sequences``, ``clipped`` (tokens where the clipped term decides), and ``kl``, ``entropy``,
        ``sampling_gap`` (absolute difference of policy's and sampler's log-probs) where their
        inputs were given. Divided by ``tokens`` they are means.

    Raises:
        ValueError: an unknown name in ``settings``, or a coefficient without its input.
    """
    if settings.kl_coefficient and reference_log_probs is None:
        raise ValueError("grpo.kl_coefficient is not 0 but there are no reference log-probs")
    if settings.entropy_coefficient and entropy is None:
        raise ValueError("grpo.entropy_coefficient is not 0 but there is no entropy")
    if importance_cap and rollout_log_probs is None:
        raise ValueError("rollout.importance_cap is not 0 but there are no rollout log-probs")

    def real(values: Array) -> Array:
        # Before any arithmetic: a NaN under the mask would survive a multiplication by 0, and the
        # gradient of what is masked only afterwards can be NaN as well.
        return jnp.where(mask, values, 0.0)

    def mean(values: Array) -> Array:
        return aggregate(
            values,
            mask,
            settings.aggregation,
            total_tokens=total_tokens,
            total_sequences=total_sequences,
            max_new_tokens=max_new_tokens,
        )

    with jax.named_scope("grpo_loss"):
        log_probs = real(log_probs)  # [B, T]
        current = jax.lax.stop_gradient(log_probs)
        old = current if old_log_probs is None else real(old_log_probs)
        advantages = advantages[:, None]  # [B, 1]

        ratio = policy_ratio(log_probs - old, mask, settings.ratio)  # [B, T] or [B, 1]
        clipped_ratio = jnp.clip(ratio, 1.0 - settings.clip_low, 1.0 + settings.clip_high)
        unclipped, clipped = ratio * advantages, clipped_ratio * advantages
        objective = jnp.broadcast_to(jnp.minimum(unclipped, clipped), mask.shape)
        if importance_cap and rollout_log_probs is not None:
            log_weights = old - real(rollout_log_probs)  # 0 where masked
            if importance_level == "sequence":
                log_weights = jnp.sum(log_weights, axis=1, keepdims=True)
            weights = jnp.exp(jnp.minimum(log_weights, LARGEST_LOG_RATIO))
            objective = objective * jnp.minimum(weights, importance_cap)
        loss = -mean(objective)

        sums = {
            "tokens": jnp.sum(mask, dtype=jnp.float32),
            "sequences": jnp.sum(jnp.any(mask, axis=1), dtype=jnp.float32),
            "clipped": jnp.sum(mask & (clipped < unclipped), dtype=jnp.float32),
        }
        if reference_log_probs is not None:
            kl = kl_divergence(log_probs, real(reference_log_probs), settings.kl_estimator)
            loss += settings.kl_coefficient * mean(kl)
            sums["kl"] = jnp.sum(real(kl))
        if entropy is not None:
            entropy = real(entropy)
            loss -= settings.entropy_coefficient * mean(entropy)
            sums["entropy"] = jnp.sum(entropy)
        if rollout_log_probs is not None:
            sums["sampling_gap"] = jnp.sum(jnp.abs(current - real(rollout_log_probs)))
        return loss, jax.lax.stop_gradient(sums)


def policy_ratio(log_ratio: Array, mask: Array, kind: str) -> Array:
    """``exp`` of the log-ratio [B, T] per token, or [B, 1] of its mean over each sequence."""
    if kind == "sequence":
        lengths = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        log_ratio = jnp.sum(jnp.where(mask, log_ratio, 0.0), axis=1, keepdims=True) / lengths
    elif kind != "token":
        raise ValueError(f"unknown ratio {kind!r}: one of token, sequence")
    return jnp.exp(jnp.clip(log_ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
