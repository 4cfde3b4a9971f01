"""What is measured: problem sets with a short name.

The paper's four sets, each where it is published on the hub unless a path says otherwise:
``livecodebench@evaluation`` (contests of October 2024 to February 2025), EvalPlus MBPP (378
problems), ``apps@evaluation`` (60 + 180 + 60, stratified) and ``codeforces@evaluation`` (300
problems later than APPS). ``paper`` stands for all four.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import Problem, read_problems
from zerocoder_jax.problems.readers import parse_source

PAPER = (
    "livecodebench@evaluation",
    "mbpp:evalplus/mbppplus",
    "apps@evaluation",
    "codeforces@evaluation",
)


@dataclass(frozen=True)
class Benchmark:
    """A named set of problems.

    Attributes:
      name: the data set's, for example ``mbpp``; with a number where the same one comes twice.
      source: as it was asked for.
    """

    name: str
    source: str
    problems: Sequence[Problem]


def read_benchmarks(
    sources: str, *, limit: int = 0, skip_malformed: bool = False
) -> list[Benchmark]:
    """Reads comma-separated problem sources; without ``@SPLIT`` their test split.

    Raises:
      UserError: as ``read_problems``; a benchmark without any label to measure by.
    """
    listed = [source.strip() for source in sources.split(",") if source.strip()]
    if listed == ["paper"]:
        listed = list(PAPER)
    benchmarks: list[Benchmark] = []
    for source in listed:
        name = parse_source(source)[0]
        problems = read_problems(source, "test", limit, skip_malformed)
        if not any(problem.reference_tests or problem.reference_solution for problem in problems):
            raise UserError(
                f"benchmark {source}: no problem has reference tests or a reference solution, so"
                " there is nothing to measure by"
            )
        same = sum(benchmark.name.split("-")[0] == name for benchmark in benchmarks)
        benchmarks.append(Benchmark(f"{name}-{same + 1}" if same else name, source, problems))
    return benchmarks
