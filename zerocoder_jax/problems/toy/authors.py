"""Who wrote the toy policy's pretraining corpus: careful authors and hasty ones, in both roles.

The corpus is what a small model has read before it meets the co-evolution: many examples of both
roles, a good share of them wrong. Nothing in it says which are wrong. What there is to discover is
a habit: authors who name the part of the argument before they compute with it seldom err, authors
who nest everything into one expression often misread the statement; tests with small arguments are
mostly right, tests with large ones mostly not, and tests with trivial arguments are right and
useless. Each family has a misreading of its own that the hasty prefer, in about half of the
families over the right reading, so that the most probable reply is often a wrong one while right
ones are among the samples.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerocoder_jax.problems.toy.arguments import Size, draw_argument
from zerocoder_jax.problems.toy.grammar import ENTRY_POINT, Instance


@dataclass(frozen=True)
class Authors:
    """How the corpus' authors are. All are probabilities.

    Attributes:
      hasty: a reply's author is a hasty one.
      careful_error: a careful author errs.
      easy: a family is easy: the hasty read it right more often than not.
      hasty_right_easy: a hasty solution of an easy family is right.
      hasty_right_hard: a hasty solution of another family is right.
      prefers_misreading: a hasty solution that is wrong shows the family's own misreading.
      hasty_test_right: a hasty test of an easy family expects the right value.
      hasty_test_right_hard: of another family.
      prefers_slip: a hasty test that is wrong shows the family's own slip.
      trivial: a test of any author has a trivial argument.
      malformed: a reply breaks off in the middle.
    """

    hasty: float = 0.62
    careful_error: float = 0.06
    easy: float = 0.45
    hasty_right_easy: float = 0.6
    hasty_right_hard: float = 0.28
    prefers_misreading: float = 0.6
    hasty_test_right: float = 0.4
    hasty_test_right_hard: float = 0.2
    prefers_slip: float = 0.65
    trivial: float = 0.12
    malformed: float = 0.02

    def coder_reply(self, instance: Instance, source: random.Random) -> str:
        """A Coder's reply to the instance's statement."""
        hasty = source.random() < self.hasty
        right = self._hasty_right(instance) if hasty else 1 - self.careful_error
        steps = instance.solution
        if source.random() >= right and instance.mistakes:
            steps = self._mistake(instance, source)
        code = steps.in_one_line if hasty else steps.in_two_steps
        return self._fenced(code, source)

    def tester_reply(self, instance: Instance, source: random.Random) -> str:
        """A Tester's reply to the instance's statement."""
        hasty = source.random() < self.hasty
        size: Size = "large" if hasty else "small"
        if source.random() < self.trivial:
            size, hasty = "trivial", False
        argument = draw_argument(instance.family.domain.name, size, source)
        expected = instance.solution(argument)
        right = 1 - self.careful_error
        if hasty:
            right = self.hasty_test_right if self._easy(instance) else self.hasty_test_right_hard
        if source.random() >= right:
            expected = self._slip(instance, expected, source)
        return self._fenced(f"assert {ENTRY_POINT}({argument!r}) == {expected!r}", source)

    def _easy(self, instance: Instance) -> bool:
        return _share(instance.family.name, "easy") < self.easy

    def _hasty_right(self, instance: Instance) -> float:
        return self.hasty_right_easy if self._easy(instance) else self.hasty_right_hard

    def _mistake(self, instance: Instance, source: random.Random) -> Any:
        mistakes = instance.mistakes
        if source.random() < self.prefers_misreading:
            return mistakes[int(_share(instance.family.name, "misreading") * len(mistakes))]
        return source.choice(mistakes)

    def _slip(self, instance: Instance, value: Any, source: random.Random) -> Any:
        slips = _slips(value)
        if not slips:
            return value
        if source.random() < self.prefers_slip:
            return slips[int(_share(instance.family.name, "slip") * len(slips))]
        return source.choice(slips)

    def _fenced(self, code: str, source: random.Random) -> str:
        if source.random() < self.malformed:
            code = code[: source.randrange(len(code) // 2, len(code))].rstrip()
        return f"```python\n{code}\n```"


def _share(*names: str) -> float:
    """A number in [0, 1) that only depends on the names, the same in every process."""
    return zlib.crc32("/".join(names).encode()) / 2**32


def _slips(value: Any) -> list[Any]:
    """Values that somebody who is not careful takes ``value`` for."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, value + 10, value + 2]
    slips: list[Callable[[Any], Any]] = [
        lambda v: v[:-1],
        lambda v: v[1:],
        lambda v: v[::-1],
        lambda v: v + v[-1:],
        lambda v: v[:1],
    ]
    return [slipped for slip in slips if (slipped := slip(value)) != value]
