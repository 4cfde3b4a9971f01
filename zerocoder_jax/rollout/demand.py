"""What an engine will be asked for: enough to compile all its programs before the first call."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Demand:
    """The calls of ``RolloutEngine.generate`` to come. Two are added up by ``|``.

    Attributes:
        samples: of the largest call.
        max_new_tokens: of the longest reply.
        prompt_lengths: tokens of the prompts.
    """

    samples: int
    max_new_tokens: int
    prompt_lengths: frozenset[int]

    def __or__(self, other: "Demand") -> "Demand":
        return Demand(
            max(self.samples, other.samples),
            max(self.max_new_tokens, other.max_new_tokens),
            self.prompt_lengths | other.prompt_lengths,
        )
