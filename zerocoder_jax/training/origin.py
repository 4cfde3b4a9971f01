"""What a run was started from, as digests: files may move, but their content must stay."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zerocoder_jax.problems import Problem

# Numbers of each array that are looked at: other weights differ in all of them.
_NUMBERS = 8


def problems_digest(problems: Sequence[Problem]) -> str:
    """Of the problems' content and order, labels included."""
    return hashlib.sha256("\n".join(map(repr, problems)).encode(errors="replace")).hexdigest()


def weights_digest(params: Any, whole: Any) -> str:
    """Of the first numbers of every array, whatever mesh they lie on; ``whole`` is the sharding
    that gives every device all of a result."""

    def first_numbers(tree: Any) -> jax.Array:
        rows = [leaf[(0,) * (leaf.ndim - 1)] for leaf in jax.tree.leaves(tree)]
        return jnp.concatenate([row[:_NUMBERS].astype(jnp.float32) for row in rows])

    numbers = np.asarray(jax.jit(first_numbers, out_shardings=whole)(params))
    return hashlib.sha256(numbers.tobytes()).hexdigest()
