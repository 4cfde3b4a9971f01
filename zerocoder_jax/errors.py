"""The exception for mistakes that a person can mend, and the exit codes of the commands.

A supervisor (Slurm, a shell loop, Kubernetes) acts on the code: ``RESTART`` means that the same
command, started again, may succeed and continues the run; ``MISTAKE`` means that it would fail
again until a person has changed something; 128 + N means stopped by signal N, with everything that
was finished saved.
"""

import contextlib
import os
import sys
from collections.abc import Callable

MISTAKE = 2
# EX_TEMPFAIL of sysexits.h.
RESTART = 75


class UserError(Exception):
    """Bad input from a person: a config field, a file, a record, a missing permission.

    The message is one line that says what is wrong, where, and what to do about it. Commands
    print it without a traceback and exit with ``exit_code``. A bad reply of a model is never a
    ``UserError``: it is a reward.
    """

    exit_code = MISTAKE
    # Whether to skip what a process usually waits for at its end: with a host of the run gone,
    # waiting for it would take minutes.
    leaves_at_once = False


class Restartable(UserError):
    """What ended the run is not a mistake in it: the same command may succeed later."""

    exit_code = RESTART


class Interrupted(Exception):
    """A signal ended the run; it was saved and can be continued by the same command."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def run_command(main: Callable[[], None]) -> None:
    """Run ``main``. What a person must read becomes one line on stderr, and the exit code says
    what a supervisor may do: see above."""
    try:
        main()
        _flush_output()
    except KeyboardInterrupt:
        _leave("interrupted: what is finished is kept, the same command continues", 130)
    except Interrupted as interruption:
        _leave(str(interruption), interruption.exit_code)
    except UserError as error:
        line = f"error: {' '.join(str(error).split())}"
        if error.leaves_at_once:
            _leave(line, error.exit_code)
        _say(line)
        sys.exit(error.exit_code)
    except MemoryError as error:
        _leave(f"error: out of memory ({error}): close other programs, or lower the sizes", RESTART)


def _flush_output() -> None:
    """Where the reader of the output has left, the interpreter would end with a complaint."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(line: str, code: int) -> None:
    """End now: the interpreter's end would wait for compilations in other threads, or crash."""
    _say(line)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(line, file=sys.stderr, flush=True)
