"""What a problem is, and the three kinds of test that can judge a solution of it."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class AssertTest:
    """Python statements with at least one assert that calls the problem's entry point.

    Attributes:
      code: the statements, run after the solution was loaded.
      setup: statements run between the solution and ``code`` (MBPP's ``test_setup_code``).
    """

    code: str
    setup: str = ""


@dataclass(frozen=True)
class StdioTest:
    """A program's standard input and the standard output that is expected for it.

    Attributes:
      stdin, stdout: the two texts.
      tolerance: absolute or relative error that a number may have which is written with a point or
        an exponent; 0 where numbers must be equal.
      by_tokens: what counts is the words, not in which line they stand nor whether in capitals.
    """

    stdin: str
    stdout: str
    tolerance: float = 0.0
    by_tokens: bool = False


@dataclass(frozen=True)
class CallTest:
    """Arguments of the entry point and the value it must return; JSON values, both.

    Attributes:
      arguments: the positional arguments.
      expected: the value; tuples of the solution's result are compared as lists.
      others: values that are right too.
    """

    arguments: tuple[Any, ...]
    expected: Any
    others: tuple[Any, ...] = ()


Test = AssertTest | StdioTest | CallTest


@dataclass(frozen=True)
class Problem:
    """One programming problem.

    Attributes:
      task_id: unique within its source, for example ``mbpp/11``.
      prompt: the statement that the policy reads.
      entry_point: the function that solutions define; ``Solution.method`` for a method of a
        class; ``None`` for a whole program.
      kind: ``"function"`` or ``"stdio"``.
      starter_code: what a solution begins with, for example the function's signature; shown to
        the policy.
      reference_solution: a label; ``None`` where there is none.
      reference_tests: labels too; a solution is right when it passes them all.
      difficulty: the source's own word, may be empty.
      source: where it was read from, for example ``mbpp``.
    """

    task_id: str
    prompt: str
    entry_point: str | None
    kind: Literal["function", "stdio"]
    starter_code: str = ""
    reference_solution: str | None = None
    reference_tests: tuple[Test, ...] = ()
    difficulty: str = ""
    source: str = ""
