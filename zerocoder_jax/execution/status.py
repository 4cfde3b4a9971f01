"""What a run can end as, and what it may use."""

from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """The verdict on one solution and one test.

    ``UNAVAILABLE`` is the only one that says something about the verifier and nothing about the
    program: the pair was tried several times and no verdict could be had. It is masked, never a
    reward of 0.
    """

    PASSED = 0
    FAILED = 1  # an assertion or a comparison
    ERROR = 2  # any other exception, SystemExit included
    TIMEOUT = 3
    MEMORY = 4
    OUTPUT = 5
    CRASHED = 6  # died by a signal
    FORBIDDEN = 7  # stopped by the sandbox
    UNPARSABLE = 8  # there was no solution or no test
    UNAVAILABLE = 9
    NOT_RUN = 10  # the original fails this test, so its mutants were not asked
    VACUOUS = 11  # the test passes whatever a solution returns


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
      seconds: wall-clock time, loading the solution included; time in which a run was ready and
        had to wait for a processor does not count, up to ten times as much (three times for
        runs of several processes or threads).
      memory_mb: address space of one process, and resident memory of all of a run's processes
        together; MiB.
      output_kb: captured standard output and reported values, KiB. A test that expects more
        output allows its size on top.
      processes: processes and threads at the same time.
    """

    seconds: float = 3.0
    memory_mb: int = 1024
    output_kb: int = 64
    processes: int = 16
