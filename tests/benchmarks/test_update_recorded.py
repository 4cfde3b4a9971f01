"""The update's benchmark on recorded replies counts what it says."""

from types import SimpleNamespace

import pytest

from configs.base import get_config
from zerocoder_jax.benchmarks import update_recorded
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import PolicyConfig

SMALL = PolicyConfig(
    vocab_size=151_936,  # Qwen2.5's, of which the recorded tokens are.
    hidden_size=8,
    intermediate_size=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    tie_embeddings=True,
)


def measure(monkeypatch, vocabulary: int = SMALL.vocab_size, **arguments):
    config = get_config()
    config.policy.compute_dtype = "float32"
    config.training.length_buckets = (512,)
    config.training.micro_batch_tokens = 2048
    config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = 256
    config.grpo.kl_coefficient = 0.0
    small = PolicyConfig(**{**vars(SMALL), "vocab_size": vocabulary})
    monkeypatch.setattr(update_recorded, "policy_shape", lambda source: small)
    # The rate of a large product takes seconds to measure and is not looked at.
    monkeypatch.setattr(update_recorded, "matmul_peak", lambda dtype: 1e11)
    given = {"update_sequences": 8, "update_rounds": 1, "update_micro_batches": 1}
    return update_recorded.run(config, SimpleNamespace(**given | arguments))


def test_both_roles_are_measured_with_shared_prefixes_and_without(monkeypatch):
    result = measure(monkeypatch)
    assert result["sequences"] == 16
    for suffix in ("", "_coder", "_tester"):
        assert 0 < result[f"fill{suffix}"] <= 1
        assert 0.05 < result[f"distinct_share{suffix}"] < 0.3
        assert result[f"mfu{suffix}"] > 0
        assert 0.4 < result[f"mfu_ceiling{suffix}"] < 1
        assert result[f"ratio_unshared{suffix}"] > 1
    assert result["tokens_per_second"] * result["seconds"] == pytest.approx(result["tokens"])


def test_a_policy_of_another_vocabulary_is_refused(monkeypatch):
    with pytest.raises(UserError, match="vocabulary has 100 entries"):
        measure(monkeypatch, vocabulary=100)
