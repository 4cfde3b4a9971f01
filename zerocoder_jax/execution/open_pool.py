"""From ``config.execution`` to a pool."""

from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.packages import check_packages
from zerocoder_jax.execution.pool import ExecutionPool
from zerocoder_jax.execution.ray_pool import RayPool
from zerocoder_jax.execution.status import Limits


def open_pool(config: Any) -> ExecutionPool | RayPool:
    """The pool that ``config.execution`` describes.

    Raises:
      UserError: an unknown backend, a limit that is not positive, a package that is not
        installed, too little isolation.
    """
    limits = Limits(config.seconds, config.memory_mb, config.output_kb, config.processes)
    for name, value in vars(limits).items():
        if value <= 0:
            raise UserError(f"execution.{name} is {value}; it must be greater than 0")
    if config.workers < 0:
        raise UserError(f"execution.workers is {config.workers}; 0 takes one per processor")
    check_packages(config.packages)
    packages = tuple(config.packages)
    kind = {"local": ExecutionPool, "ray": RayPool}.get(config.backend)
    if kind is not None:
        workers = config.workers or None
        return kind(workers, limits, config.min_isolation, packages=packages)
    raise UserError(f"execution.backend is {config.backend!r}; it must be 'local' or 'ray'")
