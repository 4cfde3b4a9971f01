"""The rank filter with the real execution pool; the replies are written down, not sampled."""

import json

import numpy as np
import pytest

from configs.base import get_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool
from zerocoder_jax.problems import AssertTest, Problem
from zerocoder_jax.training import prefilter
from zerocoder_jax.training.prefilter import (
    filtered_problems,
    make_prefilter,
    read_prefilter,
    sizes_by_delta,
)
from zerocoder_jax.training.sampling import ProblemSamples, Sample, Sampler

ADD = "def {name}(a, b):\n    return a + b\n"
TIMES = "def {name}(a, b):\n    return a * b\n"
SUM_IS, PRODUCT_IS, BOTH_ARE = "(1, 3) == 4", "(1, 3) == 3", "(2, 2) == 4"
# Solutions and tests of each problem; None is a reply without one.
REPLIES = {
    "none_parsed": ([None, None], [None, None]),  # rank 0
    "all_fail": ([ADD, TIMES], [PRODUCT_IS.replace("3)", "4)"), None]),  # rank 0
    "agree": ([ADD, ADD], [SUM_IS, BOTH_ARE]),  # rank 1
    "tell_apart": ([ADD, TIMES], [SUM_IS, PRODUCT_IS]),  # rank 2
}
RANKS = {"none_parsed": 0, "all_fail": 0, "agree": 1, "tell_apart": 2}
PROBLEMS = [
    Problem(name, f"Write {name}.", name, "function", "", "raise", (AssertTest("label"),), "", "")
    for name in REPLIES
]


class WrittenReplies(Sampler):
    """A sampler whose replies stand above; it runs them as every sampler does."""

    def __init__(self, pool: ExecutionPool, fail_after: int | None = None):
        super().__init__(None, pool, None, None)
        self.asked: list[str] = []
        self._fail_after = fail_after

    def replies(self, problems, counts, *, step, settings=None):
        for problem in problems:
            if len(self.asked) == self._fail_after:
                raise KeyboardInterrupt
            self.asked.append(problem.task_id)
            name = problem.task_id
            solutions, tests = REPLIES[name]
            sources = [s and s.format(name=name) for s in solutions]
            asserts = [t and AssertTest(f"assert {name}{t}") for t in tests]
            yield ProblemSamples(
                problem, ([1], [1]), [_sample(s) for s in sources], [_sample(t) for t in asserts]
            )


def _sample(parsed) -> Sample:
    return Sample(np.zeros(1, np.int32), np.zeros(1, np.float32), True, "", parsed, "")


@pytest.fixture(scope="module")
def pool():
    with ExecutionPool(workers=1) as opened:
        yield opened


@pytest.fixture
def config():
    made = get_config()
    made.rollout.solutions = made.rollout.tests = 2
    made.policy.source = "toy"
    return made


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_problem_gets_its_rank_and_its_matrix(pool, config, tmp_path) -> None:
    path = tmp_path / "new" / "prefilter.jsonl"
    counts: list[int] = []
    ranks = make_prefilter(PROBLEMS, WrittenReplies(pool), config, path, finished=counts.append)
    assert ranks == RANKS
    assert counts == [1, 2, 3, 4]
    records = {record["task_id"]: record for record in lines_of(path)}
    assert {name: record["rank"] for name, record in records.items()} == RANKS
    assert records["tell_apart"]["statuses"] == [["PASSED", "FAILED"], ["FAILED", "PASSED"]]
    assert records["none_parsed"]["statuses"] == [["UNPARSABLE"] * 2] * 2


@pytest.mark.parametrize("fail_after", [0, 1, 3])
def test_an_interrupted_filter_goes_on_where_it_stopped(
    pool, config, tmp_path, fail_after: int
) -> None:
    path = tmp_path / "prefilter.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make_prefilter(PROBLEMS, WrittenReplies(pool, fail_after), config, path)
    done = [record["task_id"] for record in lines_of(path)]
    assert len(done) <= fail_after
    # A kill in the middle of a line.
    with path.open("a") as file:
        file.write('{"task_id": "tell_ap')
    sampler = WrittenReplies(pool)
    assert make_prefilter(PROBLEMS, sampler, config, path) == RANKS
    assert sampler.asked == [name for name in RANKS if name not in done]
    assert len(lines_of(path)) == len(PROBLEMS)


