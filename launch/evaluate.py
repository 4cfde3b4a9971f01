"""Measure a policy: pass@1 of its solutions, accuracy and mutation score of its tests."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import (
    checkpoint_step,
    command_parser,
    make_folder,
    read_config_json,
    require,
)
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/evaluate.py --policy=RUN --benchmarks=mbpp:mbpp.jsonl
  python launch/evaluate.py --policy=RUN --step=100 --benchmarks=mbpp:mbpp.jsonl@validation
  python launch/evaluate.py --config=configs/qwen2_5_coder_7b.py --benchmarks=paper
  python launch/evaluate.py --config=configs/qwen2_5_coder_0_5b.py --policy=gguf:FILE \\
      --benchmarks=mbpp:mbpp.jsonl,humaneval:HumanEval.jsonl.gz --samples=16 --output=results/base

A benchmark is a problem source, format:PATH[@SPLIT], of its test split where no split is given;
without :PATH it is fetched from where it is published; "paper" stands for the paper's four sets.
The output folder receives BENCHMARK.jsonl (every reply and verdict) and summary.json. The same
command continues an interrupted evaluation."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True)
    add_arguments(parser)
    arguments, overrides = parser.parse_known_args()
    check(arguments)
    config = evaluation_config(arguments, overrides)

    # JAX starts here, not before: mistakes above are answered at once.
    from zerocoder_jax.evaluation import EvaluationSettings, read_benchmarks
    from zerocoder_jax.evaluation.evaluated_policy import is_run, load_evaluated_policy
    from zerocoder_jax.execution import open_pool
    from zerocoder_jax.parallel import keep_compiled_programs, make_mesh, start_hosts
    from zerocoder_jax.rollout import RolloutEngine
    from zerocoder_jax.training.sampling import Sampler, sampling_settings

    sources = arguments.benchmarks or config.evaluation.benchmarks
    benchmarks = read_benchmarks(
        require(sources, "--benchmarks"),
        limit=config.evaluation.limit if arguments.limit is None else arguments.limit,
        skip_malformed=arguments.skip_malformed or config.problems.skip_malformed,
    )
    settings = EvaluationSettings(
        max_new_tokens=config.evaluation.max_new_tokens,
        samples=arguments.samples,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        ungated=True,
        mutant_limit=config.mutation.limit,
        seed=config.seed,
    )
    keep_compiled_programs()
    start_hosts(config.distributed)
    mesh = make_mesh(config.mesh)
    source = arguments.policy or config.policy.source
    evaluated = load_evaluated_policy(source, mesh, step=arguments.step)
    output = make_folder(Path(arguments.output), "--output")
    bare, step = evaluated.policy.with_params({}), evaluated.step
    assert bare.tokenizer is not None
    sampling = sampling_settings(config.rollout)
    engine = RolloutEngine(bare, sampling, config.rollout, mesh, evaluated.lora)
    engine.load(evaluated.policy.params, evaluated.adapters)
    del evaluated  # the engine has its own copy of the weights, in its own precision
    about = {"policy": source, "step": step}
    with open_pool(config.execution) as pool:
        sampler = Sampler(engine, pool, bare.tokenizer, config)
        scores = measure(benchmarks, sampler, pool, config, settings, about, output)
    report(scores, about, run_row(Path(source), step) if is_run(source) else {}, output)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments beside --config."""
    parser.add_argument(
        "--policy",
        metavar="SOURCE|RUN",
        default="",
        help="hf:ID_OR_DIRECTORY, gguf:FILE, toy, or a run directory; default: the config's",
    )
    parser.add_argument(
        "--step",
        type=checkpoint_step,
        help="of a run: the checkpoint after N steps, or 'best'; default: the newest",
    )
    parser.add_argument("--benchmarks", metavar="LIST", default="", help="comma-separated")
    parser.add_argument("--output", metavar="DIR", default="results", help="default: results")
    parser.add_argument(
        "--limit",
        type=int,
        help="only the first N problems, 0 for all; default: the config's",
    )
    parser.add_argument("--samples", type=int, default=1, help="solutions a problem, for pass@k")
    parser.add_argument("--temperature", type=float, default=0.7, help="of these; default: 0.7")
    parser.add_argument("--top-p", type=float, default=0.8, help="of these; default: 0.8")
    parser.add_argument(
        "--skip-malformed", action="store_true", help="count malformed records and go on"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that would measure something else than was meant, or nothing."""
    if arguments.limit is not None and arguments.limit < 0:
        raise UserError(f"--limit={arguments.limit}: it must be at least 0, which measures all")
    if arguments.samples < 1:
        raise UserError(f"--samples={arguments.samples}: it must be at least 1")
    if not 0 <= arguments.temperature < math.inf:
        raise UserError(f"--temperature={arguments.temperature}: it must be a number of at least 0")
    if not 0 < arguments.top_p <= 1:
        raise UserError(f"--top-p={arguments.top_p}: it must be above 0 and at most 1")


def evaluation_config(arguments: argparse.Namespace, overrides: list[str]) -> Any:
    """The config file's config or, without one, that of the run that is measured."""
    if arguments.config:
        return load_config(arguments.config, overrides)
    run = Path(require(arguments.policy, "--policy or --config"))
    if not (run / "config.json").is_file():
        raise UserError(f"--policy={arguments.policy} is no run directory, so --config is needed")
    if overrides:
        raise UserError(f"{overrides[0]}: single fields can be changed only with --config")
    return read_config_json(run)


def measure(
    benchmarks: list[Any],
    sampler: Any,
    pool: Any,
    config: Any,
    settings: Any,
    about: dict[str, Any],
    output: Path,
) -> dict[str, Any]:
    """Every benchmark's scores, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from zerocoder_jax.evaluation import ResultsFile, benchmark_scores, evaluate
    from zerocoder_jax.evaluation.during_training import measurement

    passes = 2 if settings.samples > 1 else 1
    scores = {}
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for benchmark in benchmarks:
            path = output / f"{benchmark.name}.jsonl"
            described = measurement(config, benchmark.source, settings) | about
            with ResultsFile(path, described) as file:
                asked_for = {problem.task_id for problem in benchmark.problems}
                task = progress.add_task(
                    benchmark.name,
                    total=passes * len(asked_for),
                    completed=sum(task_id in asked_for for _, task_id in file.results),
                )

                def advance(result: Any, task: Any = task) -> None:
                    progress.advance(task)

                results = evaluate(sampler, pool, benchmark, settings, file, advance)
            scores[benchmark.name] = benchmark_scores(results)
    return scores


def run_row(run: Path, step: int) -> dict[str, Any]:
    """Which row of the paper's tables a run's checkpoint belongs to."""
    from zerocoder_jax.report.run_directory import read_run
    from zerocoder_jax.report.run_results import row_of

    row = row_of(read_run(run))
    unfinished = step < read_config_json(run).steps
    return row | ({"method": f"{row['method']}, step {step}"} if unfinished else {})


def report(
    scores: dict[str, Any], about: dict[str, Any], row: dict[str, Any], output: Path
) -> None:
    """Print the scores and the row of the paper's Table 1, and write summary.json."""
    from zerocoder_jax.evaluation.scores import scores_record, table_row

    for benchmark, named in scores.items():
        print(f"\n{benchmark}")
        for name, score in named.items():
            interval = f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
            print(f"  {name:<24} {100 * score.value:5.1f} {interval:>14}  of {score.problems}")
    name = about["policy"] if about["step"] is None else f"{about['policy']} at {about['step']}"
    print(f"\n{table_row(name, scores)}")
    summary = about | ({"run": row} if row else {})
    summary |= {name: scores_record(named) for name, named in scores.items()}
    write_atomically(output / "summary.json", json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
