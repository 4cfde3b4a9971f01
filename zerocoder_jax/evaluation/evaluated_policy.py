"""The policy that is to be measured: a model as published, or a checkpoint of a run."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from zerocoder_jax.command_line import read_config_json
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import LOGICAL_RULES, shardings
from zerocoder_jax.policy import (
    LoraSettings,
    Params,
    Policy,
    abstract_lora,
    abstract_params,
    load_policy,
    load_policy_without_weights,
    logical_axes,
    lora_logical_axes,
    lora_settings,
    merge_lora,
)
from zerocoder_jax.policy.loading import refuse_non_finite
from zerocoder_jax.training.checkpoints import Checkpoints


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
    policy: str, mesh: Mesh, *, step: int | str | None = None, merged: bool = False
) -> EvaluatedPolicy:
    """The policy with its weights on the mesh: in float32, but the frozen weights of a run that
    trained adapters in that run's ``config.policy.reference_dtype``.

    Of a run's checkpoint only these weights are read; no trainer is built and no optimizer's state
    is allocated.

    Args:
      policy: ``hf:...``, ``gguf:...``, ``toy``, or the directory of a run.
      step: of a run, the checkpoint after so many steps, or the ``"best"``; the newest by default.
      merged: adapters are merged into the weights, which are then float32 too.

    Raises:
      UserError: no such source, no such checkpoint, a step for something that is no run, weights
        that are not finite.
    """
    if not is_run(policy):
        if step is not None:
            raise UserError(f"--step={step}: {policy} is no run directory, it has no checkpoints")
        return EvaluatedPolicy(load_policy(policy, dtype="float32", mesh=mesh))
    config: Any = read_config_json(Path(policy))
    lora = lora_settings(config.policy.lora)
    bare = load_policy_without_weights(config.policy.source)
    if lora is None:
        target = abstract_params(bare.config), logical_axes(bare.config)
        weights, step = restore_params(Path(policy), config, target, mesh, step)
        return EvaluatedPolicy(bare.with_params(weights), step=step)
    adapters, step = load_adapters(Path(policy), config, mesh, step)
    frozen = load_policy(config.policy.source, dtype=config.policy.reference_dtype, mesh=mesh)
    if not merged:
        return EvaluatedPolicy(frozen, adapters, lora, step)
    merge = jax.jit(
        lambda weights, adapters: merge_lora(
            jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights), adapters, lora.scale
        ),
        out_shardings=shardings(logical_axes(bare.config), mesh, LOGICAL_RULES),
    )
    return EvaluatedPolicy(bare.with_params(merge(frozen.params, adapters)), step=step)


def load_adapters(
    run: Path, config: Any, mesh: Mesh, step: int | str | None = None
) -> tuple[Params, int]:
    """The adapters of a run's checkpoint, float32, and the steps it has behind it."""
    lora = lora_settings(config.policy.lora)
    if lora is None:
        raise UserError(f"{run} trained all weights (config.policy.lora.rank is 0): no adapters")
    shape = load_policy_without_weights(config.policy.source).config
    target = abstract_lora(shape, lora), lora_logical_axes(shape, lora)
    return restore_params(run, config, target, mesh, step)


def restore_params(
    run: Path, config: Any, target: tuple[Params, Params], mesh: Mesh, step: int | str | None
) -> tuple[Params, int]:
    """What a run trained, described by shapes and logical axes, and the steps behind it."""
    shapes, axes = target
    described = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings(axes, mesh, LOGICAL_RULES),
    )
    # The config of the run may have been changed since, by --accept-changes.
    directory = run / "checkpoints"
    with Checkpoints(directory, config, read_only=True, accept_changes=True) as checkpoints:
        restored = checkpoints.restore_params(described, step)
    if restored is None:
        raise UserError(f"{run}/checkpoints: there is no whole checkpoint yet")
    params, meta = restored
    refuse_non_finite(params, f"{directory}: after {meta['step']} steps")
    return params, int(meta["step"])
