"""Micro-batches in which every distinct prefix of the sequences is one slot.

Each shard of a micro-batch holds a tree of its own (``prefix_cuts`` says which sequences), so that
nothing travels between shards. There is one compiled program per size. Host side, NumPy only.

Letters: S shards, M node slots, E edge slots, P sequences of a shard, T tokens of a sequence,
L response tokens.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from zerocoder_jax.policy.attention import AttentionName
from zerocoder_jax.policy.path_attention import PathRows, Paths, RowShape
from zerocoder_jax.training.batches import Array, TrainingSequence
from zerocoder_jax.training.prefix_cuts import cuts
from zerocoder_jax.training.prefix_tree import (
    PrefixTree,
    depth_first,
    prefix_tree,
)

# No micro-batch is halved below this: products of fewer tokens are bound by reading the weights.
SMALLEST_SIZE = 512
# Halvings of the largest size: what a step leaves over is at most half of the smallest size.
HALVINGS = 5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PrefixBatch:
    """Trees as the device sees them, and the responses whose log-probs are those of their edges.

    Response tokens stand in the first slots of a row: its first token's log-prob is
    ``log_probs[row, 0]``.
    """

    tokens: Array  # [S, M] int32, of nodes
    positions: Array  # [S, M] int32
    paths: Paths
    parents: Array  # [S, E] int32: the node that predicts
    targets: Array  # [S, E] int32
    predicted: Array  # [S, E] bool: real edges
    edges: Array  # [S, P, L] int32: the edge of each response token
    response: Array  # [S * P, L] bool: response tokens
    advantages: Array  # [S * P] float32
    rollout_log_probs: Array  # [S * P, L] float32
    old_log_probs: Array | None = None
    reference_log_probs: Array | None = None


@dataclasses.dataclass(frozen=True)
class PrefixShapes:
    """Which micro-batches exist.

    Attributes:
        key_lengths: key slots of an attention row, ascending; the last holds every sequence.
        query_slots: of a row at most; as many as the last key length where the kernel wants whole
            sequences.
        implementation: of ``attention.attend``.
        largest: node slots of a micro-batch on one shard; at least the last key length.
        shards: groups of devices, each with trees of its own.
        sequences: of one shard's micro-batch at most.
        response: tokens of a response at most.
    """

    key_lengths: tuple[int, ...]
    query_slots: int
    implementation: AttentionName
    largest: int
    shards: int
    sequences: int
    response: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Node slots of a shard, ascending."""
        halves = [-(-self.largest // 2**i) for i in range(HALVINGS + 1)]
        return tuple(sorted({size for size in halves if size >= SMALLEST_SIZE} | {self.largest}))

    def row_shapes(self, size: int) -> list[RowShape]:
        """The attention rows of a micro-batch of ``size`` nodes.

        Whole sequences fill as many slots at once as there are nodes, a quarter of that where all
        scores of a chunk are in memory.
        """
        shapes = []
        for keys in self.key_lengths:
            queries = min(keys, self.query_slots)
            slots = size if self.implementation != "xla" else size // 4
            chunk = max(1, slots // queries)
            shapes.append(RowShape(keys, queries, chunk, self.implementation))
        return shapes


def prefix_batches(
    sequences: Sequence[TrainingSequence], shapes: PrefixShapes
) -> Iterator[tuple[list[int | None], PrefixBatch]]:
    """Micro-batches of all ``sequences``, each with its rows' indices; None for an empty row."""
    tokens = [np.concatenate([one.prompt, one.response]) for one in sequences]
    order = depth_first(tokens)
    prompts = [sequences[i].prompt.tobytes() for i in order]
    for cut in cuts([tokens[i] for i in order], prompts, shapes):
        trees = [[order[place] for place in tree] for tree in cut.trees]
        indices = [i for tree in trees for i in [*tree, *[None] * (shapes.sequences - len(tree))]]
        yield indices, packed([[sequences[i] for i in tree] for tree in trees], cut.size, shapes)


def packed(
    shards: Sequence[Sequence[TrainingSequence]], size: int, shapes: PrefixShapes
) -> PrefixBatch:
    """One micro-batch of ``size`` nodes a shard; each shard's sequences in lexicographic order."""
    trees = [
        prefix_tree(
            [np.concatenate([one.prompt, one.response]) for one in shard],
            [len(one.prompt) for one in shard],
        )
        for shard in shards
    ]
    # A sequence's last prediction may be of no node.
    edges = size + shapes.sequences

    def slots(name: str, width: int) -> np.ndarray:
        return np.stack([_filled(getattr(tree, name), (width,), 0) for tree in trees])

    def table(name: str, width: int, nothing: int) -> np.ndarray:
        shape = (shapes.sequences, width)
        return np.stack([_filled(getattr(tree, name), shape, nothing) for tree in trees])

    nodes = table("paths", shapes.key_lengths[-1], -1)
    edge = table("edges", shapes.response, -1)
    response = edge >= 0
    real = [one for shard in shards for one in shard]
    advantages = np.zeros((len(trees), shapes.sequences), np.float32)
    for values, shard in zip(advantages, shards):
        values[: len(shard)] = [one.advantage for one in shard]

    def per_token(name: str) -> np.ndarray | None:
        values = [getattr(one, name) for one in real]
        if any(value is None for value in values):
            return None
        array = np.zeros(response.shape, np.float32)
        # Row by row and slot by slot, as the responses are.
        array[response] = np.concatenate(values) if values else []
        return array.reshape(-1, shapes.response)

    return PrefixBatch(
        tokens=slots("tokens", size),
        positions=slots("depths", size),
        paths=Paths(
            nodes=np.where(nodes < 0, size, nodes).astype(np.int32),
            rows=_rows(trees, size, shapes),
        ),
        parents=slots("parents", edges),
        targets=slots("targets", edges),
        predicted=np.arange(edges) < np.array([[len(tree.targets)] for tree in trees]),
        edges=np.where(response, edge, 0).astype(np.int32),
        response=response.reshape(-1, shapes.response),
        advantages=advantages.reshape(-1),
        rollout_log_probs=per_token("rollout_log_probs"),
        old_log_probs=per_token("old_log_probs"),
        reference_log_probs=per_token("reference_log_probs"),
    )


def _rows(trees: Sequence[PrefixTree], size: int, shapes: PrefixShapes) -> tuple[PathRows, ...]:
    """The trees' own nodes as attention rows: each in the shortest key length that holds it."""
    per_tree = [_pieces(tree, shapes) for tree in trees]  # path, start, end, key length's index
    made = []
    for index, shape in enumerate(shapes.row_shapes(size)):
        room = -(-size // shape.chunk) * shape.chunk
        chosen = [pieces[:3, pieces[3] == index] for pieces in per_tree]
        filled = np.stack([_filled(rows, (3, room), 0) for rows in chosen])  # [S, 3, R]
        most = max(rows.shape[1] for rows in chosen)
        made.append(
            PathRows(
                path=np.ascontiguousarray(filled[:, 0]),
                start=np.ascontiguousarray(filled[:, 1]),
                end=np.ascontiguousarray(filled[:, 2]),
                chunks=np.int32(-(-most // shape.chunk)),
                shape=shape,
            )
        )
    return tuple(made)


def _pieces(tree: PrefixTree, shapes: PrefixShapes) -> np.ndarray:
    """Path, start and end of every row, and the index of its key length; int32 [4, R].

    A row of whole sequences holds all of a sequence's own nodes, a shorter one ``query_slots``.
    """
    length = shapes.query_slots
    count = -(-(tree.ends - tree.starts) // length)  # [P]
    path = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(path)) - np.repeat(np.cumsum(count) - count, count)
    start = tree.starts[path] + nth * length
    end = np.minimum(start + length, tree.ends[path])
    index = np.searchsorted(shapes.key_lengths, end)
    return np.stack([path, start, end, index]).astype(np.int32)


def _filled(values: np.ndarray, shape: tuple[int, ...], nothing: int) -> np.ndarray:
    """``values`` at the beginning of an int32 array of ``shape``; the rest is ``nothing``."""
    array = np.full(shape, nothing, np.int32)
    # Columns past the widest sequence of all hold nothing.
    values = values[..., : shape[-1]]
    array[tuple(slice(length) for length in values.shape)] = values
    return array
