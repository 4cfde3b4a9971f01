"""Say whether a run fits a machine, and what bounds its steps there, before renting anything."""

import json
import os

from zerocoder_jax.command_line import command_parser, require
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=a100-80:4
  python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=h100:2x8
  python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=v5p:2x2x1

machines:
  a100-80:N, h100:N, h200:N    one host with N GPUs; HOSTSxN for several
  v4:XxYxZ, v5p:XxYxZ          TPU slices
  v5e:XxY, v6e:XxY

The run's programs are compiled for the machine by its own compiler, which needs no such hardware
(pip install 'zerocoder_jax[plan-gpu]' or '[plan-tpu]'). Where the config does not fit, the smallest
change that makes it fit is named, and the exit code is 2. The last line is JSON: bytes of a device
by phase, and for rollout and update the FLOPs, bytes and least seconds of a step on each device."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True)
    parser.add_argument("--topology", metavar="MACHINE", default="", help="see machines below")
    parser.add_argument(
        "--no-suggestion", action="store_true", help="only say that it does not fit"
    )
    arguments, overrides = parser.parse_known_args()
    config = load_config(require(arguments.config, "--config"), overrides)
    # Nothing is computed, only compiled; and no accelerator of this computer is touched.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from zerocoder_jax.benchmarks.plan import make_plan, policy_shape, report, smallest_change
    from zerocoder_jax.parallel import parse_machine

    machine = parse_machine(require(arguments.topology, "--topology"))
    policy = policy_shape(config.policy.source)
    plan = make_plan(config, policy, machine)
    print(report(plan))
    answer = {
        "machine": machine.name,
        "fits": plan.fits,
        "bytes": {phase.name: phase.total for phase in plan.phases},
        "budget": plan.budget,
        "checkpoint_bytes": plan.checkpoint_bytes,
        "flops": {bound.name: bound.flops for bound in plan.bounds},
        "bytes_moved": {bound.name: bound.bytes_moved for bound in plan.bounds},
        "collective_bytes": {bound.name: bound.collective_bytes for bound in plan.bounds},
        "seconds": {bound.name: bound.seconds for bound in plan.bounds},
    }
    if not plan.fits:
        found = None if arguments.no_suggestion else smallest_change(config, policy, plan)
        if found:
            change = " ".join(f"--config.{name}={value}" for name, value in found.items())
            print(f"\nIt fits with {change}")
            answer["change"] = found
        elif not arguments.no_suggestion:
            print(
                "\nNeither smaller batches nor a smaller optimizer make it fit: take more devices."
            )
        print(json.dumps(answer))
        raise UserError(f"the run does not fit {machine.name}")
    print(json.dumps(answer))


if __name__ == "__main__":
    run_command(main)
