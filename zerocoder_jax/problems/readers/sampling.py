"""A fixed random choice of problems that depends on nothing but the seed and their ids."""

import hashlib
from collections.abc import Mapping

from zerocoder_jax.problems.problem import Problem

# The paper draws its evaluation sets once and does not publish them; this is our draw.
SEED = 0


def drawn(problems: list[Problem], count: int, seed: int = SEED) -> list[Problem]:
    """``count`` problems, those of the smallest hashes of seed and task id, in their own order."""

    def rank(problem: Problem) -> bytes:
        return hashlib.sha256(f"{seed}/{problem.task_id}".encode()).digest()

    chosen = {problem.task_id for problem in sorted(problems, key=rank)[:count]}
    return [problem for problem in problems if problem.task_id in chosen]


def stratified(
    problems: list[Problem], strata: Mapping[str, int], seed: int = SEED
) -> list[Problem]:
    """So many problems of each difficulty, in the order of the strata."""
    return [
        problem
        for difficulty, count in strata.items()
        for problem in drawn([p for p in problems if p.difficulty == difficulty], count, seed)
    ]
