"""TACO (parquet or JSON lines; the files carry the splits' names).

APPS' layout without ids: ``question``, ``solutions`` and ``input_output`` (JSON texts),
``starter_code``, ``difficulty`` (EASY to VERY_HARD), ``name``, ``source``, ``url``. A problem is
known by its file and its place in it.
"""

import dataclasses

from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers import apps
from zerocoder_jax.problems.records import Record

SPLITS = ("train", "test")


def to_problem(record: Record) -> Problem:
    """One record of TACO."""
    place = f"{record.file_name.partition('.')[0]}/{record.where.rpartition(' ')[2]}"
    problem = apps.problem_of(record, f"taco/{place}")
    return dataclasses.replace(problem, source="taco")
