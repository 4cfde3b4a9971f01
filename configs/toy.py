"""The toy co-evolution: a policy of one million parameters learns in both roles, on a laptop's CPU.

    python launch/train.py --config=configs/toy.py --workdir=RUN        (or: make demo)

Everything but the size is real: Python programs, isolated execution, consensus by B4, mutants,
GRPO, no labels. The policy was taught by `launch/pretrain_toy.py` to be a middling Coder and a poor
Tester; `toy:test` holds parameters, wordings and whole families that were never trained on.
"""

from ml_collections import ConfigDict

from configs import base
from configs.experiments import apply_experiments


def get_config(experiments: str = "b4_4_3") -> ConfigDict:
    config = base.get_config()
    config.steps = 60
    config.policy.source = "toy"
    config.problems.source = "toy:train"
    config.problems.per_step = 16
    # The only prompts that the toy policy was taught.
    config.prompt.style = "zero_shot"

    # A small policy is unsure in every token; at temperature 1 its samples show what it half knows.
    config.rollout.temperature = 1.0
    config.rollout.top_p = 1.0
    config.rollout.max_new_tokens = 48
    config.rollout.max_prompt_tokens = 64
    config.rollout.window = 8
    # CPUs multiply float32 fastest.
    config.policy.compute_dtype = "float32"
    config.rollout.dtype = "float32"

    config.execution.seconds = 1.0
    config.execution.memory_mb = 512
    config.mutation.limit = 8

    # Tests that are right are soon learned; tests that tell programs apart need the stronger pull.
    config.reward.curriculum_low = 0.5
    config.reward.curriculum_high = 2.0

    # Three hundred times the paper's rate: the policy is thousands of times smaller than its 7B,
    # and has sixty steps to learn in.
    config.optimizer.learning_rate = 3e-4
    config.optimizer.beta2 = 0.95
    config.optimizer.weight_decay = 0.0
    config.grpo.kl_coefficient = 0.0

    config.training.length_buckets = (48, 64, 112)
    config.training.micro_batch_tokens = 2048
    config.training.remat = "none"

    config.checkpoint.every = 20
    config.evaluation.benchmarks = "toy:test"
    config.evaluation.max_new_tokens = 48
    return apply_experiments(config, experiments)
