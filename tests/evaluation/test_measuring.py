"""Whole evaluations with the real pool; the replies are written down here instead of sampled."""

import numpy as np
import pytest

from zerocoder_jax.evaluation import Benchmark, EvaluationSettings, ResultsFile, benchmark_scores
from zerocoder_jax.evaluation.measuring import evaluate
from zerocoder_jax.evaluation.results import GREEDY, SAMPLED
from zerocoder_jax.execution import ExecutionPool
from zerocoder_jax.problems import AssertTest, Problem, parse_solution, parse_test
from zerocoder_jax.training.sampling import ProblemSamples, Sample


def function(name, reference, *tests):
    return Problem(
        name, f"Write {name}.", name, "function", "", reference, tuple(map(AssertTest, tests))
    )


# One mutant: `a - b`.
ADD = function("add", "def add(a, b):\n    return a + b\n", "assert add(2, 3) == 5")
# Three mutants: `'hi ' - name`, `'XXhi XX' + name` and `'HI ' + name`.
GREET = function(
    "greet", "def greet(name):\n    return 'hi ' + name\n", "assert greet('a') == 'hi a'"
)
# No mutant at all.
SAME = function(
    "same", "def same(x):\n    return x\n", "assert same(1) == 1", "assert same(2) == 2"
)
UNSOLVED = Problem("unsolved", "Write it.", "unsolved", "function", "", None, SAME.reference_tests)

# The Coder's reply and the Tester's.
REPLIES = {
    "add": ("def add(a, b):\n    return b + a", "assert add(0, 0) == 0"),
    "greet": (
        "def greet(name):\n    return 'hello ' + name",
        "assert greet('a').lower() == 'hi a'",
    ),
    "same": ("def same(x):\n    return 1", "assert same(3) == 4"),
    "unsolved": ("I give up.", ""),
}


class WrittenReplies:
    """Stands where the sampler stands: yields the replies above, parsed as replies are."""

    def __init__(self, replies):
        self.replies_of = replies
        self.asked = []

    def replies(self, problems, counts, *, step, settings):
        for problem in problems:
            self.asked.append((problem.task_id, counts, settings.temperature))
            coder, tester = self.replies_of[problem.task_id]
            solution = parse_solution(f"```python\n{coder}\n```", problem)
            test = parse_test(f"```python\n{tester}\n```", problem)
            yield ProblemSamples(
                problem,
                ([1], [1]),
                [sample(solution.code, solution.reason)] * counts[0],
                [sample(test.test, test.reason)] * counts[1],
            )


def sample(parsed, reason):
    return Sample(np.zeros(3, np.int32), np.zeros(3, np.float32), True, "reply", parsed, reason)


@pytest.fixture(scope="module")
def pool():
    with ExecutionPool(workers=1) as opened:
        yield opened


def measure(pool, path, problems, replies=REPLIES, **settings):
    sampler = WrittenReplies(replies)
    with ResultsFile(path, {}) as file:
        results = evaluate(
            sampler,
            pool,
            Benchmark("ours", "here", problems),
            EvaluationSettings(**settings),
            file,
        )
    return {(result.run, result.task_id): result for result in results}, sampler


def test_scores_are_what_one_counts_by_hand(pool, tmp_path):
    results, _ = measure(pool, tmp_path / "r.jsonl", [ADD, GREET, SAME], ungated=True)
    add, greet, same = (results[GREEDY, name] for name in ("add", "greet", "same"))

    assert add.solutions[0].correct is True
    assert add.tests[0].passes is True
    assert add.tests[0].mutation_score == 0  # 0 - 0 is 0 as well

    assert greet.solutions[0].correct is False
    assert greet.solutions[0].statuses == ("FAILED",)
    assert greet.mutants == 3
    assert len(greet.tests[0].killed) == 2  # `'HI ' + name` survives the lower()
    assert greet.tests[0].mutation_score == pytest.approx(2 / 3)

    assert same.solutions[0].statuses == ("PASSED", "FAILED")
    assert same.solutions[0].correct is False
    assert same.tests[0].passes is False
    assert same.tests[0].mutation_score is None

    scores = benchmark_scores(list(results.values()))
    assert scores["pass_at_1"].value == pytest.approx(1 / 3)
    assert scores["test_accuracy"].value == pytest.approx(2 / 3)
    assert scores["mutation_score"].value == pytest.approx((0 + 2 / 3) / 2)


