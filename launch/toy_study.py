"""The toy study: every arm over several seeds, one table and one figure in docs/results/."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import command_parser
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/toy_study.py                             (this is what `make toy-study` runs)
  python launch/toy_study.py --arms='b4_4_3;online' --seeds=1
  python launch/toy_study.py --only-report

Each arm and seed is one `launch/train.py` run in runs/toy_study/; those that are finished are not
run again, an interrupted one is continued. Table and figure are rewritten after each run."""

REPOSITORY = Path(__file__).resolve().parent.parent
SCORES = {
    "pass_at_1": "pass@1",
    "test_accuracy": "test accuracy",
    "mutation_score": "mutation score",
}


@dataclass(frozen=True)
class Arm:
    """A row of the study: its title and the experiments of ``configs/experiments.py`` it runs."""

    title: str
    experiments: str


ARMS = {
    arm.experiments: arm
    for arm in (
        Arm("offline test-driven RL", "offline"),
        Arm("online test-driven RL", "online"),
        Arm("ZeroCoder, MaxPass", "max_pass"),
        Arm("ZeroCoder, CodeT", "codet"),
        Arm("ZeroCoder, B4(4,3)", "b4_4_3"),
        Arm("ZeroCoder, dynamic B4 (10 labels)", "dynamic_b4"),
        Arm("ZeroCoder, dynamic B4 (10 labels, calibration only)", "dynamic_b4_unsupervised"),
        Arm("without the mutation term, B4(4,3)", "b4_4_3,no_mutation"),
        Arm("weighted by confidence, B4(4,3)", "b4_4_3,confident"),
        Arm("oracle rewards (all labels)", "oracle"),
    )
}


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--arms", default="", help="semicolon-separated; default: all")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... of each arm")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "toy_study")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "results")
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    arguments, overrides = parser.parse_known_args()
    arms = [name for name in arguments.arms.split(";") if name] or list(ARMS)
    if unknown := [name for name in arms if name not in ARMS]:
        raise UserError(f"--arms: {unknown[0]!r} is none of {'; '.join(ARMS)}")
    if not arguments.only_report:
        # Seed by seed, so that a study that is stopped early still compares all arms.
        for seed in range(arguments.seeds):
            for name in arms:
                run(name, seed, arguments.runs, overrides)
                report(arguments.runs, arguments.output)
    report(arguments.runs, arguments.output)


def run(arm: str, seed: int, runs: Path, overrides: list[str]) -> None:
    """Train one arm with one seed, unless that is done."""
    workdir = run_directory(runs, arm, seed)
    if (workdir / "summary.json").exists():
        return
    print(f"{ARMS[arm].title}, seed {seed}", flush=True)
    train = [
        sys.executable,
        str(REPOSITORY / "launch" / "train.py"),
        f"--config={REPOSITORY / 'configs' / 'toy.py'}:{arm}",
        f"--workdir={workdir}",
        f"--config.seed={seed}",
        *overrides,
    ]
    workdir.mkdir(parents=True, exist_ok=True)
    # All arms run the same programs: only the first run compiles them.
    environment = {"JAX_COMPILATION_CACHE_DIR": str(runs / "compiled")} | os.environ
    with (workdir / "log.txt").open("a", encoding="utf-8") as log:
        finished = subprocess.run(train, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if finished.returncode:
        raise UserError(f"{arm}, seed {seed} ended with {finished.returncode}; see {log.name}")


def run_directory(runs: Path, arm: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / arm.replace(",", "+") / f"seed_{seed}"


def report(runs: Path, output: Path) -> None:
    """Write ``toy_study.json``, ``toy_study.md`` and ``toy_study.svg`` from the finished runs."""
    results: dict[str, list[dict[str, Any]]] = {}
    for name in ARMS:
        for directory in sorted((runs / name.replace(",", "+")).glob("seed_*")):
            if (directory / "summary.json").exists():
                text = (directory / "summary.json").read_text(encoding="utf-8")
                results.setdefault(name, []).append(json.loads(text))
    if not results:
        raise UserError(f"{runs} holds no finished run")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "toy_study.json", json.dumps(results, indent=1) + "\n")
    write_atomically(output / "toy_study.md", table(results))
    write_atomically(output / "toy_study.svg", figure(results))


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """The study as Markdown: mean over seeds, and the range."""
    lines = [
        "# The toy study",
        "",
        "Made by `make toy-study` (`python launch/toy_study.py`). Greedy replies on `toy:test`, in",
        "percent: mean over the seeds (lowest to highest). The base policy is the same for all.",
        "",
        f"| | seeds | {' | '.join(SCORES.values())} |",
        "|---|---:|" + "---:|" * len(SCORES),
    ]
    bases = [summary for summaries in results.values() for summary in summaries]
    lines.append(f"| base | | {cells(bases, 'before')} |")
    for name, summaries in results.items():
        lines.append(f"| {ARMS[name].title} | {len(summaries)} | {cells(summaries, 'after')} |")
    return "\n".join(lines) + "\n\n![the toy study](toy_study.svg)\n"


def cells(summaries: list[dict[str, Any]], moment: str) -> str:
    """The scores of some runs, as cells of the table."""
    texts = []
    for score in SCORES:
        values = [100 * summary[moment][score] for summary in summaries]
        text = f"{statistics.mean(values):.1f}"
        if max(values) > min(values):
            text += f" ({min(values):.1f} to {max(values):.1f})"
        texts.append(text)
    return " | ".join(texts)


def figure(results: dict[str, list[dict[str, Any]]]) -> str:
    """The study as SVG: one row an arm, one panel a score, one dot a seed, a line at the base."""
    left, width, gap, row, top = 250, 190, 30, 26, 46
    height = top + row * len(results) + 24
    total = left + len(SCORES) * (width + gap)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>',
    ]
    for line, name in enumerate(results):
        y = top + row * line + row / 2
        parts.append(f'<text x="8" y="{y + 4}" fill="#222">{ARMS[name].title}</text>')
    for panel, (score, title) in enumerate(SCORES.items()):
        x0 = left + panel * (width + gap)
        parts.append(f'<text x="{x0}" y="20" fill="#222" font-weight="bold">{title}, %</text>')
        for percent in (0, 25, 50, 75, 100):
            x = x0 + width * percent / 100
            parts.append(
                f'<path d="M{x} {top}V{height - 24}" stroke="#ddd"/>'
                f'<text x="{x}" y="{height - 8}" fill="#555" text-anchor="middle">{percent}</text>'
            )
        bases = [s["before"][score] for summaries in results.values() for s in summaries]
        base = x0 + width * statistics.mean(bases)
        parts.append(
            f'<path d="M{base} {top}V{height - 24}" stroke="#c33" stroke-dasharray="4 3"/>'
            f'<text x="{base}" y="{top - 6}" fill="#c33" text-anchor="middle">base</text>'
        )
        for line, summaries in enumerate(results.values()):
            y = top + row * line + row / 2
            values = [summary["after"][score] for summary in summaries]
            mean = x0 + width * statistics.mean(values)
            parts.append(f'<path d="M{mean} {y - 8}v16" stroke="#1f5fa8" stroke-width="3"/>')
            parts += [
                f'<circle cx="{x0 + width * value}" cy="{y}" r="4" fill="#1f5fa8"'
                ' fill-opacity="0.55"/>'
                for value in values
            ]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    run_command(main)
