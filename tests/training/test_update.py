"""However sequences are cut into micro-batches, the update is the plain one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.base import get_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import PolicyConfig, forward, init_policy, vocabulary_logits
from zerocoder_jax.training.batches import BatchShapes, micro_batches, minibatches
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence
from zerocoder_jax.training.update_programs import attention_for

POLICY = PolicyConfig(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    qkv_bias=True,
    tie_embeddings=True,
)

# The policy that is trained is the one that sampled.
TEMPERATURE = 0.7


def small_config():
    config = get_config()
    config.rollout.temperature = TEMPERATURE
    config.policy.compute_dtype = config.policy.reference_dtype = "float32"
    config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = 8
    config.training.length_buckets = (8, 16)
    config.training.micro_batch_tokens = 32
    config.training.log_prob_chunk = 5
    config.problems.per_step = 1
    config.grpo.kl_coefficient = 0.1
    config.optimizer.learning_rate = 1e-2
    return config


def sequences(count: int = 7, seed: int = 0) -> list[TrainingSequence]:
    random = np.random.default_rng(seed)

    def sequence() -> TrainingSequence:
        prompt, response = random.integers(1, 9, size=2)
        return TrainingSequence(
            prompt=random.integers(0, 48, prompt, dtype=np.int32),
            response=random.integers(0, 48, response, dtype=np.int32),
            advantage=float(random.normal()),
            rollout_log_probs=-4 * random.random(response, dtype=np.float32),
        )

    return [sequence() for _ in range(count)]


def new_update(config):
    update = PolicyUpdate(
        init_policy(POLICY, jax.random.key(0), "float32"), config, make_mesh(config.mesh)
    )
    return update, update.init(init_policy(POLICY, jax.random.key(0), "float32").params)


def weights(state) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])


def after_one_update(config, batch):
    update, state = new_update(config)
    state, metrics = update(state, batch)
    return weights(state), metrics


def plain_log_softmax(policy, params, sequence):
    """[r, V], one sequence at a time, without padding, all logits there."""
    tokens = np.concatenate([sequence.prompt, sequence.response])[None]
    hidden = forward(
        policy.graphdef,
        params,
        tokens,
        np.arange(tokens.shape[1])[None],
        np.ones(tokens.shape, bool),
    )
    logits = vocabulary_logits(params, hidden[0, sequence.predictions])
    return jax.nn.log_softmax(logits / TEMPERATURE)


def plain_log_probs(policy, params, sequence):
    log_softmax = plain_log_softmax(policy, params, sequence)
    return log_softmax[np.arange(len(sequence.response)), sequence.response]


def test_one_update_is_adamw_on_the_plain_gradient():
    config, batch = small_config(), sequences(4)
    policy = init_policy(POLICY, jax.random.key(0), "float32")
    tokens = sum(len(one.response) for one in batch)

    def loss(params):
        total = 0.0
        for one in batch:
            log_probs = plain_log_probs(policy, params, one)
            reference = jax.lax.stop_gradient(log_probs)
            ratio = jnp.exp(log_probs - reference)
            difference = reference - log_probs
            kl = jnp.exp(difference) - difference - 1
            total += jnp.sum(-ratio * one.advantage + 0.1 * kl)
        return total / tokens

    expected, gradient = jax.jit(jax.value_and_grad(loss))(policy.params)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-2, b2=0.999, weight_decay=0.01)
    )
    change, _ = jax.jit(optimizer.update)(gradient, optimizer.init(policy.params), policy.params)

    update, state = new_update(config)
    state, metrics = update(state, batch)
    assert metrics["policy/gradient_norm"] == pytest.approx(
        float(optax.tree.norm(gradient)), rel=1e-5
    )
    assert metrics["policy/loss"] == pytest.approx(float(expected), abs=1e-6)
    # Adam's first step is the gradient's sign, so only entries above rounding can be compared.
    for ours, before, step, slope in zip(
        *map(jax.tree.leaves, (state.params, policy.params, change, gradient))
    ):
        clear = np.abs(slope) > 1e-6
        np.testing.assert_allclose(ours[clear], (before + step)[clear], atol=2e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ratio": "sequence", "aggregation": "sequence_mean"},
        {"aggregation": "constant_length", "entropy_coefficient": 0.1},
    ],
    ids=["token", "sequence", "entropy"],
)
def test_the_second_of_two_epochs_follows_the_plain_loss_against_the_policy_that_sampled(changes):
    """Cut into micro-batches; the ratio is against the weights before the first epoch."""
    config, batch = small_config(), sequences(4)
    config.optimizer.epsilon = 1e-3
    config.grpo.update(changes)
    config.rollout.importance_cap = 1.5
    policy = init_policy(POLICY, jax.random.key(0), "float32")
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-2, b2=0.999, eps=1e-3, weight_decay=0.01)
    )
    before = jax.jit(lambda params: [plain_log_probs(policy, params, one) for one in batch])(
        policy.params
    )
    tokens = sum(len(one.response) for one in batch)

    def loss(params):
        total = 0.0
        for one, old in zip(batch, before):
            log_softmax = plain_log_softmax(policy, params, one)
            log_probs = log_softmax[np.arange(len(one.response)), one.response]
            log_ratio = log_probs - old
            length = len(one.response)
            if changes.get("ratio") == "sequence":
                log_ratio = jnp.full(length, 1.0) * jnp.mean(log_ratio)
            ratio = jnp.exp(log_ratio)
            objective = jnp.minimum(
                ratio * one.advantage, jnp.clip(ratio, 0.8, 1.2) * one.advantage
            ) * jnp.minimum(jnp.exp(old - one.rollout_log_probs), 1.5)
            difference = old - log_probs
            entropy = -jnp.sum(jnp.exp(log_softmax) * log_softmax, axis=-1)
            losses = (
                -objective
                + 0.1 * (jnp.exp(difference) - difference - 1)
                - changes.get("entropy_coefficient", 0.0) * entropy
            )
            total += {
                "token_mean": jnp.sum(losses) / tokens,
                "sequence_mean": jnp.mean(losses) / len(batch),
                "constant_length": jnp.sum(losses) / (len(batch) * 8),
            }[changes.get("aggregation", "token_mean")]
        return total

    @jax.jit
    def plain_update(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    params, state = policy.params, optimizer.init(policy.params)
    losses = []
    for _ in range(2):
        params, state, value = plain_update(params, state)
        losses.append(float(value))

    config.grpo.epochs = 2
    update, ours = new_update(config)
    ours, metrics = update(ours, batch)
    assert metrics["policy/loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    np.testing.assert_allclose(weights(ours), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("length_buckets", (16,)),
        ("micro_batch_tokens", 16),
        ("micro_batch_tokens", 1024),
        ("log_prob_chunk", 64),
        ("remat", "minimal"),
    ],
)
def test_shapes_and_memory_settings_do_not_change_the_update(field, value):
    config = small_config()
    config.optimizer.epsilon = 1e-3
    expected, metrics = after_one_update(config, sequences())
    with config.unlocked():
        config.training[field] = value
    found, other_metrics = after_one_update(config, sequences())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for name in metrics.keys() - {"policy/recompilations"}:
        assert other_metrics[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-5), name


def test_the_second_call_compiles_nothing():
    update, state = new_update(small_config())
    state, first = update(state, sequences())
    _, second = update(state, sequences())
    assert first["policy/recompilations"] > 0
    assert second["policy/recompilations"] == 0


def test_the_state_is_donated():
    update, state = new_update(small_config())
    update(state, sequences())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_a_sequence_without_advantage_costs_nothing_where_there_is_no_kl():
    config = small_config()
    config.grpo.kl_coefficient = 0.0
    idle = [dataclasses.replace(one, advantage=0.0) for one in sequences(4, seed=1)]
    update, state = new_update(config)
    assert len(update._contributing(sequences() + idle)) == len(sequences())
    before = weights(state)
    state, metrics = update(state, idle)
    assert metrics["policy/gradient_norm"] == 0.0
    # No token was looked at: these have no value, and 0 would be a wrong one.
    assert not {"policy/entropy", "policy/clip_fraction", "policy/sampling_gap"} & metrics.keys()
    np.testing.assert_allclose(weights(state), before * (1 - 1e-2 * 0.01), rtol=1e-5)


def with_a_nan(tree):
    """The tree with one number of one leaf replaced."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[1] = leaves[1].at[(0,) * leaves[1].ndim].set(jnp.nan)
    return jax.tree.unflatten(structure, leaves)


