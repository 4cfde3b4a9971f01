"""From ``config.execution`` to a pool."""

from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.pool import ExecutionPool
from zerocoder_jax.execution.ray_pool import RayPool
from zerocoder_jax.execution.status import Limits


def open_pool(config: Any) -> ExecutionPool | RayPool:
    """The pool that ``config.execution`` describes.

    Raises:
      UserError: an unknown backend, a limit that is not positive, too little isolation.
    """
    limits = Limits(config.seconds, config.memory_mb, config.output_kb, config.processes)
    for name, value in vars(limits).items():
        if value <= 0:
            raise UserError(f"execution.{name} is {value}; it must be greater than 0")
    if config.workers < 0:
        raise UserError(f"execution.workers is {config.workers}; 0 takes one per processor")
    if config.backend == "local":
        return ExecutionPool(config.workers or None, limits, config.min_isolation)
    if config.backend == "ray":
        return RayPool(config.workers or None, limits, config.min_isolation)
    raise UserError(f"execution.backend is {config.backend!r}; it must be 'local' or 'ray'")
