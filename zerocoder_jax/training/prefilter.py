"""The offline rank filter: which problems the initial policy can learn anything from.

Once before training, the initial policy samples solutions and tests for every problem, and their
passing matrix is kept. A matrix of rank 0 or 1 tells no two groups of solutions apart, so a problem
is trained on when its rank is at least ``config.prefilter.delta``. Every finished problem is one
line of a JSONL file: an interrupted filter goes on where it stopped, and another delta needs no new
samples. No label is read.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import Status
from zerocoder_jax.problems import Problem, without_labels
from zerocoder_jax.selection import matrix_rank
from zerocoder_jax.storage import say
from zerocoder_jax.training.sampling import (
    Execution,
    ProblemSamples,
    Sampler,
    sampling_settings,
)

FILE_NAME = "prefilter.jsonl"
DELTAS = (0, 1, 2, 3)

# No training step has this number, so that no training sample repeats one of the filter's.
_STEP = 2**32
# Problems whose samples exist at the same time; with 16 samples each, enough for full batches.
_PROBLEMS_AT_ONCE = 256


def prefilter_path(config: Any, workdir: Path) -> Path:
    """Where the result of the filter lies, or will lie."""
    return Path(config.prefilter.path) if config.prefilter.path else workdir / FILE_NAME


def make_prefilter(
    problems: Sequence[Problem],
    sampler: Sampler,
    config: Any,
    path: Path,
    *,
    finished: Callable[[int], None] = lambda count: None,
) -> dict[str, int]:
    """Sample and run every problem that has no line in the file yet, and write its line.

    Args:
      problems: the training set. Labels are taken away before anything is sampled.
      sampler: holds the initial policy.
      path: the file to write, or to go on with.
      finished: called with the number of problems done, after each of them.

    Returns:
      The rank of every problem's matrix, by task id.

    Raises:
      UserError: the file was made by another policy or by other settings of the sampling.
    """
    made_by = origin(config)
    ranks = read_prefilter(path, made_by)
    missing = [without_labels(problem) for problem in problems if problem.task_id not in ranks]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for samples in _executed(missing, sampler, config):
            solution_mask, test_mask = samples.masks()
            rank = matrix_rank(samples.passing[None], solution_mask[None], test_mask[None])
            task_id = samples.problem.task_id
            ranks[task_id] = int(rank[0])
            record = {
                "task_id": task_id,
                "rank": ranks[task_id],
                "statuses": [[Status(status).name for status in row] for row in samples.statuses],
                "origin": made_by,
            }
            file.write(json.dumps(record) + "\n")
            file.flush()
            finished(sum(problem.task_id in ranks for problem in problems))
    return {problem.task_id: ranks[problem.task_id] for problem in problems}


def _executed(
    problems: Sequence[Problem], sampler: Sampler, config: Any
) -> Iterator[ProblemSamples]:
    """The problems with their matrices, sampling and running programs at the same time."""
    counts = (config.rollout.solutions, config.rollout.tests)
    running: deque[Execution] = deque()
    for start in range(0, len(problems), _PROBLEMS_AT_ONCE):
        batch = problems[start : start + _PROBLEMS_AT_ONCE]
        for samples in sampler.replies(batch, counts, step=_STEP):
            running.append(sampler.execute(samples, labelled=False))
            while running and (running[0].matrix.done() or len(running) > _PROBLEMS_AT_ONCE):
                yield running.popleft().wait()
    while running:
        yield running.popleft().wait()


def origin(config: Any) -> dict[str, Any]:
    """What the samples of a filter depend on; two files that differ in it are not one filter."""
    rollout = config.rollout
    return {
        "policy": config.policy.source,
        "seed": config.seed,
        "prompt_style": config.prompt.style,
        "thinking": config.prompt.thinking,
        "asserts_per_test": config.prompt.asserts_per_test,
        "solutions": rollout.solutions,
        "tests": rollout.tests,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": rollout.top_k,
        "max_new_tokens": rollout.max_new_tokens,
    }


def read_prefilter(path: Path, made_by: Mapping[str, Any]) -> dict[str, int]:
    """The ranks by task id that a file holds; none where there is no file.

    Raises:
      UserError: a line that is no record of a filter, or one of another origin.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    # A killed filter may leave half a line at the end; its problem is simply done again.
    whole, _, half = text.rpartition("\n")
    if half:
        write_atomically(path, whole + "\n" if whole else "")
    ranks: dict[str, int] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            task_id, rank, origin_of_line = record["task_id"], record["rank"], record["origin"]
            ranks[task_id] = int(rank)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: no record of a rank filter; remove the file, or name"
                " another one in config.prefilter.path"
            ) from error
        for name, value in made_by.items():
            if origin_of_line.get(name) != value:
                raise UserError(
                    f"{path} was made with {name} = {origin_of_line.get(name)!r}, this run has"
                    f" {value!r}: name another file in config.prefilter.path, or remove this one"
                )
    return ranks


