"""Write report.html of a run: one file that opens from disk and needs no network."""

import math

from zerocoder_jax.command_line import command_parser, require
from zerocoder_jax.errors import UserError, run_command
from zerocoder_jax.report import write_report
from zerocoder_jax.report.page import SAMPLES_MEGABYTES

EXAMPLES = """examples:
  python launch/report.py --workdir=runs/toy
  python launch/report.py --workdir=RUN --samples-megabytes=5

The run may still be going on; training writes the same page every config.logging.report_every
steps and at its end. Where the samples of all steps are larger than --samples-megabytes
(compressed), every second, third, ... step is embedded, and the page says so."""


def main() -> None:
    parser = command_parser(__doc__, EXAMPLES, workdir=True)
    parser.add_argument(
        "--samples-megabytes",
        type=float,
        metavar="MB",
        default=SAMPLES_MEGABYTES,
        help="compressed samples in the page at most; default: %(default)s",
    )
    arguments = parser.parse_args()
    workdir = require(arguments.workdir, "--workdir")
    if not 0 <= arguments.samples_megabytes < math.inf:
        raise UserError(
            f"--samples-megabytes={arguments.samples_megabytes}: it must be a number of at least 0"
        )
    try:
        path = write_report(workdir, arguments.samples_megabytes)
    except OSError as error:
        raise UserError(f"{workdir}/report.html cannot be written: {error.strerror}") from error
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_command(main)
