"""The whole method on a laptop's CPU: measure, co-evolve without labels, measure again, report."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zerocoder_jax.command_line import command_parser, read_config_json
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/demo.py                                  (this is what `make demo` runs)
  python launch/demo.py --workdir=runs/seed1 --config.seed=1

All it does is `launch/train.py --config=configs/toy.py --workdir=RUN`, then
`launch/selection_noise.py`, and a table of what came out; the table's figures are in
RUN/summary.json, everything else in RUN/report.html. A finished demo in the same directory is
replaced, an interrupted one is continued."""

REPOSITORY = Path(__file__).resolve().parent.parent
SCORES = {
    "pass_at_1": "pass@1, greedy",
    "test_accuracy": "test accuracy",
    "mutation_score": "mutation score",
}


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, workdir=True)
    arguments, overrides = parser.parse_known_args()
    workdir = Path(arguments.workdir or REPOSITORY / "runs" / "demo")
    remove_finished_demo(workdir)
    start = time.monotonic()
    run(
        "train", f"--config={REPOSITORY / 'configs' / 'toy.py'}", f"--workdir={workdir}", *overrides
    )
    if not (workdir / "summary.json").exists():
        raise UserError("the demo measures, so config.evaluation.benchmarks must not be empty")
    print("training is over: how often would each selector have been wrong, by labels?", flush=True)
    noise = ("selection_noise", f"--workdir={workdir}", "--problems-per-point=160")
    run(*noise, stdout=subprocess.DEVNULL)
    run("report", f"--workdir={workdir}", stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    summary = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    show(summary, results_by_difficulty(workdir, summary["steps"]), seconds, workdir)


def remove_finished_demo(workdir: Path) -> None:
    """Make room for another demo; other results are refused, and stay."""
    if not (workdir / "summary.json").exists():
        return
    fields = read_config_json(workdir).to_dict()
    demo = {"policy": "toy", "problems": "toy:train"}
    parts = {name: fields.get(name) for name in demo}
    if any(not isinstance(p, dict) or p.get("source") != demo[name] for name, p in parts.items()):
        raise UserError(f"{workdir} holds other results than a demo's: choose another --workdir")
    shutil.rmtree(workdir)


def run(script: str, *arguments: str, stdout: int | None = None) -> None:
    """Run a script of this folder; leave with its exit code where it fails."""
    command = [sys.executable, str(REPOSITORY / "launch" / f"{script}.py"), *arguments]
    finished = subprocess.run(command, stdout=stdout)
    if finished.returncode:
        raise SystemExit(finished.returncode)


def results_by_difficulty(workdir: Path, steps: dict[str, int]) -> dict[str, dict[str, Any]]:
    """pass@1 and test accuracy before and after, apart for seen and unseen families."""
    from zerocoder_jax.problems.toy import read_toy

    difficulty = {problem.task_id: problem.difficulty for problem in read_toy("test")}
    shares: dict[str, dict[str, Any]] = {}
    for moment, step in steps.items():
        rows: dict[str, list[tuple[bool, bool]]] = {}
        for path in (workdir / "evaluation" / f"step_{step:06d}").glob("*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines()[1:]:
                result = json.loads(line)
                kind = difficulty.get(result["task_id"])
                if kind and result["solutions"] and result["tests"]:
                    right = bool(result["solutions"][0]["correct"])
                    passes = bool(result["tests"][0]["passes"])
                    rows.setdefault(kind, []).append((right, passes))
        for kind, pairs in rows.items():
            right, passes = (sum(column) / len(pairs) for column in zip(*pairs))
            shares.setdefault(kind, {"problems": len(pairs)})[moment] = (right, passes)
    return shares


def show(summary: dict, difficulties: dict[str, Any], seconds: float, workdir: Path) -> None:
    """Print the table of before and after, and where to look next."""
    table = Table(title="toy:test, problems that were never trained on")
    for column in ("", "before", "after", "gain"):
        table.add_column(column, justify="left" if not column else "right")

    def row(name: str, before: float, after: float) -> None:
        gain = f"{100 * (after - before):+.1f}"
        table.add_row(name, f"{100 * before:.1f}%", f"{100 * after:.1f}%", gain)

    for score, name in SCORES.items():
        row(name, summary["before"][score], summary["after"][score])
    for kind, shares in sorted(difficulties.items()):
        table.add_section()
        for place, name in enumerate(("pass@1", "test accuracy")):
            title = f"{name}, {kind} families ({shares['problems']} problems)"
            row(title, shares["before"][place], shares["after"][place])
    console = Console()
    console.print(table)
    console.print(f"{seconds:.0f} seconds; no label was used in training", highlight=False)
    for name, file in (("report", "report.html"), ("figures", "summary.json")):
        console.print(f"{name}: {workdir / file}", highlight=False, soft_wrap=True)
    if not (workdir / "report.html").exists():
        raise UserError(f"{workdir}/report.html was not written; see the messages above")


if __name__ == "__main__":
    run_command(main)
