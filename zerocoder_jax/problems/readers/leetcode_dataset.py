"""newfacade/LeetCodeDataset (``LeetCodeDataset-train.jsonl``, ``LeetCodeDataset-test.jsonl``).

Fields, after HumanEval's: ``task_id`` (the problem's slug), ``problem_description``,
``starter_code``, ``prompt`` (imports, and the classes and functions with which tests build lists
and trees), ``completion``, ``entry_point`` (``Solution().twoSum``), ``test`` (a function
``check``), ``difficulty``. Problems of which several answers are right are passed over
(``unjudgeable.py``).
"""

from zerocoder_jax.problems.problem import AssertTest, Problem
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test")


def in_split(record: Record, split: str) -> bool:
    """The files' names hold the split; others belong to every split."""
    named = [name for name in SPLITS if name in record.file_name]
    return split == "all" or not named or split in named


def to_problem(record: Record) -> Problem | None:
    """One record of LeetCodeDataset; None where one expected value cannot judge a solution."""
    if is_unjudgeable(record.text("problem_description")):
        return None
    call = record.text("entry_point")
    owner, _, method = call.partition("().")
    setup = record.text("prompt", "")
    completion = record.text("completion", "")
    return Problem(
        task_id=f"leetcode/{record.text('task_id')}",
        prompt=record.text("problem_description").strip(),
        entry_point=f"{owner}.{method}" if method else call,
        kind="function",
        starter_code=record.text("starter_code", "").rstrip(),
        reference_solution=f"{setup}\n\n{completion}" if completion else None,
        reference_tests=(AssertTest(f"{record.text('test')}\ncheck({call})", setup),),
        difficulty=record.text("difficulty", ""),
        source="leetcode_dataset",
    )
