"""``read_problems``: from ``"format:PATH"`` to problems, whatever the format and the files."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers.files import data_files
from zerocoder_jax.problems.readers.formats import FORMATS, HUB, Format
from zerocoder_jax.problems.records import MalformedRecord, Record, read_records

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_log = logging.getLogger(__name__)


class ProblemList(list[Problem]):
    """Problems, and what was wrong with the records that were skipped.

    Attributes:
      malformed: one message per skipped record; empty unless ``skip_malformed`` was set.
      unjudgeable: how many records were passed over because outputs alone cannot judge a program.
    """

    def __init__(
        self, problems: list[Problem], malformed: tuple[str, ...] = (), unjudgeable: int = 0
    ) -> None:
        super().__init__(problems)
        self.malformed, self.unjudgeable = malformed, unjudgeable


def parse_source(source: str, split: str | None = None) -> tuple[str, str, str | None]:
    """A source as (format, path, split).

    ``format:PATH``; ``format:PATH@SPLIT`` overrides ``split``; without ``:PATH`` the path is the
    place on the hub where the data set is published. The path of a hub id keeps its revision:
    ``format:owner/name@REVISION@SPLIT``, or ``format:owner/name@COMMIT``.

    Raises:
      UserError: no such format, or no path where there is no published place.
    """
    name, _, path = source.partition(":")
    if "@" in path and not Path(path).expanduser().exists():
        if "/" not in path or not _COMMIT.fullmatch(path.rpartition("@")[2]):
            path, _, split = path.rpartition("@")
    elif "@" in name:
        name, _, split = name.partition("@")
    path = path or HUB.get(name, "")
    known = (*FORMATS, "toy")
    if name not in known or not path:
        raise UserError(
            f"problem source '{source}': expected format:PATH with one of {', '.join(known)}"
        )
    return name, path, split


def read_problems(
    source: str, split: str | None = "train", limit: int = 0, skip_malformed: bool = False
) -> ProblemList:
    """Reads problems from a local path or, where there is none, from the Hugging Face hub.

    Args:
      source: ``"format:PATH"``; PATH is a file, a directory or a hub id, perhaps with a folder
        (``owner/name/folder``). ``"toy:train"`` and ``"toy:test"`` make the toy family.
        ``"format:PATH@SPLIT"`` names the split in place.
      split: a split of the data set, or ``"all"``; data sets without splits take no notice.
      limit: only the first so many problems; 0 reads all.
      skip_malformed: count malformed records and go on.

    Raises:
      UserError: unknown format, split or path; a malformed record, by file and line.
    """
    name, path, split = parse_source(source, split)
    if name == "toy":
        from zerocoder_jax.problems.toy import read_toy

        return ProblemList(read_toy(path, limit))  # type: ignore[arg-type]  # it refuses others
    form = FORMATS[name]
    split = split or "all"
    if not form.has_split(split):
        raise UserError(
            f"problem source '{source}': no split '{split}'; {name} has"
            f" {', '.join(form.splits)} and all"
        )
    malformed: list[str] | None = [] if skip_malformed else None
    problems: list[Problem] = []
    files = form.choose(data_files(path, form.files(split), form.named_files))
    unjudgeable = 0
    for problem in _problems(form, read_records(files), split, malformed):
        if problem is None:
            unjudgeable += 1
            continue
        problems.append(problem)
        if limit and len(problems) == limit and not form.subset:
            break
    if malformed:
        _log.warning("%s: skipped %d malformed records: %s", source, len(malformed), malformed[0])
    if unjudgeable:
        _log.info("%s: passed over %d problems that outputs cannot judge", source, unjudgeable)
    if not problems:
        other = "; format:PATH@SPLIT names another" if split != "all" else ""
        raise UserError(f"problem source '{source}': no problems in split '{split}'{other}")
    if form.subset:
        problems = form.subset(problems, split)
    return ProblemList(problems[: limit or None], tuple(malformed or ()), unjudgeable)


def _problems(
    form: Format, records: Iterator[Record], split: str, malformed: list[str] | None
) -> Iterator[Problem | None]:
    """The split's problems; None for one that is passed over.

    What is wrong with a record is raised, or noted in ``malformed``.
    """
    seen: dict[str, str] = {}
    for record in records:
        try:
            if form.in_split and not form.in_split(record, split):
                continue
            problem = form.to_problem(record)
            if problem is None:
                yield None
                continue
            if problem.task_id in seen and form.repeats:
                continue
            if problem.task_id in seen:
                raise record.malformed(
                    f"task_id '{problem.task_id}' stands already in {seen[problem.task_id]}"
                )
        except MalformedRecord as error:
            if malformed is None:
                raise
            malformed.append(str(error))
            continue
        seen[problem.task_id] = record.where
        yield problem
