"""Micro-batches of shared prefixes hold every sequence once, and attention every node."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.training.batches import TrainingSequence
from zerocoder_jax.training.prefix_batches import PrefixShapes, packed, prefix_batches

few_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def sequence(prompt, reply) -> TrainingSequence:
    log_probs = -np.arange(len(reply), dtype=np.float32)
    return TrainingSequence(
        np.array(prompt, np.int32), np.array(reply, np.int32), float(len(reply)), log_probs
    )


def shapes(largest=16, shards=1, sequences=64, query_slots=64, lengths=(8, 16)) -> PrefixShapes:
    return PrefixShapes(lengths, query_slots, "xla", largest, shards, sequences, lengths[-1])


@given(
    st.lists(st.tuples(few_tokens, few_tokens), min_size=1, max_size=20),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([3, 64]),
)
@settings(deadline=None)
def test_any_sequences_are_there_once_and_can_be_read_back(pairs, shards, most):
    batch = [sequence(*pair) for pair in pairs]
    seen = []
    for indices, made in prefix_batches(batch, shapes(shards=shards, sequences=most)):
        assert made.tokens.shape == (shards, 16)
        for row, index in enumerate(indices):
            shard, place = divmod(row, most)
            real = made.response[row]
            assert real.any() == (index is not None)
            if index is None:
                continue
            seen.append(index)
            one = batch[index]
            edges = made.edges[shard, place][real]
            assert made.predicted[shard, edges].all()
            np.testing.assert_array_equal(made.targets[shard, edges], one.response)
            path = made.paths.nodes[shard, place]
            parents = path[len(one.prompt) - 1 : one.length - 1]
            np.testing.assert_array_equal(made.parents[shard, edges], parents)
            whole = np.concatenate([one.prompt, one.response])[:-1]
            np.testing.assert_array_equal(made.tokens[shard, path[: len(whole)]], whole)
            np.testing.assert_array_equal(made.rollout_log_probs[row][real], one.rollout_log_probs)
            assert made.advantages[row] == one.advantage
    assert sorted(seen) == list(range(len(batch)))


@given(
    st.lists(st.tuples(few_tokens, few_tokens), min_size=1, max_size=20),
    st.sampled_from([3, 64]),
)
@settings(deadline=None)
def test_every_node_is_a_query_of_one_row_whose_keys_are_its_path(pairs, query_slots):
    batch = [sequence(*pair) for pair in pairs]
    for _, made in prefix_batches(batch, shapes(query_slots=query_slots)):
        owned = []
        for rows in made.paths.rows:
            assert rows.path.shape[1] % rows.shape.chunk == 0
            used = int(rows.chunks) * rows.shape.chunk
            assert (rows.start[0, used:] == rows.end[0, used:]).all()
            for path, start, end in zip(rows.path[0], rows.start[0], rows.end[0]):
                assert end - start <= rows.shape.queries and end <= rows.shape.keys
                owned += made.paths.nodes[0, path, start:end].tolist()
        assert sorted(owned) == list(range(len(owned)))
        assert set(made.parents[0][made.predicted[0]].tolist()) <= set(owned)


def test_micro_batches_have_few_sizes_each_half_of_the_next():
    assert shapes(16384).sizes == (512, 1024, 2048, 4096, 8192, 16384)
    assert shapes(1024).sizes == (512, 1024)
    assert shapes(100).sizes == (100,)


def test_an_empty_micro_batch_has_the_shapes_of_a_full_one():
    batch = [sequence([1, 2], [3]), sequence([1, 2], [4, 4])]
    [(_, made)] = prefix_batches(batch, shapes())
    empty = packed([[]], 16, shapes())
    for name, array in vars(empty).items():
        if name in ("paths", "old_log_probs", "reference_log_probs"):
            continue
        assert array.shape == getattr(made, name).shape, name
        assert array.dtype == getattr(made, name).dtype, name
