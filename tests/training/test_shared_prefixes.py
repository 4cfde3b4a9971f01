"""An update that computes every distinct prefix once is the update with a row for each sequence."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs.base import get_config
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.training.grpo_variants import VARIANTS
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence
from zerocoder_jax.training.update_programs import updates_per_step

POLICY = PolicyConfig(
    vocab_size=16,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    qkv_bias=True,
    tie_embeddings=True,
)


def small_config(changes: dict) -> ConfigDict:
    config = get_config()
    config.policy.compute_dtype = config.policy.reference_dtype = "float32"
    config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = 8
    config.rollout.importance_cap = 1.5
    config.training.length_buckets = (16,)
    config.training.micro_batch_tokens = 64
    config.training.log_prob_chunk = 8
    config.problems.per_step = 4
    config.grpo.kl_coefficient = 0.1
    config.optimizer.epsilon = 1e-3
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def update_of(share: bool, *changes: tuple[str, object]) -> tuple[PolicyUpdate, Any]:
    """An update and weights to take its gradient at."""
    config = small_config(dict(changes))
    config.training.share_prefixes = share
    policy = init_policy(POLICY, jax.random.key(0), "float32")
    update = PolicyUpdate(policy, config, make_mesh(config.mesh))
    # Fresh weights give nearly flat distributions: tokens and positions would hardly differ.
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * random.standard_normal(leaf.shape, np.float32),
        jax.device_get(update.init(policy.params).params),
    )
    return update, jax.device_put(params, update.programs.state_shardings.params)


def measured(update: PolicyUpdate, params: Any, sequences: list[TrainingSequence]):
    """The gradient, the sums of an update's loss and metrics, and the number of micro-batches."""
    if updates_per_step(update._config) == 1:
        sequences = [dataclasses.replace(one, old_log_probs=None) for one in sequences]
    if not update.programs.wants_reference:
        sequences = [dataclasses.replace(one, reference_log_probs=None) for one in sequences]
    totals = {
        "tokens": np.float32(sum(len(one.response) for one in sequences)),
        "sequences": np.float32(len(sequences)),
    }
    base = update._frozen if update.programs.lora else None
    gradients, sums = update._table["zeros", 0]()
    count = 0
    for _, batch in update.programs.batches(sequences):
        accumulate = update._table["accumulate", batch.tokens.shape[1]]
        gradients, sums = accumulate(params, base, gradients, sums, update._placed(batch), totals)
        count += 1
    return jax.device_get(gradients), jax.device_get(sums), count


def assert_equal(found, expected):
    """Relative to the whole gradient 1e-5; a weight whose gradient is small has fewer digits."""
    ours, plain = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(one[0])])
        for one in (found, expected)
    )
    assert np.linalg.norm(ours - plain) <= 1e-5 * np.linalg.norm(plain) + 1e-9
    for leaf, plain_leaf in zip(*map(jax.tree.leaves, (found[0], expected[0])), strict=True):
        scale = max(float(np.abs(plain_leaf).max()), 1e-6)
        np.testing.assert_allclose(leaf / scale, plain_leaf / scale, atol=1e-4)
    for name, plain in expected[1].items():
        np.testing.assert_allclose(found[1][name], plain, rtol=2e-5, atol=2e-5, err_msg=name)


def sequence(prompt, reply, advantage) -> TrainingSequence:
    log_probs = -0.25 - 4 * np.random.default_rng(len(reply)).random(len(reply), np.float32)
    return TrainingSequence(
        np.array(prompt, np.int32),
        np.array(reply, np.int32),
        advantage,
        rollout_log_probs=log_probs,
        old_log_probs=log_probs + np.float32(0.1),
        reference_log_probs=log_probs - np.float32(0.2),
    )


@st.composite
def steps(draw):
    """Groups of replies in which much is shared: prompts, whole replies, beginnings of replies."""
    tokens = st.lists(st.integers(0, 2), min_size=1, max_size=7)
    system = draw(st.lists(st.integers(3, 5), max_size=1))
    advantages = st.sampled_from([-1.5, 0.0, 0.5, 1.0])
    sequences = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = system + draw(tokens)
        replies = draw(st.lists(st.tuples(tokens, advantages), min_size=1, max_size=5))
        sequences += [sequence(prompt, reply, advantage) for reply, advantage in replies]
    return sequences


@given(steps())
@settings(max_examples=25, deadline=None)
def test_the_gradient_is_the_plain_one_for_any_groups(sequences):
    assert_equal(measured(*update_of(True), sequences), measured(*update_of(False), sequences))


def random_step() -> list[TrainingSequence]:
    """Three groups with equal replies, one-token replies, and replies that continue others."""
    random = np.random.default_rng(0)
    sequences = []
    for prompt in ([7, 8, 1, 2], [7, 8, 1], [7, 9, 5, 5, 5, 5, 5, 5]):
        replies = [[3], [3], [3, 4, 4], [1, 2, 3, 4, 5, 6, 7, 8], [3, 4], random.integers(0, 3, 6)]
        sequences += [sequence(prompt, reply, float(random.normal())) for reply in replies]
    return sequences


# Names of ``VARIANTS`` with what is changed beside them: few programs cover adapters, every kind of
# recomputation and several updates too.
KINDS: dict[str, dict] = {
    "dr_grpo": {"training.remat": "minimal"},
    "dapo": {"policy.lora.rank": 2, "training.remat": "none"},
    "gspo": {"grpo.minibatches": 2, "grpo.kl_coefficient": 0.1, "grpo.kl_estimator": "k2"},
    "entropy": {"grpo.entropy_coefficient": 0.1, "grpo.epochs": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_plain_one_for_every_loss(kind):
    changes = {f"grpo.{name}": value for name, value in VARIANTS.get(kind, {}).items()}
    changes = tuple((changes | KINDS[kind]).items())
    found, expected = (
        measured(*update_of(share, *changes), random_step()) for share in (True, False)
    )
    assert_equal(found, expected)
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(found[0])) > 1e-3
    # Eighteen sequences of at most sixteen tokens are one tree, where rows take several batches.
    assert found[2] == 1 < expected[2]


def test_a_whole_update_with_its_fixed_log_probs_is_the_plain_one():
    """A whole update: two epochs with KL, of which the host fixes old and reference log-probs."""
    kind = (("grpo.epochs", 2), ("optimizer.learning_rate", 1e-2))
    sampled = [
        dataclasses.replace(one, old_log_probs=None, reference_log_probs=None)
        for one in random_step()[::2]
    ]
    results = []
    for share in (True, False):
        update, _ = update_of(share, *kind)
        state = update.init(init_policy(POLICY, jax.random.key(0), "float32").params)
        results.append(update(state, sampled))
    (ours, metrics), (plain, expected) = results
    for a, b in zip(*map(jax.tree.leaves, (ours.params, plain.params))):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert metrics["policy/kl"] > 0
    for name in expected.keys() - {"policy/recompilations"}:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name


def test_many_sizes_of_micro_batches_make_the_same_sum():
    large = (("training.micro_batch_tokens", 1024), ("problems.per_step", 16))
    random = np.random.default_rng(1)
    sequences = [
        sequence(random.integers(0, 16, 6), random.integers(0, 16, 6), float(random.normal()))
        for _ in range(110)
    ]
    found = measured(*update_of(True, *large), sequences)
    # 1,210 distinct prefixes: one micro-batch of 1,024 slots and one of 512.
    assert found[2] == 2
    assert_equal(found, measured(*update_of(False), sequences))
