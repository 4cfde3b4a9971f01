"""The table of formats: how records of each data set become problems, and what splits it has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers import (
    apps,
    bigcodebench,
    code_contests,
    codeforces,
    humaneval,
    kodcode,
    leetcode_dataset,
    livecodebench,
    mbpp,
    own_jsonl,
    taco,
    verifiable_coding,
)
from zerocoder_jax.problems.records import Record


@dataclass(frozen=True)
class Format:
    """One data set's format.

    Attributes:
      to_problem: a record's problem, or None for one that cannot be judged by tests alone.
      splits: the names of the splits beside "all"; empty where the data set has none.
      is_split: accepts further names of splits, such as windows of dates.
      in_split: whether a record belongs to a split.
      split_files: split -> the beginning of its files' names, where files carry the splits.
      subset: picks a published evaluation set out of a split's problems.
      choose: picks the data files, for example those of the newest version.
      repeats: whether several records are one problem, of which the first counts.
    """

    to_problem: Callable[[Record], Problem | None]
    splits: tuple[str, ...] = ()
    is_split: Callable[[str], bool] = lambda split: False
    in_split: Callable[[Record, str], bool] | None = None
    split_files: dict[str, str] | None = None
    subset: Callable[[list[Problem], str], list[Problem]] | None = None
    choose: Callable[[list[Path]], list[Path]] = lambda files: files
    repeats: bool = False

    def has_split(self, split: str) -> bool:
        """Whether a split of this name can be asked for."""
        return not self.splits or split in (*self.splits, "all") or self.is_split(split)

    def files(self, split: str) -> str:
        """The beginning of the names of a split's files, or "all"."""
        return (self.split_files or {}).get(split, "all")

    @property
    def named_files(self) -> tuple[str, ...]:
        """How files begin that carry the name of any split."""
        return tuple((self.split_files or {}).values())


FORMATS = {
    "mbpp": Format(mbpp.to_problem, tuple(mbpp.SPLITS), in_split=mbpp.in_split),
    "humaneval": Format(humaneval.to_problem),
    "apps": Format(
        apps.to_problem,
        apps.SPLITS,
        split_files={"train": "train", "test": "test", "evaluation": "test"},
        subset=apps.subset,
    ),
    "livecodebench": Format(
        livecodebench.to_problem,
        livecodebench.SPLITS,
        is_split=livecodebench.is_split,
        in_split=livecodebench.in_split,
    ),
    "codeforces": Format(
        codeforces.to_problem,
        codeforces.SPLITS,
        in_split=codeforces.in_split,
        split_files={"train": "train", "test": "test"},
        subset=codeforces.subset,
    ),
    "code_contests": Format(
        code_contests.to_problem,
        code_contests.SPLITS,
        split_files={split: split for split in code_contests.SPLITS},
    ),
    "kodcode": Format(
        kodcode.to_problem,
        kodcode.SPLITS,
        split_files={split: split for split in kodcode.SPLITS},
    ),
    "taco": Format(
        taco.to_problem, taco.SPLITS, split_files={split: split for split in taco.SPLITS}
    ),
    "leetcode_dataset": Format(
        leetcode_dataset.to_problem, leetcode_dataset.SPLITS, in_split=leetcode_dataset.in_split
    ),
    "verifiable_coding": Format(verifiable_coding.to_problem, repeats=True),
    "bigcodebench": Format(bigcodebench.reader("complete_prompt"), choose=bigcodebench.newest),
    "bigcodebench_instruct": Format(
        bigcodebench.reader("instruct_prompt"), choose=bigcodebench.newest
    ),
    "jsonl": Format(
        own_jsonl.to_problem, own_jsonl.SPLITS, is_split=bool, in_split=own_jsonl.in_split
    ),
}

# Where the data sets are published: the path of a source that names none.
HUB = {
    "mbpp": "google-research-datasets/mbpp/full",
    "humaneval": "openai/openai_humaneval",
    "apps": "codeparrot/apps",
    "livecodebench": "livecodebench/code_generation_lite",
    "codeforces": "open-r1/codeforces/data",
    "code_contests": "deepmind/code_contests/data",
    "kodcode": "KodCode/KodCode-V1/data",
    "taco": "BAAI/TACO",
    "leetcode_dataset": "newfacade/LeetCodeDataset",
    "verifiable_coding": "PrimeIntellect/verifiable-coding-problems/data",
    "bigcodebench": "bigcode/bigcodebench/data",
    "bigcodebench_instruct": "bigcode/bigcodebench/data",
}
