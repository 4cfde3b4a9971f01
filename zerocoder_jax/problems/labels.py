"""Problems whose labels cannot be read: the proof that a label-free run reads none."""

from typing import Any

from zerocoder_jax.problems.problem import Problem, Test

_PLAIN = ("task_id", "prompt", "entry_point", "kind", "starter_code", "difficulty", "source")


class LabelsTouched(RuntimeError):
    """Something read a reference solution or a reference test where it must not."""


class UnlabelledProblem(Problem):
    """A problem that raises ``LabelsTouched`` when one of its labels is read.

    Printing, comparing, hashing and pickling it work and leave the labels alone.
    """

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)  # the base is frozen, and would want the labels

    @property
    def reference_solution(self) -> str | None:  # type: ignore[override]
        raise LabelsTouched(f"{self.task_id}: reference_solution was read in a run without labels")

    @property
    def reference_tests(self) -> tuple[Test, ...]:  # type: ignore[override]
        raise LabelsTouched(f"{self.task_id}: reference_tests were read in a run without labels")

    def _plain(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _PLAIN)

    def __repr__(self) -> str:
        return f"UnlabelledProblem(task_id={self.task_id!r}, entry_point={self.entry_point!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnlabelledProblem) and self._plain() == other._plain()

    def __hash__(self) -> int:
        return hash(self._plain())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (dict(zip(_PLAIN, self._plain(), strict=True)),)


def _rebuild(fields: dict[str, Any]) -> UnlabelledProblem:
    return UnlabelledProblem(**fields)


def without_labels(problem: Problem) -> UnlabelledProblem:
    """The same problem without its labels; reading one raises ``LabelsTouched``."""
    return UnlabelledProblem(**{name: getattr(problem, name) for name in _PLAIN})
