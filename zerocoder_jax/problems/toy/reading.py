"""``toy:train`` and ``toy:test``: the same problems for the same seed, in every process.

Training has part of the parameters and part of the wordings of most families. Testing has the
other parameters of these families (where a family has none, the other wordings), and families
that training does not have at all; ``Problem.difficulty`` says which: "seen" or "unseen".
"""

import itertools
import random
import zlib
from collections.abc import Iterator
from typing import Any, Literal

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.problem import AssertTest, Problem
from zerocoder_jax.problems.toy.arguments import draw_argument
from zerocoder_jax.problems.toy.grammar import ENTRY_POINT, Family, Instance, Steps
from zerocoder_jax.problems.toy.phrases import SEEN_FAMILIES, UNSEEN_FAMILIES

Split = Literal["train", "test"]

# Out of so many parameters or wordings of a family one is kept for testing.
_TEST_EVERY = 4
_WORDINGS_PER_INSTANCE = {"train": 2, "test": 1}
_INSTANCES_PER_UNSEEN_FAMILY = 6
_ARGUMENTS_TRIED = 200


def read_toy(split: Split, limit: int = 0, seed: int = 0) -> list[Problem]:
    """The problems of a split, in random order.

    Args:
      split: "train" or "test".
      limit: only the first so many; 0 for all.
      seed: of the choice of wordings, of the reference tests and of the order.
    """
    if split not in ("train", "test"):
        raise UserError(f"toy:{split}: there are toy:train and toy:test")
    chosen = []
    for instance, difficulty in instances(split):
        held_out = split == "test" and difficulty == "seen" and len(instance.family.parameters) == 1
        wordings = split_wordings(instance, "test" if held_out else "train")
        source = random.Random(f"{seed}/{instance.name}")
        count = min(_WORDINGS_PER_INSTANCE[split], len(wordings))
        for number, wording in enumerate(source.sample(wordings, count)):
            chosen.append((instance, difficulty, wording, number))
    random.Random(seed).shuffle(chosen)
    chosen = chosen[: limit or None]
    # An instance may be asked for in several wordings: its tests are the same, and made once.
    asked = {instance.name: instance for instance, *_ in chosen}
    tests = {
        name: _reference_tests(instance, random.Random(f"{seed}/tests/{name}"))
        for name, instance in asked.items()
    }
    return [_problem(split, *choice, tests[choice[0].name]) for choice in chosen]


def instances(split: Split) -> Iterator[tuple[Instance, str]]:
    """Every instance that a split may use, with its difficulty."""
    for family in SEEN_FAMILIES:
        for instance in _split(family, split):
            yield instance, "seen"
    for family in UNSEEN_FAMILIES if split == "test" else ():
        of_family = [Instance(family, *parameters) for parameters in family.parameters]
        for instance in sorted(of_family, key=_order)[:_INSTANCES_PER_UNSEEN_FAMILY]:
            yield instance, "unseen"


def split_wordings(instance: Instance, split: Split) -> list[str]:
    """The statements of an instance that a split may use; at least one for each."""
    wordings = sorted(instance.wordings(), key=lambda w: zlib.crc32(f"{instance.name}{w}".encode()))
    kept = max(1, len(wordings) // _TEST_EVERY)
    return wordings[:kept] if split == "test" else wordings[kept:]


def _split(family: Family, split: Split) -> list[Instance]:
    of_family = [Instance(family, *parameters) for parameters in family.parameters]
    if len(of_family) == 1:  # then only the wording is new
        return of_family
    of_family.sort(key=_order)
    kept = max(1, len(of_family) // _TEST_EVERY)
    return of_family[:kept] if split == "test" else of_family[kept:]


def _order(instance: Instance) -> int:
    return zlib.crc32(instance.name.encode())


def _problem(
    split: str,
    instance: Instance,
    difficulty: str,
    wording: str,
    number: int,
    reference_tests: tuple[AssertTest, ...],
) -> Problem:
    return Problem(
        task_id=f"toy/{split}/{instance.name}/{number}",
        prompt=wording,
        entry_point=ENTRY_POINT,
        kind="function",
        starter_code=instance.solution.signature,
        reference_solution=instance.solution.in_two_steps + "\n",
        reference_tests=reference_tests,
        difficulty=difficulty,
        source="toy",
    )


def _reference_tests(instance: Instance, source: random.Random) -> tuple[AssertTest, ...]:
    """A trivial argument, some others, and one that shows each mistake there is to show."""
    domain = instance.family.domain.name
    arguments = [
        draw_argument(domain, size, source)
        for size in ("trivial", "small", "small", "small", "large", "large")
    ]
    for mistake in instance.mistakes:
        if all(_agree(instance, mistake, argument) for argument in arguments):
            # All are drawn, so that later draws do not depend on which of them shows it.
            tried = [draw_argument(domain, "small", source) for _ in range(_ARGUMENTS_TRIED)]
            showing = (a for a in tried if not _agree(instance, mistake, a))
            arguments += itertools.islice(showing, 1)
    return tuple(
        AssertTest(f"assert {ENTRY_POINT}({argument!r}) == {instance.solution(argument)!r}")
        for argument in arguments
    )


def _agree(instance: Instance, mistake: Steps, argument: Any) -> bool:
    try:
        return mistake(argument) == instance.solution(argument)
    except Exception:  # a wrong reading may raise anything
        return False
