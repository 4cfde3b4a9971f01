"""What a step leaves behind: its metrics, and every sample, verdict, selection and reward.

Metrics are means over the step's problems or samples; ``docs/metrics.md`` explains each name.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.execution import Status
from zerocoder_jax.problems import AssertTest, CallTest, StdioTest, Test
from zerocoder_jax.storage import read_lines
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.sampling import CODER, ROLES, TESTER, Sample


def _mean(values: Iterable[float]) -> float:
    collected = [float(value) for value in values]
    return float(np.mean(collected)) if collected else 0.0


def step_metrics(judged: Sequence[Judged], role: int) -> dict[str, float]:
    """Summarise a step's samples, matrices, selections and rewards.

    Args:
      role: whose turn it is; only that role has rewards.

    Returns:
      Flat metrics; names that do not apply to this turn are absent.
    """
    metrics: dict[str, float] = {}
    rewards = [
        one.rewards[one.reward_mask]
        for one in judged
        if one.rewards is not None and one.reward_mask is not None
    ]
    if rewards:
        metrics[f"{ROLES[role]}/reward"] = _mean(np.concatenate(rewards))
        metrics[f"{ROLES[role]}/reward_spread"] = _mean(r.std() for r in rewards if r.size)
    metrics |= _matrix_metrics(judged)
    metrics |= _selection_metrics(judged)
    metrics |= _reply_metrics(judged)
    if role == TESTER:
        metrics |= _tester_metrics(judged)
    return metrics


def metrics_of_hosts(shares: Sequence[dict[str, float]]) -> dict[str, float]:
    """One figure for the run of what each host measures of itself; a single host's unchanged.

    Runs, tokens, their rate and samples with an advantage add up; ratios of the sampler are
    averaged; of seconds, memory and compiled programs the largest counts, since the hosts wait for
    the slowest.
    """
    names = dict.fromkeys(name for share in shares for name in share)
    combined = {}
    for name in names:
        values = [share[name] for share in shares if name in share]
        if name.startswith(("execution/", "signal/", "rollout/tokens")):
            combined[name] = sum(values)
        elif name in ("rollout/wasted_rows", "rollout/read_ratio", "rollout/overlap"):
            combined[name] = _mean(values)
        else:
            combined[name] = max(values)
    return combined


def _matrix_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    inner = [
        one.samples.passing[np.ix_(one.solution_mask, one.test_mask)]
        for one in judged
        if one.solution_mask.any() and one.test_mask.any()
    ]
    statuses = np.concatenate([one.samples.statuses.ravel() for one in judged])
    counts = np.bincount(statuses, minlength=len(Status))
    metrics = {
        "matrix/pass_rate": _mean(matrix.mean() for matrix in inner),
        "matrix/rank": _mean(one.rank for one in judged),
        # A matrix of rank below 2 tells solutions apart in no useful way.
        "matrix/informative": _mean(one.rank >= 2 for one in judged),
        # Share of solutions that pass at least one test.
        "coder/pass_rate": _mean(one.samples.passing.any(axis=1).mean() for one in judged),
    }
    for status in Status:
        if counts[status]:
            metrics[f"status/{status.name.lower()}"] = counts[status] / max(len(statuses), 1)
    return metrics


def _selection_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    return {
        "selection/abstained": _mean(one.abstained for one in judged),
        "selection/confidence": _mean(one.confidence for one in judged if not one.abstained),
        "selection/solutions": _mean(one.selected_solutions.mean() for one in judged),
        "selection/tests": _mean(one.selected_tests.mean() for one in judged if len(one.test_mask)),
    }


def _reply_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for role in (CODER, TESTER):
        samples = [sample for one in judged for sample in one.samples.of_role(role)]
        if not samples:
            continue
        name = ROLES[role]
        metrics[f"parse/{name}"] = _mean(sample.parsed is not None for sample in samples)
        metrics[f"rollout/length_{name}"] = _mean(len(sample.tokens) for sample in samples)
        metrics[f"rollout/truncated_{name}"] = _mean(not sample.finished for sample in samples)
        refused = Counter(sample.reason for sample in samples if sample.parsed is None)
        for reason, count in refused.items():
            metrics[f"refused/{name}_{reason}"] = count / len(samples)
    return metrics


def _tester_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    agreement, scores, mutants = [], [], []
    for one in judged:
        if one.agrees is None:
            continue
        agreement.append(one.agrees.mean())
        if one.mutation is not None and one.mutation_score is not None:
            scores.append((one.mutation_score * one.agrees).mean())
            mutants.append(len(one.mutation.mutants))
    metrics = {"tester/agreement": _mean(agreement)} | _originality_metrics(judged)
    if mutants:
        metrics |= {"tester/mutation": _mean(scores), "tester/mutants": _mean(mutants)}
    return metrics


def _originality_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    """How many tests copy an example of their statement, or each other, and how the others do."""
    copied, distinct, agreement = [], [], []
    for one in judged:
        tests = one.samples.tests
        parsed = [test for test in tests if test.parsed is not None]
        copied += [test.copied for test in parsed]
        if parsed:
            kinds = {json.dumps(test_record(test.parsed), default=str) for test in parsed}
            distinct.append(len(kinds) / len(parsed))
        own = np.array([not test.copied for test in tests], bool)
        if one.agrees is not None and own.any():
            agreement.append(one.agrees[own].mean())
    metrics = {"tester/copied": _mean(copied), "tester/distinct": _mean(distinct)}
    return metrics | ({"tester/agreement_own": _mean(agreement)} if agreement else {})


def test_record(test: Test | None) -> dict[str, Any] | None:
    """A test as plain JSON data."""
    match test:
        case None:
            return None
        case AssertTest():
            return {"kind": "assert", "code": test.code}
        case StdioTest():
            return {"kind": "stdio", "stdin": test.stdin, "stdout": test.stdout}
        case CallTest():
            return {"kind": "call", "arguments": test.arguments, "expected": test.expected}


def _sample_record(sample: Sample) -> dict[str, Any]:
    return {
        "reply": sample.reply,
        "reason": sample.reason,
        "tokens": len(sample.tokens),
        "finished": sample.finished,
    }


def problem_record(
    one: Judged, step: int, role: int, selector: str, hyperparameters: tuple[float, float]
) -> dict[str, Any]:
    """One line of a step's rollout file."""
    problem = one.samples.problem

    def reward(of_role: int, index: int) -> float | None:
        if of_role != role or one.rewards is None or one.reward_mask is None:
            return None
        return float(one.rewards[index]) if one.reward_mask[index] else None

    solutions = [
        _sample_record(sample)
        | {
            "code": sample.parsed,
            "selected": bool(one.selected_solutions[i]),
            "reward": reward(CODER, i),
        }
        for i, sample in enumerate(one.samples.solutions)
    ]
    tests = [
        _sample_record(sample)
        | {
            "test": test_record(sample.parsed),
            "selected": bool(one.selected_tests[j]),
            "agrees": None if one.agrees is None else bool(one.agrees[j]),
            "mutation": None if one.mutation_score is None else float(one.mutation_score[j]),
            "reward": reward(TESTER, j),
        }
        for j, sample in enumerate(one.samples.tests)
    ]
    beta0, alpha_xy = hyperparameters
    return {
        "step": step,
        "role": ROLES[role],
        "task_id": problem.task_id,
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "kind": problem.kind,
        "calibration": one.calibration,
        "supervised": one.supervised,
        "solutions": solutions,
        "tests": tests,
        "statuses": [[Status(s).name for s in row] for row in one.samples.statuses],
        "rank": one.rank,
        "selection": {
            "name": selector,
            "beta0": beta0,
            "alpha_xy": alpha_xy,
            "score": one.score,
            "confidence": one.confidence,
            "abstained": one.abstained,
        },
        "proxy": one.proxy,
        "mutants": _mutant_records(one),
    }


