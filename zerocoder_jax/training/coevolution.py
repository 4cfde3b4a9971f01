"""The co-evolution loop: draw, roll out, execute, select, reward, update, record.

One policy plays both roles. Each step samples solutions and tests, runs every solution against
every test, finds the consensus, rewards the role whose turn it is and updates the policy by GRPO
(arXiv 2604.07864). ``CoEvolution._step`` is that sentence as code; each of its stations is one
file of this package.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from zerocoder_jax.command_line import make_folder, write_config_json
from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import Pool, open_pool
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.parallel.hosts import exchange, folder_of_host, lost_host_named, own_share
from zerocoder_jax.policy import load_policy
from zerocoder_jax.policy.loading import refuse_non_finite
from zerocoder_jax.problems import Problem, Test, without_labels
from zerocoder_jax.rollout import Demand, RolloutEngine
from zerocoder_jax.storage import keep_trying, warn
from zerocoder_jax.training.assignment import (
    reward_solutions,
    reward_tests,
    signal_metrics,
    training_sequences,
    treat_truncated,
)
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.compilation import compile_ahead
from zerocoder_jax.training.health import Health, Unhealthy
from zerocoder_jax.training.judging import Judged, calibrate, judge
from zerocoder_jax.training.memory import memory_metrics, return_freed_memory
from zerocoder_jax.training.metrics import MetricWriters, Progress
from zerocoder_jax.training.offline_tests import offline_tests
from zerocoder_jax.training.origin import problems_digest, weights_digest
from zerocoder_jax.training.phases import PhaseClock, StopRequested, stop_on_signals
from zerocoder_jax.training.problem_order import (
    drawn_problems,
    problems_of_step,
    require_labels,
    take_calibration_set,
)
from zerocoder_jax.training.records import (
    forget_steps_from,
    metrics_of_hosts,
    missing_steps,
    problem_record,
    set_aside_from,
    step_metrics,
    write_rollouts,
)
from zerocoder_jax.training.rewards import tester_weight
from zerocoder_jax.training.run_lock import RunLock
from zerocoder_jax.training.run_log import RunLog
from zerocoder_jax.training.sampling import (
    CODER,
    ROLES,
    TESTER,
    Execution,
    ProblemSamples,
    Sampler,
    fixed_test,
    sampling_settings,
    seconds_in_execution,
)
from zerocoder_jax.training.update import PolicyUpdate, TrainState


class Evaluate(Protocol):
    """Measures the policy during a run."""

    def __call__(self, done: int, engine: RolloutEngine, pool: Pool) -> dict[str, float]:
        """``evaluation/...`` metrics after ``done`` updates of the policy loaded in the engine."""

    def demand(self, sampler: Sampler) -> Demand:
        """What it will ask of the engine."""


def role_of_step(step: int, method: str) -> int:
    """Whose turn it is: the Coder's on even steps, the Tester's on odd; baselines: the Coder's."""
    return CODER if method != "coevolution" or step % 2 == 0 else TESTER


