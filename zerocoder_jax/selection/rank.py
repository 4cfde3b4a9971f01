"""The exact rank of 0/1 matrices over the reals, batched, in 32-bit integers.

Elimination modulo a prime p gives the size of the largest minor that p does not divide. So it never
exceeds the rank over the rationals (which is that over the reals), and reaches it unless p divides
every non-zero minor of that size. A minor of an n x n 0/1 matrix is at most
``(n + 1)^((n + 1) / 2) / 2^n`` in absolute value (Hadamard; 438,873 for n = 16). Several primes
whose product is larger than that cannot all divide a non-zero minor, for their product would divide
it as well. Hence the largest of the ranks modulo these primes is the rank: proven, not merely
likely. Two primes below 2^16, whose residues multiply inside uint32, are enough up to 22 x 22;
larger matrices take more of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from zerocoder_jax.selection.candidates import require_bool


def matrix_rank(passing: ArrayLike, solution_mask: ArrayLike, test_mask: ArrayLike) -> Array:
    """Rank of every passing matrix without its masked rows and columns.

    Args:
        passing: [P, S, T] bool.
        solution_mask: [P, S] bool.
        test_mask: [P, T] bool.

    Returns:
        [P] int32, exact for every size.
    """
    return _matrix_rank(passing, solution_mask, test_mask)


@jax.jit
def _matrix_rank(passing: Array, solution_mask: Array, test_mask: Array) -> Array:
    with jax.named_scope("matrix_rank"):
        require_bool(passing)
        # A row or column of zeros changes no rank: masking needs no shapes.
        matrices = passing & solution_mask[:, :, None] & test_mask[:, None, :]  # [P, S, T]
        if matrices.shape[1] < matrices.shape[2]:
            matrices = jnp.swapaxes(matrices, 1, 2)  # elimination goes over the shorter side
        primes = jnp.asarray(primes_for(matrices.shape[2]), jnp.uint32)
        over_primes = jax.vmap(_rank_modulo, in_axes=(None, 0))
        ranks = jax.vmap(over_primes, in_axes=(0, None))(matrices, primes)  # [P, primes]
        return jnp.max(ranks, axis=1)


def _rank_modulo(matrix: Array, prime: Array) -> Array:
    """Rank of one [R, C] 0/1 matrix modulo a prime below 2^16, by elimination without division."""
    rows, columns = matrix.shape

    def eliminate(column: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        residues, is_pivot_row = state
        entries = residues[:, column]
        usable = (entries != 0) & ~is_pivot_row
        found = jnp.any(usable)
        row = jnp.argmax(usable)
        # A multiple of a row by the pivot, not 0 modulo a prime, changes no rank.
        reduced = residues * entries[row] % prime + (
            prime - entries[:, None] * residues[row][None, :] % prime
        )
        is_new_pivot = found & (jnp.arange(rows) == row)
        is_pivot_row = is_pivot_row | is_new_pivot
        residues = jnp.where(found & ~is_pivot_row[:, None], reduced % prime, residues)
        return residues, is_pivot_row

    start = (matrix.astype(jnp.uint32), jnp.zeros(rows, bool))
    _, is_pivot_row = jax.lax.fori_loop(0, columns, eliminate, start)
    return jnp.sum(is_pivot_row, dtype=jnp.int32)


@functools.cache
def primes_for(size: int) -> tuple[int, ...]:
    """The largest primes below 2^16, as many as the rank of a [size, size] 0/1 matrix needs."""
    sieve = np.ones(2**16, bool)
    for factor in range(2, 2**8):
        sieve[factor * factor :: factor] = False
    chosen: list[int] = []
    product = 1
    for prime in reversed(np.flatnonzero(sieve)):
        # product > (n + 1)^((n + 1) / 2) / 2^n, squared to stay in integers.
        if product**2 * 4**size > (size + 1) ** (size + 1):
            break
        chosen.append(int(prime))
        product *= int(prime)
    return tuple(chosen)
