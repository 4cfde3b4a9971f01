"""From rewards to what is trained on: groups, masks, and groups without a signal."""

from types import SimpleNamespace

import numpy as np
import pytest

from zerocoder_jax.problems import Problem
from zerocoder_jax.training.assignment import (
    signal_metrics,
    training_sequences,
    treat_truncated,
)
from zerocoder_jax.training.batches import TrainingSequence
from zerocoder_jax.training.coevolution import role_of_step
from zerocoder_jax.training.judging import Judged
from zerocoder_jax.training.sampling import CODER, TESTER, ProblemSamples, Sample


def rewarded(
    number: int, rewards: list[float], mask: list[bool] | None = None, confidence: float = 0.0
) -> Judged:
    """A problem whose n-th sample is the token n, after a prompt of its role's number."""
    samples = ProblemSamples(
        Problem(f"t/{number}", "", "f", "function"),
        ([number, CODER], [number, TESTER]),
        *([Sample(np.full(1, n), np.zeros(1), True, "", "", "") for n in range(3)] for _ in "ct"),
    )
    none = np.zeros(3, bool)
    return Judged(
        *(samples, none, none, 0, none, none, 0.0, confidence, False),
        rewards=np.array(rewards, np.float32),
        reward_mask=np.array(mask or [True] * 3),
    )


def sequences(
    judged, role=CODER, confidence_weighted=False, **changes
) -> list[tuple[list[int], int, float]]:
    grpo = SimpleNamespace(**({"normalize_std": False, "drop_equal_groups": False} | changes))
    # Tests are sampled more often than solutions: a narrower group counts for what it is.
    rollout = SimpleNamespace(solutions=3, tests=5)
    reward = SimpleNamespace(confidence_weighted=confidence_weighted)
    config = SimpleNamespace(grpo=grpo, rollout=rollout, reward=reward)
    made = training_sequences(judged, role, config)
    return [(one.prompt.tolist(), int(one.response[0]), one.advantage) for one in made]


def test_a_group_is_one_problem_and_every_reply_is_relative_to_it() -> None:
    made = sequences([rewarded(1, [1, 0, 0.5]), rewarded(2, [4, 4, 1])], TESTER)
    assert made == [
        *(([1, TESTER], 0, 0.5), ([1, TESTER], 1, -0.5), ([1, TESTER], 2, 0.0)),
        *(([2, TESTER], 0, 1.0), ([2, TESTER], 1, 1.0), ([2, TESTER], 2, -2.0)),
    ]


def test_a_reply_without_a_reward_is_left_out_and_counts_in_no_mean() -> None:
    made = sequences([rewarded(1, [1, 9, 0], [True, False, True])])
    assert made == [([1, CODER], 0, 0.5), ([1, CODER], 2, -0.5)]


def test_groups_without_a_signal_are_left_out_where_dapo_asks_for_it() -> None:
    judged = [
        rewarded(1, [1, 1, 1]),
        rewarded(2, [1, 0, 0]),
        rewarded(3, [1, 1, 0], [True, True, False]),
    ]
    assert [prompt[0] for prompt, *_ in sequences(judged)] == [1, 1, 1, 2, 2, 2, 3, 3]
    kept = sequences(judged, drop_equal_groups=True)
    assert [prompt[0] for prompt, *_ in kept] == [2, 2, 2]
    assert sum(advantage for *_, advantage in kept) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("normalize_std", [False, True])
def test_confidence_weights_advantages_which_no_deviation_undoes(normalize_std: bool) -> None:
    def advantages(confidence: float, supervised: bool = False) -> np.ndarray:
        one = rewarded(1, [1, 0, 0], confidence=confidence)
        one.supervised = supervised
        made = sequences([one], confidence_weighted=True, normalize_std=normalize_std)
        return np.array([advantage for *_, advantage in made])

    np.testing.assert_allclose(advantages(0.25), 0.25 * advantages(1.0), rtol=1e-6)
    assert advantages(1.0)[0] > 0.5
    # A label needs no confidence.
    np.testing.assert_array_equal(advantages(0.25, supervised=True), advantages(1.0))


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_left_out_and_spoils_no_other(reward: float) -> None:
    made = sequences([rewarded(1, [1, reward, 0]), rewarded(2, [1, 0, 0.5])])
    assert made == sequences(
        [rewarded(1, [1, 9, 0], [True, False, True]), rewarded(2, [1, 0, 0.5])]
    )


def truncation(truncated: str) -> SimpleNamespace:
    grpo = SimpleNamespace(truncated=truncated, overlong_share=0.5)
    return SimpleNamespace(grpo=grpo, rollout=SimpleNamespace(max_new_tokens=4))


@pytest.mark.parametrize("role", [CODER, TESTER])
@pytest.mark.parametrize(
    ("truncated", "rewards", "mask"),
    [
        ("keep", [1.0, 1.0, 0.0], [True, True, True]),
        ("mask", [1.0, 1.0, 0.0], [True, True, False]),
        # Of 1, 3 and 4 tokens, where 2 of 4 are free.
        ("penalize", [1.0, 0.5, -1.0], [True, True, True]),
    ],
)
def test_replies_cut_at_the_limit_are_kept_masked_or_penalized(
    role: int, truncated: str, rewards: list[float], mask: list[bool]
) -> None:
    one = rewarded(1, [1, 1, 0])
    for sample, length in zip(one.samples.of_role(role), (1, 3, 4), strict=True):
        sample.tokens, sample.finished = np.zeros(length), length < 4
    treat_truncated([one], role, truncation(truncated))
    assert one.rewards.tolist() == rewards and one.reward_mask.tolist() == mask


def test_the_signal_is_what_has_an_advantage() -> None:
    def sequence(prompt: int, advantage: float) -> TrainingSequence:
        return TrainingSequence(np.full(2, prompt), np.zeros(1), advantage, np.zeros(1))

    made = [sequence(1, 0.5), sequence(1, -0.5), sequence(1, 0.0), sequence(2, 0.0)]
    assert signal_metrics(made) == {"signal/sequences": 2.0, "signal/groups": 1.0}
    assert signal_metrics([]) == {"signal/sequences": 0.0, "signal/groups": 0.0}


def test_problems_that_only_calibrate_are_not_trained_on() -> None:
    one = rewarded(1, [1, 0, 0])
    one.rewards = None
    assert sequences([one]) == []


def test_roles_take_turns_and_the_baselines_train_the_coder_alone() -> None:
    assert [role_of_step(step, "coevolution") for step in range(4)] == [CODER, TESTER] * 2
    for method in ("offline", "online"):
        assert {role_of_step(step, method) for step in range(4)} == {CODER}
