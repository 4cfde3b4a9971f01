"""Every named experiment trains, and its rewards come from where its name says."""

import json
from pathlib import Path

import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Status
from zerocoder_jax.problems import (
    AssertTest,
    CallTest,
    Problem,
    StdioTest,
    Test,
    read_problems,
    without_labels,
)
from zerocoder_jax.training.coevolution import CoEvolution
from zerocoder_jax.training.training_problems import training_problems

# Two steps, one for each role, of a size that still has consensus and disagreement.
SMALL = (
    "--config.steps=2",
    "--config.problems.per_step=3",
    "--config.rollout.solutions=4",
    "--config.rollout.tests=4",
    "--config.rollout.max_new_tokens=32",
    # Whatever a test samples, it takes turns in the same few rows: one set of programs for all.
    "--config.rollout.rows=8",
    "--config.training.length_buckets=(112,)",
    "--config.selector.calibration.problems=3",
    "--config.execution.workers=2",
    "--config.mutation.limit=2",
)
LABEL_FREE = ("max_pass", "codet", "b4_4_3", "b4_5_3", "no_mutation", "confident", "online")
LABELLED = ("dynamic_b4", "dynamic_b4_unsupervised", "max_pass,calibration", "oracle")
# They change the update, not the rewards.
UPDATES = ("dr_grpo", "dapo", "gspo", "lora")


def train(
    repository: Path, workdir: Path, experiment: str, problems: list[Problem], *extra: str
) -> tuple[list[dict], list[list[dict]]]:
    """The metrics and the rollouts of each step."""
    config = load_config(f"{repository}/configs/toy.py:{experiment}", [*SMALL, *extra])
    CoEvolution(config, workdir, problems).run()
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    rollouts = [
        [json.loads(line) for line in path.open()]
        for path in sorted((workdir / "rollouts").glob("step_*.jsonl"))
    ]
    return metrics, rollouts


@pytest.fixture(scope="module")
def toy_problems() -> list[Problem]:
    return read_problems("toy:train", limit=24)


@pytest.fixture(scope="module")
def pool():
    """Not the run's own: what it says of a label is said a second time."""
    with ExecutionPool(1) as opened:
        yield opened


def recorded_tests(record: dict) -> list[Test | None]:
    kinds = {"assert": AssertTest, "stdio": StdioTest, "call": CallTest}
    tests = [test["test"] and dict(test["test"]) for test in record["tests"]]
    return [test and kinds[test.pop("kind")](**test) for test in tests]


def expected_tester_rewards(record: dict, weight: float, mutation: bool = True) -> list[float]:
    """The formula of the additive form, from what the record says of proxy and mutants."""
    rewards = []
    for j, test in enumerate(record["tests"]):
        penalty = -1.0 if test["test"] is None else 0.0
        if record["proxy"] is None and not record["supervised"]:
            rewards.append(penalty)
            continue
        killed = sum(j in mutant["killed_by"] for mutant in record["mutants"])
        share = killed / len(record["mutants"]) if record["mutants"] and mutation else 0.0
        agrees = float(test["agrees"])
        rewards.append(agrees + weight * agrees * share + penalty)
    return rewards


def assert_reward(reward: float, expected: float, experiment: str) -> None:
    """Of DAPO's long replies a part is taken off; ``test_experiment_effects.py`` says which."""
    if experiment == "dapo":
        assert expected - 1.0 <= reward <= expected + 1e-6
    else:
        assert reward == pytest.approx(expected)