def test_a_test_that_fails_on_the_reference_kills_only_ungated(pool, tmp_path):
    replies = {"add": ("", "assert add(1, 1) == 3"), "greet": ("", "assert greet('a') == 'HI a'")}
    results, _ = measure(pool, tmp_path / "r.jsonl", [ADD, GREET], replies, ungated=True)
    add, greet = results[GREEDY, "add"].tests[0], results[GREEDY, "greet"].tests[0]
    assert (add.passes, add.mutation_score, add.mutation_score_ungated) == (False, 0, 1)
    assert greet.mutation_score == 0
    assert greet.mutation_score_ungated == pytest.approx(2 / 3)  # it passes on `'HI ' + name`


def test_what_cannot_be_parsed_is_wrong_and_kills_nothing(pool, tmp_path):
    replies = {"add": ("no idea", "def test(): pass")}
    results, _ = measure(pool, tmp_path / "r.jsonl", [ADD], replies, ungated=True)
    result = results[GREEDY, "add"]
    assert (result.solutions[0].code, result.solutions[0].reason) == (None, "syntax_error")
    assert result.solutions[0].correct is False
    test = result.tests[0]
    assert (test.test, test.reason, test.passes) == (None, "no_assert", False)
    assert (test.mutation_score, test.mutation_score_ungated) == (0, 0)


def test_without_a_reference_solution_only_the_coder_is_measured(pool, tmp_path):
    results, sampler = measure(pool, tmp_path / "r.jsonl", [UNSOLVED])
    result = results[GREEDY, "unsolved"]
    assert result.solutions[0].correct is False
    assert (result.tests, result.mutants) == ((), None)
    assert sampler.asked == [("unsolved", (1, 0), 0)]


def test_more_samples_are_a_pass_of_their_own(pool, tmp_path):
    results, sampler = measure(pool, tmp_path / "r.jsonl", [ADD], samples=4, temperature=0.6)
    assert [s.correct for s in results[SAMPLED, "add"].solutions] == [True] * 4
    assert sampler.asked == [("add", (1, 1), 0), ("add", (4, 0), 0.6)]


def test_an_interrupted_evaluation_goes_on_where_it_stopped(pool, tmp_path):
    path = tmp_path / "r.jsonl"
    measure(pool, path, [ADD])
    results, sampler = measure(pool, path, [ADD, GREET])
    assert [task_id for task_id, *_ in sampler.asked] == ["greet"]
    assert {task_id for _, task_id in results} == {"add", "greet"}


def test_results_are_the_benchmarks_in_its_order_whatever_the_file_holds(pool, tmp_path):
    path = tmp_path / "r.jsonl"
    for done in ([SAME], [GREET], [SAME, ADD, GREET, UNSOLVED]):
        measure(pool, path, done, samples=2)
    results, sampler = measure(pool, path, [ADD, GREET], samples=2)
    assert sampler.asked == []
    assert list(results) == [(run, name) for run in (GREEDY, SAMPLED) for name in ("add", "greet")]
    whole, _ = measure(pool, path, [ADD, GREET, SAME])
    alone, _ = measure(pool, tmp_path / "alone.jsonl", [ADD, GREET, SAME])
    assert list(whole) == list(alone) == [(GREEDY, name) for name in ("add", "greet", "same")]
    # Intervals are drawn by place: they are the same where the order is.
    assert benchmark_scores(list(whole.values())) == benchmark_scores(list(alone.values()))


def test_a_test_that_passes_whatever_a_solution_returns_is_wrong_and_kills_nothing(pool, tmp_path):
    replies = {"add": ("", "assert (add(1, 1) == 2) is not None")}
    results, _ = measure(pool, tmp_path / "r.jsonl", [ADD], replies, ungated=True)
    (test,) = results[GREEDY, "add"].tests
    assert (test.reason, test.passes) == ("vacuous", False)
    assert (test.mutation_score, test.mutation_score_ungated) == (0, 0)
