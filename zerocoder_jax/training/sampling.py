"""The first half of a step: sample both roles for a set of problems and run the results.

Replies stream out of the engine as they finish; a problem whose last reply has arrived goes to the
execution pool at once, so the pool works while the rest is still being decoded.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import Pool, Status
from zerocoder_jax.policy.tokenizer import ChatTokenizer
from zerocoder_jax.problems import (
    Problem,
    Test,
    begun_reply,
    coder_prompt,
    is_copied,
    parse_solution,
    parse_test,
    tester_prompt,
    without_thought,
)
from zerocoder_jax.rollout import (
    Demand,
    Rollout,
    RolloutEngine,
    SamplingSettings,
    sample_key,
    shared_prefixes,
)
from zerocoder_jax.training.problem_order import problem_number

_log = logging.getLogger(__name__)

CODER, TESTER = 0, 1
ROLES = ("coder", "tester")
# Why a test that was run is none after all; the reasons of parsing are in ``problems``.
VACUOUS = "vacuous"


def sampling_settings(rollout: Any) -> SamplingSettings:
    """How training samples, from ``config.rollout``."""
    return SamplingSettings(
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        max_new_tokens=rollout.max_new_tokens,
    )


@dataclass
class Sample:
    """One reply of one role.

    Attributes:
      tokens: [n] int32, the response, its stop token included.
      log_probs: [n] float32, at the sampling temperature with nothing truncated.
      finished: False where the reply was cut at the limit of new tokens.
      reply: the response as text.
      parsed: a solution's source or a test; None where the reply holds none.
      reason: why nothing was parsed; empty where something was.
      copied: a test whose input is an example of the statement.
    """

    tokens: np.ndarray
    log_probs: np.ndarray
    finished: bool
    reply: str
    parsed: Any
    reason: str
    copied: bool = False


@dataclass
class ProblemSamples:
    """A problem with its S solutions and T tests, and what came of running them.

    Attributes:
      prompts: token ids of the Coder's and of the Tester's prompt.
      statuses: [S, T] uint8 of ``Status``.
      correct: [S] bool, passes every reference test; None where no label was asked for.
      undecided: [S] bool, the verifier failed on a reference test and no other one speaks against
        the solution, so that it is neither right nor wrong; None likewise.
    """

    problem: Problem
    prompts: tuple[list[int], list[int]]
    solutions: list[Sample] = field(default_factory=list)
    tests: list[Sample] = field(default_factory=list)
    statuses: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    correct: np.ndarray | None = None
    undecided: np.ndarray | None = None

    @property
    def passing(self) -> np.ndarray:
        """[S, T] bool, the passing matrix."""
        return self.statuses == Status.PASSED

    def of_role(self, role: int) -> list[Sample]:
        return self.solutions if role == CODER else self.tests

    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """Which solutions [S] and tests [T] take part in the selection.

        Unparsable ones do not. Where the verifier failed (``UNAVAILABLE``, after its retries) a
        test that failed it everywhere is left out first, then every solution that still holds such
        a verdict: what remains is a matrix of real verdicts only.
        """
        solutions = np.array([sample.parsed is not None for sample in self.solutions], bool)
        tests = np.array([sample.parsed is not None for sample in self.tests], bool)
        unavailable = self.statuses == Status.UNAVAILABLE
        if unavailable.any():
            tests &= ~unavailable[solutions].all(axis=0)
            solutions &= ~unavailable[:, tests].any(axis=1)
        return solutions, tests


def fixed_test(test: Test | None) -> Sample:
    """A test that nobody sampled in this step (the offline baseline's), in a sample's place."""
    nothing = np.zeros(0, np.int32)
    return Sample(nothing, nothing.astype(np.float32), True, "", test, "" if test else "fixed")


def _whose_prompt(problem: Problem, role: int) -> str:
    return f"the {ROLES[role]}'s prompt of problem {problem.task_id}"


class Sampler:
    """Prompts, samples, parses and executes; one object for a whole run."""

    def __init__(self, engine: RolloutEngine, pool: Pool, tokenizer: ChatTokenizer, config: Any):
        self._engine = engine
        self._pool = pool
        self._tokenizer = tokenizer
        self._config = config
        self._prompt_cache: dict[tuple[str, int], tuple[list[int], str, bool]] = {}

    def prompt(self, problem: Problem, role: int) -> tuple[list[int], str, bool]:
        """Token ids of a role's prompt, how it begins the reply, and whether it opens a thought.

        Raises:
          UserError: the prompt cannot be written, for example by the policy's chat template.
        """
        key = (problem.task_id, role)
        if key not in self._prompt_cache:
            write = coder_prompt if role == CODER else tester_prompt
            thinking = self._config.prompt.thinking
            try:
                messages = write(problem, self._config.prompt.style)
                tokens = self._tokenizer.chat_tokens(messages, thinking=thinking)
                opened = self._tokenizer.opens_thought(messages, thinking=thinking)
            except UserError as error:
                raise UserError(f"{_whose_prompt(problem, role)}: {error}") from error
            self._prompt_cache[key] = (tokens, begun_reply(messages), opened)
        return self._prompt_cache[key]

    def check_prompts(self, problems: Sequence[Problem]) -> list[Problem]:
        """Find prompts that are too long before anything is sampled, not in the step they are
        drawn in.

        Returns:
          The problems without those of too long a prompt (``problems.skip_overlong``).

        Raises:
          UserError: a prompt is longer than ``rollout.max_prompt_tokens`` and not to be left out,
            or a reply to it may leave the policy's context; names the longest.
        """
        limit = self._config.rollout.max_prompt_tokens
        lengths = {
            (problem.task_id, role): len(self.prompt(problem, role)[0])
            for problem in problems
            for role in (CODER, TESTER)
        }
        too_long = {task_id for (task_id, _), length in lengths.items() if length > limit}
        if too_long:
            (task_id, role), longest = max(lengths.items(), key=lambda item: item[1])
            found = (
                f"{len(too_long)} of {len(problems)} problems have a prompt of more than"
                f" config.rollout.max_prompt_tokens = {limit} tokens; the longest is the"
                f" {ROLES[role]}'s of problem {task_id} with {longest}"
            )
            if not self._config.problems.skip_overlong or len(too_long) == len(problems):
                raise UserError(
                    f"{found}: raise the field, or leave such problems out with"
                    " --config.problems.skip_overlong=True"
                )
            _log.warning("left out: %s", found)
            lengths = {key: length for key, length in lengths.items() if key[0] not in too_long}
        kept = [problem for problem in problems if problem.task_id not in too_long]
        (task_id, role), longest = max(lengths.items(), key=lambda item: item[1])
        new_tokens = self._config.rollout.max_new_tokens
        if longest + new_tokens > self._engine.context:
            raise UserError(
                f"config.rollout.max_new_tokens is {new_tokens}, and the {ROLES[role]}'s prompt of"
                f" problem {task_id} has {longest} tokens, but the policy was made for texts of"
                f" {self._engine.context}: lower the field, or leave such problems out"
            )
        return kept

    def _sampled_prompt(self, problem: Problem, role: int) -> list[int]:
        """The tokens of a prompt that is going to be sampled from.

        Raises:
          UserError: it is longer than ``rollout.max_prompt_tokens``: a benchmark's, since those of
            training were checked.
        """
        tokens = self.prompt(problem, role)[0]
        limit = self._config.rollout.max_prompt_tokens
        if len(tokens) > limit:
            raise UserError(
                f"{_whose_prompt(problem, role)} has {len(tokens)} tokens, and"
                f" config.rollout.max_prompt_tokens is {limit}: raise it, or leave the problem out"
            )
        return tokens

    def demand(
        self,
        problems: Sequence[Problem],
        counts: tuple[int, int],
        *,
        at_once: int,
        max_new_tokens: int,
    ) -> Demand:
        """What calls of ``replies`` with ``at_once`` of these problems ask of the engine."""
        roles = [role for role in (CODER, TESTER) if counts[role]]
        prompts = [self._sampled_prompt(problem, role) for role in roles for problem in problems]
        lengths = frozenset(map(len, prompts))
        samples = at_once * sum(counts)
        return Demand(samples, max_new_tokens, lengths, shared_prefixes(prompts))

    def replies(
        self,
        problems: Sequence[Problem],
        counts: tuple[int, int],
        *,
        step: int,
        settings: SamplingSettings | None = None,
    ) -> Iterator[ProblemSamples]:
        """Sample ``counts`` (solutions, tests) for each problem; yields problems as they finish."""
        pending = [
            ProblemSamples(
                problem, (self.prompt(problem, CODER)[0], self.prompt(problem, TESTER)[0])
            )
            for problem in problems
        ]
        jobs = [(i, role) for i in range(len(problems)) for role in (CODER, TESTER) if counts[role]]
        slots: list[list[Sample | None]] = [[None] * counts[role] for _, role in jobs]
        remaining = [sum(counts)] * len(problems)
        keys = [
            sample_key(self._config.seed, step, problem_number(problems[i]), role, sample)
            for i, role in jobs
            for sample in range(counts[role])
        ]
        stream = self._engine.generate(
            [self._sampled_prompt(problems[i], role) for i, role in jobs],
            [counts[role] for _, role in jobs],
            np.asarray(keys, np.uint32).reshape(-1, 2),
            sampling=[settings] * len(jobs) if settings else None,
        )
        for rollout in stream:
            i, role = jobs[rollout.prompt_index]
            slots[rollout.prompt_index][rollout.sample_index] = self._parse(
                rollout, problems[i], role
            )
            remaining[i] -= 1
            if remaining[i] == 0:
                for (owner, owner_role), samples in zip(jobs, slots):
                    if owner == i:
                        pending[i].of_role(owner_role).extend(s for s in samples if s is not None)
                yield pending[i]

    def _parse(self, rollout: Rollout, problem: Problem, role: int) -> Sample:
        _, begun, opened = self.prompt(problem, role)
        reply = without_thought(self._tokenizer.decode(rollout.tokens.tolist()), opened)
        parsed: str | Test | None
        copied = False
        if role == CODER:
            solution = parse_solution(reply, problem, begun, finished=rollout.finished)
            parsed, reason = solution.code, solution.reason
        else:
            test = parse_test(
                reply,
                problem,
                asserts_per_test=self._config.prompt.asserts_per_test,
                prefix=begun,
                finished=rollout.finished,
                packages=self._config.execution.packages,
            )
            parsed, reason = test.test, test.reason
            copied = test.test is not None and is_copied(test.test, problem)
        return Sample(
            rollout.tokens, rollout.log_probs, rollout.finished, reply, parsed, reason, copied
        )

    def execute(self, samples: ProblemSamples, *, labelled: bool) -> "Execution":
        """Queue a problem's runs: solutions against tests and, when labelled, the reference tests.

        Labels are read only here, and only when ``labelled`` is true.
        """
        problem = samples.problem
        solutions = [sample.parsed for sample in samples.solutions]
        tests = [sample.parsed for sample in samples.tests]
        matrix = self._pool.submit_matrix(problem, solutions, tests)
        reference = None
        if labelled:
            reference = self._pool.submit_matrix(problem, solutions, problem.reference_tests, True)
        return Execution(samples, matrix, reference)


@dataclass
class Execution:
    """A problem's runs in the pool's queue.

    Attributes:
      began, ended: when the runs of the matrix were queued and when the last of them was done, by
        ``time.perf_counter``; infinity where that is still to come.
    """

    samples: ProblemSamples
    matrix: "Future[np.ndarray]"
    reference: "Future[np.ndarray] | None"
    began: float = field(default_factory=time.perf_counter)
    ended: float = math.inf

    def __post_init__(self) -> None:
        def note_the_end(_: "Future[np.ndarray]") -> None:
            self.ended = time.perf_counter()

        self.matrix.add_done_callback(note_the_end)

    def wait(self) -> ProblemSamples:
        """Wait for the verdicts and return the samples with them."""
        self.samples.statuses = np.asarray(self.matrix.result())
        for column in np.flatnonzero((self.samples.statuses == Status.VACUOUS).any(axis=0)):
            # A test that passes whatever a solution returns is a reply without a test.
            test = self.samples.tests[column]
            test.parsed, test.reason = None, VACUOUS
        if self.reference is not None:
            verdicts = np.asarray(self.reference.result())
            passed, unavailable = verdicts == Status.PASSED, verdicts == Status.UNAVAILABLE
            self.samples.correct = passed.all(axis=1)
            self.samples.undecided = ~self.samples.correct & (passed | unavailable).all(axis=1)
        return self.samples


def seconds_in_execution(executions: Sequence[Execution], until: float) -> float:
    """The seconds before ``until`` in which at least one of the executions was under way."""
    total, covered = 0.0, -math.inf
    for one in sorted(executions, key=lambda one: one.began):
        end = min(one.ended, until)
        total += max(0.0, end - max(one.began, covered))
        covered = max(covered, end)
    return total
