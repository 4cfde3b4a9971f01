"""Attention of a tree's nodes is attention under the mask of their ancestors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy.path_attention import attend_paths
from zerocoder_jax.training.batches import TrainingSequence
from zerocoder_jax.training.prefix_batches import PrefixBatch, PrefixShapes, packed
from zerocoder_jax.training.prefix_tree import depth_first

NODES, HEADS, KEY_HEADS, SIZE = 48, 4, 2, 8


def trees(query_slots: int) -> PrefixBatch:
    """Two shards, of replies that share beginnings; nodes of several key lengths."""
    random = np.random.default_rng(0)

    def sequence(prompt, length: int) -> TrainingSequence:
        reply = random.integers(0, 2, length, dtype=np.int32)
        return TrainingSequence(prompt, reply, 1.0, np.zeros(length, np.float32))

    shards = []
    for lengths in ((1, 3, 5, 9), (2, 2, 7)):
        prompt = random.integers(0, 9, 5, dtype=np.int32)
        made = [sequence(prompt, length) for length in lengths]
        order = depth_first([np.concatenate([one.prompt, one.response]) for one in made])
        shards.append([made[i] for i in order])
    shapes = PrefixShapes((4, 8, 16), query_slots, "xla", NODES, 2, 5, 16)
    return packed(shards, NODES, shapes)


def ancestors(batch: PrefixBatch) -> np.ndarray:
    """Which nodes each node sees, bool [S, M, M]; an empty slot sees itself."""
    seen = np.zeros((2, NODES, NODES), bool)
    seen[:, np.arange(NODES), np.arange(NODES)] = True
    for shard, paths in enumerate(batch.paths.nodes):
        for path in paths:
            path = path[path < NODES]
            for depth, node in enumerate(path):
                seen[shard, node, path[: depth + 1]] = True
    return seen


@pytest.mark.parametrize("query_slots", [3, 16], ids=["own nodes", "whole paths"])
def test_values_and_gradients_are_those_of_the_ancestors_mask(query_slots):
    batch = trees(query_slots)
    seen = ancestors(batch)
    real = np.any(batch.paths.nodes.reshape(2, -1, 1) == np.arange(NODES), axis=1)
    assert 10 < real.sum() < 2 * NODES
    keys = jax.random.split(jax.random.key(0), 4)
    query, weight = (jax.random.normal(key, (2, NODES, HEADS, SIZE)) for key in keys[:2])
    key, value = (jax.random.normal(key, (2, NODES, KEY_HEADS, SIZE)) for key in keys[2:])
    weight = jnp.where(real[..., None, None], weight, 0.0)

    def dense(q, k, v):
        mixed = jax.nn.dot_product_attention(q, k, v, mask=seen[:, None])
        return jnp.sum(weight * mixed), mixed

    def by_paths(q, k, v):
        mixed = attend_paths(q, k, v, batch.paths)
        return jnp.sum(weight * mixed), mixed

    results = [
        jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(query, key, value)
        for loss in (dense, by_paths)
    ]
    (((_, expected), gradients), ((_, found), ours)) = results
    np.testing.assert_allclose(np.asarray(found)[real], np.asarray(expected)[real], atol=1e-5)
    assert not np.asarray(found)[~real].any()
    for a, b in zip(ours, gradients):
        np.testing.assert_allclose(a, b, atol=1e-5)
