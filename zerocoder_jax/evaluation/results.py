"""What an evaluation leaves behind: one line per problem, appended as it is measured.

The first line says what was measured and how; a file that was begun with other settings is not
continued.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.errors import UserError

# The two passes of an evaluation.
GREEDY, SAMPLED = "greedy", "sampled"


@dataclass(frozen=True)
class SolutionResult:
    """A solution and its verdict.

    Attributes:
      reply: the Coder's words; ``code`` is what was parsed from them, ``reason`` why nothing was.
      tokens: length of the reply; ``finished`` is false where it was cut.
      statuses: of the reference tests, by name.
      correct: passes them all; None where the verifier failed or there are no reference tests.
    """

    reply: str
    code: str | None
    reason: str
    tokens: int
    finished: bool
    statuses: tuple[str, ...] = ()
    correct: bool | None = None


@dataclass(frozen=True)
class TestResult:
    """A generated test, judged by the reference solution and its mutants.

    Attributes:
      test: as plain data; None where the reply holds none.
      passes: on the reference solution; an unparsable test does not, None is no verdict.
      killed: numbers of the mutants that it kills, 0 of them if it fails on the reference.
      mutation_score: share of the mutants that it kills; None where there are no mutants.
      mutation_score_ungated: the same, but a test that fails on the reference may kill too.
      copied: its input is an example of the statement.
    """

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    reply: str
    test: dict[str, Any] | None
    reason: str
    tokens: int
    finished: bool
    passes: bool | None = None
    killed: tuple[int, ...] = ()
    mutation_score: float | None = None
    mutation_score_ungated: float | None = None
    copied: bool = False


@dataclass(frozen=True)
class ProblemResult:
    """One problem in one pass of an evaluation.

    Attributes:
      run: ``GREEDY`` or ``SAMPLED``.
      mutants: of the reference solution; None where no test was asked for.
    """

    task_id: str
    run: str
    solutions: tuple[SolutionResult, ...] = ()
    tests: tuple[TestResult, ...] = ()
    mutants: int | None = None


@dataclass
class ResultsFile:
    """Results on disk. Opening it again continues it; closing it loses nothing.

    Args:
      path: JSON lines; the folder is made.
      settings: plain JSON data that says what is measured and how.
      restart: begin anew where the file has other settings, instead of refusing.

    Raises:
      UserError: the file belongs to other settings, by name.
    """

    path: Path
    settings: Mapping[str, Any]
    restart: bool = False
    results: dict[tuple[str, str], ProblemResult] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(self.path)
        if lines:
            differing = _differences(lines[0].get("settings", {}), dict(self.settings))
            if differing and not self.restart:
                raise UserError(
                    f"{self.path} was measured with other settings ({'; '.join(differing)}):"
                    " choose another --output, or remove the file"
                )
            lines = [] if differing else lines
        for line in lines[1:]:
            result = _from_json(line)
            self.results[result.run, result.task_id] = result
        self._rewrite()
        self._file = self.path.open("a", encoding="utf-8")

    def append(self, result: ProblemResult) -> None:
        """Keep a result and write it down at once."""
        self.results[result.run, result.task_id] = result
        self._file.write(json.dumps(asdict(result)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rewrite(self) -> None:
        """Drop what a killed process left half-written."""
        records = [{"settings": dict(self.settings)}, *map(asdict, self.results.values())]
        write_atomically(self.path, (json.dumps(record) + "\n" for record in records))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_results(path: Path) -> list[ProblemResult]:
    """The results of a file, whatever they were measured with; half-written lines are left out."""
    return [_from_json(line) for line in _whole_lines(path) if "task_id" in line]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            lines.append(record)
    return lines


def _from_json(line: Mapping[str, Any]) -> ProblemResult:
    solutions = [
        SolutionResult(**{**s, "statuses": tuple(s["statuses"])}) for s in line["solutions"]
    ]
    tests = [TestResult(**{**t, "killed": tuple(t["killed"])}) for t in line["tests"]]
    return ProblemResult(
        line["task_id"], line["run"], tuple(solutions), tuple(tests), line["mutants"]
    )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now))
    return [
        f"{name}: {then.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
