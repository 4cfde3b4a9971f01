"""Which reward each sample gets, the consensus's, a label's or a baseline's, and which advantage.

The formulas are in ``rewards.py`` and ``grpo.py``; here is who they are applied to and with which
evidence.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import jax.numpy as jnp
import numpy as np

from zerocoder_jax.execution import MutationResult, Pool, Status
from zerocoder_jax.training.batches import TrainingSequence
from zerocoder_jax.training.grpo import group_advantages, informative_groups
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.problem_order import problem_number
from zerocoder_jax.training.rewards import (
    coder_reward,
    draw_proxy,
    mutation_scores,
    overlong_penalty,
    tested_coder_reward,
    tester_reward,
)
from zerocoder_jax.training.sampling import Sample


def reward_solutions(judged: Sequence[Judged], config: Any) -> None:
    """Give every solution its reward, on the Coder's turns."""
    for one in judged:
        samples = one.samples
        if one.supervised:
            assert samples.correct is not None and samples.undecided is not None
            one.rewards = samples.correct.astype(np.float32)
            one.reward_mask = ~samples.undecided
            continue
        if config.method == "coevolution":
            one.rewards = coder_reward(one.selected_solutions, one.abstained)
        else:
            # The baselines believe every test: a solution is good when it passes all of them.
            one.rewards = tested_coder_reward(samples.passing, one.solution_mask, one.test_mask)
        # What the verifier could not judge has no reward; a reply without a solution earns 0.
        one.reward_mask = one.solution_mask | ~_parsed(samples.solutions)


def reward_tests(
    judged: Sequence[Judged], pool: Pool, config: Any, *, step: int, weight: float
) -> None:
    """Give every test its reward, on the Tester's turns: agreement, and mutants killed.

    Args:
      weight: the curriculum's weight of the mutation term at this step.
    """
    waiting: list[tuple[Judged, Future[MutationResult]]] = []
    references: list[tuple[Judged, Future[np.ndarray]]] = []
    for one in judged:
        proxy = _choose_proxy(one, step, config.seed)
        if proxy is None:
            continue
        problem = one.samples.problem
        tests = [sample.parsed for sample in one.samples.tests]
        if config.reward.mutation:
            seed = config.seed + step + problem_number(problem)
            limit = config.mutation.limit or None
            waiting.append((one, pool.submit_mutation(problem, proxy, tests, limit, seed)))
        elif one.supervised:
            references.append((one, pool.submit_matrix(problem, [proxy], tests)))
    for one, matrix in references:
        _judge_by_reference(one, matrix.result()[0])
    mutations = [(one, future.result()) for one, future in waiting]
    if not config.reward.gated:
        mutations = _with_failing_tests(mutations, pool)
    for one, one.mutation in mutations:
        one.mutation_score = mutation_scores(one.mutation.killed, one.mutation.valid)
        if one.supervised:
            _judge_by_reference(one, one.mutation.original)
    for one in judged:
        _reward_tests_of(one, config.reward, weight)


def _with_failing_tests(
    mutations: Sequence[tuple[Judged, MutationResult]], pool: Pool
) -> list[tuple[Judged, MutationResult]]:
    """Run the tests that fail on the proxy on its mutants too: ungated, they kill as well."""
    running = []
    for one, mutation in mutations:
        tests = [sample.parsed for sample in one.samples.tests]
        failing = [tests[j] for j in mutation.failing]
        matrix = pool.submit_matrix(one.samples.problem, mutation.mutants, failing)
        running.append((one, mutation, matrix))
    completed = []
    for one, mutation, matrix in running:
        statuses = mutation.statuses.copy()
        statuses[:, mutation.failing] = matrix.result()
        completed.append((one, dataclasses.replace(mutation, statuses=statuses)))
    return completed


def _choose_proxy(one: Judged, step: int, seed: int) -> str | None:
    """Source of the program that judges the tests; None where there is none to believe.

    A sampled proxy's agreement is already in the matrix; a reference solution has no row there.
    """
    samples = one.samples
    if one.supervised:
        return samples.problem.reference_solution
    if one.abstained:
        return None
    number = problem_number(samples.problem)
    one.proxy = draw_proxy(one.selected_solutions, seed=seed, step=step, problem=number)
    if one.proxy is None:
        return None
    one.agrees = samples.passing[one.proxy]
    return samples.solutions[one.proxy].parsed


