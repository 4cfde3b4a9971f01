"""Running programs nobody has read: solutions against tests, and tests against mutants.

Knows problems and tests; knows nothing of models, prompts or rewards, and never imports JAX. What
runs inside its worker processes is in ``worker`` and imports the standard library alone.
"""

from zerocoder_jax.execution.open_pool import open_pool
from zerocoder_jax.execution.packages import check_packages, missing_packages
from zerocoder_jax.execution.pool import ExecutionPool
from zerocoder_jax.execution.ray_pool import RayPool
from zerocoder_jax.execution.status import Limits, Status
from zerocoder_jax.execution.tasks import MutationResult

# What users of a pool ask for: either kind gives the same answers.
Pool = ExecutionPool | RayPool

__all__ = [
    "ExecutionPool",
    "Limits",
    "MutationResult",
    "Pool",
    "RayPool",
    "Status",
    "check_packages",
    "missing_packages",
    "open_pool",
]
