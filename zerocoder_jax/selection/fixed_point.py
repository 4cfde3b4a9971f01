"""Logarithms of the Beta function that are right to 1e-11 on devices without float64.

B4 compares sums of ``ln B`` whose values reach thousands while the differences that decide can be
far below the spacing of float32 there, and ``gammaln`` in float32 is wrong by whole units at 1e6.
Here every value is a fixed-point number of 40 fractional bits in two int32 limbs, read from tables
that the host makes in 64 bits. Integer sums are exact, so that the order of terms, the compiler and
the device cannot change a comparison. The tables are arguments of jitted functions: other
hyperparameters mean other numbers, not another program.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# value = high * 2^-14 + low * 2^-40.
_HIGH_BITS = 14
_LOW_BITS = 26
# The host adds logarithms in int64, with six more bits.
_GUARD_BITS = 6
_LARGEST_VALUE = 2.0 ** (31 - _HIGH_BITS)
# Scores closer than this are equal. A score is a sum of a dozen table entries, each rounded by at
# most half a unit of 2^-40, so that mathematically equal scores differ by no more than 12 units.
_TIE_UNITS = 16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FixedPoint:
    """Numbers ``high * 2^-14 + low * 2^-40``: int32 limbs [..., 2], NumPy's or JAX's.

    Sums leave the low limb as it comes; a dozen table entries fit before ``normalized`` is due.
    Both limbs lie in one array, so that a table is read once for both.
    """

    limbs: Any

    @property
    def high(self) -> Any:
        return self.limbs[..., 0]

    @property
    def low(self) -> Any:
        return self.limbs[..., 1]

    def __getitem__(self, index: Array) -> "FixedPoint":
        return FixedPoint(self.limbs[index])

    def __add__(self, other: "FixedPoint") -> "FixedPoint":
        return FixedPoint(self.limbs + other.limbs)

    def __sub__(self, other: "FixedPoint") -> "FixedPoint":
        return FixedPoint(self.limbs - other.limbs)

    def normalized(self) -> "FixedPoint":
        """The same numbers with the low limb in [0, 2^26), so that limbs compare like numbers."""
        carry = self.low >> _LOW_BITS
        return from_limbs(self.high + carry, self.low - (carry << _LOW_BITS))

    def to_float(self) -> Array:
        """Rounded to float32."""
        return self.high * jnp.float32(2.0**-_HIGH_BITS) + self.low * jnp.float32(
            2.0 ** -(_HIGH_BITS + _LOW_BITS)
        )


def from_limbs(high: Array, low: Array) -> FixedPoint:
    """Numbers of two int32 arrays of one shape."""
    return FixedPoint(jnp.stack([high, low], axis=-1))


@functools.lru_cache(maxsize=1024)
def log_rising(start: float, size: int) -> FixedPoint:
    """The table ``j -> ln(start (start + 1) ... (start + j - 1))`` for j in [0, size).

    Args:
        start: above 0; 1 gives ln j!.
        size: number of entries.

    Returns:
        NumPy limbs [size, 2], each value within 2^-41 + size * 2^-46 of the exact one.

    Raises:
        ValueError: a value beyond 131,072, as 256 tests of 256 solutions could make it.
    """
    logs = np.log(start + np.arange(size - 1, dtype=np.float64))
    if np.sum(np.abs(logs)) >= _LARGEST_VALUE:
        raise ValueError(f"{size} factors from {start:g} on exceed the range of the B4 score")
    scaled = np.rint(np.ldexp(logs, _HIGH_BITS + _LOW_BITS + _GUARD_BITS)).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(scaled)])  # exact
    units = (sums + (1 << (_GUARD_BITS - 1))) >> _GUARD_BITS
    high = (units + (1 << (_LOW_BITS - 1))) >> _LOW_BITS
    low = units - (high << _LOW_BITS)  # in [-2^25, 2^25)
    return FixedPoint(np.stack([high, low], axis=-1).astype(np.int32))


@functools.lru_cache(maxsize=64)
def log_rising_grid(starts: tuple[float, ...], size: int) -> FixedPoint:
    """``log_rising`` for several starts: limbs [len(starts), size, 2]."""
    return FixedPoint(np.stack([log_rising(start, size).limbs for start in starts]))


def log_beta(a: Array, b: Array, rising: FixedPoint, factorial: FixedPoint) -> FixedPoint:
    """``ln B(a + c, b + 1)`` for integer arrays ``a, b >= 0``.

    ``B(a + c, b + 1) = b! / ((a + c) (a + c + 1) ... (a + c + b))``.

    Args:
        a, b: int32 of one shape, with ``a + b + 1`` inside the tables.
        rising: ``log_rising(c, size)``.
        factorial: ``log_rising(1, size)``.
    """
    return factorial[b] + rising[a] - rising[a + b + 1]


def first_largest(scores: FixedPoint, among: Array) -> tuple[Array, Array]:
    """Where the largest score is, the first of equal ones, and how far the others are below it.

    Args:
        scores: normalized, [..., S].
        among: [..., S] bool; at least one True wherever the result is used.

    Returns:
        The index [...] int32, and the distances [..., S] float32, at most 0 where ``among``.
    """
    lowest = jnp.iinfo(jnp.int32).min
    top_high = jnp.max(jnp.where(among, scores.high, lowest), axis=-1, keepdims=True)
    at_top = among & (scores.high == top_high)
    top_low = jnp.max(jnp.where(at_top, scores.low, lowest), axis=-1, keepdims=True)
    gap = from_limbs(top_high, top_low) - scores
    # Two limbs of which the upper one is at most 1 apart make one integer without overflow.
    units = (jnp.minimum(gap.high, 1) << _LOW_BITS) + gap.low
    tied = among & (gap.high <= 1) & (units <= _TIE_UNITS)
    return jnp.argmax(tied, axis=-1), -gap.to_float()
