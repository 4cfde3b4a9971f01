"""Run each problem's reference solution against its own reference tests and print a table."""

import sys
from pathlib import Path

from zerocoder_jax.command_line import command_parser
from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError, run_command

EXAMPLES = """examples:
  python launch/check_problems.py jsonl:my_problems.jsonl
  python launch/check_problems.py mbpp:mbpp.jsonl@test --limit=50
  python launch/check_problems.py taco:taco.parquet --skip-malformed --all \\
      --config=configs/qwen2_5_coder_7b.py --config.execution.seconds=10

A SOURCE is written as in config.problems.source; format:PATH@SPLIT names a split, and without one
all splits are read. The table has a row for each problem whose labels cannot be believed; --all
prints every problem. Limits and packages of the runs are config.execution's. Exit code 1: a
reference failed one of its tests."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, config=True)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--limit", type=int, default=0, help="only the first N problems; 0: all")
    parser.add_argument("--all", action="store_true", help="also rows for references that pass")
    parser.add_argument(
        "--skip-malformed", action="store_true", help="count malformed records and go on"
    )
    arguments, overrides = parser.parse_known_args()
    if arguments.limit < 0:
        raise UserError(f"--limit={arguments.limit}: it must be at least 0, which reads all")
    base = Path(__file__).resolve().parent.parent / "configs" / "base.py"
    config = load_config(arguments.config or str(base), overrides)

    from zerocoder_jax.execution import open_pool
    from zerocoder_jax.execution.reference_check import check_references, table
    from zerocoder_jax.problems import read_problems

    problems = read_problems(
        arguments.source, "all", arguments.limit, skip_malformed=arguments.skip_malformed
    )
    with open_pool(config.execution) as pool:
        checks = list(check_references(problems, pool))
    print(table(checks, every=arguments.all))
    if problems.unjudgeable:
        print(f"{problems.unjudgeable} records passed over: outputs alone cannot judge them")
    if problems.malformed:
        print(f"{len(problems.malformed)} malformed records, for example: {problems.malformed[0]}")
    if any(check.verdicts and not check.believed for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
