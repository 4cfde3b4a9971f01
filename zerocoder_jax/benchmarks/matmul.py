"""The rate of a large matrix product on this machine: what MFU is measured against."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def matmul_peak(dtype: Any) -> float:
    """FLOPs per second of a large square product on one device."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Random numbers: with equal ones a GPU needs less power and runs faster than it ever will.
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product: Callable[..., Any] = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
