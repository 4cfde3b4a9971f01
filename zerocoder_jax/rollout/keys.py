"""One random key per sample, from what the sample is and not from where it is decoded.

A sample's randomness depends on (seed, step, problem, role, sample) and on how many tokens it has
produced, never on its row, its neighbours or the number of devices.
"""

import jax
import jax.numpy as jnp
import numpy as np


def sample_key(seed: int, step: int, problem_id: int, role: int, sample: int) -> np.ndarray:
    """The raw threefry key, uint32 [2], of one sample.

    NumPy's ``SeedSequence`` mixes the five numbers; its output is the same on every platform and
    in every version. Each number is at most 64 bits wide and takes two words, so that no two
    different quintuples are mixed from the same words.
    """
    numbers = np.array([seed, step, problem_id, role, sample], np.uint64)
    return np.random.SeedSequence(numbers.view(np.uint32).tolist()).generate_state(2)


def token_uniforms(keys: jax.Array, produced: jax.Array) -> jax.Array:
    """One number in [0, 1) for the next token of each row, float32 [R].

    Args:
        keys: uint32 [R, 2], one raw key per row.
        produced: int32 [R], how many tokens the row has produced: the same place in a reply gets
            the same number, whatever was decoded beside it.
    """

    def one(key: jax.Array, place: jax.Array) -> jax.Array:
        wrapped = jax.random.wrap_key_data(key, impl="threefry2x32")
        return jax.random.uniform(jax.random.fold_in(wrapped, place), dtype=jnp.float32)

    return jax.vmap(one)(keys, produced)
