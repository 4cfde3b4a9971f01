"""Arguments that toy functions are called with, from trivial to large."""

import random
from collections.abc import Callable
from typing import Any, Literal

from zerocoder_jax.problems.toy.phrases import LETTERS

# Small arguments can be computed with at a glance; large ones need care.
Size = Literal["trivial", "small", "large"]


def draw_argument(domain: str, size: Size, random_source: random.Random) -> Any:
    """An argument of a domain: a list of digits, a number, a string or a dictionary."""
    return _DRAW[domain](size, random_source)


def _numbers(size: Size, source: random.Random) -> list[int]:
    return [source.randrange(10) for _ in range(_length(size, source))]


def _number(size: Size, source: random.Random) -> int:
    if size == "trivial":
        return 0
    if size == "large":
        return source.randrange(100, 1000)
    return source.randrange(1, 10) if source.random() < 0.5 else source.randrange(10, 40)


def _text(size: Size, source: random.Random) -> str:
    return "".join(source.choices(LETTERS, k=_length(size, source)))


def _entries(size: Size, source: random.Random) -> dict[str, int]:
    length = {"trivial": 0, "small": source.randint(1, 2), "large": source.randint(3, 4)}[size]
    return {letter: source.randrange(10) for letter in source.sample(LETTERS, length)}


def _length(size: Size, source: random.Random) -> int:
    return {"trivial": 0, "small": source.randint(1, 3), "large": source.randint(4, 6)}[size]


_DRAW: dict[str, Callable[[Size, random.Random], Any]] = {
    "numbers": _numbers,
    "number": _number,
    "text": _text,
    "entries": _entries,
}
