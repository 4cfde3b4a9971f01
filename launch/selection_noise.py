"""Measure how often each selector was wrong over a run, by labels that training never saw."""

from pathlib import Path

from zerocoder_jax.command_line import command_parser, read_config_json, require
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/selection_noise.py --workdir=runs/toy
  python launch/selection_noise.py --workdir=RUN --problems-per-point=100

Nothing is sampled: every selector is asked about the samples and verdicts in RUN/rollouts, and the
selected solutions are run against the reference tests of the run's problems. The result,
RUN/selection_noise.jsonl, appears in the report and in launch/tables.py."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, workdir=True)
    parser.add_argument(
        "--problems-per-point",
        type=int,
        metavar="N",
        default=300,
        help="problems behind each point of the curve; default: %(default)s, as in the paper",
    )
    arguments = parser.parse_args()
    if arguments.problems_per_point < 1:
        raise UserError("--problems-per-point must be at least 1")
    workdir = Path(require(arguments.workdir, "--workdir"))
    config = read_config_json(workdir)

    # JAX starts here, not before: mistakes above are answered at once.
    from rich.progress import Progress

    from zerocoder_jax.evaluation.selection_noise import selection_noise, write_selection_noise
    from zerocoder_jax.execution import open_pool
    from zerocoder_jax.problems import read_problems

    source = config.problems
    problems = read_problems(source.source, source.split, source.limit, skip_malformed=True)
    with open_pool(config.execution) as pool, Progress() as progress:
        task = progress.add_task("steps", total=None)
        points = selection_noise(
            workdir,
            problems,
            pool,
            dynamic=config.selector.calibration.enabled,
            problems_per_point=arguments.problems_per_point,
            on_step=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_selection_noise(workdir, points)
    print(f"{'step':>6}  {'selector':<12} {'noise':>7}  {'problems':>8}  {'abstained':>9}")
    for point in points:
        noise = "-" if point.noise is None else f"{100 * point.noise:.1f}%"
        print(
            f"{point.step:>6}  {point.selector:<12} {noise:>7}  {point.problems:>8}"
            f"  {point.abstained:>9}"
        )


if __name__ == "__main__":
    run_command(main)
