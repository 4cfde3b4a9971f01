"""Sequences as a tree of their distinct prefixes, so that each is computed once.

Eight replies to a problem share its prompt, all prompts of a role share the system message and the
worked example, and a policy that is sure of itself gives the same reply again. A hidden state
depends on the tokens up to its own and on nothing else: sequences that begin alike have the same
ones. Host side, NumPy only; pure functions.

Letters: B sequences, T tokens of the longest, N nodes, E edges.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class PrefixTree:
    """Nodes are the distinct prefixes that another token follows; edges are predictions.

    Nodes are numbered depth first. A sequence's last token predicts nothing: its prefix is no node
    unless a longer sequence continues it.

    Attributes:
        tokens: int32 [N], each node's last token.
        depths: int32 [N], its position.
        paths: int32 [B, T], the node of every token of a sequence; -1 where there is none.
        starts, ends: int32 [B], a sequence's own nodes are those at depths ``starts`` to ``ends``;
            those above belong to a former sequence. Without own nodes both are equal.
        parents: int32 [E], the node whose hidden state predicts.
        targets: int32 [E], the token that is predicted; distinct (parent, target) of responses.
        edges: int32 [B, T], the edge of each response token, the first in the first slot; -1 after
            the last.
    """

    tokens: np.ndarray
    depths: np.ndarray
    paths: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    parents: np.ndarray
    targets: np.ndarray
    edges: np.ndarray


def depth_first(sequences: Sequence[np.ndarray]) -> list[int]:
    """Indices in lexicographic order: each sequence comes next to those it shares most with.

    >>> depth_first([np.array([5, 300]), np.array([5, 6, 1]), np.array([5, 6])])
    [2, 1, 0]
    """
    # Big-endian, so that bytes compare as the numbers do.
    return sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())


def shared_lengths(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Tokens at its beginning that each sequence has in common with the one before it, int64 [B].

    >>> shared_lengths([np.array([5, 6]), np.array([5, 6, 1]), np.array([5, 7, 1])]).tolist()
    [0, 2, 1]
    """
    tokens, real = _padded(sequences)
    equal = (tokens[1:] == tokens[:-1]) & real[1:] & real[:-1]
    shared = np.logical_and.accumulate(equal, axis=1).sum(axis=1)
    return np.concatenate([np.zeros(min(1, len(sequences)), np.int64), shared])


def own_nodes(sequences: Sequence[np.ndarray], shared: np.ndarray) -> np.ndarray:
    """How many nodes each sequence adds to a tree that holds those before it, int64 [B].

    A last token is counted where a later sequence continues it.

    Args:
        sequences: in lexicographic order.
        shared: their ``shared_lengths``.

    >>> in_order = [np.array([5, 6]), np.array([5, 6, 1]), np.array([5, 6, 1])]
    >>> own_nodes(in_order, shared_lengths(in_order)).tolist()
    [2, 0, 0]
    """
    lengths = np.array([len(one) for one in sequences], np.int64)
    own = lengths - shared
    [distinct] = np.nonzero(own)
    continued = shared[distinct][1:] == lengths[distinct][:-1]
    own[distinct] -= 1
    own[distinct[:-1]] += continued
    return own


def prefix_tree(sequences: Sequence[np.ndarray], prompts: Sequence[int]) -> PrefixTree:
    """The tree of ``sequences``, of which the first ``prompts`` tokens are not predicted.

    In lexicographic order every distinct prefix is one node; in another order those are shared that
    stand in neighbours. Two replies to the prompt [7, 8], [4, 9] and [4, 6]:

    >>> tree = prefix_tree([np.array([7, 8, 4, 6]), np.array([7, 8, 4, 9])], [2, 2])
    >>> tree.tokens.tolist(), tree.depths.tolist()
    ([7, 8, 4], [0, 1, 2])
    >>> tree.paths.tolist()
    [[0, 1, 2, -1], [0, 1, 2, -1]]
    >>> tree.parents.tolist(), tree.targets.tolist()
    ([1, 2, 2], [4, 6, 9])
    >>> tree.edges[:, :2].tolist()
    [[0, 1], [0, 2]]
    >>> tree.starts.tolist(), tree.ends.tolist()
    ([0, 3], [3, 3])
    """
    tokens, real = _padded(sequences)
    depth = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    shared = shared_lengths(sequences)
    new = real & (depth >= shared[:, None])
    # Prefixes are numbered in order of appearance, so what a sequence shares with those before it
    # has, in each column, the largest number so far.
    count = np.cumsum(new.ravel()).reshape(new.shape) - 1
    prefix = np.maximum.accumulate(np.where(new, count, -1), axis=0)  # [B, T]
    before = np.pad(prefix, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    token, parent = tokens[new], before[new]

    continued = np.zeros(len(token), bool)
    continued[parent[parent >= 0]] = True
    node = np.where(continued, np.cumsum(continued) - 1, -1)
    paths = np.where(real, node[prefix] if len(token) else -1, -1)
    ends = (paths >= 0).sum(axis=1)

    begin = np.asarray(prompts, np.int64).reshape(-1, 1)
    response = real & (depth >= begin)
    predicted = np.zeros(len(token), bool)
    predicted[prefix[response]] = True
    edge = np.cumsum(predicted) - 1
    # From where they stand in the sequence to the first slots.
    at = np.minimum(depth + begin, max(tokens.shape[1] - 1, 0))
    kept = depth + begin < real.sum(axis=1, keepdims=True)
    edges = np.where(kept, edge[np.take_along_axis(prefix, at, axis=1)] if len(token) else -1, -1)
    return PrefixTree(
        tokens=token[continued].astype(np.int32),
        depths=depth[new][continued].astype(np.int32),
        paths=paths.astype(np.int32),
        starts=np.minimum(shared, ends).astype(np.int32),
        ends=ends.astype(np.int32),
        parents=node[parent[predicted]].astype(np.int32),
        targets=token[predicted].astype(np.int32),
        edges=edges.astype(np.int32),
    )


def _padded(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int64 [B, T], 0 after the end, and which of them are real, bool [B, T]."""
    lengths = np.array([len(one) for one in sequences], np.int64)
    real = np.arange(lengths.max(initial=0)) < lengths[:, None]
    tokens = np.zeros(real.shape, np.int64)
    if len(sequences):
        tokens[real] = np.concatenate(sequences)
    return tokens, real
