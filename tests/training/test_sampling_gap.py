"""The sampler and the trainer are two programs for one policy: they agree about every token."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import load_policy, merge_lora

# The module: pytest would take a function named tester_prompt for a test.
from zerocoder_jax.problems import prompts as write
from zerocoder_jax.problems import read_problems
from zerocoder_jax.rollout import RolloutEngine, SamplingSettings, sample_key
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence

# About rounding, which the optimizer changes.
pytestmark = pytest.mark.optimized


def sampled(config, problems, samples: int, b: float = 0.0):
    """The update of the config's policy, the policy as rollouts load it, and samples of it.

    Args:
        b: where the config wants adapters, the deviation of their second matrices' numbers.
    """
    mesh = make_mesh(config.mesh)
    policy = load_policy(config.policy.source, mesh=mesh)
    prompts = [
        policy.tokenizer.chat_tokens(of_role(problem, config.prompt.style))
        for problem in problems
        for of_role in (write.coder_prompt, write.tester_prompt)
    ]
    update = PolicyUpdate(policy, config, mesh)
    weights, adapters = policy.params, None
    if update.programs.lora:
        weights, adapters = update.weights_and_adapters(update.init(policy.params))
        adapters = with_noise(adapters, b)
    engine = RolloutEngine(
        dataclasses.replace(policy, params={}),
        SamplingSettings(config.rollout.temperature, 1.0, 0, config.rollout.max_new_tokens),
        config.rollout,
        mesh,
        update.programs.lora,
    )
    engine.load(weights, adapters)
    keys = [sample_key(0, 0, i, 0, s) for i in range(len(prompts)) for s in range(samples)]
    rollouts = list(engine.generate(prompts, samples, np.asarray(keys)))
    engine.release()
    assert sum(len(one.tokens) for one in rollouts) > 50 * len(problems)
    sequences = [
        TrainingSequence(
            np.asarray(prompts[one.prompt_index], np.int32), one.tokens, 0.0, one.log_probs
        )
        for one in rollouts
    ]
    return update, (weights, adapters), sequences


def difference(update, policy, sequences) -> np.ndarray:
    """Of each sampled token's log-prob between trainer and sampler, float64 [tokens]."""
    trained = update._log_probs("score_policy", *policy, sequences)
    gaps = [own - one.rollout_log_probs for own, one in zip(trained, sequences)]
    return np.concatenate(gaps).astype(np.float64)


def with_noise(adapters, b: float):
    """The adapters with normal noise of deviation ``b`` for their second matrices."""
    random = np.random.default_rng(0)

    def second(path, leaf):
        noise = b * random.normal(size=leaf.shape)
        return jnp.asarray(noise, leaf.dtype) if path[-1].key == "b" else leaf

    return jax.tree_util.tree_map_with_path(second, adapters)


# A temperature below 1 enlarges the rounding of logits; what bfloat16 promises is said of 1.
@pytest.mark.parametrize(
    "dtype, temperature, tolerance", [("float32", 0.7, 1e-4), ("bfloat16", 1.0, 2e-2)]
)
def test_toy_policy(repository: Path, dtype: str, temperature: float, tolerance: float):
    config = load_config(
        f"{repository}/configs/toy.py",
        [
            f"--config.policy.compute_dtype={dtype}",
            f"--config.rollout.dtype={dtype}",
            f"--config.rollout.temperature={temperature}",
            "--config.rollout.rows=8",
            "--config.training.length_buckets=(112,)",
        ],
    )
    gap = np.abs(difference(*sampled(config, read_problems("toy:train", limit=8), samples=4)))
    assert gap.mean() < tolerance / 10
    # In bfloat16 a hundredth of the tokens may differ by two roundings of a logit.
    assert np.quantile(gap, 1.0 if dtype == "float32" else 0.99) < tolerance
    jax.clear_caches()


def test_adapters_count_even_where_they_are_less_than_the_last_digit_of_a_weight(repository: Path):
    """Trainer and sampler agree in float32 although the frozen weights are bfloat16."""
    config = load_config(
        f"{repository}/configs/toy.py",
        [
            "--config.policy.reference_dtype=bfloat16",
            "--config.policy.lora.rank=4",
            "--config.policy.lora.alpha=6",
            "--config.policy.lora.targets=query,value,output,up,down",
            "--config.rollout.rows=8",
            "--config.training.length_buckets=(112,)",
        ],
    )
    problems = read_problems("toy:train", limit=2)
    update, (weights, adapters), sequences = sampled(config, problems, samples=8, b=3e-4)
    assert np.abs(difference(update, (weights, adapters), sequences)).max() < 1e-4
    # Neither without adapters nor with adapters merged in bfloat16.
    nothing = with_noise(adapters, 0.0)
    merged = merge_lora(weights, adapters, update.programs.lora.scale)
    for others in (weights, merged):
        assert np.abs(difference(update, (others, nothing), sequences)).max() > 5e-4
    jax.clear_caches()


@pytest.mark.endurance
@pytest.mark.real_weights
def test_real_weights(repository: Path, real_weights: Path, shared_data: Path):
    config = load_config(
        f"{repository}/configs/qwen2_5_coder_0_5b.py",
        [
            f"--config.policy.source=gguf:{real_weights}",
            "--config.rollout.max_new_tokens=32",
            "--config.training.length_buckets=(384, 1088)",
            "--config.grpo.kl_coefficient=0.0",
        ],
    )
    problems = read_problems(f"mbpp:{shared_data}/mbpp/mbpp.jsonl", limit=1)
    assert np.abs(difference(*sampled(config, problems, samples=2))).max() < 1e-4
