"""Train a policy as Coder and Tester at once, without labels; the same command continues a run."""

from pathlib import Path

from zerocoder_jax.command_line import checkpoint_step, command_parser, make_folder, require
from zerocoder_jax.configuration import check_trainable, load_config
from zerocoder_jax.errors import Interrupted, run_command
from zerocoder_jax.storage import warn

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
    parser.add_argument(
        "--step",
        type=checkpoint_step,
        help="roll back to the checkpoint after N steps, or to the best one (--step=best);"
        " what came after it is put aside in RUN/rolled_back",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="continue a run with other values of fields that change what it learns; recorded in"
        " RUN/events.jsonl",
    )
    parser.add_argument("--list", action="store_true", help="print the named experiments and leave")
    arguments, overrides = parser.parse_known_args()
    if arguments.list:
        return list_experiments()
    config = load_config(require(arguments.config, "--config"), overrides)
    workdir = Path(require(arguments.workdir, "--workdir"))
    for warning in check_trainable(config):
        warn(warning)

    # JAX starts here, not before: mistakes above are answered at once.
    import jax

    from zerocoder_jax.evaluation import training_evaluation, write_summary
    from zerocoder_jax.parallel import keep_compiled_programs, start_hosts
    from zerocoder_jax.report import write_report
    from zerocoder_jax.storage import Copies, keep_trying
    from zerocoder_jax.training.checkpoints import Checkpoints
    from zerocoder_jax.training.coevolution import CoEvolution
    from zerocoder_jax.training.run_lock import RunLock
    from zerocoder_jax.training.training_problems import training_problems

    keep_compiled_programs()
    start_hosts(config.distributed)
    make_folder(workdir, "--workdir")
    copies = Copies()

    def report() -> None:
        # Of several hosts the first one writes what people read.
        if jax.process_index() == 0:
            copies.write("report.html", lambda: write_report(workdir))

    def report_now_and_then(step: int, every: int) -> None:
        if every and (step + 1) % every == 0:
            report()

    # Before anything is written: a run that is refused finds its directory as it was.
    Checkpoints(
        workdir / "checkpoints", config, read_only=True, accept_changes=arguments.accept_changes
    ).refuse_other_config(arguments.step)
    with RunLock(workdir) as lock:
        run = CoEvolution(
            config,
            workdir,
            training_problems(config, workdir),
            evaluate=training_evaluation(config, workdir),
            after_step=lambda step: report_now_and_then(step, config.logging.report_every),
            lock=lock,
            step=arguments.step,
            accept_changes=arguments.accept_changes,
        )
        try:
            run.run()
        except Interrupted:
            report()
            raise
        if jax.process_index() == 0:
            keep_trying(lambda: write_summary(workdir), workdir / "summary.json")
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