def filtered_problems(
    problems: Sequence[Problem],
    config: Any,
    workdir: Path,
    *,
    say: Callable[[str], None] = say,
) -> list[Problem]:
    """The problems that a run trains on: those that the filter keeps, where there is one.

    ``config.prefilter.make`` makes or completes the filter; otherwise it must be complete, or
    absent altogether.

    Raises:
      UserError: the named file is not there, or it lacks problems, or nothing is kept.
    """
    path = prefilter_path(config, workdir)
    delta = config.prefilter.delta
    if delta == 0:
        return list(problems)
    if config.prefilter.make:
        ranks = make_prefilter_with_initial_policy(problems, config, path, say=say)
    elif path.exists():
        ranks = read_prefilter(path, origin(config))
    elif config.prefilter.path:
        raise UserError(f"config.prefilter.path: there is no file {path}")
    else:
        say(f"no rank filter: all {len(problems)} problems are trained on ({path} is not there)")
        return list(problems)
    lacking = sum(problem.task_id not in ranks for problem in problems)
    if lacking and config.problems.skip_overlong:
        say(f"{path} lacks {lacking} of {len(problems)} problems, left out for their prompts")
        problems = [problem for problem in problems if problem.task_id in ranks]
    elif lacking:
        raise UserError(
            f"{path} lacks {lacking} of {len(problems)} problems: complete it with"
            " launch/prefilter.py, or set config.prefilter.make"
        )
    kept = [problem for problem in problems if ranks[problem.task_id] >= delta]
    if not kept:
        raise UserError(
            f"config.prefilter.delta is {delta}, but no problem's matrix in {path} has that rank"
        )
    say(f"rank filter {path}: {len(kept)} of {len(problems)} problems have rank {delta} or more")
    return kept


def sizes_by_delta(ranks: Mapping[str, int]) -> dict[int, int]:
    """How many problems each delta of the paper's table keeps."""
    values = np.fromiter(ranks.values(), int, len(ranks))
    return {delta: int(np.sum(values >= delta)) for delta in DELTAS}


def make_prefilter_with_initial_policy(
    problems: Sequence[Problem],
    config: Any,
    path: Path,
    *,
    say: Callable[[str], None] = say,
) -> dict[str, int]:
    """Load what ``config`` names, make or complete the filter, and give the memory back."""
    ranks = read_prefilter(path, origin(config))
    if all(problem.task_id in ranks for problem in problems):
        return {problem.task_id: ranks[problem.task_id] for problem in problems}
    if jax.process_count() > 1:
        raise UserError("the rank filter is made on one host: run launch/prefilter.py there first")

    # The rooms below are needed only to make a filter, not to read one.
    from zerocoder_jax.execution import open_pool
    from zerocoder_jax.parallel import make_mesh
    from zerocoder_jax.policy import load_policy
    from zerocoder_jax.rollout import RolloutEngine

    mesh = make_mesh(config.mesh)
    policy = load_policy(config.policy.source, dtype="float32", mesh=mesh)
    bare = policy.with_params({})
    assert bare.tokenizer is not None
    engine = RolloutEngine(bare, sampling_settings(config.rollout), config.rollout, mesh)
    engine.load(policy.params)
    del policy  # the engine has its own copy of the weights, in its own precision
    say(f"rank filter: {len(problems) - len(ranks)} of {len(problems)} problems are to be sampled")
    try:
        with open_pool(config.execution) as pool:
            sampler = Sampler(engine, pool, bare.tokenizer, config)
            sampled = sampler.check_prompts(problems)
            ranks = make_prefilter(
                sampled, sampler, config, path, finished=_report_tenths(len(sampled), say)
            )
            # Left out of the run as well: problems.skip_overlong.
            return dict.fromkeys((problem.task_id for problem in problems), 0) | ranks
    finally:
        engine.release()


def _report_tenths(total: int, say: Callable[[str], None]) -> Callable[[int], None]:
    """Says how far it is at every tenth of the way."""

    def finished(count: int) -> None:
        if count * 10 // total > (count - 1) * 10 // total:
            say(f"rank filter: {count} of {total} problems done")

    return finished
