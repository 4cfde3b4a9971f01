"""Which isolation this host allows: tried by building it, not guessed from its version."""

import errno
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.process import PoolProcess
from zerocoder_jax.execution.worker.isolation import LEVELS

_START_SECONDS = 60.0
# What mends it, by what the kernel said and at which step; the first that fits.
_REMEDIES: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("", (errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
    ("", (errno.EAGAIN,), "raise the limit on processes (ulimit -u)"),
    ("", (errno.ENOMEM,), "free memory, or lower execution.workers"),
    (
        "unshare",
        (errno.ENOSPC, errno.EUSERS),
        "all namespaces that the host allows are in use: raise sysctl user.max_user_namespaces",
    ),
    (
        "unshare",
        (errno.EPERM, errno.EACCES, errno.ENOSYS),
        "allow user namespaces (sysctl user.max_user_namespaces > 0, "
        "kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1; "
        "in a container also a seccomp profile that lets unshare through)",
    ),
    (
        "mount",
        (errno.EPERM, errno.EACCES),
        "let the container's seccomp or AppArmor profile allow mount and pivot_root",
    ),
    ("ordinary user cannot read", (), "install Python where an ordinary user can read it"),
    (
        "landlock",
        (errno.ENOSYS, errno.EOPNOTSUPP),
        "use a kernel of version 5.13 or later with landlock in its list of LSMs",
    ),
)


@dataclass(frozen=True)
class Isolation:
    """What a host allows.

    Attributes:
      level: one of ``LEVELS``.
      missing: why each stronger level that was wanted cannot be had, and what mends it.
      lacks: what the level has on other hosts and not on this one.
    """

    level: str
    missing: dict[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = [f"not {level}: {problem}" for level, problem in self.missing.items()]
        if self.lacks:
            reasons.append("without " + ", ".join(self.lacks))
        return "; ".join([f"isolation level {self.level}", *reasons])


def reach_level(start: Callable[[str], PoolProcess], min_level: str, max_level: str) -> Isolation:
    """The strongest level between the two.

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
        answer = _try_level(start, level)
        if answer.get("level") == level:
            return Isolation(level, missing, tuple(answer["lacks"]))
        missing[level] = _with_remedy(str(answer.get("missing")), answer.get("errno"))
    reason = "; ".join(f"{level}: {problem}" for level, problem in missing.items())
    raise UserError(
        f"execution.min_isolation is {min_level!r}, and this host does not allow it: {reason}; "
        "or set execution.min_isolation to a lower level, "
        "knowing that programs written by a model can then reach more of this machine"
    )


def _with_remedy(problem: str, number: int | None) -> str:
    for step, numbers, remedy in _REMEDIES:
        if step in problem and (not numbers or number in numbers):
            return f"{problem}; {remedy}"
    return f"{problem}; see docs/execution.md"


def _try_level(start: Callable[[str], PoolProcess], level: str) -> dict[str, Any]:
    """Builds one sandbox and ends it again; its first message, or what was missing."""
    process = start(level)
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not process.done and (left := deadline - time.monotonic()) > 0:
            select.select([process.readable], [process.writable] * process.has_unsent, [], left)
            process.flush()
            for message in process.messages():
                return dict(message)
        ended = "the worker ended while it was set up"
        return {"missing": ended if process.done else "the worker took too long to start"}
    finally:
        process.kill()
