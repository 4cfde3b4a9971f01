"""Pretrain the toy policy from scratch: the weights that `policy.source=toy` loads."""

import os
import shutil
from pathlib import Path

from zerocoder_jax.command_line import command_parser, make_folder
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/pretrain_toy.py --output=build/toy        (one core, some 25 minutes)
  python launch/pretrain_toy.py --output=zerocoder_jax/policy/toy_weights --overwrite

The corpus is generated, the tokenizer is trained on it, and everything follows from the seed in
zerocoder_jax/training/pretraining.py: the same command on the same machine gives the same weights,
on another one nearly the same."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--output", type=Path, required=True, help="directory for the policy")
    parser.add_argument("--overwrite", action="store_true", help="replace what lies there")
    parser.add_argument("--steps", type=int, default=0, help="optimizer steps (default: settings)")
    arguments = parser.parse_args()
    if arguments.output.exists() and not arguments.overwrite:
        raise UserError(f"{arguments.output} is there already; --overwrite replaces it")
    make_folder(arguments.output.parent, "--output: the folder")
    # One thread: a matrix product of this size gains nothing from a second one, and its sums
    # are made in the same order on every machine.
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    from zerocoder_jax.policy import save_policy
    from zerocoder_jax.training.pretraining import PretrainingSettings, Progress, pretrain

    settings = PretrainingSettings()
    if arguments.steps:
        if arguments.steps <= settings.warmup:
            raise UserError(f"--steps must be more than the {settings.warmup} of the warm-up")
        settings = PretrainingSettings(steps=arguments.steps)
    for event in pretrain(settings):
        if isinstance(event, Progress):
            print(
                f"step {event.step:5d}/{event.steps}   loss {event.loss:.3f}"
                f"   {event.tokens_per_second:6.0f} tokens/s"
                f"   {event.seconds_left / 60:4.1f} min left",
                flush=True,
            )
        else:
            if arguments.overwrite:
                shutil.rmtree(arguments.output, ignore_errors=True)
            save_policy(event, arguments.output, dtype="bfloat16")
    print(f"saved in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
