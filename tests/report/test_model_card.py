"""The card of an export says what was trained, on what, how, and what it scored."""

import json
from pathlib import Path

import pytest
import yaml

from configs import base
from zerocoder_jax.command_line import write_config_json
from zerocoder_jax.evaluation.results import ProblemResult, ResultsFile, SolutionResult
from zerocoder_jax.report.model_card import model_card


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 20 steps over MBPP, measured before its first step and after its twelfth."""
    config = base.get_config()
    config.steps = 20
    config.problems.source = "mbpp:data"
    config.policy.source = "hf:Qwen/Qwen2.5-Coder-7B-Instruct"
    write_config_json(tmp_path / "run", config)
    for step, right in ((0, 2), (12, 6)):
        path = tmp_path / "run" / "evaluation" / f"step_{step:06d}" / "humaneval.jsonl"
        with ResultsFile(path, {"seed": 0}) as file:
            for number in range(8):
                solution = SolutionResult("reply", "code", "", 1, True, (), number < right)
                file.append(ProblemResult(str(number), "greedy", (solution,)))
    return tmp_path / "run"


def header(card: str) -> dict[str, object]:
    _, metadata, _ = card.split("---\n", 2)
    return yaml.safe_load(metadata)


def test_a_runs_card_has_its_settings_data_and_figures_with_intervals(run: Path) -> None:
    hub_id = "Qwen/Qwen2.5-Coder-7B-Instruct"
    card = model_card(str(run), base=hub_id, dtype="bfloat16", step=12)
    assert header(card) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": hub_id,
        "tags": ["code", "zerocoder", "grpo"],
    }
    assert (
        f"Weights in bfloat16 after 12 of 20 steps of zerocoder_jax 0.1.0 from `{hub_id}`" in card
    )
    assert "`mbpp:data`, split `train`, 32 a step" in card and "no labels were used" in card
    # 2 and 6 of 8; the intervals are those of evaluation.measures.
    assert "| humaneval | pass@1 | 25.0 (0.0 to 62.5) | 75.0 (49.7 to 100.0) | 8 |" in card
    settings = card.split("```json\n")[1].split("\n```")[0]
    assert json.loads(settings) == json.loads((run / "config.json").read_text())


def test_a_checkpoint_that_was_not_measured_says_so(run: Path) -> None:
    card = model_card(str(run), base="", dtype="float32", step=13)
    assert "The policy after 13 steps was not measured during the run." in card
    assert "base_model" not in header(card)


def test_adapters_are_for_peft_and_a_directory_is_no_base_on_the_hub(run: Path) -> None:
    card = model_card(str(run), base="/models/mine", dtype="float32", step=12, adapter=True)
    assert header(card)["library_name"] == "peft" and "base_model" not in header(card)
    assert "Low-rank adapters in float32" in card and "from `/models/mine`" in card


def test_what_was_not_trained_here_is_called_converted() -> None:
    card = model_card("gguf:model.gguf", base="", dtype="float32")
    assert "Weights in float32, converted from `gguf:model.gguf`" in card
    assert "## Settings" not in card and "## Figures" not in card
