"""The stratified evaluation set of APPS: 60 introductory, 180 interview, 60 competition problems.

The paper does not publish which problems of the test split it took. Ours are drawn by the ids
alone, since the test split's difficulties follow its ids, and published in
``apps_evaluation.json`` beside this file, which is what counts: whatever files somebody has, the
set is this one, or there is an error. ``docs/evaluation.md`` has the command that printed it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers.sampling import drawn_ids

# Of the test split, as published.
IDS = {
    "introductory": range(4000, 5000),
    "interview": range(3000),
    "competition": range(3000, 4000),
}
SIZES = {"introductory": 60, "interview": 180, "competition": 60}
_PUBLISHED = Path(__file__).with_suffix(".json")


def draw() -> dict[str, list[int]]:
    """The ids by difficulty, ascending, as the seed draws them."""
    chosen = {}
    for difficulty, ids in IDS.items():
        by_task_id = {f"apps/test/{number}": number for number in ids}
        names = drawn_ids(by_task_id, SIZES[difficulty])
        chosen[difficulty] = sorted(by_task_id[name] for name in names)
    return chosen


def published_ids() -> dict[str, list[int]]:
    """The ids by difficulty, as ``apps_evaluation.json`` holds them."""
    return json.loads(_PUBLISHED.read_text(encoding="utf-8"))


def as_json(ids: Mapping[str, list[int]]) -> str:
    """The text of ``apps_evaluation.json``: one line a difficulty."""
    lines = ",\n".join(f'  "{difficulty}": {numbers}' for difficulty, numbers in ids.items())
    return "{\n" + lines + "\n}"


def evaluation_set(problems: list[Problem]) -> list[Problem]:
    """The published problems, by difficulty and id, out of those of the test split.

    Raises:
      UserError: one of them is not there, or has another difficulty.
    """
    # A file that does not carry the split's name gives ids without it.
    found = {problem.task_id.replace("apps/test/", "apps/"): problem for problem in problems}
    chosen = []
    for difficulty, numbers in published_ids().items():
        for number in numbers:
            problem = found.get(f"apps/{number}")
            if problem is None:
                raise UserError(
                    f"apps@evaluation: problem {number} of the published evaluation set is not"
                    f" among the {len(problems)} problems read: give the whole test split of APPS"
                )
            if problem.difficulty != difficulty:
                raise UserError(
                    f"apps@evaluation: {problem.task_id} is '{problem.difficulty}', and"
                    f" '{difficulty}' in the published evaluation set: this is not the test split"
                    " of APPS"
                )
            chosen.append(problem)
    return chosen
