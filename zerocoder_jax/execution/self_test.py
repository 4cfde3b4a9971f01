"""Programs whose verdicts are known, run when a pool starts.

A verifier that is wrong about everything (too few descriptors, too little memory, a limit of the
host that nothing else notices) would train a policy on noise without an error.
"""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution.status import Status
from zerocoder_jax.execution.tasks import Counts, Task, matrix_task
from zerocoder_jax.problems import AssertTest, Problem

_PROBLEM = Problem("self-test", "The square of x and one.", "f", "function")
_PROGRAMS = {
    "def f(x):\n    return x * x + 1": Status.PASSED,
    "def f(x):\n    return x * x": Status.FAILED,
}
# One for each way to run a function's test.
_TESTS = (
    AssertTest("assert f(3) == 10"),
    AssertTest("for x, y in ((3, 10), (5, 26)):\n    assert f(x) == y"),
)
# Whatever the pool's own limit: on a busy host a run may have to wait.
_SECONDS = 10.0


def check_verdicts(submit: Callable[[Task], "Future[np.ndarray]"]) -> None:
    """Raises ``UserError`` where a program gets another verdict than it must."""
    task = matrix_task(_PROBLEM, list(_PROGRAMS), _TESTS, _SECONDS, Counts())
    matrix = submit(task).result()
    for wanted, row in zip(_PROGRAMS.values(), matrix):
        found = sorted({Status(status).name for status in row if status != wanted})
        if found:
            raise UserError(
                f"execution: the verifier judges wrongly on this host: a program that must be "
                f"{wanted.name} is {', '.join(found)}; raise execution.memory_mb, "
                "execution.processes or the limits of this process (ulimit -a)"
            )
