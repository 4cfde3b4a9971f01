"""Readers of problem sources, one file per format, behind the one function ``read_problems``."""

from zerocoder_jax.problems.readers.sources import ProblemList, parse_source, read_problems

__all__ = ["ProblemList", "parse_source", "read_problems"]
