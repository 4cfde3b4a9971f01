"""Files may move between two starts of a run; what is in them may not change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zerocoder_jax.problems import read_problems
from zerocoder_jax.training.origin import problems_digest, weights_digest


def test_a_digest_of_problems_changes_with_any_part_of_any_of_them() -> None:
    problems = read_problems("toy:train", limit=4)
    digest = problems_digest(problems)
    assert digest == problems_digest(read_problems("toy:train", limit=4))
    changed = dataclasses.replace(problems[2], reference_tests=problems[2].reference_tests[1:])
    for others in (problems[:3], [*problems[:2], changed, problems[3]], problems[::-1]):
        assert problems_digest(others) != digest


def test_a_digest_of_weights_is_that_of_their_numbers_on_any_mesh() -> None:
    mesh = Mesh(np.array(jax.devices()[:1]), ("fsdp",))
    whole = NamedSharding(mesh, PartitionSpec())
    weights = {"a": jax.random.normal(jax.random.key(0), (2, 3, 16)), "b": jnp.ones(4)}
    digest = weights_digest(weights, whole)
    placed = jax.device_put(weights, NamedSharding(mesh, PartitionSpec(None)))
    assert weights_digest(placed, whole) == digest
    assert weights_digest(weights | {"b": jnp.full(4, 2.0)}, whole) != digest
