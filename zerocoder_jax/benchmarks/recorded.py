"""Replies that a real policy once gave: workloads whose lengths and programs nobody made up.

``tests/data/record_replies.py`` made the file: Qwen2.5-Coder-0.5B-Instruct on 32 problems of MBPP,
8 solutions and 8 tests each, at most 2048 new tokens. ``tests/data/record_tokens.py`` wrote these
replies and their prompts as tokens.
"""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from zerocoder_jax.errors import UserError

RECORDED_REPLIES = Path(__file__).parents[2] / "tests" / "data" / "recorded_replies.jsonl.gz"

RECORDED_TOKENS = RECORDED_REPLIES.with_name("recorded_tokens.json.gz")


def read_replies(path: Path = RECORDED_REPLIES) -> list[dict[str, Any]]:
    """One record a problem: ``solutions`` and ``tests`` as text, and lengths in tokens.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no recorded replies; make them with tests/data/record_replies.py")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long prompts and replies were, in tokens.

    Attributes:
      prompts: int [P], a Coder's and a Tester's prompt for each problem.
      replies: int [P, S].
    """

    prompts: np.ndarray
    replies: np.ndarray


def recorded_lengths(prompts: int, samples: int, path: Path = RECORDED_REPLIES) -> Lengths:
    """Lengths for so many prompts and samples: the recorded ones, from the start again as needed.

    Prompts that repeat keep their lengths; their samples are others of the same prompt.
    """
    records = read_replies(path)
    roles = ("solutions", "tests")
    lengths = [record[f"{role}_prompt_tokens"] for record in records for role in roles]
    replies = [record[f"{role}_tokens"] for record in records for role in roles]
    every, kept = np.arange(prompts) % len(lengths), np.arange(samples)
    turn = np.arange(prompts) // len(lengths)
    chosen = (turn[:, None] * samples + kept) % len(replies[0])
    return Lengths(np.asarray(lengths)[every], np.asarray(replies)[every[:, None], chosen])


def recorded_tokens(
    role: str, path: Path = RECORDED_TOKENS
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """A prompt, int32 [p], and its 8 replies, int32 [r] each, for every recorded problem.

    Args:
      role: "solutions" or "tests".

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no recorded tokens; make them with tests/data/record_tokens.py")
    records = json.loads(gzip.decompress(path.read_bytes()))
    return [
        (
            np.asarray(record[role]["prompt"], np.int32),
            [np.asarray(reply, np.int32) for reply in record[role]["replies"]],
        )
        for record in records
    ]
