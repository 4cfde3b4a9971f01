"""Which isolation this host allows: tried by building it, not guessed from its version."""

import select
import time
from collections.abc import Callable

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.process import PoolProcess
from zerocoder_jax.execution.worker.isolation import LEVELS

_START_SECONDS = 60.0
_HOW_TO_ALLOW = {
    "namespaces": (
        "allow user namespaces (sysctl user.max_user_namespaces > 0, "
        "kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1; "
        "in a container also a seccomp profile that lets unshare and mount through)"
    ),
    "landlock": "use a kernel of version 5.13 or later with landlock in its list of LSMs",
    "rlimits": "see docs/execution.md",
}


def reach_level(
    start: Callable[[str], PoolProcess], min_level: str, max_level: str
) -> tuple[str, dict[str, str]]:
    """The strongest level between the two, and why each stronger one could not be had.

    Raises:
      UserError: not even ``min_level`` can be had.
    """
    for name, level in (("min_isolation", min_level), ("max_isolation", max_level)):
        if level not in LEVELS:
            raise UserError(f"execution.{name} is {level!r}; it must be one of {', '.join(LEVELS)}")
    wanted = LEVELS[LEVELS.index(max_level) : LEVELS.index(min_level) + 1]
    if not wanted:
        raise UserError(
            f"execution.min_isolation {min_level!r} is above max_isolation {max_level!r}"
        )
    missing: dict[str, str] = {}
    for level in wanted:
        problem = _try_level(start, level)
        if problem is None:
            return level, missing
        missing[level] = problem
    reason = "; ".join(f"{level}: {problem}" for level, problem in missing.items())
    raise UserError(
        f"execution.min_isolation is {min_level!r}, and this host does not allow it ({reason}): "
        f"{_HOW_TO_ALLOW[min_level]}, or set execution.min_isolation to a lower level, "
        "knowing that programs written by a model can then reach more of this machine"
    )


def _try_level(start: Callable[[str], PoolProcess], level: str) -> str | None:
    """Builds one sandbox and ends it again; None, or what was missing."""
    process = start(level)
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not process.done and (left := deadline - time.monotonic()) > 0:
            select.select([process.readable], [process.writable] * process.has_unsent, [], left)
            process.flush()
            for message in process.messages():
                return None if message.get("level") == level else str(message.get("missing"))
        return "the worker ended while it was set up" if process.done else "it took too long"
    finally:
        process.kill()
