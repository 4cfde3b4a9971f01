"""Train a policy as Coder and Tester at once, without labels; the same command continues a run."""

import sys
from pathlib import Path

from zerocoder_jax.command_line import command_parser, make_folder, require
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import run_command

EXAMPLES = """examples:
  python launch/train.py --config=configs/toy.py --workdir=runs/toy
  python launch/train.py --config=configs/qwen2_5_coder_7b.py:dynamic_b4,no_mutation --workdir=RUN
  python launch/train.py --config=configs/qwen2_5_coder_0_5b.py --workdir=RUN \\
      --config.problems.source=jsonl:my_problems.jsonl --config.optimizer.learning_rate=5e-7

Every field is explained in configs/base.py. The run directory receives config.json, metrics.jsonl
(one line a step), TensorBoard events, rollouts/ (every sample, verdict, selection and reward),
checkpoints/, report.html and, where benchmarks are evaluated, summary.json."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True, workdir=True)
    parser.add_argument("--list", action="store_true", help="print the named experiments and leave")
    arguments, overrides = parser.parse_known_args()
    if arguments.list:
        return list_experiments()
    config = load_config(require(arguments.config, "--config"), overrides)
    workdir = Path(require(arguments.workdir, "--workdir"))

    # JAX starts here, not before: mistakes above are answered at once.
    import jax

    from zerocoder_jax.evaluation import training_evaluation, write_summary
    from zerocoder_jax.parallel import start_hosts
    from zerocoder_jax.report import write_report
    from zerocoder_jax.training.checkpoints import Checkpoints
    from zerocoder_jax.training.coevolution import CoEvolution, Interrupted
    from zerocoder_jax.training.training_problems import training_problems

    start_hosts(config.distributed)
    make_folder(workdir, "--workdir")
    # Before anything is written: a run that is refused finds its directory as it was.
    with Checkpoints(workdir / "checkpoints", config, read_only=True) as checkpoints:
        checkpoints.refuse_other_config()
    problems = training_problems(config, workdir)

    def report() -> None:
        # Of several hosts the first one writes what people read.
        if jax.process_index() == 0:
            write_report(workdir)

    def report_now_and_then(step: int, every: int) -> None:
        if every and (step + 1) % every == 0:
            report()

    run = CoEvolution(
        config,
        workdir,
        problems,
        evaluate=training_evaluation(config, workdir),
        after_step=lambda step: report_now_and_then(step, config.logging.report_every),
    )
    try:
        run.run()
    except Interrupted as interruption:
        report()
        print(interruption, file=sys.stderr)
        sys.exit(143)
    if jax.process_index() == 0:
        write_summary(workdir)
    report()


def list_experiments() -> None:
    """Print the table of ``configs/experiments.py``."""
    from configs.experiments import EXPERIMENTS

    width = max(map(len, EXPERIMENTS))
    for name, (description, changes) in EXPERIMENTS.items():
        fields = ", ".join(f"{field}={value}" for field, value in changes.items())
        print(f"{name:<{width}}  {description}\n{'':<{width}}  {fields}")


if __name__ == "__main__":
    run_command(main)