class CoEvolution:
    """One training run in one working directory; a started run is continued.

    Args:
      config: as ``configs/base.py`` describes it.
      workdir: the run directory.
      problems: the training problems, filtered already. Their labels are taken away unless the
        config asks for supervision; the calibration set keeps its own.
      evaluate: measures the policy where ``config.evaluation`` asks for it.
      after_step: called with each finished step, for example to rewrite the report.
      lock: of ``workdir``, where the caller holds it already.
      step: roll back to the checkpoint after this number of steps, or to the ``"best"`` one; what
        came after it is put aside. The newest by default.
      accept_changes: continue with other values of fields that change what is learned.
    """

    def __init__(
        self,
        config: Any,
        workdir: Path,
        problems: Sequence[Problem],
        *,
        evaluate: Evaluate | None = None,
        after_step: Callable[[int], None] = lambda step: None,
        lock: RunLock | None = None,
        step: int | str | None = None,
        accept_changes: bool = False,
    ):
        self._config = config
        self._workdir = workdir
        self._evaluate = evaluate
        self._after_step = after_step
        self._held_lock = lock
        self._roll_back_to = step
        self._accept_changes = accept_changes
        self._calibration: list[Problem] = []
        self._problems = list(problems)
        if config.selector.calibration.enabled or config.supervision == "calibration":
            self._calibration, self._problems = take_calibration_set(
                problems, config.selector.calibration.problems, config.seed
            )
        if config.supervision == "oracle":
            require_labels(self._problems)
        self._problems_digest = problems_digest([*self._calibration, *self._problems])
        if config.supervision != "oracle":
            # Not a matter of trust: from here on a training problem has no labels to read.
            self._problems = [without_labels(problem) for problem in self._problems]
        if drawn_problems(config) < jax.process_count():
            raise UserError(
                f"config.problems.per_step draws {drawn_problems(config)} problems, but there are"
                f" {jax.process_count()} hosts: give each of them at least one problem a step"
            )
        # Every host writes the figures of the whole run.
        self._outputs = folder_of_host(workdir)
        self._hyperparameters = (config.selector.beta0, config.selector.alpha_xy)
        self._offline_tests: dict[str, list[Test | None]] | None = None
        self._saved = 0
        self._health = Health(config.health)
        self._drawn_per_step = drawn_problems(config)
        problems_of_step(self._problems, 0, self._drawn_per_step, config.seed)

    # ---- the run -------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until ``config.steps``, from the start or from a checkpoint.

        Raises:
          Interrupted: a signal came; everything up to the last finished step is saved.
          UserError: another process writes this run, the config or the problems are others than
            before, something cannot be written.
        """
        make_folder(self._workdir, "--workdir")
        self._log = RunLog(self._outputs, self._config.logging)
        with contextlib.ExitStack() as stack:
            self._lock = self._held_lock or stack.enter_context(RunLock(self._workdir))
            self._stop = stack.enter_context(stop_on_signals())
            try:
                self._run(stack)
            except StopRequested as stop:
                interruption = self._stop.interruption(self._saved)
                self._log.stopped(self._saved, interruption)
                raise interruption from stop
            except BaseException as error:
                self._log.stopped(self._saved, error)
                raise
        self._log.stopped(self._saved, None)

    def _run(self, stack: contextlib.ExitStack) -> None:
        config = self._config
        with self._stop.interruptible():  # nothing is unsaved yet
            mesh = make_mesh(config.mesh)
            policy = load_policy(config.policy.source, dtype="float32", mesh=mesh)
            self._update = PolicyUpdate(policy, config, mesh)
            self._weights_digest = weights_digest(policy.params, self._update.programs.whole)
            self._state: TrainState = self._update.init(policy.params)
            # The state owns the weights from here on; a second reference would keep them alive.
            policy = policy.with_params({})
            self._pool = open_pool(config.execution)
            stack.callback(self._pool.close)
            checkpoints = stack.enter_context(
                Checkpoints(
                    self._workdir / "checkpoints", config, accept_changes=self._accept_changes
                )
            )
            self._engine = RolloutEngine(
                policy,
                sampling_settings(config.rollout),
                config.rollout,
                mesh,
                self._update.programs.lora,
            )
            if policy.tokenizer is None:
                raise UserError(f"config.policy.source={config.policy.source} has no tokenizer")
            self._sampler = Sampler(self._engine, self._pool, policy.tokenizer, config)
            self._check_prompts()
            first = self._restore(checkpoints)
        self._begin_writing(first, checkpoints)
        with (
            MetricWriters(self._outputs, config, first_step=first) as writers,
            Progress(config.steps, first_step=first) as progress,
        ):
            self._train(first, checkpoints, writers, progress)

    def _check_prompts(self) -> None:
        """Refuse, or leave out, problems whose prompts are too long."""
        problems = [*self._calibration, *self._problems]
        kept = {problem.task_id for problem in self._sampler.check_prompts(problems)}
        if len(kept) < len(problems):
            self._calibration = [one for one in self._calibration if one.task_id in kept]
            self._problems = [one for one in self._problems if one.task_id in kept]
            problems_of_step(self._problems, 0, self._drawn_per_step, self._config.seed)
            self._log.event("overlong", left_out=len(problems) - len(kept))

    def _restore(self, checkpoints: Checkpoints) -> int:
        """Continue where a whole checkpoint ends; returns the step to do next."""
        restored = checkpoints.restore(self._state, self._roll_back_to)
        if restored is None:
            return 0
        self._state, meta = restored
        if meta["problems"] != self._problems_digest:
            raise UserError(
                f"{self._workdir} was trained on other problems than config.problems and "
                "config.prefilter give now: a file has changed, or a rank filter has appeared or "
                "gone; restore it, or choose another --workdir"
            )
        if meta["weights"] != self._weights_digest:
            raise UserError(
                f"{self._workdir} was started from other weights than config.policy.source="
                f"{self._config.policy.source} holds: name those, or choose another --workdir"
            )
        self._hyperparameters = (meta["beta0"], meta["alpha_xy"])
        self._saved = int(meta["step"])
        return self._saved

    def _begin_writing(self, first: int, checkpoints: Checkpoints) -> None:
        """Only now: a run that is refused finds its directory as it was."""
        config = self._config
        rolled_back = self._roll_back_to is not None
        if rolled_back:
            folder = set_aside_from(self._outputs, first)
            if jax.process_index() == 0:
                checkpoints.set_aside_after(first, folder / "checkpoints")
            warn(f"rolled back to step {first}: what came after it lies in {folder}")
        write_config_json(self._workdir, config)
        if first < config.steps:
            forget_steps_from(self._outputs, first)
        changed = [str(change) for change in checkpoints.changed]
        missing = missing_steps(self._outputs, first)
        for line in missing:
            warn(f"{self._outputs}: {line}, although the run has come to step {first}")
        self._log.started(
            first,
            config.steps,
            changed=changed,
            missing=missing,
            rolled_back=rolled_back,
            verifier=self._pool.isolation_notes,
        )

    def _train(
        self, first: int, checkpoints: Checkpoints, writers: MetricWriters, progress: Progress
    ) -> None:
        config = self._config
        with self._stop.interruptible():
            if config.method == "offline":
                self._offline_tests = offline_tests(
                    [*self._calibration, *self._problems],
                    self._load_sampler,
                    self._workdir,
                    max_new_tokens=config.rollout.max_new_tokens,
                    may_write=first == 0,
                )
            compilation = self._compile(progress) if first < config.steps else 0.0
            # An evaluation belongs to the line of the step that starts from the evaluated policy;
            # the last one, which no step starts from, has a line of its own.
            evaluation = self._evaluation(first, progress)
        finished, saving = first, 0.0
        try:
            for step in range(first, config.steps):
                self._log.step = step
                metrics = self._step(step, progress)
                before = {"compilation": compilation if step == first else 0.0, "saving": saving}
                for name, seconds in before.items():
                    if seconds:
                        metrics[f"seconds/{name}"] = seconds
                        metrics["seconds/total"] += seconds
                self._lock.check()
                writers.write(step, evaluation | metrics)
                self._log.incidents(metrics)
                finished = step + 1
                with self._stop.interruptible():
                    evaluation = self._evaluation(finished, progress)
                saving = self._save_if_due(checkpoints, finished, evaluation, progress)
                progress.finish(step, metrics)
                self._after_step(step)
                if finished < config.steps:
                    self._health.observe(step, metrics)
        except (StopRequested, Unhealthy):
            if finished > self._saved:
                progress.phase("saving")
                self._save(checkpoints, finished, {}, finish=True)
            raise
        if evaluation:
            saved = {"seconds/saving": saving} if saving else {}
            writers.write(config.steps, evaluation | saved)

    def _save_if_due(
        self,
        checkpoints: Checkpoints,
        done: int,
        evaluation: dict[str, float],
        progress: Progress,
    ) -> float:
        """Save where the config asks for it, and at the end; the seconds that the slowest host
        waited."""
        last = done == self._config.steps
        if not last and done % self._config.checkpoint.every != 0:
            return 0.0
        progress.phase("saving")
        self._log.beat("saving")
        began = time.perf_counter()
        self._save(checkpoints, done, evaluation, finish=last)
        return max(exchange(time.perf_counter() - began))

    def _compile(self, progress: Progress) -> float:
        """Compile what any step of this run can need; the seconds of the slowest host."""
        progress.phase("compilation")
        self._log.beat("compilation")
        config = self._config
        drawn = own_share(range(self._drawn_per_step))
        steps = self._sampler.demand(
            [*self._calibration, *self._problems],
            self._counts,
            at_once=len(drawn) + len(own_share(self._calibration)),
            max_new_tokens=config.rollout.max_new_tokens,
        )
        evaluation = self._evaluate.demand(self._sampler) if self._evaluate else None
        seconds = compile_ahead(self._engine, self._update, steps, evaluation)
        # Compilers leave much of it in the heaps of their threads.
        return_freed_memory()
        return max(exchange(seconds))

    def _save(
        self, checkpoints: Checkpoints, done: int, metrics: dict[str, float], *, finish: bool
    ) -> None:
        self._lock.check()
        beta0, alpha_xy = self._hyperparameters
        meta = {
            "step": done,
            "beta0": beta0,
            "alpha_xy": alpha_xy,
            "problems": self._problems_digest,
            "weights": self._weights_digest,
        }
        # Checkpoints from before stay: from this one no run can continue.
        refuse_non_finite(self._state, f"{self._workdir}: the state after {done} steps")
        score = checkpoints.save(done, self._state, meta, metrics=metrics, finish=finish)
        self._saved = done
        self._log.event("checkpoint", step=done, score=score)
        return_freed_memory()

    def _station(self, name: str, progress: Progress) -> None:
        """Show where the step is; leave here, before anything changed, if a signal came."""
        progress.phase(name)
        self._log.beat(name)
        self._stop.check()

    # ---- one step ------------------------------------------------------------------------------

    def _step(self, step: int, progress: Progress) -> dict[str, float]:
        config, clock = self._config, PhaseClock()
        role = role_of_step(step, config.method)

        drawn = own_share(problems_of_step(self._problems, step, self._drawn_per_step, config.seed))

        runs_before = dict(self._pool.statistics)
        self._station("rollout", progress)
        with clock.phase("rollout"), self._stop.interruptible():
            executions = self._roll_out(drawn + own_share(self._calibration), step)
            rollout_metrics = self._engine.statistics.metrics()
        overlap = seconds_in_execution(executions, until=time.perf_counter())
        rollout_metrics["rollout/overlap"] = overlap / clock.seconds["rollout"]

        self._station("execution", progress)
        with clock.phase("execution"), self._stop.interruptible():
            samples = [execution.wait() for execution in executions]

        self._station("selection", progress)
        with clock.phase("calibration"):
            hyperparameters, calibration_metrics = self._calibrate(samples[len(drawn) :])
        with clock.phase("selection"):
            judged = self._judge(samples, len(drawn), hyperparameters)

        phase = "mutation" if role == TESTER and config.reward.mutation else "rewards"
        self._station(phase, progress)
        weight = 0.0  # without the mutation term agreement counts whole, in both forms
        if config.reward.mutation:
            weight = tester_weight(
                step / config.steps, config.reward.curriculum_low, config.reward.curriculum_high
            )
        rewarded = judged if config.supervision == "calibration" else judged[: len(drawn)]
        with clock.phase(phase):
            if role == CODER:
                reward_solutions(rewarded, config)
            else:
                reward_tests(rewarded, self._pool, config, step=step, weight=weight)
            treat_truncated(rewarded, role, config)

        self._station("training", progress)
        with clock.phase("training"):
            sequences = training_sequences(rewarded, role, config)
            with lost_host_named():
                self._state, update_metrics = self._update(self._state, sequences)
            return_freed_memory()
            self._hyperparameters = hyperparameters

        execution_metrics = {
            f"execution/{name}": count - runs_before[name]
            for name, count in self._pool.statistics.items()
        }
        with clock.phase("recording"):
            everywhere = [one for share in exchange(judged) for one in share]
            records = [
                problem_record(one, step, role, config.selector.name, hyperparameters)
                for one in everywhere
            ]
            self._lock.check()
            keep_trying(
                lambda: write_rollouts(self._outputs, step, records), self._outputs / "rollouts"
            )
        own = execution_metrics | rollout_metrics | clock.metrics() | memory_metrics()
        own |= signal_metrics(sequences)
        beta0, alpha_xy = hyperparameters
        metrics = {"selection/beta0": beta0, "selection/alpha_xy": alpha_xy}
        metrics |= step_metrics([one for one in everywhere if not one.calibration], role)
        metrics |= metrics_of_hosts(exchange(own)) | calibration_metrics | update_metrics
        if role == TESTER:
            metrics["tester/weight"] = weight
        names = {"role": ROLES[role], "isolation": self._pool.isolation}
        return names | {"total_steps": config.steps} | metrics

    @property
    def _counts(self) -> tuple[int, int]:
        """Solutions and tests that a step samples for each problem."""
        rollout = self._config.rollout
        return (rollout.solutions, 0 if self._offline_tests is not None else rollout.tests)

    def _roll_out(self, problems: Sequence[Problem], step: int) -> list[Execution]:
        """Sample every problem and queue its runs; executions come in the problems' order."""
        config = self._config
        calibration = {problem.task_id for problem in self._calibration}
        executions: dict[str, Execution] = {}
        self._load_engine()
        try:
            for samples in self._sampler.replies(problems, self._counts, step=step):
                task_id = samples.problem.task_id
                if self._offline_tests is not None:
                    samples.tests = [fixed_test(test) for test in self._offline_tests[task_id]]
                labelled = config.supervision == "oracle" or task_id in calibration
                executions[task_id] = self._sampler.execute(samples, labelled=labelled)
        finally:
            # The update needs the memory; the next step loads the new weights.
            self._engine.release()
            return_freed_memory()
        return [executions[problem.task_id] for problem in problems]

    def _calibrate(
        self, labelled: Sequence[ProblemSamples]
    ) -> tuple[tuple[float, float], dict[str, float]]:
        """B4's hyperparameters of this step and how right they are; dynamic B4 only."""
        if not self._config.selector.calibration.enabled:
            return self._hyperparameters, {}
        everywhere = [one for share in exchange(list(labelled)) for one in share]
        calibration = calibrate(everywhere, self._hyperparameters, self._config.selector)
        chosen = (calibration.beta0, calibration.alpha_xy)
        return chosen, {"calibration/score": float(np.max(calibration.scores))}

    def _judge(
        self,
        samples: Sequence[ProblemSamples],
        drawn: int,
        hyperparameters: tuple[float, float],
    ) -> list[Judged]:
        config = self._config
        judged = judge(samples, hyperparameters, config.selector)
        for i, one in enumerate(judged):
            one.calibration = i >= drawn
            one.supervised = config.supervision == "oracle" or (
                config.supervision == "calibration" and one.calibration
            )
        return judged

    # ---- the policy between updates --------------------------------------------------------------

    def _load_engine(self) -> None:
        self._engine.load(*self._update.weights_and_adapters(self._state))

    def _load_sampler(self) -> Sampler:
        self._load_engine()
        return self._sampler

    def _evaluation(self, done: int, progress: Progress) -> dict[str, float]:
        """Measure the policy after ``done`` updates where the config asks for it, else nothing."""
        every, last = self._config.evaluation.every, self._config.steps
        due = done in (0, last) or (every > 0 and done % every == 0)
        if self._evaluate is None or not due:
            return {}
        progress.phase("evaluation")
        self._log.beat("evaluation")
        self._load_engine()
        try:
            return self._evaluate(done, self._engine, self._pool)
        finally:
            self._engine.release()
            return_freed_memory()
