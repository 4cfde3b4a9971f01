"""The sampler and the trainer are two programs for one policy: they agree about every token."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import load_policy

# The module: pytest would take a function named tester_prompt for a test.
from zerocoder_jax.problems import prompts as write
from zerocoder_jax.problems import read_problems
from zerocoder_jax.rollout import RolloutEngine, SamplingSettings, sample_key
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence

# About rounding, which the optimizer changes.
pytestmark = pytest.mark.optimized


def compare(config, problems, samples: int) -> np.ndarray:
    """The difference of each sampled token's log-prob between the two, float64 [tokens]."""
    mesh = make_mesh(config.mesh)
    policy = load_policy(config.policy.source, mesh=mesh)
    prompts = [
        policy.tokenizer.chat_tokens(of_role(problem, config.prompt.style))
        for problem in problems
        for of_role in (write.coder_prompt, write.tester_prompt)
    ]
    engine = RolloutEngine(
        dataclasses.replace(policy, params={}),
        SamplingSettings(config.rollout.temperature, 1.0, 0, config.rollout.max_new_tokens),
        config.rollout,
        mesh,
    )
    engine.load(policy.params)
    keys = [sample_key(0, 0, i, 0, s) for i in range(len(prompts)) for s in range(samples)]
    rollouts = list(engine.generate(prompts, samples, np.asarray(keys)))
    engine.release()
    update = PolicyUpdate(policy, config, mesh)
    sequences = [
        TrainingSequence(
            np.asarray(prompts[one.prompt_index], np.int32), one.tokens, 0.0, one.log_probs
        )
        for one in rollouts
    ]
    trained = update._log_probs("score_policy", policy.params, None, sequences)
    assert sum(map(len, trained)) > 50 * len(problems)
    return np.concatenate([a - b.log_probs for a, b in zip(trained, rollouts)]).astype(np.float64)


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
            "--config.rollout.rows=16",
            "--config.training.length_buckets=(112,)",
        ],
    )
    difference = compare(config, read_problems("toy:train", limit=8), samples=4)
    assert np.abs(difference).mean() < tolerance / 10
    # In bfloat16 a hundredth of the tokens may differ by two roundings of a logit.
    quantile = 1.0 if dtype == "float32" else 0.99
    assert np.quantile(np.abs(difference), quantile) < tolerance
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
    assert np.abs(compare(config, problems, samples=2)).max() < 1e-4
