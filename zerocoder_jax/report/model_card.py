"""The README.md of an export: what the policy is, how it was trained, what it scored.

A model card as the Hugging Face hub reads it: a header of metadata, then Markdown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerocoder_jax import __version__
from zerocoder_jax.report.run_directory import Json, RunDirectory, read_run
from zerocoder_jax.report.run_results import method_name

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

_SCORE_NAMES = {
    "pass_at_1": "pass@1",
    "test_accuracy": "test accuracy",
    "mutation_score": "mutation score",
}

_USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("DIRECTORY", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")
```"""

_USE_ADAPTER = """## Use

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("DIRECTORY")
```"""


def model_card(
    source: str, *, base: str, dtype: str, step: int | None = None, adapter: bool = False
) -> str:
    """The card of an export.

    Args:
        source: a run directory, or a ``config.policy.source``.
        base: what training began with, as others load it; may be empty.
        dtype: of the stored weights.
        step: training steps behind the policy; None for what was not trained here.
        adapter: low-rank adapters alone, in PEFT's layout.
    """
    run = None if step is None else read_run(source)
    parts = [
        _header(base, adapter),
        f"# {run.title if run else source}",
        _origin(source, run, base, dtype, step, adapter),
    ]
    if run is not None:
        parts += [_data(run.config), _figures(run, step or 0), _settings(run.config)]
    parts.append(_USE_ADAPTER if adapter else _USE)
    return "\n\n".join(parts) + "\n"


def _header(base: str, adapter: bool) -> str:
    lines = ["---", f"library_name: {'peft' if adapter else 'transformers'}"]
    lines.append("pipeline_tag: text-generation")
    if _HUB_ID.fullmatch(base):
        lines.append(f"base_model: {base}")
    return "\n".join([*lines, "tags: [code, zerocoder, grpo]", "---"])


def _origin(
    source: str, run: RunDirectory | None, base: str, dtype: str, step: int | None, adapter: bool
) -> str:
    what = "Low-rank adapters" if adapter else "Weights"
    begun = f" from `{base}`" if base else ""
    if run is None:
        return f"{what} in {dtype}, converted from `{source}` by zerocoder_jax {__version__}."
    return (
        f"{what} in {dtype} after {step} of {run.total_steps} steps of zerocoder_jax "
        f"{__version__}{begun}: one policy that writes solutions (Coder) and tests (Tester), "
        f"trained with {method_name(run.config)}."
    )


def _data(config: Json) -> str:
    problems = config.get("problems") or {}
    labels = {
        "none": "no labels were used",
        "oracle": "the labels of every problem were used for rewards",
        "calibration": "the labels of the calibration problems were used for rewards",
    }.get(str(config.get("supervision")), "the use of labels is not recorded")
    lines = [
        f"- problems: `{problems.get('source')}`, split `{problems.get('split')}`, "
        f"{problems.get('per_step')} a step",
        f"- rewards: {labels}",
    ]
    calibration = (config.get("selector") or {}).get("calibration") or {}
    if calibration.get("enabled"):
        lines.append(
            f"- the selector was calibrated on {calibration.get('problems')} labelled problems"
        )
    return "## Data\n\n" + "\n".join(lines)


def _figures(run: RunDirectory, step: int) -> str:
    """Before training and of this policy, in percent with 95% intervals."""
    measured = {0: _scores(run.path, 0), step: _scores(run.path, step)}
    if not measured[step]:
        return f"## Figures\n\nThe policy after {step} steps was not measured during the run."
    rows = []
    for benchmark, scores in measured[step].items():
        for score, name in _SCORE_NAMES.items():
            if score in scores:
                before, after = measured[0].get(benchmark, {}).get(score), scores[score]
                rows.append(
                    [benchmark, name, _percent(before), _percent(after), str(after.problems)]
                )
    header = ["benchmark", "score", "before training", f"after {step} steps", "problems"]
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        "## Figures\n\nIn percent; the 95% interval is a bootstrap over the problems. Greedy, "
        "by the verifier of zerocoder_jax.\n\n" + table
    )


def _scores(run: Path, step: int) -> Mapping[str, Mapping[str, Any]]:
    """Benchmark -> name -> score, of the evaluation after ``step`` steps."""
    # These start JAX, which reading a report needs not.
    from zerocoder_jax.evaluation.results import read_results
    from zerocoder_jax.evaluation.scores import benchmark_scores

    files: Sequence[Path] = sorted((run / "evaluation" / f"step_{step:06d}").glob("*.jsonl"))
    return {file.stem: benchmark_scores(read_results(file)) for file in files}


def _percent(score: Any) -> str:
    if score is None:
        return ""
    return f"{100 * score.value:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})"


def _settings(config: Json) -> str:
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return f"## Settings\n\n```json\n{text}\n```"
