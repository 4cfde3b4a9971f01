"""Which sequences form a tree: few slots, few sizes, groups kept together.

A tree repeats what its sequences share with another tree's, and leaves slots empty. So groups (the
replies to one prompt) are packed whole, largest first, and one is divided where that fills more
slots than the repeated prompt takes. Pure functions on the host.
"""

import bisect
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from zerocoder_jax.training.prefix_tree import own_nodes, shared_lengths


class CutShapes(Protocol):
    """What is read of ``PrefixShapes``."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Node slots of a shard, ascending; the last holds any sequence."""

    @property
    def shards(self) -> int:
        """Trees of a micro-batch."""

    @property
    def sequences(self) -> int:
        """Of one tree at most."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """One micro-batch of ``size`` node slots a shard: each shard's sequences, ascending places in
    lexicographic order."""

    size: int
    trees: tuple[tuple[int, ...], ...]


def cuts(sequences: Sequence[np.ndarray], prompts: Sequence[bytes], shapes: CutShapes) -> list[Cut]:
    """The micro-batches with the fewest slots.

    The largest size as long as it is filled. What remains goes into the smallest size that holds
    it, or half of that and then the same again, whichever takes fewer slots; each counts for half
    of the smallest size more than it has, so that little is not cut into less.

    Args:
        sequences: in lexicographic order.
        prompts: a key of each one's group.

    Two prompts of 40 tokens with three replies of 40 each, in trees of at most 128 nodes:

    >>> from types import SimpleNamespace
    >>> texts = [[prompt] * 40 + [reply] * 40 for prompt in (1, 2) for reply in (3, 4, 5)]
    >>> shapes = SimpleNamespace(sizes=(128, 256), shards=1, sequences=6)
    >>> cuts([np.array(text) for text in texts], [b"1"] * 3 + [b"2"] * 3, shapes)
    [Cut(size=256, trees=((0, 1, 2, 3),)), Cut(size=128, trees=((4, 5),))]
    """
    forest = _Forest.of(sequences, shapes.sequences)
    groups = _groups(prompts)
    sizes, toll = shapes.sizes, shapes.sizes[0] / 2

    def cut(runs: list[_Run], size: int) -> tuple[Cut, list[_Run]]:
        trees = []
        for _ in range(shapes.shards):
            tree, runs = forest.filled(runs, size)
            trees.append(tree)
        return Cut(size, tuple(trees)), runs

    def rest(runs: list[_Run]) -> tuple[float, list[Cut]]:
        """The fewest slots for what is left, and how."""
        choices: list[tuple[float, list[Cut]]] = []
        half: tuple[Cut, list[_Run]] | None = None
        for size in sizes:
            made, left = cut(runs, size)
            if not left:
                choices.append((size + toll, [made]))
                break
            half = (made, left) if any(made.trees) else None
        if half:
            cost, others = rest(half[1])
            choices.append((half[0].size + toll + cost, [half[0], *others]))
        return min(choices, key=lambda choice: choice[0])

    result: list[Cut] = []
    while groups:
        full, left = cut(groups, sizes[-1])
        if not left:
            return result + rest(groups)[1]
        result.append(full)
        groups = left
    return result


# Places first to last (not included) in lexicographic order.
_Run = tuple[int, int]


def _groups(prompts: Sequence[bytes]) -> list[_Run]:
    """Neighbours with the same prompt."""
    starts = [i for i in range(len(prompts)) if i == 0 or prompts[i] != prompts[i - 1]]
    return list(zip(starts, [*starts[1:], len(prompts)]))


@dataclasses.dataclass(frozen=True)
class _Forest:
    """Sequences in lexicographic order as trees are made of them.

    Attributes:
        shared: of ``shared_lengths``.
        before: sums of ``own_nodes`` up to each place.
        common: tokens that all sequences begin with.
        most: sequences of one tree at most.
    """

    shared: list[int]
    before: list[int]
    common: int
    most: int

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray], most: int) -> "_Forest":
        shared = shared_lengths(sequences)
        before = np.concatenate([[0], np.cumsum(own_nodes(sequences, shared))])
        common = int(shared[1:].min(initial=shared[-1])) if len(shared) else 0
        return cls(shared.tolist(), before.tolist(), common, most)

    def nodes(self, first: int, last: int) -> int:
        """Of a tree of these sequences."""
        return self.shared[first] + self.before[last] - self.before[first]

    def overlap(self, first: int, last: int, taken: Sequence[_Run]) -> int:
        """How many nodes these sequences share with a tree of ``taken``, ascending runs."""
        place = bisect.bisect(taken, (first, last))
        left = min(self.shared[taken[place - 1][1] : first + 1]) if place else 0
        right = min(self.shared[last : taken[place][0] + 1]) if place < len(taken) else 0
        return max(left, right)

    def filled(self, runs: Iterable[_Run], size: int) -> tuple[tuple[int, ...], list[_Run]]:
        """A tree of at most ``size`` nodes, and the runs that are left."""
        room, places, taken = size, self.most, list[_Run]()
        left = list[_Run]()

        def take(run: _Run) -> None:
            nonlocal room, places
            room -= self.nodes(*run) - self.overlap(*run, taken)
            places -= run[1] - run[0]
            bisect.insort(taken, run)

        for run in sorted(runs, key=lambda run: -self.nodes(*run)):
            needed = self.nodes(*run) - self.overlap(*run, taken)
            if needed <= room and run[1] - run[0] <= places:
                take(run)
            else:
                left.append(run)
        gains = [(self._best_part(run, room, places, taken), run) for run in left]
        if gains:
            (gain, end), run = max(gains)
            if end > run[0] and (gain > 0 or not taken):
                take((run[0], end))
                left[left.index(run)] = (end, run[1])
        return tuple(place for run in taken for place in range(*run)), left

    def _best_part(
        self, run: _Run, room: int, places: int, taken: Sequence[_Run]
    ) -> tuple[int, int]:
        """Slots that are filled but for those that the other part repeats, and the part's end."""
        first, last = run
        best = (-(10**9), first)
        for end in range(first + 1, min(last, first + places + 1)):
            needed = self.nodes(first, end) - self.overlap(first, end, taken)
            if needed > room:
                break
            best = max(best, (needed - self.shared[end] + self.common, end))
        return best
