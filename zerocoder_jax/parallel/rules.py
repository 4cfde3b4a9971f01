"""The one table from logical axes to mesh axes, and the few functions that apply it.

Weights and activations are described by logical names ("embed", "heads", "batch"); this table
says along which mesh axis each of them is cut. Trying another layout is changing a line here. This
file knows neither models nor training; it imports nothing but JAX, so that all others may use it.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

LogicalRules = Mapping[str, str | tuple[str, ...] | None]

#: Axes over which the rows of a batch are spread: ZeRO-3 cuts the batch along fsdp as well.
BATCH_AXES = ("data", "fsdp")

#: Logical axis -> mesh axis (None: whole on every device).
LOGICAL_RULES: LogicalRules = {
    # Activations.
    "batch": BATCH_AXES,
    "length": None,
    # Residual stream: whole on every device, so that only weights travel along fsdp.
    "hidden": None,
    # Weights. The embed axis is in every matrix, so cutting it along fsdp cuts all of them.
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "head_dim": None,
    # The small axis of a low-rank adapter.
    "rank": None,
}


def partition_spec(
    logical_axes: tuple[str | None, ...], rules: LogicalRules = LOGICAL_RULES
) -> PartitionSpec:
    """The mesh axes of one array, from the logical names of its dimensions.

    >>> partition_spec(("vocab", "embed"))
    PartitionSpec('tensor', 'fsdp')
    """
    return PartitionSpec(*(None if name is None else rules[name] for name in logical_axes))


def shardings(logical_axes: Any, mesh: Mesh, rules: LogicalRules = LOGICAL_RULES) -> Any:
    """A tree of ``NamedSharding`` from a tree of tuples of logical axis names."""
    return jax.tree.map(
        lambda axes: NamedSharding(mesh, partition_spec(axes, rules)),
        logical_axes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def batch_shards(mesh: Mesh) -> int:
    """Over how many groups of devices a batch's rows are spread."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)
