"""How often each selector is wrong over a run: the paper's drift figure, from what the run left.

A run keeps every solution and every verdict. So each selector can be asked afterwards whom it would
have believed, about the same samples, and the labels, which training never saw, say whether it was
right. Nothing is sampled again; only the solutions that have not been judged yet are run.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import Pool, Status
from zerocoder_jax.problems import Problem
from zerocoder_jax.training.judging import judge
from zerocoder_jax.training.sampling import ProblemSamples, Sample

Record = dict[str, Any]


@dataclass(frozen=True)
class SelectorSettings:
    """One selector, in the form of ``config.selector``."""

    name: str
    codet_weight: str = "sqrt"
    unique: bool = False
    min_confidence: float = 0.0


@dataclass(frozen=True)
class NoisePoint:
    """A selector's record over consecutive steps.

    Attributes:
      step: the last of these steps.
      selector: as the paper calls it.
      noise: share of the selected solutions that fail a reference test; None where every
        selection abstained.
      selected: solutions selected.
      problems: problems judged, and ``abstained`` how many of them without a selection.
    """

    step: int
    selector: str
    noise: float | None
    selected: int
    problems: int
    abstained: int


FIXED_SELECTORS = {
    "MaxPass": (SelectorSettings("max_pass"), (1e4, 1e3)),
    "CodeT": (SelectorSettings("codet"), (1e4, 1e3)),
    "B4(4,3)": (SelectorSettings("b4"), (1e4, 1e3)),
    "B4(5,3)": (SelectorSettings("b4"), (1e5, 1e3)),
}
DYNAMIC = "dynamic B4"


def selection_noise(
    workdir: Path,
    problems: Sequence[Problem],
    pool: Pool,
    *,
    dynamic: bool,
    problems_per_point: int = 300,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[NoisePoint]:
    """Measure every selector over a run.

    Args:
      workdir: the run; ``rollouts/`` is read.
      problems: with their labels; what has no reference tests is left out, as are the problems of
        the calibration, to whose labels dynamic B4 was fitted.
      dynamic: the run calibrated B4 in each step, so its recorded priors are a selector too.
      problems_per_point: steps are put together until a point rests on so many problems.
      on_step: called with the number of judged steps and of all steps.

    Raises:
      UserError: no samples, or no labels for any of them.
    """
    labelled = {problem.task_id: problem for problem in problems if problem.reference_tests}
    steps = list(_steps(workdir, labelled))
    if not any(records for _, records in steps):
        raise UserError(
            f"{workdir}/rollouts holds no problem with reference tests in the run's"
            " config.problems.source, so nothing says which selections were right"
        )
    per_step = max(sum(len(records) for _, records in steps) / len(steps), 1)
    windows = max(round(len(steps) * per_step / problems_per_point), 1)
    verdicts: dict[tuple[str, str], bool | None] = {}
    points, done = [], 0
    for window in np.array_split(np.arange(len(steps)), min(windows, len(steps))):
        tallies: dict[str, _Tally] = {}
        for index in window:
            _, records = steps[index]
            choices = _choices(records, labelled, dynamic)
            _judge_solutions(records, choices, labelled, pool, verdicts)
            for name, choice in choices.items():
                tallies.setdefault(name, _Tally()).count(records, choice, verdicts)
            done += 1
            on_step(done, len(steps))
        last = steps[window[-1]][0]
        points += [tally.point(last, name) for name, tally in tallies.items()]
    return points


def write_selection_noise(workdir: Path, points: Sequence[NoisePoint]) -> Path:
    """Write ``selection_noise.jsonl``, from which the report and the tables read."""
    path = workdir / "selection_noise.jsonl"
    write_atomically(path, (json.dumps(vars(point)) + "\n" for point in points))
    return path


@dataclass
class _Tally:
    wrong: int = 0
    selected: int = 0
    problems: int = 0
    abstained: int = 0

    def count(
        self,
        records: Sequence[Record],
        choice: Sequence[np.ndarray],
        verdicts: dict[tuple[str, str], bool | None],
    ) -> None:
        """Add a step: ``choice`` is [S] bool per problem, what the selector believes."""
        for record, selected in zip(records, choice):
            self.problems += 1
            self.abstained += not selected.any()
            for s in np.flatnonzero(selected):
                correct = verdicts[record["task_id"], record["solutions"][s]["code"]]
                if correct is not None:
                    self.selected += 1
                    self.wrong += not correct

    def point(self, step: int, selector: str) -> NoisePoint:
        noise = self.wrong / self.selected if self.selected else None
        return NoisePoint(step, selector, noise, self.selected, self.problems, self.abstained)


def _steps(workdir: Path, labelled: dict[str, Problem]) -> Iterator[tuple[int, list[Record]]]:
    """(step, its records that can be judged) of every rollout file, ascending."""
    for path in sorted(workdir.glob("rollouts/step_*.jsonl")):
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
        yield (
            int(path.stem.removeprefix("step_")),
            [one for one in records if one["task_id"] in labelled and not one["calibration"]],
        )


def _choices(
    records: Sequence[Record], labelled: dict[str, Problem], dynamic: bool
) -> dict[str, list[np.ndarray]]:
    """Selector -> per problem of a step, [S] bool: the solutions that it believes."""
    if not records:
        return {}
    selectors = dict(FIXED_SELECTORS)
    if dynamic:
        recorded = records[0]["selection"]
        selectors[DYNAMIC] = (SelectorSettings("b4"), (recorded["beta0"], recorded["alpha_xy"]))
    samples = [_samples(record, labelled[record["task_id"]]) for record in records]
    return {
        name: [judged.selected_solutions for judged in judge(samples, hyperparameters, settings)]
        for name, (settings, hyperparameters) in selectors.items()
    }


def _judge_solutions(
    records: Sequence[Record],
    choices: dict[str, list[np.ndarray]],
    labelled: dict[str, Problem],
    pool: Pool,
    verdicts: dict[tuple[str, str], bool | None],
) -> None:
    """Run what some selector believes and has no verdict yet; None where the verifier failed."""
    waiting = []
    for p, record in enumerate(records):
        believed = np.any([choice[p] for choice in choices.values()], axis=0)  # [S]
        codes = dict.fromkeys(record["solutions"][s]["code"] for s in np.flatnonzero(believed))
        new = [code for code in codes if (record["task_id"], code) not in verdicts]
        if new:
            problem = labelled[record["task_id"]]
            waiting.append((problem, new, problem.reference_tests))
    for index, statuses in pool.passing_matrices(waiting, trusted=True):
        problem, judged, _ = waiting[index]
        for code, row in zip(judged, statuses):
            known = not (row == Status.UNAVAILABLE).any()
            passed = bool((row == Status.PASSED).all())
            verdicts[problem.task_id, code] = passed if known else None


def _samples(record: Record, problem: Problem) -> ProblemSamples:
    """A record's samples as the selector saw them; tokens play no part in a selection."""
    statuses = [[Status[name] for name in row] for row in record["statuses"]]
    return ProblemSamples(
        problem,
        prompts=([], []),
        solutions=[_sample(one, one["code"]) for one in record["solutions"]],
        tests=[_sample(one, one["test"]) for one in record["tests"]],
        statuses=np.array(statuses, np.uint8).reshape(
            len(record["solutions"]), len(record["tests"])
        ),
    )


def _sample(record: Record, parsed: Any) -> Sample:
    nothing = np.zeros(0, np.float32)
    tokens = nothing.astype(np.int32)
    return Sample(tokens, nothing, record["finished"], record["reply"], parsed, record["reason"])
