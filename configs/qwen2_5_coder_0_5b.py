"""Qwen2.5-Coder-0.5B-Instruct on MBPP, label-free, small enough for a laptop's CPU.

    python launch/train.py --config=configs/qwen2_5_coder_0_5b.py --workdir=RUN \
        --config.policy.source=gguf:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf \
        --config.problems.source=mbpp:mbpp.jsonl

Four problems a step, four solutions and four tests each, at most 192 new tokens. What such a run
takes and shows is in docs/runs/qwen2_5_coder_0_5b_cpu.md. On a GPU give it the paper's sizes back:
``--config.problems.per_step=32 --config.rollout.solutions=8 --config.rollout.tests=8
--config.rollout.max_new_tokens=2048 --config.policy.compute_dtype=bfloat16
--config.rollout.dtype=bfloat16``.
"""

from ml_collections import ConfigDict

from configs import base
from configs.experiments import apply_experiments


def get_config(experiments: str = "b4_4_3") -> ConfigDict:
    config = base.get_config()
    config.policy.source = "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct"
    config.problems.source = "mbpp:mbpp.jsonl"
    config.problems.per_step = 4
    config.rollout.solutions = 4
    config.rollout.tests = 4
    config.rollout.max_new_tokens = 192
    config.rollout.max_prompt_tokens = 1024
    # CPUs multiply float32 fastest.
    config.policy.compute_dtype = "float32"
    config.rollout.dtype = "float32"
    config.training.length_buckets = (256, 384, 512, 768, 1024, 1280)
    # Weights, gradients and AdamW in float32 are most of a laptop's memory; the rest is kept small.
    config.training.micro_batch_tokens = 512
    config.training.remat = "minimal"
    config.training.log_prob_chunk = 256
    config.optimizer.first_moment_dtype = "bfloat16"
    config.checkpoint.keep = 1
    return apply_experiments(config, experiments)