def _mutant_records(one: Judged) -> list[dict[str, Any]]:
    if one.mutation is None:
        return []
    killed = one.mutation.killed  # [M, T]
    survived = (one.mutation.original == Status.PASSED) & one.mutation.valid & ~killed
    return [
        {
            "code": code,
            "killed_by": np.flatnonzero(killed[m]).tolist(),
            "surviving_of": np.flatnonzero(survived[m]).tolist(),
        }
        for m, code in enumerate(one.mutation.mutants)
    ]


def set_aside_from(workdir: Path, first_step: int) -> Path:
    """Before a run is rolled back: move what its later steps left into a folder of its own.

    Returns:
      ``workdir/rolled_back/N``, with ``metrics.jsonl`` (the lines from ``first_step`` on),
      ``rollouts/``, ``evaluation/`` and ``summary.json``.
    """
    earlier = workdir / "rolled_back"
    number = len(list(earlier.iterdir())) if earlier.is_dir() else 0
    folder = earlier / str(number)
    folder.mkdir(parents=True)
    lines = [line for line in read_lines(workdir / "metrics.jsonl") if line["step"] >= first_step]
    write_atomically(folder / "metrics.jsonl", (json.dumps(line) + "\n" for line in lines))
    for path in _left_from(workdir, first_step):
        kept = folder / path.relative_to(workdir)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
    return folder


