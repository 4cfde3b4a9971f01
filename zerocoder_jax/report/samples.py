"""Packs the samples of each step so that a page can carry them all and open at once.

A step's samples are one JSON text, deflated and in base64: a browser does not look at it before a
reader opens the step, and no text of a model can be mistaken for markup. Packing is done once per
step; the results lie in ``rollouts/.packed/`` until their source changes.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.report.run_directory import Json, RunDirectory, read_lines

# Part of the key of a cached packing: another number makes them all again.
FORMAT = 1

# Longer texts (a runaway reply, a test with a huge input) are cut in the page, and say so there.
MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class PackedStep:
    """The samples of one step.

    Attributes:
      step: the step's number.
      summaries: per problem, what a list shows of it: ``[task_id, pass share or None, rank,
        abstained, calibration, problem's number of selected solutions]``.
      payload: base64 of the zlib-deflated JSON text of the step's problems.
    """

    step: int
    summaries: list[list[Any]]
    payload: str


def pack_step(step: int, path: Path) -> PackedStep:
    """The packed samples of one rollout file, from the cache where it holds them."""
    stat = path.stat()
    key = [FORMAT, stat.st_size, stat.st_mtime_ns]
    cache = path.parent / ".packed" / f"{path.stem}.json"
    try:
        stored = json.loads(cache.read_bytes())
        if stored["key"] == key:
            return PackedStep(step, stored["summaries"], stored["payload"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not packed yet, or by another version of this file

    problems = [_cut(record) for record in read_lines(path)]
    text = json.dumps(problems, separators=(",", ":"))
    payload = base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")
    packed = PackedStep(step, [_summary(problem) for problem in problems], payload)
    try:
        cache.parent.mkdir(exist_ok=True)
        stored = {"key": key, "summaries": packed.summaries, "payload": payload}
        write_atomically(cache, json.dumps(stored))
    except OSError:
        pass  # a run on a read-only disk can be shown too, only more slowly
    return packed


def pack_run(run: RunDirectory, limit: int) -> tuple[list[PackedStep], int]:
    """Pack a run's steps within a size limit.

    Args:
      run: the run.
      limit: characters of all payloads together. Where the run has more, every second, third,
        ... step is kept, and always the newest one.

    Returns:
      The steps that are kept, ascending, and the number of steps that there are.
    """
    steps = [pack_step(step, path) for step, path in run.rollout_files.items()]
    return _thin(steps, limit), len(steps)


def _thin(steps: Sequence[PackedStep], limit: int) -> list[PackedStep]:
    for stride in range(1, len(steps) + 1):
        # Counted from the newest step, which is the one people want to see first.
        kept = list(steps[::-1][::stride][::-1])
        if sum(len(step.payload) for step in kept) <= limit:
            return kept
    return list(steps[-1:])


def _cut(value: Any) -> Any:
    """The same JSON value with long texts cut."""
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        left_out = len(value) - MAX_CHARACTERS
        return f"{value[:MAX_CHARACTERS]}\n[... {left_out} characters are left out of this page]"
    if isinstance(value, list):
        return [_cut(item) for item in value]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return value


def _summary(problem: Json) -> list[Any]:
    statuses = [status for row in problem.get("statuses") or [] for status in row]
    share = round(statuses.count("PASSED") / len(statuses), 3) if statuses else None
    selected = sum(bool(one.get("selected")) for one in problem.get("solutions") or [])
    return [
        str(problem.get("task_id", "")),
        share,
        problem.get("rank"),
        bool((problem.get("selection") or {}).get("abstained")),
        bool(problem.get("calibration")),
        selected,
    ]
