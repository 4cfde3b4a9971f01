"""Put runs and evaluations into the paper's tables, beside the published numbers."""

from pathlib import Path

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.command_line import command_parser, make_folder
from zerocoder_jax.errors import run_command
from zerocoder_jax.report.run_results import read_result
from zerocoder_jax.report.tables import markdown
from zerocoder_jax.report.tables_figure import write_figure

EXAMPLES = """examples:
  python launch/tables.py runs/toy-*
  python launch/tables.py runs/7b-dynamic_b4 runs/7b-codet results/base --output=docs/results/7b

A RUN is a run directory or the output folder of launch/evaluate.py. Runs of one method that differ
in their seed share a row: mean and standard deviation. Without --output the tables are printed;
with it they are written to OUTPUT.md, and the figure to OUTPUT.svg."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--output", metavar="PATH", default="", help="without ending")
    arguments = parser.parse_args()
    results = [read_result(run) for run in arguments.runs]
    text = markdown(results)
    if not arguments.output:
        print(text, end="")
        return
    output = Path(arguments.output)
    make_folder(output.parent, "--output: the folder")
    figure = output.with_name(output.name + ".svg")
    written = write_figure(results, figure)
    command = f"python launch/tables.py {' '.join(arguments.runs)} --output={arguments.output}"
    head = f"# Results\n\nMade by `{command}`.\n\n"
    if written:
        head += f"![What training changed]({figure.name})\n\n"
    path = output.with_name(output.name + ".md")
    write_atomically(path, head + text)
    print(path)


if __name__ == "__main__":
    run_command(main)
