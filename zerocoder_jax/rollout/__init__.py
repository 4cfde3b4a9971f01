"""Sampling from the policy: many replies at once, at the speed that the memory allows.

Knows tokens, weights and devices; nothing of problems, roles or rewards. A reply leaves as soon as
it is finished. Start reading at ``engine``; ``decode`` is the loop on the device.
"""

from zerocoder_jax.rollout.demand import Demand
from zerocoder_jax.rollout.engine import EngineSettings, RolloutEngine
from zerocoder_jax.rollout.keys import sample_key
from zerocoder_jax.rollout.prompt_packing import shared_prefixes
from zerocoder_jax.rollout.replies import Rollout
from zerocoder_jax.rollout.sampling import SamplingSettings
from zerocoder_jax.rollout.statistics import RolloutStatistics

__all__ = [
    "Demand",
    "EngineSettings",
    "Rollout",
    "RolloutEngine",
    "RolloutStatistics",
    "SamplingSettings",
    "sample_key",
    "shared_prefixes",
]
