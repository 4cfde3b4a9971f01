"""The optimizer that ``config.optimizer`` describes, and where its state lives."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zerocoder_jax.errors import UserError


def make_optimizer(config: Any, total_updates: int) -> optax.GradientTransformation:
    """Gradient clipping by global norm, then AdamW or Adafactor.

    Args:
        config: ``config.optimizer``.
        total_updates: optimizer steps of the whole run, over which a schedule is laid out.

    AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) decays every parameter, as veRL's does.
    Adafactor (Shazeer & Stern 2018, arXiv:1804.04235) keeps row and column sums of a matrix'
    squared gradients instead of all of them, and no first moment.
    """
    if config.first_moment_dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.optimizer.first_moment_dtype is {config.first_moment_dtype!r}: "
            "choose float32 or bfloat16"
        )
    if config.name == "adamw":
        rule = optax.adamw(
            learning_rate(config, total_updates),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mu_dtype=jnp.dtype(config.first_moment_dtype),
        )
    elif config.name == "adafactor":
        rule = optax.adafactor(
            learning_rate(config, total_updates),
            multiply_by_parameter_scale=False,
            weight_decay_rate=config.learning_rate * config.weight_decay or None,
        )
    else:
        raise UserError(f"config.optimizer.name is {config.name!r}: choose adamw or adafactor")
    if config.gradient_clip > 0:
        return optax.chain(optax.clip_by_global_norm(config.gradient_clip), rule)
    return rule


def learning_rate(config: Any, total_updates: int) -> float | optax.Schedule:
    """The constant rate, or a function of the optimizer steps taken so far.

    Warm-up: the first ``warmup_steps`` updates have 1/n, 2/n, ... of the rate. Decay: from there
    ``left``, the share of updates that remain, falls from 1 to 0; "linear" multiplies by it,
    "cosine" by ``(1 - cos(pi * left)) / 2``.
    """
    warmup, peak = config.warmup_steps, config.learning_rate
    if config.schedule == "constant" and warmup == 0:
        return peak

    def rate(count: Any) -> Any:
        left = jnp.clip((total_updates - count) / max(total_updates - warmup, 1), 0.0, 1.0)
        decay = {
            "constant": 1.0,
            "linear": left,
            "cosine": (1.0 - jnp.cos(jnp.pi * left)) / 2.0,
        }[config.schedule]
        return peak * jnp.minimum((count + 1) / max(warmup, 1), 1.0) * decay

    return rate


def optimizer_shardings(
    optimizer: optax.GradientTransformation, params: Any, params_shardings: Any, mesh: Mesh
) -> Any:
    """Shardings of the optimizer's state: moments live with their parameters (ZeRO).

    Args:
        optimizer: the transformation.
        params: tree of arrays or shape structs.
        params_shardings: tree of their shardings.
        mesh: for everything that has no parameter's shape (counts, factored moments), which is
            small and whole on every device.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def with_parameter(moment: Any, parameter: Any, sharding: NamedSharding) -> NamedSharding:
        return sharding if moment.shape == parameter.shape else whole

    return optax.tree.map_params(
        optimizer,
        with_parameter,
        jax.eval_shape(optimizer.init, params),
        params,
        params_shardings,
        transform_non_params=lambda leaf: whole,
    )
