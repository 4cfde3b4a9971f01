"""The host's books of one call of ``generate``: what is known of every sample before it begins, and
the replies that grow row by row until they are handed out.

Plain NumPy arrays; ``schedule`` says which sample sits in which row.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zerocoder_jax.rollout.decode import Rows, Window
from zerocoder_jax.rollout.drafts import Texts, texts_of_rows
from zerocoder_jax.rollout.sampling import SamplingSettings
from zerocoder_jax.rollout.schedule import FREE, Copy, Schedule


@dataclasses.dataclass(frozen=True)
class Rollout:
    """One reply.

    Attributes:
        prompt_index, sample_index: which sample of which prompt.
        tokens: int32 [n], the stop token included where there is one.
        log_probs: float32 [n], at the sampling temperature with nothing truncated.
        sampled_log_probs: float32 [n], under the distribution that was drawn from.
        finished: ended by a stop token, not by its limit.
    """

    prompt_index: int
    sample_index: int
    tokens: np.ndarray
    log_probs: np.ndarray
    sampled_log_probs: np.ndarray
    finished: bool


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is known of every sample of a call before it begins; arrays over samples."""

    prompt: np.ndarray
    number: np.ndarray
    key: np.ndarray
    limit: np.ndarray
    temperature: np.ndarray
    top_p: np.ndarray
    top_k: np.ndarray

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        samples_per_prompt: int | Sequence[int],
        keys: np.ndarray,
        sampling: Sequence[SamplingSettings],
        limits: np.ndarray | None,
    ) -> "Samples":
        if isinstance(samples_per_prompt, int):
            counts = [samples_per_prompt] * len(prompts)
        else:
            counts = list(samples_per_prompt)
        total = sum(counts)
        for name, given, wanted in (
            ("sample counts", len(counts), len(prompts)),
            ("sampling settings", len(sampling), len(prompts)),
            ("keys", len(keys), total),
            ("limits", total if limits is None else len(limits), total),
        ):
            if given != wanted:
                raise ValueError(
                    f"generate was given {given} {name} for {wanted}: {len(prompts)} prompts with"
                    f" {total} samples in all"
                )
        prompt = np.repeat(np.arange(len(prompts)), counts)

        def of_prompts(name: str, dtype: Any) -> np.ndarray:
            return np.array([getattr(one, name) for one in sampling], dtype)[prompt]

        limit = of_prompts("max_new_tokens", np.int32)
        if limits is not None:
            limit = np.clip(np.asarray(limits, np.int32), 1, limit)
        return cls(
            prompt=prompt,
            number=np.concatenate([np.arange(count) for count in counts] or [prompt]),
            key=np.asarray(keys, np.uint32).reshape(total, 2),
            limit=limit,
            temperature=of_prompts("temperature", np.float32),
            top_p=of_prompts("top_p", np.float32),
            top_k=of_prompts("top_k", np.int32),
        )


class Replies:
    """The replies that are being written, row by row."""

    def __init__(self, shape: tuple[int, int], longest: int):
        self.produced = np.zeros(shape, np.int32)
        self._last = np.zeros(shape, np.int32)
        self._sample = np.full(shape, FREE)
        self._prompt_lengths = np.ones(shape, np.int32)
        self._tokens = np.zeros((*shape, longest), np.int32)
        self._log_probs = np.zeros((*shape, longest), np.float32)
        self._sampled_log_probs = np.zeros((*shape, longest), np.float32)
        self._finished: dict[int, list[np.ndarray]] = {}

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        buffers = (self._tokens, self._log_probs, self._sampled_log_probs)
        return (self.produced, self._last, self._sample, self._prompt_lengths, *buffers)

    def begin(self, schedule: Schedule, samples: Samples, prompts: list[list[int]]) -> None:
        """Rows that have a new occupant start with the last token of its prompt."""
        new = (schedule.occupant != self._sample) & (schedule.occupant != FREE)
        self._sample = schedule.occupant.copy()
        self.produced[new] = 0
        occupants = samples.prompt[schedule.occupant[new]]
        self._last[new] = [prompts[prompt][-1] for prompt in occupants]
        self._prompt_lengths[new] = [len(prompts[prompt]) for prompt in occupants]

    def move(self, copies: list[Copy]) -> None:
        """Follow rows that moved within the batch."""
        for copy in copies:
            for array in self._arrays:
                array[copy.device, copy.target] = array[copy.device, copy.source]

    def device_rows(self, schedule: Schedule, samples: Samples) -> Rows:
        """What the next window must know."""
        batch = slice(0, schedule.batch)
        occupant = schedule.occupant[:, batch].ravel()
        return Rows(
            token=self._last[:, batch].ravel(),
            start=schedule.start[:, batch].ravel().astype(np.int32),
            position=(self._prompt_lengths[:, batch] - 1 + self.produced[:, batch]).ravel(),
            produced=self.produced[:, batch].ravel(),
            limit=samples.limit[occupant],
            live=occupant != FREE,
            key=samples.key[occupant],
            temperature=samples.temperature[occupant],
            top_p=samples.top_p[occupant],
            top_k=samples.top_k[occupant],
        )

    def keep(self, window: Window, produced: np.ndarray) -> None:
        """Append a window's tokens; ``produced`` [devices, batch] is the state after it."""
        devices, batch = produced.shape
        before = self.produced[:, :batch]
        steps = int((produced - before).max(initial=0))
        step = np.arange(steps)[:, None, None]
        real = step < (produced - before)  # [W, devices, batch]
        steps_of, device, row = np.nonzero(real)
        place = before[device, row] + steps_of
        for kept, new in (
            (self._tokens, window.tokens),
            (self._log_probs, window.log_probs),
            (self._sampled_log_probs, window.sampled_log_probs),
        ):
            kept[device, row, place] = new[:steps].reshape(steps, devices, batch)[real]
        self.produced[:, :batch] = produced
        last = np.maximum(produced - 1, 0)[..., None]
        newest = np.take_along_axis(self._tokens[:, :batch], last, axis=-1)[..., 0]
        self._last[:, :batch] = np.where(produced > 0, newest, self._last[:, :batch])

    def texts(
        self,
        schedule: Schedule,
        samples: Samples,
        prompts: list[list[int]],
        capacity: int,
        room: int,
    ) -> Texts:
        """What the rows of the batch may draft from; of ``capacity`` tokens ``room`` stay free."""
        occupant = schedule.occupant[:, : schedule.batch]
        prompt_of = {
            place: int(samples.prompt[sample])
            for place, sample in np.ndenumerate(occupant)
            if sample != FREE
        }
        reply = {place: self._tokens[place][: self.produced[place]] for place in prompt_of}
        own: list[np.ndarray | None] = []
        others: list[list[np.ndarray]] = []
        for place in np.ndindex(occupant.shape):
            prompt = prompt_of.get(place, FREE)
            if prompt == FREE:
                own.append(None)
                others.append([])
                continue
            own.append(np.concatenate([np.asarray(prompts[prompt], np.int32), reply[place]]))
            unfinished = [reply[p] for p, q in prompt_of.items() if q == prompt and p != place]
            others.append([*self._finished.get(prompt, []), *unfinished])
        return texts_of_rows(own, others, capacity, room)

    def take(self, device: int, row: int, prompt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tokens of a finished reply to ``prompt`` and their two kinds of log-probs."""
        length = self.produced[device, row]
        buffers = (self._tokens, self._log_probs, self._sampled_log_probs)
        tokens, log_probs, sampled = (array[device, row, :length].copy() for array in buffers)
        self._finished.setdefault(prompt, []).append(tokens)
        return tokens, log_probs, sampled
