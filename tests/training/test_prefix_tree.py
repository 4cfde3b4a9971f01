"""The tree of distinct prefixes, against one built token by token."""

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zerocoder_jax.training import prefix_tree as module
from zerocoder_jax.training.prefix_tree import (
    depth_first,
    own_nodes,
    prefix_tree,
    shared_lengths,
)

few_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6)
# A prompt and its reply: few distinct tokens, so that much is shared, equal and continued.
replies = st.lists(st.tuples(few_tokens, few_tokens), max_size=12)


def in_order(pairs):
    """Sequences in lexicographic order and their prompts' lengths."""
    sequences = [np.array(prompt + reply, np.int32) for prompt, reply in pairs]
    order = depth_first(sequences)
    return [sequences[i] for i in order], [len(pairs[i][0]) for i in order]


def test_the_worked_examples_hold():
    assert doctest.testmod(module).failed == 0


@given(replies)
def test_nodes_are_the_distinct_prefixes_that_a_token_follows(pairs):
    sequences, prompts = in_order(pairs)
    tree = prefix_tree(sequences, prompts)
    distinct = {tuple(one[:n]) for one in sequences for n in range(1, len(one))}
    assert len(tree.tokens) == len(distinct)
    for path, one in zip(tree.paths, sequences):
        nodes = path[path >= 0]
        assert len(one) - 1 <= len(nodes) <= len(one)
        np.testing.assert_array_equal(tree.tokens[nodes], one[: len(nodes)])
        np.testing.assert_array_equal(tree.depths[nodes], np.arange(len(nodes)))


@given(replies)
def test_every_response_token_has_its_edge_and_no_edge_is_there_twice(pairs):
    sequences, prompts = in_order(pairs)
    tree = prefix_tree(sequences, prompts)
    for edges, path, one, prompt in zip(tree.edges, tree.paths, sequences, prompts):
        of_one = edges[edges >= 0]
        np.testing.assert_array_equal(tree.targets[of_one], one[prompt:])
        np.testing.assert_array_equal(tree.parents[of_one], path[prompt - 1 : len(one) - 1])
    assert len(set(zip(tree.parents, tree.targets))) == len(tree.targets)
    used = {edge for row in tree.edges for edge in row if edge >= 0}
    assert used == set(range(len(tree.targets)))


@given(replies)
def test_every_node_belongs_to_the_first_sequence_that_has_it(pairs):
    sequences, prompts = in_order(pairs)
    tree = prefix_tree(sequences, prompts)
    own = [node for path, a, b in zip(tree.paths, tree.starts, tree.ends) for node in path[a:b]]
    assert own == list(range(len(tree.tokens)))


@given(replies)
def test_nodes_are_counted_without_building_the_tree(pairs):
    sequences, prompts = in_order(pairs)
    own = own_nodes(sequences, shared_lengths(sequences))
    assert (own >= 0).all()
    assert own.sum() == len(prefix_tree(sequences, prompts).tokens)