def assert_refused(update, state, batch):
    """The update leaves the state as it was, says so, and the next one goes on from there."""
    before = jax.tree.map(np.array, state)
    state, metrics = update(state, batch)
    assert metrics["policy/skipped_updates"] == 1.0
    jax.tree.map(np.testing.assert_array_equal, state, before)
    return state


@pytest.mark.parametrize(
    ("optimizer", "advantage"), [("adamw", np.nan), ("adamw", -np.inf), ("adafactor", np.nan)]
)
def test_an_update_from_a_reward_that_is_not_finite_changes_nothing(optimizer, advantage):
    config = small_config()
    config.optimizer.name = optimizer
    update, state = new_update(config)
    spoiled = [dataclasses.replace(sequences()[0], advantage=advantage), *sequences()[1:]]
    state = assert_refused(update, state, spoiled)
    expected, _ = after_one_update(config, sequences())
    state, metrics = update(state, sequences())
    assert metrics["policy/skipped_updates"] == 0.0
    np.testing.assert_allclose(weights(state), expected, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 2])
def test_an_update_with_one_gradient_that_is_not_a_number_changes_nothing(rank):
    config = small_config()
    config.policy.lora.rank = rank
    update, state = new_update(config)
    apply = update.programs.apply.lower(state, update._table["zeros", 0]()[0]).compile()
    before = jax.tree.map(np.array, state)
    gradients = jax.tree.map(jnp.ones_like, update._table["zeros", 0]()[0])
    state, norm, applied = apply(state, with_a_nan(gradients))
    assert not applied and not np.isfinite(norm)
    jax.tree.map(np.testing.assert_array_equal, state, before)


