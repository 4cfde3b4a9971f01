"""The policy that is to be measured: a model as published, or a checkpoint of a run."""

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from zerocoder_jax.command_line import read_config_json
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import LoraSettings, Params, Policy, load_policy
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.update import PolicyUpdate


@dataclasses.dataclass(frozen=True)
class EvaluatedPolicy:
    """A policy, its weights and where they come from.

    Attributes:
      policy: with its weights on the mesh.
      adapters, lora: of a run that trained adapters, these and their settings: the policy computes
        with them beside its weights, as in training. None where there are none.
      step: training steps behind it; None for a published model.
    """

    policy: Policy
    adapters: Params | None = None
    lora: LoraSettings | None = None
    step: int | None = None


def is_run(policy: str) -> bool:
    """Whether this names a run directory rather than a ``config.policy.source``."""
    return (Path(policy) / "config.json").is_file() and (Path(policy) / "checkpoints").is_dir()


def load_evaluated_policy(
    policy: str, mesh: Mesh, *, step: int | None = None, merged: bool = False
) -> EvaluatedPolicy:
    """The policy with its weights on the mesh: in float32, but the frozen weights of a run that
    trained adapters in that run's ``config.policy.reference_dtype``.

    Args:
      policy: ``hf:...``, ``gguf:...``, ``toy``, or the directory of a run.
      step: of a run, the checkpoint after so many steps; the newest by default.
      merged: adapters are merged into the weights, which are then float32 too.

    Raises:
      UserError: no such source, no such checkpoint, a step for something that is no run.
    """
    if not is_run(policy):
        if step is not None:
            raise UserError(f"--step={step}: {policy} is no run directory, it has no checkpoints")
        return EvaluatedPolicy(load_policy(policy, dtype="float32", mesh=mesh))
    config: Any = read_config_json(Path(policy))
    initial = load_policy(config.policy.source, dtype="float32", mesh=mesh)
    update = PolicyUpdate(initial, config, mesh)
    state = update.init(initial.params)
    # Of large policies there is no room for weights that nobody needs any more.
    bare = initial.with_params({})
    del initial
    with Checkpoints(Path(policy) / "checkpoints", config, read_only=True) as checkpoints:
        restored = checkpoints.restore(state, step)
    if restored is None:
        raise UserError(f"{policy}/checkpoints: there is no whole checkpoint yet")
    state, meta = restored
    step = int(meta["step"])
    if merged:
        return EvaluatedPolicy(bare.with_params(update.merged_params(state)), step=step)
    weights, adapters = update.weights_and_adapters(state)
    return EvaluatedPolicy(bare.with_params(weights), adapters, update.programs.lora, step)
