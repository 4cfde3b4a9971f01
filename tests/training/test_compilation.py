"""Nothing is compiled after the first step of a run, whatever later steps draw and sample."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.evaluation import training_evaluation
from zerocoder_jax.problems import Problem, read_problems
from zerocoder_jax.training.coevolution import CoEvolution
from zerocoder_jax.training.problem_order import problems_of_step

Counted = Callable[[], AbstractContextManager[list[dict]]]

STEPS, PER_STEP = 4, 2
SMALL = (
    f"--config.steps={STEPS}",
    f"--config.problems.per_step={PER_STEP}",
    # Unequal, so that the Tester's first turn has other shapes than the Coder's.
    "--config.rollout.solutions=2",
    "--config.rollout.tests=3",
    "--config.rollout.max_new_tokens=16",
    "--config.rollout.max_prompt_tokens=512",
    "--config.training.length_buckets=(64, 160, 544)",
    "--config.checkpoint.every=1",
    "--config.execution.workers=2",
    "--config.mutation.limit=2",
    "--config.logging.report_every=0",
)
EVALUATED = (
    "--config.evaluation.benchmarks=toy:test",
    "--config.evaluation.limit=12",
    "--config.evaluation.every=2",
    # Longer than a step's replies: an engine that knew of the steps alone would be too small.
    "--config.evaluation.max_new_tokens=160",
)


class Killed(Exception):
    """Stands for the end of a process between two steps."""


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    """Those of each step have prompts twice as long as those of the step before."""
    plain = list(read_problems("toy:train", limit=STEPS * PER_STEP))
    lengthened = {}
    for step in range(STEPS):
        filler = " Add these numbers up." * (5 * (2**step - 1))
        for problem in problems_of_step(plain, step, PER_STEP, seed=0):
            lengthened[problem.task_id] = dataclasses.replace(
                problem, prompt=problem.prompt + filler
            )
    assert len(lengthened) == len(plain)
    return [lengthened[problem.task_id] for problem in plain]


def train(
    config: Any,
    workdir: Path,
    problems: list[Problem],
    counted_compilations: Counted,
    kill_after: int | None = None,
) -> CoEvolution:
    """Start a run or go on with it; nothing may be compiled after the first step from here."""
    finished: list[int] = []

    def after_step(step: int) -> None:
        if not finished:
            compiled.clear()
        finished.append(step)
        if step == kill_after:
            raise Killed

    run = CoEvolution(
        config,
        workdir,
        problems,
        evaluate=training_evaluation(config, workdir),
        after_step=after_step,
    )
    with counted_compilations() as compiled:
        with pytest.raises(Killed) if kill_after is not None else contextlib.nullcontext():
            run.run()
    assert len(finished) >= 2
    assert compiled == []
    return run


def test_a_run_over_prompts_of_very_unequal_lengths_compiles_nothing_after_its_first_step(
    repository: Path, tmp_path: Path, problems: list[Problem], counted_compilations: Counted
) -> None:
    config = load_config(f"{repository}/configs/toy.py", [*SMALL, *EVALUATED])
    train(config, tmp_path, problems, counted_compilations, kill_after=1)
    # A run that goes on has its first evaluation after its first step.
    run = train(config, tmp_path, problems, counted_compilations)
    lengths = {len(run._sampler.prompt(one, role)[0]) for one in problems for role in (0, 1)}
    assert min(lengths) < 64 and max(lengths) > 256
    # Beside these: two that lay out weights for sampling, and the empty cache.
    assert len(run._engine._programs) + len(run._update._table) + 3 <= 24

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    for line in lines[:STEPS]:
        assert line["rollout/recompilations"] == line["policy/recompilations"] == 0
    # Each start compiles once, and says what it cost.
    compilation = [line.get("seconds/compilation", 0) for line in lines[:STEPS]]
    assert [seconds > 0 for seconds in compilation] == [True, False, True, False]
    assert all(line["seconds/total"] >= c for line, c in zip(lines, compilation))


def test_nor_do_several_updates_a_step_with_a_reference(
    repository: Path, tmp_path: Path, problems: list[Problem], counted_compilations: Counted
) -> None:
    several = ["--config.grpo.kl_coefficient=0.001", "--config.grpo.minibatches=2"]
    several += ["--config.evaluation.benchmarks="]
    config = load_config(f"{repository}/configs/toy.py", [*SMALL, *several])
    train(config, tmp_path, problems, counted_compilations)


KEEPS = """
import jax, jax.numpy as jnp
from zerocoder_jax.parallel import keep_compiled_programs
print(keep_compiled_programs())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
read = []
jax.monitoring.register_event_listener(lambda event, **_: read.append(event))
jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)(jnp.ones((64, 32))).block_until_ready()
print("/jax/compilation_cache/cache_hits" in read)
"""


def test_a_second_process_reads_the_first_ones_programs_unless_that_is_turned_off(
    tmp_path: Path,
) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
    } | {"XDG_CACHE_HOME": str(tmp_path)}

    def start(**extra: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", KEEPS],
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert start(ZEROCODER_COMPILATION_CACHE="off") == ["None", "False"]
    assert not list(tmp_path.iterdir())
    folder, read = start()
    assert folder.startswith(str(tmp_path / "zerocoder_jax" / "compiled")) and read == "False"
    assert start() == [folder, "True"]
    (tmp_path / "file").write_text("no directory")
    assert start(XDG_CACHE_HOME=str(tmp_path / "file")) == ["None", "False"]