def test_an_update_that_would_blow_up_the_weights_changes_nothing():
    config = small_config()
    config.optimizer.learning_rate = 1e30
    assert_refused(*new_update(config), sequences())


def test_weights_that_are_not_finite_are_not_trained_on():
    update, state = new_update(small_config())
    assert_refused(update, dataclasses.replace(state, params=with_a_nan(state.params)), sequences())


def test_figures_of_minibatches_are_means_over_tokens_not_over_minibatches():
    """A policy that does not move measures of two minibatches what it measures of the whole."""
    config = small_config()
    config.grpo.kl_coefficient = 0.0
    # One minibatch of two has more tokens with a gradient than the other, or all.
    batch = sequences(5)
    batch = [*batch[:2], *(dataclasses.replace(one, advantage=0.0) for one in batch[2:])]
    config.optimizer.learning_rate = 0.0
    _, whole = after_one_update(config, batch)
    config.grpo.minibatches = 4
    _, cut = after_one_update(config, batch)
    for name in ("policy/entropy", "policy/sampling_gap", "policy/loss"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4), name
    assert cut["policy/updates"] == 4.0 and whole["policy/updates"] == 1.0


def test_no_sequences_make_no_update():
    update, state = new_update(small_config())
    before = weights(state)
    state, metrics = update(state, [])
    np.testing.assert_array_equal(weights(state), before)
    assert metrics["policy/tokens"] == 0


def test_several_minibatches_measure_the_clip_against_the_policy_that_sampled():
    config = small_config()
    config.grpo.minibatches, config.grpo.epochs = 2, 3
    config.optimizer.learning_rate = 0.1
    update, state = new_update(config)
    state, metrics = update(state, sequences())
    assert int(state.step) == 6
    assert metrics["policy/clip_fraction"] > 0
    assert metrics["policy/kl"] > 0


