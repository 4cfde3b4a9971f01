"""A fixed random choice of problems that depends on nothing but the seed and their ids."""

import hashlib
from collections.abc import Iterable

from zerocoder_jax.problems.problem import Problem

# The paper draws its evaluation sets once and does not publish them; this is our draw.
SEED = 0


def drawn_ids(task_ids: Iterable[str], count: int, seed: int = SEED) -> set[str]:
    """``count`` ids, those of the smallest SHA-256 of ``SEED/ID``."""

    def rank(task_id: str) -> bytes:
        return hashlib.sha256(f"{seed}/{task_id}".encode()).digest()

    return set(sorted(task_ids, key=rank)[:count])


def drawn(problems: list[Problem], count: int, seed: int = SEED) -> list[Problem]:
    """``count`` problems by ``drawn_ids``, in their own order."""
    chosen = drawn_ids((problem.task_id for problem in problems), count, seed)
    return [problem for problem in problems if problem.task_id in chosen]