@pytest.mark.parametrize("experiment", LABEL_FREE + UPDATES)
def test_a_label_free_experiment_reads_no_label(
    repository: Path, tmp_path: Path, toy_problems: list[Problem], experiment: str
) -> None:
    # Reading a label of such a problem raises.
    unlabelled: list[Problem] = [without_labels(problem) for problem in toy_problems]
    metrics, rollouts = train(repository, tmp_path, experiment, unlabelled)
    roles = ["coder", "coder"] if experiment == "online" else ["coder", "tester"]
    assert [line["role"] for line in metrics] == roles
    for record in rollouts[0]:
        for i, solution in enumerate(record["solutions"]):
            if experiment == "online":
                judged = [
                    status
                    for status, test in zip(record["statuses"][i], record["tests"], strict=True)
                    if test["test"] is not None
                ]
                expected = float(bool(judged) and set(judged) == {"PASSED"})
            else:
                expected = float(solution["selected"])
            assert_reward(solution["reward"], expected, experiment)
    if experiment != "online":
        weight = metrics[1]["tester/weight"]
        # Half of the way from 0.5 to 2, the toy's end points.
        assert weight == pytest.approx(0.0 if experiment == "no_mutation" else 1.25)
        for record in rollouts[1]:
            given = [test["reward"] for test in record["tests"]]
            for reward, expected in zip(
                given, expected_tester_rewards(record, weight), strict=True
            ):
                assert_reward(reward, expected, experiment)
            if record["proxy"] is not None:
                assert record["solutions"][record["proxy"]]["selected"]
                row = record["statuses"][record["proxy"]]
                assert [test["agrees"] for test in record["tests"]] == [s == "PASSED" for s in row]
        assert all(not r["mutants"] for r in rollouts[1]) == (experiment == "no_mutation")
    assert "calibration/score" not in metrics[0]


@pytest.mark.parametrize("experiment", LABELLED)
def test_a_labelled_experiment_rewards_by_labels_exactly_where_it_says(
    repository: Path,
    tmp_path: Path,
    toy_problems: list[Problem],
    pool: ExecutionPool,
    experiment: str,
) -> None:
    labels = {problem.task_id: problem for problem in toy_problems}
    metrics, rollouts = train(repository, tmp_path, experiment, toy_problems)
    assert ("calibration/score" in metrics[0]) == experiment.startswith("dynamic_b4")
    for record in rollouts[0]:
        supervised = experiment == "oracle" or (
            experiment != "dynamic_b4_unsupervised" and record["calibration"]
        )
        assert record["supervised"] == supervised
        rewards = [solution["reward"] for solution in record["solutions"]]
        if record["calibration"] and experiment == "dynamic_b4_unsupervised":
            # Its problems only calibrate; nothing is trained on them.
            assert rewards == [None] * len(rewards)
        elif not supervised:
            assert rewards == [float(s["selected"]) for s in record["solutions"]]
        else:
            problem = labels[record["task_id"]]
            codes = [solution["code"] for solution in record["solutions"]]
            verdicts = pool.passing_matrix(problem, codes, problem.reference_tests)
            assert rewards == (verdicts == Status.PASSED).all(axis=1).astype(float).tolist()
    for record in rollouts[1]:
        if not record["supervised"]:
            continue
        # The reference solution stands in the proxy's place.
        problem, tests = labels[record["task_id"]], recorded_tests(record)
        verdicts = pool.passing_matrix(problem, [problem.reference_solution], tests)[0]
        assert [t["agrees"] for t in record["tests"]] == (verdicts == Status.PASSED).tolist()
        assert record["proxy"] is None and record["mutants"]
        given = [test["reward"] for test in record["tests"]]
        assert given == pytest.approx(expected_tester_rewards(record, metrics[1]["tester/weight"]))
    calibration = [record["calibration"] for record in rollouts[0]]
    assert calibration.count(True) == (0 if experiment == "oracle" else 3)