def test_adapters_leave_the_weights_alone_and_are_merged_in_float32():
    config = small_config()
    config.policy.lora.rank = 2
    config.policy.reference_dtype = "bfloat16"
    update, state = new_update(config)
    weights, adapters = update.weights_and_adapters(state)
    assert adapters is state.params
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(weights))
    base = jax.tree.map(lambda leaf: np.array(leaf, np.float32), weights)
    assert set(state.params) == {"layers"}
    for _ in range(2):
        state, metrics = update(state, sequences())
    merged = update.merged_params(state)
    np.testing.assert_array_equal(merged["embedding"]["table"], base["embedding"]["table"])
    kernel, own = merged["layers"]["mlp"]["up"]["kernel"], state.params["layers"]["mlp"]["up"]
    assert kernel.dtype == jnp.float32
    added = update.programs.lora.scale * (own["a"] @ own["b"])
    assert np.abs(added).max() > 1e-5
    np.testing.assert_allclose(kernel, base["layers"]["mlp"]["up"]["kernel"] + added, rtol=1e-5)
    assert metrics["policy/kl"] > 0


@pytest.mark.parametrize("changes", [{"name": "adafactor"}, {"first_moment_dtype": "bfloat16"}])
def test_the_other_optimizers_train_too(changes):
    config = small_config()
    config.optimizer.update(changes)
    update, state = new_update(config)
    losses = []
    for _ in range(4):
        state, metrics = update(state, sequences())
        losses.append(metrics["policy/loss"])
    before, after = new_update(config)[1], state
    assert not np.allclose(weights(before), weights(after))


def test_an_unknown_optimizer_is_refused():
    config = small_config()
    config.optimizer.name = "sgd"
    with pytest.raises(UserError, match=r"config.optimizer.name is 'sgd'"):
        new_update(config)


def test_buckets_shorter_than_what_a_rollout_may_bring_are_refused():
    config = small_config()
    config.rollout.max_new_tokens = 100
    with pytest.raises(UserError, match="may have 108 tokens"):
        new_update(config)


def test_micro_batches_hold_every_sequence_once_and_fill_up_with_shorter_ones():
    batch = sequences(11, seed=3)
    shapes = BatchShapes(lengths=(4, 8, 16), tokens=16, shards=2, sequences=11)
    cut = list(micro_batches(batch, shapes))
    indices = [i for rows, _ in cut for i in rows if i is not None]
    assert sorted(indices) == list(range(11))
    assert all(None not in rows for rows, _ in cut[:-1])
    for rows, micro_batch in cut:
        count, length = micro_batch.tokens.shape
        assert length in shapes.lengths and count == shapes.rows(length) == len(rows)
        for row, index in enumerate(rows):
            if index is None:
                assert not micro_batch.mask[row].any()
                continue
            one = batch[index]
            np.testing.assert_array_equal(
                micro_batch.targets[row][micro_batch.response[row]], one.response
            )
            np.testing.assert_array_equal(
                micro_batch.rollout_log_probs[row][micro_batch.response[row]],
                one.rollout_log_probs,
            )
            assert micro_batch.mask[row].sum() == one.length


def test_a_minibatch_is_the_same_in_whatever_order_hosts_brought_its_sequences():
    batch = sequences()

    def contents(order):
        parts = minibatches([batch[i] for i in order], 3, seed=(0, 1))
        return [sorted(one.response.tobytes() for one in part) for part in parts]

    places = range(len(batch))
    assert contents(places) == contents([*places[::2], *places[1::2]])


def test_minibatches_share_out_every_sequence():
    batch = sequences(7)
    parts = minibatches(batch, 3, seed=(0, 1))
    assert sorted(len(part) for part in parts) == [2, 2, 3]
    assert {id(one) for part in parts for one in part} == {id(one) for one in batch}
    assert len(minibatches(batch[:2], 3, seed=(0, 1))) == 2


@pytest.mark.parametrize(
    ("platform", "dtype", "head_dim", "length", "expected"),
    [
        ("cpu", "float32", 64, 512, "xla"),
        ("gpu", "bfloat16", 128, 512, "cudnn"),
        ("gpu", "float32", 128, 512, "xla"),
        ("gpu", "bfloat16", 256, 512, "xla"),
        ("tpu", "bfloat16", 128, 512, "splash"),
        ("tpu", "bfloat16", 128, 96, "xla"),
    ],
)
def test_auto_takes_flash_attention_where_there_is_a_kernel(
    platform, dtype, head_dim, length, expected
):
    chosen = attention_for(
        "auto", platform=platform, compute_dtype=dtype, head_dim=head_dim, length=length
    )
    assert chosen == expected
