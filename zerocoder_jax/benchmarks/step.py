"""Step: the seconds of whole training steps by the paper's phases, and how much of them overlaps.

Runs the training loop itself in a directory of its own. The first step of each role compiles and
is left out.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# The paper's figures for the 7B policy on 4 A100, seconds a step.
PAPER = {
    "rollout": 32.1,
    "execution": 273.0,
    "mutation": 204.7,
    "calibration": 11.4,
    "training": 52.8,
    "total": 574.0,
}
WARM_UP = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    group = parser.add_argument_group("step")
    group.add_argument("--steps", type=int, default=4, help="measured, after two to warm up")


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return ``seconds``, ``phases`` and ``overlap``."""
    import jax

    from zerocoder_jax.problems import read_problems
    from zerocoder_jax.training.coevolution import CoEvolution

    config = config.copy_and_resolve_references()
    config.steps = WARM_UP + arguments.steps
    config.checkpoint.every = config.steps
    config.evaluation.benchmarks = ""
    problems = read_problems(
        config.problems.source, split=config.problems.split, limit=config.problems.limit
    )
    with tempfile.TemporaryDirectory() as folder:
        CoEvolution(config, Path(folder), problems).run()
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines][WARM_UP:]
    names = sorted({name for step in steps for name in step if name.startswith("seconds/")})
    phases = {
        name.removeprefix("seconds/"): float(np.mean([step.get(name, 0.0) for step in steps]))
        for name in names
    }
    total = phases.pop("total")
    result = {
        "device": jax.devices()[0].device_kind,
        "policy": config.policy.source,
        "steps": len(steps),
        "seconds": total,
        "phases": phases,
        # Programs run while samples are still being decoded: for this share of the rollout. The
        # execution phase is what is left to wait for afterwards.
        "overlap": float(np.mean([step["rollout/overlap"] for step in steps])),
        "execution_runs": float(np.mean([step.get("execution/runs", 0.0) for step in steps])),
    }
    _print_table(result)
    return result


def _print_table(result: dict[str, Any]) -> None:
    table = Table(title=f"One step of {result['policy']} on {result['device']}")
    for column in ("phase", "seconds", "share", "paper, 7B on 4 A100"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    total = result["seconds"]
    for name, seconds in [*result["phases"].items(), ("total", total)]:
        paper = f"{PAPER[name]:.1f}" if name in PAPER else ""
        table.add_row(name, f"{seconds:.3f}", f"{seconds / total:.0%}", paper)
    Console().print(table)
    Console().print(f"programs were running during {result['overlap']:.0%} of the rollout")
