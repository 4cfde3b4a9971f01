"""Sequences to train on, and the few padded shapes in which they reach the device.

Sequences are sorted by length and cut into micro-batches of equal token count: a micro-batch of
length T has ``tokens / T`` rows, for one of a few lengths T. So there is one compiled program per
length, whatever a step brings. Host side, NumPy only.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

# NumPy on the host, jax.Array inside a program.
Array = Any


@dataclasses.dataclass(frozen=True)
class TrainingSequence:
    """One reply to train on.

    Attributes:
        prompt: int32 [p].
        response: int32 [r], its stop token included.
        advantage: of the whole response.
        rollout_log_probs: float32 [r], the sampler's, at its temperature with nothing truncated.
        old_log_probs: float32 [r] of the policy before the step's first update; only where a step
            makes several updates.
        reference_log_probs: float32 [r] of the initial policy; only where KL is wanted.
    """

    prompt: np.ndarray
    response: np.ndarray
    advantage: float
    rollout_log_probs: np.ndarray
    old_log_probs: np.ndarray | None = None
    reference_log_probs: np.ndarray | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and response together."""
        return len(self.prompt) + len(self.response)

    @property
    def predictions(self) -> slice:
        """The positions whose next token is one of the response."""
        return slice(len(self.prompt) - 1, self.length - 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """Rows as the device sees them, padded on the right: cuDNN's attention needs it there.

    Position t predicts token t + 1, and everything per token stands where it is predicted. A prompt
    [7, 8, 9] with the response [4, 5] in a row of six slots:

        tokens     7 8 9 4 5 0
        targets    8 9 4 5 0 0
        mask       1 1 1 1 1 0
        response   0 0 1 1 0 0
    """

    tokens: Array  # [B, T] int32
    targets: Array  # [B, T] int32
    mask: Array  # [B, T] bool: real tokens
    response: Array  # [B, T] bool: the target is a response token
    advantages: Array  # [B] float32
    rollout_log_probs: Array  # [B, T] float32
    old_log_probs: Array | None = None
    reference_log_probs: Array | None = None


@dataclasses.dataclass(frozen=True)
class BatchShapes:
    """Which micro-batches exist.

    Attributes:
        lengths: padded lengths T, ascending.
        tokens: tokens of a micro-batch on one shard of rows.
        shards: groups of devices that the rows are spread over.
        sequences: no step has more sequences than this, so no micro-batch needs more rows.
    """

    lengths: tuple[int, ...]
    tokens: int
    shards: int
    sequences: int

    def rows(self, length: int) -> int:
        """Rows of a micro-batch of padded length ``length``; a multiple of ``shards``."""
        enough = -(-self.sequences // self.shards)
        return self.shards * max(1, min(self.tokens // length, enough))

    def length(self, tokens: int) -> int:
        """The smallest padded length that holds ``tokens``."""
        return next(length for length in self.lengths if length >= tokens)


def micro_batches(
    sequences: Sequence[TrainingSequence], shapes: BatchShapes
) -> Iterator[tuple[list[int | None], MicroBatch]]:
    """Cut ``sequences`` into micro-batches, longest first, each with its rows' sequence indices.

    Shorter sequences fill the rows that the longer ones leave, which costs nothing since those rows
    would be computed anyway; so only the last micro-batch has empty rows (index None).
    """
    waiting = sorted(range(len(sequences)), key=lambda i: -sequences[i].length)
    while waiting:
        length = shapes.length(sequences[waiting[0]].length)
        rows = shapes.rows(length)
        taken, waiting = waiting[:rows], waiting[rows:]
        padded: list[int | None] = [*taken, *[None] * (rows - len(taken))]
        # Deal the rows out like cards, so that every shard has its share of long ones.
        dealt = [i for shard in range(shapes.shards) for i in padded[shard :: shapes.shards]]
        chosen = [None if i is None else sequences[i] for i in dealt]
        yield dealt, padded_rows(chosen, length)


def padded_rows(sequences: Sequence[TrainingSequence | None], length: int) -> MicroBatch:
    """One row of ``length`` slots per sequence; None makes an empty row."""
    shape = (len(sequences), length)
    real = [sequence for sequence in sequences if sequence is not None]
    tokens = np.zeros((shape[0], length + 1), np.int32)
    mask = np.zeros(shape, bool)
    response = np.zeros(shape, bool)
    advantages = np.zeros(shape[0], np.float32)
    per_token: dict[str, np.ndarray | None] = {
        name: np.zeros(shape, np.float32)
        if all(getattr(sequence, name) is not None for sequence in real)
        else None
        for name in ("rollout_log_probs", "old_log_probs", "reference_log_probs")
    }
    for row, sequence in enumerate(sequences):
        if sequence is None:
            continue
        tokens[row, : len(sequence.prompt)] = sequence.prompt
        tokens[row, len(sequence.prompt) : sequence.length] = sequence.response
        mask[row, : sequence.length] = True
        response[row, sequence.predictions] = True
        advantages[row] = sequence.advantage
        for name, values in per_token.items():
            if values is not None:
                values[row, sequence.predictions] = getattr(sequence, name)
    return MicroBatch(
        tokens=tokens[:, :-1], targets=tokens[:, 1:], mask=mask, response=response,
        advantages=advantages, **per_token,
    )  # fmt: skip


def minibatches(
    sequences: Sequence[TrainingSequence], count: int, seed: tuple[int, ...]
) -> list[list[TrainingSequence]]:
    """``count`` random parts of nearly equal size, one optimizer step each; empty ones left out.

    Which sequences a part holds depends on the seed and on what they are, not on their order, which
    depends on the number of hosts that sampled them.
    """
    if count == 1:
        return [list(sequences)]
    sequences = sorted(sequences, key=lambda one: (one.prompt.tobytes(), one.response.tobytes()))
    order = np.random.default_rng(seed).permutation(len(sequences))
    parts = [[sequences[i] for i in part] for part in np.array_split(order, count)]
    return [part for part in parts if part]
