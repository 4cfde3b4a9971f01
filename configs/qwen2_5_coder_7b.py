"""Qwen2.5-Coder-7B-Instruct on APPS with the paper's settings.

    python launch/prefilter.py --config=configs/qwen2_5_coder_7b.py --workdir=RUN
    python launch/train.py --config=configs/qwen2_5_coder_7b.py:dynamic_b4 --workdir=RUN

150 steps of 32 problems, 8 solutions and 8 tests each, at most 2048 new tokens. Whether that fits
a machine, and which bound each phase has there, is printed by

    python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=a100-80:4

Four A100 or a cluster: launch/clusters/. The paper's results are printed by launch/tables.py; ours
on this model are not measured yet.
"""

from ml_collections import ConfigDict

from configs import base
from configs.experiments import apply_experiments


def get_config(experiments: str = "dynamic_b4") -> ConfigDict:
    config = base.get_config()
    config.policy.source = "hf:Qwen/Qwen2.5-Coder-7B-Instruct"
    config.problems.source = "apps:codeparrot/apps"
    # On each of four A100 the cache of 64 rows fits beside the state of the update.
    config.rollout.rows = 64
    # A checkpoint writes 91 GB (launch/plan.py).
    config.checkpoint.every = 10
    return apply_experiments(config, experiments)
