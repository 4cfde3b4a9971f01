"""Small problems for a tiny policy: functions over numbers, lists, strings and dictionaries.

``read_toy`` makes the problems of ``toy:train`` and ``toy:test``; ``Authors`` writes the replies
that the toy policy is pretrained on. Knows nothing of models, or of how programs are run.
"""

from zerocoder_jax.problems.toy.authors import Authors
from zerocoder_jax.problems.toy.phrases import SEEN_FAMILIES, UNSEEN_FAMILIES
from zerocoder_jax.problems.toy.reading import read_toy

__all__ = ["SEEN_FAMILIES", "UNSEEN_FAMILIES", "Authors", "read_toy"]
