"""What a call of ``generate`` did, in tokens, rows, bytes and seconds."""

import dataclasses
from typing import Any

import numpy as np

from zerocoder_jax.rollout.attention import Tile, slots_read
from zerocoder_jax.rollout.schedule import FREE, Prefill, Schedule


@dataclasses.dataclass
class RolloutStatistics:
    """Sums over one call of ``generate``.

    Attributes:
        tokens: sampled and kept.
        row_steps, live_row_steps: decoded rows summed over steps, and those of them that were
            unfinished.
        drafted_steps, drafted_tokens: steps decoded by drafts, and what they sampled.
        slots_needed, slots_read: cache slots, summed over steps and rows, that live rows hold and
            that attention read.
        prefills, prompt_tokens: prompts that were computed, and their tokens without those that
            were copied from another prompt.
        windows, steps: of all devices.
        searched_steps: steps in which a truncation took the exact search over the vocabulary.
        seconds: spent in here, compilation included, the consumer of the replies not.
        compile_seconds: of them.
        programs: compiled in the engine's life.
        recompilations: programs compiled in this call, if the engine was warm: after ``warm_up``,
            or after its first call.
    """

    tokens: int = 0
    row_steps: int = 0
    live_row_steps: int = 0
    drafted_steps: int = 0
    drafted_tokens: int = 0
    slots_needed: int = 0
    slots_read: int = 0
    prefills: int = 0
    prompt_tokens: int = 0
    windows: int = 0
    steps: int = 0
    searched_steps: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    programs: int = 0
    recompilations: int = 0

    def count_prefills(self, prefills: list[Prefill], prompts: list[list[int]]) -> None:
        """Prompts that are being computed."""
        self.prefills += len(prefills)
        self.prompt_tokens += sum(len(prompts[one.prompt]) - one.shared for one in prefills)

    def count_window(
        self, schedule: Schedule, window: Any, produced_before: np.ndarray, tile: Tile
    ) -> None:
        """A window that has run, before the schedule hears of it.

        Args:
            tile: of the attention, ``attention.tile_read``.
        """
        devices, batch = produced_before.shape
        produced = np.asarray(window.produced).reshape(devices, batch)
        self.windows += 1
        self.searched_steps += int(np.sum(window.searched))
        for device, steps in enumerate(np.asarray(window.steps).tolist()):
            if steps == 0:
                continue
            new = produced[device] - produced_before[device]  # [batch]
            occupied = schedule.occupant[device, :batch] != FREE
            step = np.arange(steps)[:, None]
            live = occupied & (step < new)  # [W, batch]
            clock = int(schedule.clock[device])
            lengths = np.where(live, clock + step - schedule.start[device, :batch] + 1, 1)
            self.steps += steps
            self.tokens += int(new.sum())
            self.row_steps += steps * batch
            self.live_row_steps += int(new.sum())
            self.slots_needed += int(lengths[live].sum())
            self.slots_read += slots_read(clock, lengths, schedule.slots, tile)

    def count_drafts(self, window: Any, produced_before: np.ndarray) -> None:
        """A window of drafts that has run."""
        _, batch = produced_before.shape
        tokens, steps = int(window.produced.sum() - produced_before.sum()), int(window.steps.sum())
        self.windows += 1
        self.searched_steps += int(window.searched.sum())
        self.tokens += tokens
        self.drafted_tokens += tokens
        self.steps += steps
        self.drafted_steps += steps
        self.row_steps += steps * batch
        self.live_row_steps += int(window.passes.sum())

    @property
    def wasted_rows(self) -> float:
        """Share of decoded rows that held no live sample."""
        return 1.0 - self.live_row_steps / self.row_steps if self.row_steps else 0.0

    @property
    def read_ratio(self) -> float:
        """Cache slots read over cache slots needed."""
        return self.slots_read / self.slots_needed if self.slots_needed else 1.0

    @property
    def tokens_per_second(self) -> float:
        """Without compilation."""
        seconds = self.seconds - self.compile_seconds
        return self.tokens / seconds if seconds > 0 else 0.0

    def metrics(self) -> dict[str, float]:
        """The keys of a line of ``metrics.jsonl``."""
        return {
            "rollout/tokens": self.tokens,
            "rollout/tokens_per_second": self.tokens_per_second,
            "rollout/wasted_rows": self.wasted_rows,
            "rollout/read_ratio": self.read_ratio,
            "rollout/steps": self.steps,
            "rollout/searched_steps": self.searched_steps / max(1, self.steps),
            "rollout/recompilations": self.recompilations,
        }
