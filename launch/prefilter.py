"""Sample every training problem once with the initial policy and record its matrix's rank."""

import json
from pathlib import Path

from zerocoder_jax.command_line import command_parser, make_folder, require
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import run_command

EXAMPLES = """examples:
  python launch/prefilter.py --config=configs/toy.py --workdir=RUN
  python launch/prefilter.py --config=configs/qwen2_5_coder_7b.py --workdir=RUN \\
      --config.prefilter.path=filters/7b.jsonl

RUN/prefilter.jsonl receives one line a problem: its id, the rank and the verdicts of its matrix.
The same command continues an interrupted filter. launch/train.py with the same --workdir, or with
the same --config.prefilter.path, trains on the problems whose rank is config.prefilter.delta or
more. Prints how many problems each delta keeps and, as the last line, the same as JSON."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True, workdir=True)
    arguments, overrides = parser.parse_known_args()
    config = load_config(require(arguments.config, "--config"), overrides)
    workdir = Path(require(arguments.workdir, "--workdir"))

    # JAX starts here, not before: mistakes above are answered at once.
    from zerocoder_jax.parallel import keep_compiled_programs
    from zerocoder_jax.problems import read_problems
    from zerocoder_jax.training.prefilter import (
        make_prefilter_with_initial_policy,
        prefilter_path,
        sizes_by_delta,
    )

    source = config.problems
    problems = read_problems(
        source.source,
        split=source.split,
        limit=source.limit,
        skip_malformed=source.skip_malformed,
    )
    path = prefilter_path(config, workdir)
    make_folder(path.parent, "config.prefilter.path" if config.prefilter.path else "--workdir")
    keep_compiled_programs()
    sizes = sizes_by_delta(make_prefilter_with_initial_policy(problems, config, path))
    print("delta  problems kept")
    for delta, size in sizes.items():
        print(f"{delta:>5}  {size}")
    print(json.dumps({"path": str(path), "problems": len(problems), "sizes": sizes}))


if __name__ == "__main__":
    run_command(main)
