"""Shows a run to people: one self-contained HTML page, and the paper's tables.

Everything here reads the files of run directories and nothing else: it must not know how a run is
made, import JAX, or need the process that trains. So a page can be made of a run that is still
going on, was killed, or was copied from another machine.
"""

from zerocoder_jax.report.page import write_report
from zerocoder_jax.report.run_directory import RunDirectory, read_run

__all__ = ["RunDirectory", "read_run", "write_report"]
