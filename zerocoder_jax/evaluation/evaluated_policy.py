"""The policy that is to be measured: a model as published, or a checkpoint of a run."""

from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from zerocoder_jax.command_line import read_config_json
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Policy, load_policy
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.update import PolicyUpdate


def is_run(policy: str) -> bool:
    """Whether this names a run directory rather than a ``config.policy.source``."""
    return (Path(policy) / "config.json").is_file() and (Path(policy) / "checkpoints").is_dir()


def load_evaluated_policy(
    policy: str, mesh: Mesh, *, step: int | None = None
) -> tuple[Policy, int | None]:
    """The policy with its weights on the mesh, in float32.

    Args:
      policy: ``hf:...``, ``gguf:...``, ``toy``, or the directory of a run.
      step: of a run, the checkpoint after so many steps; the newest by default.

    Returns:
      The policy, and the training steps it has behind it; None for a published model.

    Raises:
      UserError: no such source, no such checkpoint, a step for something that is no run.
    """
    if not is_run(policy):
        if step is not None:
            raise UserError(f"--step={step}: {policy} is no run directory, it has no checkpoints")
        return load_policy(policy, dtype="float32", mesh=mesh), None
    config: Any = read_config_json(Path(policy))
    initial = load_policy(config.policy.source, dtype="float32", mesh=mesh)
    update = PolicyUpdate(initial, config, mesh)
    with Checkpoints(Path(policy) / "checkpoints", config, read_only=True) as checkpoints:
        restored = checkpoints.restore(update.init(initial.params), step)
    if restored is None:
        raise UserError(f"{policy}/checkpoints: there is no whole checkpoint yet")
    state, meta = restored
    return initial.with_params(update.policy_params(state)), int(meta["step"])