def forget_steps_from(workdir: Path, first_step: int) -> None:
    """Remove what a run left of the steps that are made anew, and of the policies after them.

    ``rollouts/step_*.jsonl``, ``evaluation/step_*/`` and ``summary.json``; an evaluation of the
    policy that the first step starts from stays.
    """
    for path in _left_from(workdir, first_step):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _left_from(workdir: Path, first_step: int) -> list[Path]:
    rollouts = (workdir / "rollouts").glob("step_*.jsonl")
    evaluations = (workdir / "evaluation").glob("step_*")
    summary = workdir / "summary.json"
    return [
        *(path for path in rollouts if _step_of(path) >= first_step),
        *(path for path in evaluations if _step_of(path) > first_step),
        *([summary] if summary.exists() else []),
    ]


def missing_steps(workdir: Path, first_step: int) -> list[str]:
    """What a run that continues at ``first_step`` lacks of the steps before, for example
    ``["metrics.jsonl lacks steps 4 to 7", "rollouts/ lacks step 3"]``."""
    measured = {line.get("step") for line in read_lines(workdir / "metrics.jsonl")}
    sampled = {_step_of(path) for path in (workdir / "rollouts").glob("step_*.jsonl")}
    earlier = range(first_step)
    return [
        f"{name} lacks {_ranges(missing)}"
        for name, there in (("metrics.jsonl", measured), ("rollouts/", sampled))
        if (missing := [step for step in earlier if step not in there])
    ]


def _ranges(steps: Sequence[int]) -> str:
    """``"step 3"``, ``"steps 1, 4 to 7"`` of ascending numbers."""
    ranges: list[list[int]] = []
    for step in steps:
        if ranges and step == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], step]
        else:
            ranges.append([step])
    texts = [str(one[0]) if len(one) == 1 else f"{one[0]} to {one[1]}" for one in ranges]
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(texts)}"


def _step_of(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    return int(number) if number.isdecimal() else -1


def write_rollouts(workdir: Path, step: int, records: Sequence[dict[str, Any]]) -> Path:
    """Write a step's file whole or not at all; ``pandas.read_json(path, lines=True)`` reads it."""
    folder = workdir / "rollouts"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:06d}.jsonl"
    # Replies may hold lone surrogates, which are no UTF-8: JSON's escapes keep them.
    write_atomically(path, (json.dumps(record, ensure_ascii=True) + "\n" for record in records))
    return path
