"""Which sample sits in which row, and when: the host's half of the engine, without a device.

While samples wait, finished rows are refilled; when none wait, the live rows move together and the
batch shrinks through a fixed list of sizes. Everything here is plain numbers: the engine turns the
plans into device calls, and a test can play the device with recorded lengths.

The rows of all devices are counted through: row ``r`` of device ``d`` is ``[d, r]`` in every array.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence

import numpy as np

FREE = -1


def batch_sizes(rows: int) -> tuple[int, ...]:
    """The sizes that a batch of at most ``rows`` shrinks through: powers of two, and from 32 on
    one size between, so that a shrunken batch is mostly full and the programs stay few.

    >>> batch_sizes(128)
    (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
    >>> batch_sizes(3)
    (1, 2, 3)
    """
    powers = [1 << exponent for exponent in range(rows.bit_length())]
    between = [power * 3 // 2 for power in powers if power >= 32]
    return tuple(sorted({size for size in powers + between if size < rows} | {rows}))


@dataclasses.dataclass(frozen=True)
class Prefill:
    """Write a prompt into a row, its first token at time ``start``.

    Attributes:
        shared: tokens that the prompt has in common with the one in row ``source``, which began at
            time ``source_start``: they are copied and not computed. 0: all are computed.
    """

    device: int
    row: int
    prompt: int
    start: int
    source: int = 0
    source_start: int = 0
    shared: int = 0


@dataclasses.dataclass(frozen=True)
class Copy:
    """Copy a row of the ring, turned by so many slots."""

    device: int
    source: int
    target: int
    turn: int


class Schedule:
    """The rows of one call of ``generate``, from the first prompt to the last finished sample.

    Attributes:
        occupant: int [devices, rows], the sample in each row, or ``FREE``.
        start: int [devices, rows], the time of the prompt's first token.
        clock: int [devices], the time of the next token of every row.
        batch: how many rows of each device are decoded.
        slots: of the ring.
    """

    def __init__(
        self,
        sample_prompts: Sequence[int],
        prompt_lengths: Sequence[int],
        *,
        rows: int,
        slots: int,
        devices: int = 1,
        prompt_prefixes: Sequence[tuple[int, ...]] | None = None,
    ):
        """
        Args:
            sample_prompts: the prompt of each sample.
            prompt_lengths: tokens of each prompt.
            prompt_prefixes: the beginning that each prompt shares with others, of
                ``prompt_packing.prefix_of``; default: none is shared.
        """
        self._sample_prompts = sample_prompts
        self._prompt_lengths = prompt_lengths
        self._prefixes = prompt_prefixes or [()] * len(prompt_lengths)
        self._waiting = deque(range(len(sample_prompts)))
        self.slots = slots
        self._sizes = batch_sizes(rows)
        shape = (devices, rows)
        self.occupant = np.full(shape, FREE)
        self.start = np.zeros(shape, np.int64)
        # The prompt whose cache a row holds, whether or not anybody still decodes there.
        self._held = np.full(shape, FREE)
        # One turn ahead, so that no prompt begins before time 0, and far enough into it that the
        # first prompts lie in one piece: a reader then walks through each row without a break.
        self.clock = np.full(devices, slots + max(prompt_lengths, default=0))
        self.batch = self._fitting(-(-len(sample_prompts) // devices))

    @property
    def waiting(self) -> int:
        """Samples that have no row yet."""
        return len(self._waiting)

    @property
    def live(self) -> np.ndarray:
        """int [devices], the occupied rows of each device."""
        return (self.occupant != FREE).sum(axis=1)

    def fill(self) -> tuple[list[Prefill], list[Copy]]:
        """Give free rows to waiting samples, in their order.

        The prefills are to be done before the copies, and those in their order; of the prefills,
        those of whole prompts first. A prompt is prefilled once per device: its other samples copy
        it from a row that holds it. So do the prompts that share its beginning.
        """
        prefills: list[Prefill] = []
        copies: list[Copy] = []
        # Free rows that a planned copy reads: a prefill would overwrite them too early.
        pinned = np.zeros(self.occupant.shape, bool)
        # The prompts that stand in the ring while these prefills run, and when they began.
        standing, started = np.where(self._intact, self._held, FREE), self.start.copy()
        while self._waiting:
            sample = self._waiting[0]
            prompt = self._sample_prompts[sample]
            free = np.equal(self.occupant[:, : self.batch], FREE) & ~pinned[:, : self.batch]
            if not free.any():
                break
            device, source = self._holder(prompt, free)
            candidates = np.flatnonzero(free[device])
            # A free row that holds the prompt is turned in place.
            target = source if source in candidates else int(candidates[0])
            # The prompt's last token is the next to be fed: it will be written at the clock.
            length = self._prompt_lengths[prompt]
            start = int(self.clock[device]) - (length - 1)
            if source == FREE:
                if length > 1:
                    prefills.append(Prefill(device, target, prompt, start))
            else:
                turn = start - int(self.start[device, source])
                copies.append(Copy(device, source, target, turn % self.slots))
                pinned[device, source] = self.occupant[device, source] == FREE
            self._waiting.popleft()
            self.occupant[device, target] = sample
            self.start[device, target] = start
            self._held[device, target] = prompt
        return self._behind_shared(prefills, standing, started), copies

    def _behind_shared(
        self, prefills: list[Prefill], standing: np.ndarray, started: np.ndarray
    ) -> list[Prefill]:
        """The prefills, each behind a row of its device that holds its prefix, where one does.

        That is a row that held it before and that none of these prefills overwrites, or else the
        row of the first of them with the prefix, which is computed whole.

        Args:
            standing, started: int [devices, rows], the prompt that each row held before, or
                ``FREE``, and the time of its first token.
        """
        if not any(self._prefixes[one.prompt] for one in prefills):
            return prefills
        written = {(one.device, one.row) for one in prefills}
        holders: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}
        for device, row in np.argwhere(standing != FREE).tolist():
            if (device, row) not in written:
                prefix = self._prefixes[standing[device, row]]
                holders[device, prefix] = row, int(started[device, row])
        planned = []
        for one in prefills:
            prefix = self._prefixes[one.prompt]
            holder = holders.setdefault((one.device, prefix), (one.row, one.start))
            if prefix and holder != (one.row, one.start):
                source, source_start = holder
                one = dataclasses.replace(
                    one, source=source, source_start=source_start, shared=len(prefix)
                )
            planned.append(one)
        return planned

    @property
    def _intact(self) -> np.ndarray:
        """bool [devices, rows]; a prompt's first token is overwritten after a turn of the ring."""
        return self.clock[:, None] - self.start < self.slots

    def shrink(self) -> list[Copy]:
        """When nobody waits: take the smallest batch that holds the live rows, and move them in."""
        if self._waiting:
            return []
        batch = self._fitting(int(self.live.max()))
        if batch >= self.batch:
            return []
        copies = []
        for device, occupant in enumerate(self.occupant):
            outside = batch + np.flatnonzero(occupant[batch : self.batch] != FREE)
            inside = np.flatnonzero(occupant[:batch] == FREE)
            for source, target in zip(outside.tolist(), inside.tolist()):
                copies.append(Copy(device, source, target, 0))
                for array in (self.occupant, self.start, self._held):
                    array[device, target] = array[device, source]
                occupant[source] = FREE
        self.batch = batch
        return copies

    def least_live(self) -> np.ndarray:
        """int [devices]: with fewer live rows a window should end, for there is something to do.

        While samples wait that is the refilling of a few rows, afterwards the next smaller batch.
        """
        live = self.live
        if self._waiting:
            return np.maximum(live - max(1, self.batch // 32) + 1, 1)
        smaller = max((size for size in self._sizes if size < self.batch), default=0)
        return np.where(live > smaller, smaller + 1, 1)

    def advance(self, steps: np.ndarray, live: np.ndarray) -> None:
        """A window has run: ``steps`` int [devices]; ``live`` bool [devices, batch] after it."""
        self.clock += steps
        self.occupant[:, : self.batch][~live] = FREE

    def _fitting(self, rows: int) -> int:
        return next((size for size in self._sizes if size >= rows), self._sizes[-1])

    def _holder(self, prompt: int, free: np.ndarray) -> tuple[int, int]:
        """The device for a prompt's next sample, and a row there that holds the prompt."""
        holders = np.equal(self._held, prompt) & self._intact & free.any(axis=1, keepdims=True)
        if holders.any():
            device, row = np.unravel_index(int(holders.argmax()), holders.shape)
            return int(device), int(row)
        return int(free.sum(axis=1).argmax()), FREE
