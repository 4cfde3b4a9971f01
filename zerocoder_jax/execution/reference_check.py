"""Whether problems' labels can be believed: references run against their own reference tests."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zerocoder_jax.execution import Pool, Status
from zerocoder_jax.problems import Problem


@dataclass(frozen=True)
class ReferenceCheck:
    """What one problem's reference solution does with its tests.

    Attributes:
      verdicts: how many tests have which verdict; empty where nothing could be run.
      lacks: what is missing for a check: "reference_solution", "reference_tests", or both.
    """

    task_id: str
    verdicts: dict[str, int]
    lacks: tuple[str, ...] = ()

    @property
    def believed(self) -> bool:
        """The reference passes every test, and there is at least one."""
        return set(self.verdicts) == {Status.PASSED.name}


def check_references(problems: Sequence[Problem], pool: Pool) -> Iterator[ReferenceCheck]:
    """Checks problem by problem, in their order."""
    running = [
        (
            problem,
            None
            if _lacks(problem)
            else pool.submit_matrix(problem, [problem.reference_solution], problem.reference_tests),
        )
        for problem in problems
    ]
    for problem, matrix in running:
        statuses = [] if matrix is None else matrix.result()[0]
        verdicts = Counter(Status(status).name for status in statuses)
        yield ReferenceCheck(problem.task_id, dict(verdicts), _lacks(problem))


def _lacks(problem: Problem) -> tuple[str, ...]:
    return tuple(
        name for name in ("reference_solution", "reference_tests") if not getattr(problem, name)
    )


def table(checks: Sequence[ReferenceCheck], *, every: bool = False) -> str:
    """A Markdown table of the problems that are not believed, or of every one; totals below."""
    rows = [(check.task_id, _outcome(check)) for check in checks if every or not check.believed]
    lines = (
        ["| problem | reference solution against reference tests |", "|---|---|"] if rows else []
    )
    lines += [f"| {task_id} | {outcome} |" for task_id, outcome in rows]
    believed = sum(check.believed for check in checks)
    unlabelled = sum(bool(check.lacks) for check in checks)
    failing = len(checks) - believed - unlabelled
    lines.append(
        f"{len(checks)} problems: {believed} references pass all of their tests, {failing} do not,"
        f" {unlabelled} have no reference solution or no reference tests"
    )
    return "\n".join(lines)


def _outcome(check: ReferenceCheck) -> str:
    if check.lacks:
        return f"no {' and no '.join(check.lacks)}"
    return ", ".join(f"{count} {name.lower()}" for name, count in sorted(check.verdicts.items()))