def test_labelled_problems_may_take_a_part_of_the_step_instead_of_adding_to_it(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    within = ("--config.selector.calibration.within_step=true", "--config.problems.per_step=4")
    _, rollouts = train(repository, tmp_path, "dynamic_b4", toy_problems, *within)
    assert [sum(r["calibration"] for r in records) for records in rollouts] == [3, 3]
    assert [len(records) for records in rollouts] == [4, 4]


def test_the_offline_baseline_judges_by_tests_written_once(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    unlabelled: list[Problem] = [without_labels(problem) for problem in toy_problems]
    _, rollouts = train(repository, tmp_path, "offline", unlabelled)
    fixed = [json.loads(line) for line in (tmp_path / "offline_tests.jsonl").open()]
    by_task = {record["task_id"]: record["test"] for record in fixed}
    assert set(by_task) == {problem.task_id for problem in toy_problems}
    for record in rollouts[0] + rollouts[1]:
        assert [test["test"] for test in record["tests"]] == [by_task[record["task_id"]]]
        for i, solution in enumerate(record["solutions"]):
            assert solution["reward"] == float(record["statuses"][i] == ["PASSED"])


def test_the_offline_baseline_may_train_on_labelled_problems_too(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    _, rollouts = train(repository, tmp_path, "calibration,offline", toy_problems)
    assert [record["supervised"] for record in rollouts[0]].count(True) == 3


def test_without_the_mutation_term_agreement_counts_whole_in_the_convex_form(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    convex = ("--config.reward.tester_form=convex", "--config.reward.curriculum_high=1.0")
    metrics, rollouts = train(repository, tmp_path, "no_mutation", toy_problems, *convex)
    assert metrics[1]["tester/weight"] == 0.0
    for record in rollouts[1]:
        given = [test["reward"] for test in record["tests"]]
        assert given == pytest.approx(expected_tester_rewards(record, 0.0, mutation=False))


def test_oracle_rewards_of_problems_without_labels_are_refused(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    bare = Problem("mine/1", "Add.", "add", "function")
    with pytest.raises(UserError, match=r"1 of 25 training problems .* mine/1"):
        train(repository, tmp_path, "oracle", [*toy_problems, bare])


def test_a_prompt_that_is_too_long_is_refused_before_the_first_step(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    """Whichever step would have drawn it."""
    long = Problem("mine/1", "Add these numbers up. " * 20, "add", "function")
    with pytest.raises(UserError, match=r"1 of 25 problems .* problem mine/1 with \d+"):
        train(repository, tmp_path, "b4_4_3", [*toy_problems, long])
    assert not (tmp_path / "rollouts").exists()


def test_replies_that_would_leave_the_policys_context_are_refused(
    repository: Path, tmp_path: Path, toy_problems: list[Problem]
) -> None:
    longer = ("--config.rollout.max_new_tokens=500", "--config.training.length_buckets=(564,)")
    with pytest.raises(UserError, match=r"max_new_tokens is 500, .* made for texts of 512"):
        train(repository, tmp_path, "b4_4_3", toy_problems, *longer)
    assert not (tmp_path / "rollouts").exists()


# What takes longest of the larger sets is to sample for them.
LARGE = [pytest.param(count, marks=pytest.mark.endurance) for count in (20, 50, 100)]


@pytest.mark.parametrize("count", [5, 10, *LARGE])
def test_dynamic_b4_calibrates_on_as_many_labelled_problems_as_its_name_says(
    repository: Path, tmp_path: Path, count: int
) -> None:
    problems = read_problems("toy:train", limit=count + 6)
    changes = [change for change in SMALL if "calibration" not in change]
    changes += ["--config.rollout.solutions=2", "--config.rollout.tests=2"]
    config = load_config(f"{repository}/configs/toy.py:calibration_{count}", changes)
    CoEvolution(config, tmp_path, problems).run()
    for path in sorted((tmp_path / "rollouts").glob("step_*.jsonl")):
        records = [json.loads(line) for line in path.open()]
        assert sum(record["calibration"] for record in records) == count
        assert len(records) == count + 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert len(lines) == 2
    assert all(0 <= line["calibration/score"] <= 1 for line in lines)


def test_a_higher_delta_trains_on_fewer_problems_and_always_on_those_it_names(
    repository: Path, tmp_path: Path
) -> None:
    every = [problem.task_id for problem in read_problems("toy:train", limit=24)]
    kept = []
    for delta in (0, 1, 2, 3):
        config = load_config(
            f"{repository}/configs/toy.py:delta_{delta}",
            [
                *SMALL,
                "--config.problems.per_step=2",
                "--config.problems.limit=24",
                "--config.prefilter.make=true",
                # One filter serves every delta.
                f"--config.prefilter.path={tmp_path}/prefilter.jsonl",
            ],
        )
        workdir = tmp_path / f"delta_{delta}"
        problems = training_problems(config, workdir)
        kept.append([problem.task_id for problem in problems])
        if delta in (1, 2):  # trained on like the others
            continue
        CoEvolution(config, workdir, problems).run()
        trained = {
            json.loads(line)["task_id"]
            for path in (workdir / "rollouts").glob("step_*.jsonl")
            for line in path.open()
        }
        assert len(trained) >= 2 and trained <= set(kept[-1])
    ranks = {
        record["task_id"]: record["rank"]
        for record in map(json.loads, (tmp_path / "prefilter.jsonl").open())
    }
    assert kept == [[one for one in every if ranks[one] >= delta] for delta in (0, 1, 2, 3)]
    assert 2 <= len(kept[3]) < len(kept[2]) <= len(kept[1]) <= len(kept[0]) == 24
