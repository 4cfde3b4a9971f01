"""The one exception for mistakes that a person can mend, and how a command ends on it."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input from a person: a config field, a file, a record, a missing permission.

    The message is one line that says what is wrong, where, and what to do about it. Commands
    print it without a traceback and exit with code 2. A bad reply of a model is never a
    ``UserError``: it is a reward.
    """

    # Whether to skip what a process usually waits for at its end: with a host of the run gone,
    # waiting for it would take minutes.
    leaves_at_once = False


def run_command(main: Callable[[], None]) -> None:
    """Run ``main``; a ``UserError`` becomes one line on stderr and exit code 2, Ctrl-C code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is kept, the same command goes on",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        # At the interpreter's end a compilation in another thread is waited for, or crashes.
        os._exit(130)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        if error.leaves_at_once:
            sys.stdout.flush()
            os._exit(2)
        sys.exit(2)
