"""Tables hold what runs measured, averaged as the paper averages, beside what it published."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from configs.base import get_config
from configs.experiments import apply_experiments
from zerocoder_jax.errors import UserError
from zerocoder_jax.report.published import METHODS, PUBLISHED, STEP_SECONDS, published_model
from zerocoder_jax.report.run_directory import read_run
from zerocoder_jax.report.run_results import method_name, read_result, row_of
from zerocoder_jax.report.tables import markdown
from zerocoder_jax.report.tables_figure import write_figure
from zerocoder_jax.training.grpo_variants import VARIANTS


def make_run(directory, *, after=0.5, steps=4, config=None, noise=()):
    """A run that was evaluated on two benchmarks before and after training."""
    directory.mkdir(parents=True)
    config = config or get_config()
    (directory / "config.json").write_text(config.to_json_best_effort())

    def evaluation(step, share):
        return {
            "step": step,
            "evaluation/mbpp/pass_at_1": share,
            "evaluation/mbpp/test_accuracy": share + 0.1,
            "evaluation/mbpp/mutation_score": share - 0.1,
            "evaluation/apps/pass_at_1": share + 0.2,
        }

    lines = [evaluation(0, 0.25)]
    for step in range(steps):
        seconds = {"rollout": 3.0, "execution": 4.0, "mutation": 2.0 * (step % 2)}
        total = sum(seconds.values()) + (100 if step == 0 else 0)
        figures = {f"seconds/{name}": value for name, value in seconds.items()}
        role = ("coder", "tester")[step % 2]
        lines.append({"step": step, "role": role, "seconds/total": total} | figures)
    lines.append(evaluation(steps, after))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    if noise:
        text = "".join(
            json.dumps(dict(zip(("step", "selector", "noise"), p))) + "\n" for p in noise
        )
        (directory / "selection_noise.jsonl").write_text(text)
    return directory


def configuration(**changes):
    config = get_config()
    config.update_from_flattened_dict(changes)
    return config


def rows_of(text, title):
    """The cells of the first table below a heading, without header."""
    lines = text[text.index(title) :].splitlines()
    end = next((i for i, line in enumerate(lines) if line.startswith("## ") and i), len(lines))
    table = [line for line in lines[:end] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def test_averages_are_the_papers_means(tmp_path):
    result = read_result(make_run(tmp_path / "run", after=0.5))
    # CAvg: pass@1 of both benchmarks; TAvg: accuracy and mutation score of the one that has them.
    assert result.before.code == pytest.approx((0.25 + 0.45) / 2)
    assert result.before.tests == pytest.approx((0.35 + 0.15) / 2)
    assert result.after.average == pytest.approx(((0.5 + 0.7) / 2 + (0.6 + 0.4) / 2) / 2)


def test_runs_that_differ_in_their_seed_share_a_row(tmp_path):
    results = [
        read_result(make_run(tmp_path / str(seed), after=after, config=configuration(seed=seed)))
        for seed, after in enumerate((0.4, 0.5, 0.6))
    ]
    rows = rows_of(markdown(results), "## Averages")
    assert rows == [
        ["base", "35.0 ± 0.0", "25.0 ± 0.0", "30.0 ± 0.0", "3"],
        ["B4(4,3)", "60.0 ± 10.0", "50.0 ± 10.0", "55.0 ± 10.0", "3"],
    ]


def test_a_policy_of_the_paper_stands_beside_its_published_rows(tmp_path):
    config = configuration(
        **{"policy.source": "hf:Qwen/Qwen2.5-Coder-7B-Instruct"},
        **DYNAMIC,
    )
    text = markdown([read_result(make_run(tmp_path / "run", config=config))])
    rows = {row[0]: row for row in rows_of(text, "### Qwen2.5-Coder-7B-Instruct")}
    assert list(rows) == [method for method in METHODS if " with labels" not in method]
    assert rows["dynamic B4"][1:] == ["42.2", "60.0", "54.1", "50.0", "48.2", "55.0", "1"]
    assert rows["oracle"][1:] == ["43.2", "", "55.0", "", "49.1", "", ""]


def test_the_published_averages_agree_with_each_other():
    # The paper averaged before it rounded: half a unit of the last place each.
    for row in PUBLISHED:
        assert row.average == pytest.approx((row.code + row.tests) / 2, abs=0.101), row
    assert len(PUBLISHED) == 30
    assert sum(STEP_SECONDS.values()) == pytest.approx(2 * STEP_SECONDS["total"])


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("hf:Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5-1.5B-Instruct"),
        ("hf:/models/Qwen3-4B", "Qwen3-4B"),
        ("gguf:qwen2.5-coder-7b-instruct-q4_k_m.gguf", "Qwen2.5-Coder-7B-Instruct"),
        ("gguf:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", None),
        ("toy", None),
    ],
)
def test_policies_of_the_paper_are_recognised(source, model):
    assert published_model(source) == model


DYNAMIC = {"selector.calibration.enabled": True, "supervision": "calibration"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "B4(4,3)"),
        ({"selector.beta0": 1e5}, "B4(5,3)"),
        ({"selector.name": "max_pass"}, "MaxPass"),
        ({"selector.name": "codet"}, "CodeT"),
        ({"supervision": "calibration"}, "B4(4,3) with labels"),
        ({"supervision": "calibration", "selector.name": "codet"}, "CodeT with labels"),
        (DYNAMIC, "dynamic B4"),
        (DYNAMIC | {"reward.mutation": False}, "dynamic B4 without mutation"),
        ({"supervision": "oracle"}, "oracle"),
        ({"method": "offline"}, "offline"),
        ({"method": "online"}, "online"),
    ],
)
def test_a_configuration_is_named_as_the_paper_names_it(changes, name):
    assert method_name(configuration(**changes).to_dict()) == name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"selector.beta0": 12000}, "B4(12000,3)"),
        ({"reward.confidence_weighted": True}, "B4(4,3), by confidence"),
        (DYNAMIC | {"supervision": "none"}, "dynamic B4 without supervision"),
        ({"selector.beta0": 1e6, "supervision": "calibration"}, "B4(6,3) with labels"),
        ({"policy.lora.rank": 32}, "B4(4,3), LoRA"),
        *(
            ({f"grpo.{field}": value for field, value in fields.items()}, f"B4(4,3), {variant}")
            for variant, fields in VARIANTS.items()
            if variant != "grpo"
        ),
        (
            {"supervision": "oracle", "reward.mutation": False, "policy.lora.rank": 8},
            "oracle without mutation, LoRA",
        ),
    ],
)
def test_a_configuration_that_the_paper_does_not_have_gets_a_row_of_its_own(changes, name):
    assert name not in METHODS
    assert method_name(configuration(**changes).to_dict()) == name


EXPERIMENTS_OF_ROWS = {
    "offline": "offline",
    "online": "online",
    "max_pass": "MaxPass",
    "codet": "CodeT",
    "b4_4_3": "B4(4,3)",
    "b4_5_3": "B4(5,3)",
    "max_pass,calibration": "MaxPass with labels",
    "calibration,codet": "CodeT with labels",
    "calibration,b4_4_3": "B4(4,3) with labels",
    "b4_5_3,calibration": "B4(5,3) with labels",
    "dynamic_b4": "dynamic B4",
    "dynamic_b4,no_mutation": "dynamic B4 without mutation",
    "oracle": "oracle",
}


def test_every_row_of_the_paper_is_named_by_experiments(tmp_path):
    """Each run stands in its own row, with the published figures of that row and no other."""
    assert {"base", *EXPERIMENTS_OF_ROWS.values()} == set(METHODS)
    published = {row.method: row for row in PUBLISHED if row.model == "Qwen2.5-Coder-7B-Instruct"}
    results = []
    for number, names in enumerate(EXPERIMENTS_OF_ROWS):
        config = configuration(**{"policy.source": "hf:Qwen/Qwen2.5-Coder-7B-Instruct"})
        apply_experiments(config, names)
        after = (number + 1) / 100
        results.append(read_result(make_run(tmp_path / names, config=config, after=after)))
    rows = {row[0]: row for row in rows_of(markdown(results), "### Qwen2.5-Coder-7B-Instruct")}
    assert list(rows) == list(METHODS)
    for number, row in enumerate(EXPERIMENTS_OF_ROWS.values()):
        theirs = published.get(row)
        assert rows[row][1] == (f"{theirs.code:.1f}" if theirs else ""), row
        # The mean of pass@1 on both benchmarks, of which one is 0.2 higher.
        assert rows[row][2] == f"{number + 1 + 10:.1f}", row
        assert rows[row][-1] == "1"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            {"selector.calibration.problems": 5},
            ["dynamic B4, 10 labels", "dynamic B4, 5 labels"],
        ),
        (
            {"prefilter.path": "ranks.jsonl", "prefilter.delta": 3},
            ["dynamic B4, no rank filter", "dynamic B4, rank filter 3"],
        ),
        (
            {"selector.calibration.problems": 5, "prefilter.make": True},
            ["dynamic B4, 10 labels, no rank filter", "dynamic B4, 5 labels, rank filter 2"],
        ),
    ],
)
def test_runs_of_one_method_with_other_labels_or_another_filter_stand_apart(
    tmp_path, change, names
):
    results = [
        read_result(make_run(tmp_path / name, config=configuration(**DYNAMIC, **changes)))
        for name, changes in (("one", {}), ("seed", {"seed": 1}), ("other", change))
    ]
    runs = {row[0]: row[-1] for row in rows_of(markdown(results), "## Averages")}
    assert runs == {"base": "3", names[0]: "2", names[1]: "1"}
    assert write_figure(results, tmp_path / "figure.svg")
    figure = ElementTree.parse(tmp_path / "figure.svg").getroot()
    words = [text.strip() for text in figure.itertext()]
    # Once in the panel of changes, once in that of courses.
    assert [words.count(name) for name in (*names, "dynamic B4")] == [2, 2, 0]


def test_the_time_table_leaves_out_the_step_that_compiles(tmp_path):
    text = markdown([read_result(make_run(tmp_path / "run", steps=5))])
    rows = {row[0]: row[1:] for row in rows_of(text, "## Time of a step")}
    assert rows["rollout"] == ["32.1 (6%)", "3.00 (38%)"]
    assert rows["mutation"] == ["204.7 (36%)", "1.00 (12%)"]
    assert rows["total"] == ["574.0 (100%)", "8.00 (100%)"]
    assert rows["calibration"] == ["11.4 (2%)", ""]


def test_selection_noise_shows_its_drift(tmp_path):
    noise = [(0, "B4(4,3)", 0.5), (9, "B4(4,3)", 0.4), (19, "B4(4,3)", 0.2), (0, "CodeT", 0.25)]
    rows = rows_of(
        markdown([read_result(make_run(tmp_path / "run", noise=noise))]), "## Selection noise"
    )
    assert rows[0] == [
        f"{tmp_path.name}/run",
        "B4(4,3)",
        "50.0 (step 0)",
        "40.0 (step 9)",
        "20.0 (step 19)",
        "-30.0",
    ]
    assert rows[1][-1] == "+0.0"


def test_sensitivity_compares_runs_of_one_method(tmp_path):
    def run(name, **changes):
        return read_result(make_run(tmp_path / name, config=configuration(**changes)))

    five = run("five", **DYNAMIC, **{"selector.calibration.problems": 5})
    ten = run("ten", **DYNAMIC)
    other = run("other", **{"selector.name": "codet"})
    assert "## Sensitivity" not in markdown([ten, other])
    rows = rows_of(markdown([ten, five, other]), "## Sensitivity")
    assert [row[1:4] for row in rows] == [["dynamic B4", "none", "5"], ["dynamic B4", "none", "10"]]


def test_an_evaluation_without_a_run_is_the_base_row(tmp_path):
    summary = {"policy": "hf:Qwen/Qwen3-4B", "step": None}
    summary["mbpp"] = {"pass_at_1": 0.5, "test_accuracy": 0.4, "mutation_score": None, "scores": {}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    rows = rows_of(markdown([read_result(tmp_path)]), "### Qwen3-4B")
    assert rows[0] == ["base", "30.4", "50.0", "49.8", "40.0", "40.1", "45.0", "1"]


def test_an_evaluation_of_a_run_stands_in_the_row_of_its_method(tmp_path):
    changes = {"policy.source": "hf:Qwen/Qwen3-4B", "selector.name": "codet", "seed": 3}
    run = read_run(make_run(tmp_path / "run", config=configuration(**changes)))
    summary = {"policy": "runs/mine", "step": 4, "run": row_of(run)}
    summary["mbpp"] = {"pass_at_1": 0.5, "test_accuracy": 0.4, "mutation_score": 0.2, "scores": {}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    result = read_result(tmp_path)
    assert (result.seed, list(result.after.benchmarks)) == (3, ["mbpp"])
    rows = {row[0]: row[1:] for row in rows_of(markdown([result]), "### Qwen3-4B")}
    assert rows["CodeT"] == ["34.6", "50.0", "50.3", "30.0", "42.5", "40.0", "1"]


def test_averages_over_different_benchmarks_are_not_averaged(tmp_path):
    for name in ("mbpp", "humaneval"):
        (tmp_path / name).mkdir()
        figures = {"pass_at_1": 0.5 if name == "mbpp" else 1.0, "scores": {}}
        summary = {"policy": "hf:Qwen/Qwen3-4B", "step": None, name: figures}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    text = markdown([read_result(tmp_path / name) for name in ("mbpp", "humaneval")])
    assert rows_of(text, "### Qwen3-4B, measured on mbpp")[0][2] == "50.0"
    assert rows_of(text, "### Qwen3-4B, measured on humaneval")[0][2] == "100.0"


def test_a_run_without_an_evaluation_still_has_its_time(tmp_path):
    lines = [{"step": n, "role": "coder", "seconds/total": 2.0} for n in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    text = markdown([read_result(tmp_path)])
    assert "## Averages" not in text and "## Time of a step" in text


@pytest.mark.parametrize("content", ["", "{", '{"seconds": 3}', "[]"])
def test_what_is_neither_run_nor_evaluation_is_refused(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        read_result(tmp_path)


def test_the_figure_shows_every_group_and_is_the_same_each_time(tmp_path):
    noise = [(0, "B4(4,3)", 0.5), (9, "B4(4,3)", 0.4)]
    results = [
        read_result(make_run(tmp_path / "a", noise=noise)),
        read_result(make_run(tmp_path / "b", config=configuration(**{"selector.name": "codet"}))),
    ]
    assert write_figure(results, tmp_path / "one.svg")
    assert write_figure(results, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    words = " ".join(ElementTree.fromstring(text).itertext())
    assert all(name in words for name in ("B4(4,3)", "CodeT", "Selection noise"))
    assert not write_figure([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_the_command_prints_or_writes_tables_and_figure(tmp_path, repository):
    run = make_run(tmp_path / "run")
    command = [sys.executable, "launch/tables.py", str(run)]
    shown = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert shown.returncode == 0 and "| B4(4,3) | 60.0 | 50.0 | 55.0 | 1 |" in shown.stdout
    command.append(f"--output={tmp_path}/results/toy")
    written = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert written.returncode == 0, written.stderr
    text = (tmp_path / "results" / "toy.md").read_text()
    assert "![What training changed](toy.svg)" in text and shown.stdout in text
    assert (tmp_path / "results" / "toy.svg").stat().st_size > 1000
    refused = subprocess.run(
        [sys.executable, "launch/tables.py", str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
