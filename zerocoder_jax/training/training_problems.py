"""The problems that a run trains on: read from their source, cut down by the rank filter."""

from pathlib import Path
from typing import Any

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import Problem, read_problems
from zerocoder_jax.training.prefilter import filtered_problems


def training_problems(config: Any, workdir: Path) -> list[Problem]:
    """Read ``config.problems`` and keep what the rank filter kept, where it has been made.

    Raises:
      UserError: no such file, a malformed record, or no problem left.
    """
    source = config.problems
    problems = read_problems(
        source.source,
        split=source.split,
        limit=source.limit,
        skip_malformed=source.skip_malformed,
    )
    if not problems:
        raise UserError(f"config.problems.source={source.source} holds no problem")
    return filtered_problems(problems, config, workdir)
