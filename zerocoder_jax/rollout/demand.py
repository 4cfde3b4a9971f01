"""What an engine will be asked for: enough to compile all its programs before the first call."""

import dataclasses

from zerocoder_jax.rollout.prompt_packing import without_extensions


@dataclasses.dataclass(frozen=True)
class Demand:
    """The calls of ``RolloutEngine.generate`` to come. Two are added up by ``|``.

    Attributes:
        samples: of the largest call.
        max_new_tokens: of the longest reply.
        prompt_lengths: tokens of the prompts.
        prefixes: beginnings that many of the prompts share, of ``prompt_packing.shared_prefixes``.
    """

    samples: int
    max_new_tokens: int
    prompt_lengths: frozenset[int]
    prefixes: tuple[tuple[int, ...], ...] = ()

    def __or__(self, other: "Demand") -> "Demand":
        return Demand(
            max(self.samples, other.samples),
            max(self.max_new_tokens, other.max_new_tokens),
            self.prompt_lengths | other.prompt_lengths,
            without_extensions(self.prefixes + other.prefixes),
        )
