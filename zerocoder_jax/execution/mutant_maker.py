"""The process that finds mutants: the one place that knows mutmut.

Started by the pool (``python -m zerocoder_jax.execution.mutant_maker``), because importing mutmut
takes longer than a run and because its parser reads what a model wrote. It runs nothing of it.
Pinned to mutmut 3.8.1; tests/execution/test_mutants.py says so when its interface moves.
"""

import contextlib
import os
import re
import resource
import sys
from typing import Any, cast

from zerocoder_jax.execution.worker.frames import receive, send
from zerocoder_jax.execution.worker.isolation import die_with_parent

_MEMORY_BYTES = 2 << 30
_MAX_CHARACTERS = 100_000
_PRAGMA = re.compile(r"#.*pragma:.*")


def configure_mutmut() -> None:
    """Gives mutmut a configuration; it would look for one in the working directory and fail."""
    from mutmut import configuration

    # Only what decides which mutants there are; the rest is about mutmut's own test runs.
    explicit = configuration.Config.__new__(configuration.Config)
    explicit.do_not_mutate_patterns = []
    explicit.type_check_command = []
    configuration._config = explicit


def mutants_of(source: str, module_level: bool) -> list[str]:
    """Sources of every mutation that mutmut finds, in its order.

    Args:
      source: a module.
      module_level: also mutate statements outside of functions.
    """
    from libcst import Module
    from mutmut.mutation.file_mutation import create_mutations, deep_replace

    # mutmut's comments that hide lines from it are for people, not for a model that is rewarded.
    module, mutations, *_ = create_mutations("solution.py", _PRAGMA.sub("#", source))
    return [
        cast(Module, deep_replace(module, mutation.original_node, mutation.mutated_node)).code
        for mutation in mutations
        if module_level or mutation.contained_by_top_level_function is not None
    ]


def main() -> None:
    """Serves the pool on descriptors 0 and 1."""
    die_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing that a library prints gets between the messages
    configure_mutmut()
    send(answers, {"ready": True})
    while (job := receive(0)) is not None:
        send(answers, [job["id"], [[0, _found(job)]], True])


def _found(job: dict[str, Any]) -> list[str]:
    """Bad model output is never an error: what cannot be parsed has no mutants."""
    if len(job["source"]) > _MAX_CHARACTERS:
        return []
    with contextlib.suppress(Exception):
        return mutants_of(job["source"], job["module_level"])
    return []


if __name__ == "__main__":
    sys.setrecursionlimit(2000)
    main()
