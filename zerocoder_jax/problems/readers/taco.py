"""TACO (parquet or JSON lines; the files carry the splits' names).

APPS' layout without ids: ``question``, ``solutions`` and ``input_output`` (JSON texts),
``starter_code``, ``difficulty`` (EASY to VERY_HARD), ``name``, ``source``, ``url``. A problem is
known by its file and its place in it. Problems of which several answers are right are passed over
(``unjudgeable.py``).
"""

import dataclasses

from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers import apps
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test")


def to_problem(record: Record) -> Problem | None:
    """One record of TACO; None where outputs alone cannot judge a program."""
    if is_unjudgeable(record.text("question")):
        return None
    place = f"{record.file_name.partition('.')[0]}/{record.where.rpartition(' ')[2]}"
    problem = apps.problem_of(record, f"taco/{place}")
    return dataclasses.replace(problem, source="taco")