def test_a_complete_filter_samples_nothing(pool, config, tmp_path) -> None:
    path = tmp_path / "prefilter.jsonl"
    make_prefilter(PROBLEMS, WrittenReplies(pool), config, path)
    sampler = WrittenReplies(pool, fail_after=0)
    assert make_prefilter(PROBLEMS, sampler, config, path) == RANKS


def test_more_problems_than_are_sampled_at_once_are_done(
    pool, config, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(prefilter, "_PROBLEMS_AT_ONCE", 1)
    path = tmp_path / "prefilter.jsonl"
    assert make_prefilter(PROBLEMS, WrittenReplies(pool), config, path) == RANKS


@pytest.mark.parametrize("delta", [0, 1, 2])
def test_training_keeps_ranks_of_delta_and_more_in_their_order(
    pool, config, tmp_path, delta: int
) -> None:
    make_prefilter(PROBLEMS, WrittenReplies(pool), config, tmp_path / "prefilter.jsonl")
    config.prefilter.delta = delta
    said: list[str] = []
    kept = filtered_problems(PROBLEMS, config, tmp_path, say=said.append)
    assert [problem.task_id for problem in kept] == [n for n, r in RANKS.items() if r >= delta]
    # The kept ones are the very problems, labels included.
    assert all(problem.reference_solution == "raise" for problem in kept)
    if delta:
        assert f"{len(kept)} of 4 problems" in said[0]


def test_sizes_by_delta_are_the_papers_table() -> None:
    assert sizes_by_delta(RANKS) == {0: 4, 1: 2, 2: 1, 3: 0}


def test_without_a_filter_all_problems_train_and_the_run_says_so(config, tmp_path) -> None:
    said: list[str] = []
    assert filtered_problems(PROBLEMS, config, tmp_path, say=said.append) == PROBLEMS
    assert said[0].startswith("no rank filter")


def test_a_filter_with_nothing_to_do_loads_no_policy(pool, config, tmp_path) -> None:
    """Where every problem has its line, ``make`` only reads: there is no such policy."""
    config.policy.source = "hf:/nowhere"
    config.prefilter.make = True
    make_prefilter(PROBLEMS, WrittenReplies(pool), config, tmp_path / "prefilter.jsonl")
    kept = filtered_problems(PROBLEMS, config, tmp_path, say=lambda line: None)
    assert [problem.task_id for problem in kept] == ["tell_apart"]


def test_what_is_wrong_with_a_filter_is_said(pool, config, tmp_path) -> None:
    path = tmp_path / "prefilter.jsonl"
    config.prefilter.path = str(path)
    with pytest.raises(UserError, match=r"config\.prefilter\.path: there is no file"):
        filtered_problems(PROBLEMS, config, tmp_path)

    make_prefilter(PROBLEMS[:2], WrittenReplies(pool), config, path)
    with pytest.raises(UserError, match="lacks 2 of 4 problems"):
        filtered_problems(PROBLEMS, config, tmp_path)
    with pytest.raises(UserError, match=r"no problem's matrix .* has that rank"):
        filtered_problems(PROBLEMS[:2], config, tmp_path)

    config.rollout.temperature = 0.25
    with pytest.raises(UserError, match=r"made with temperature = 0\.7, this run has 0\.25"):
        filtered_problems(PROBLEMS, config, tmp_path)

    path.write_text('{"task_id": "agree"}\n')
    with pytest.raises(UserError, match="line 1: no record"):
        read_prefilter(path, {})


def test_another_delta_needs_no_new_samples(config) -> None:
    before = prefilter.origin(config)
    config.prefilter.delta = 3
    assert prefilter.origin(config) == before
    config.policy.source = "hf:other"
    assert prefilter.origin(config) != before