def _judge_by_reference(one: Judged, verdicts: np.ndarray) -> None:
    """Take the reference solution's verdicts [T] on the tests in the place of a proxy's."""
    one.agrees = verdicts == Status.PASSED
    one.reward_mask = verdicts != Status.UNAVAILABLE


def _parsed(samples: Sequence[Sample]) -> np.ndarray:
    """[N] bool: the reply holds a solution or a test."""
    return np.array([sample.parsed is not None for sample in samples], bool)


def _reward_tests_of(one: Judged, reward: Any, weight: float) -> None:
    tests = one.samples.tests
    parsed = _parsed(tests)
    nothing = np.zeros(len(tests), np.float32)
    one.rewards = tester_reward(
        parsed if one.agrees is None else one.agrees,
        nothing if one.mutation_score is None else one.mutation_score,
        parsed,
        weight,
        form=reward.tester_form,
        gated=reward.gated,
        format_penalty=reward.format_penalty,
        # No consensus is no evidence for or against what a test says; its form needs none.
        abstained=one.agrees is None,
    )
    if reward.copied_tests == "unpaid":
        one.rewards[[test.copied for test in tests]] = 0.0
    if one.reward_mask is None:
        # What the verifier could not judge has no reward; an unparsable test has its penalty.
        one.reward_mask = one.test_mask | ~parsed
    if one.agrees is not None and one.mutation is not None and one.mutation.mutants:
        one.reward_mask = one.reward_mask & ~(one.agrees & _unscored(one.mutation))


def _unscored(mutation: MutationResult) -> np.ndarray:
    """[T] bool: the verifier failed on the original, or on every mutant: no score is known."""
    lost = mutation.statuses == Status.UNAVAILABLE  # [M, T]
    return (mutation.original == Status.UNAVAILABLE) | lost.all(axis=0)


def treat_truncated(judged: Sequence[Judged], role: int, config: Any) -> None:
    """Mask or penalize replies that reached the limit, as ``config.grpo.truncated`` says."""
    if config.grpo.truncated == "keep":
        return
    limit = config.rollout.max_new_tokens
    for one in judged:
        if one.rewards is None or one.reward_mask is None:
            continue
        samples = one.samples.of_role(role)
        if config.grpo.truncated == "mask":
            one.reward_mask = one.reward_mask & np.array([s.finished for s in samples], bool)
        else:
            lengths = np.array([len(sample.tokens) for sample in samples])
            penalty = overlong_penalty(lengths, limit, config.grpo.overlong_share)
            one.rewards = one.rewards + penalty


def signal_metrics(sequences: Sequence[TrainingSequence]) -> dict[str, float]:
    """How many sequences and problems had an advantage, of which alone a policy learns."""
    carrying = [one for one in sequences if one.advantage != 0]
    return {
        "signal/sequences": float(len(carrying)),
        "signal/groups": float(len({one.prompt.tobytes() for one in carrying})),
    }


def training_sequences(judged: Sequence[Judged], role: int, config: Any) -> list[TrainingSequence]:
    """The samples of the role in turn with their advantages, one group a problem.

    A sample whose reward is not finite is left out, as if the verifier had failed on it.
    """
    groups = [one for one in judged if one.rewards is not None]
    if not groups:
        return []
    # Wide enough for either role, so that the other one's turn compiles nothing.
    shape = (len(groups), max(config.rollout.solutions, config.rollout.tests))
    rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)  # [G, N] both
    for g, one in enumerate(groups):
        assert one.rewards is not None
        rewards[g, : len(one.rewards)] = one.rewards
        mask[g, : len(one.rewards)] = one.reward_mask & np.isfinite(one.rewards)
    groups_of_samples = jnp.asarray(rewards), jnp.asarray(mask)
    advantages = np.asarray(
        group_advantages(*groups_of_samples, normalize_std=config.grpo.normalize_std)
    )
    if config.reward.confidence_weighted:
        # Not the rewards: dividing by the group's deviation would undo it.
        believed = [1.0 if one.supervised else one.confidence for one in groups]
        advantages = advantages * np.array(believed, np.float32)[:, None]
    if config.grpo.drop_equal_groups:
        mask = mask & np.asarray(informative_groups(*groups_of_samples))[:, None]
    return [
        TrainingSequence(
            prompt=np.asarray(one.samples.prompts[role], np.int32),
            response=sample.tokens,
            advantage=float(advantages[g, n]),
            rollout_log_probs=sample.log_probs,
        )
        for g, one in enumerate(groups)
        for n, sample in enumerate(one.samples.of_role(role))
        if mask[g, n]
    ]
