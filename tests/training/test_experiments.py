"""Every named experiment trains, and its rewards come from where its name says."""

import json
from pathlib import Path

import pytest

from zerocoder_jax.configuration import load_config
from zerocoder_jax.problems import Problem, read_problems, without_labels
from zerocoder_jax.training.coevolution import CoEvolution
from zerocoder_jax.training.training_problems import training_problems

# Two steps, one for each role, of a size that still has consensus and disagreement.
SMALL = (
    "--config.steps=2",
    "--config.problems.per_step=3",
    "--config.rollout.solutions=4",
    "--config.rollout.tests=4",
    "--config.rollout.max_new_tokens=32",
    "--config.selector.calibration.problems=3",
    "--config.execution.workers=2",
    "--config.mutation.limit=2",
)
LABEL_FREE = ("max_pass", "codet", "b4_4_3", "b4_5_3", "no_mutation", "confident", "online")
LABELLED = ("dynamic_b4", "calibration", "oracle")
# They change the update, not the rewards.
UPDATES = ("dr_grpo", "dapo", "gspo", "lora")


def train(
    repository: Path, workdir: Path, experiment: str, problems: list[Problem]
) -> tuple[list[dict], list[list[dict]]]:
    """The metrics and the rollouts of each step."""
    config = load_config(f"{repository}/configs/toy.py:{experiment}", SMALL)
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
                scale = record["selection"]["confidence"] if experiment == "confident" else 1.0
                expected = solution["selected"] * scale
            assert solution["reward"] == pytest.approx(expected)
    if experiment == "no_mutation":
        assert all(not record["mutants"] for record in rollouts[1])
    assert "calibration/score" not in metrics[0]


@pytest.mark.parametrize("experiment", LABELLED)
def test_a_labelled_experiment_rewards_by_labels_exactly_where_it_says(
    repository: Path, tmp_path: Path, toy_problems: list[Problem], experiment: str
) -> None:
    metrics, rollouts = train(repository, tmp_path, experiment, toy_problems)
    assert ("calibration/score" in metrics[0]) == (experiment != "oracle")
    for record in rollouts[0]:
        supervised = experiment == "oracle" or (
            experiment == "calibration" and record["calibration"]
        )
        assert record["supervised"] == supervised
        rewards = [solution["reward"] for solution in record["solutions"]]
        if record["calibration"] and experiment == "dynamic_b4":
            # Its problems only calibrate; nothing is trained on them.
            assert rewards == [None] * len(rewards)
        elif not supervised:
            assert rewards == [float(s["selected"]) for s in record["solutions"]]
    calibration = [record["calibration"] for record in rollouts[0]]
    assert calibration.count(True) == (0 if experiment == "oracle" else 3)


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


@pytest.mark.parametrize("count", [5, 10, 20, 50, 100])
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
