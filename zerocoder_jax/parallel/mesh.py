"""The device mesh ``(data, fsdp, tensor)`` of a run, from the three numbers in its config."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from zerocoder_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")


def mesh_shape(mesh_config: Any, devices: int) -> tuple[int, int, int]:
    """The three sizes with -1 filled in: ``(1, -1, 2)`` on 8 devices is ``(1, 4, 2)``."""
    sizes = [int(getattr(mesh_config, axis)) for axis in MESH_AXES]
    described = "x".join(map(str, sizes))
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise UserError(
            f"config.mesh is {described}: each axis is a positive number, and one at most is -1"
        )
    known = math.prod(size for size in sizes if size != -1)
    if devices % known or (-1 not in sizes and known != devices):
        raise UserError(
            f"config.mesh is {described} but there are {devices} devices: "
            "the product of its axes must be that number"
        )
    data, fsdp, tensor = (devices // known if size == -1 else size for size in sizes)
    return data, fsdp, tensor


def make_mesh(mesh_config: Any, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes "data", "fsdp" and "tensor" over ``devices`` (default: all there are).

    Axes have the Auto type: XLA propagates shardings from the arguments of a program and from
    the constraints in it. Devices that talk most (tensor) are neighbours in a TPU slice's wiring,
    and always of one host process, which samples with them.

    Raises:
        UserError: axes that do not fit the devices, or the devices of one process.
    """
    chosen = list(jax.devices() if devices is None else devices)
    shape = data, fsdp, tensor = mesh_shape(mesh_config, len(chosen))
    # An axis may take part of a slice's axis: pairs along the rows of 4x4 chips.
    options: dict[str, Any] = {"allow_split_physical_axes": True}
    placed = mesh_utils.create_device_mesh(shape, chosen, **options)
    owners = owners_of_rows(placed, tensor)
    if (owners != owners[:, :1]).any():
        # Four in a line of a 4x4 slice are of two hosts, four in a square are of one.
        own = len(chosen) // len(np.unique(owners))
        if own % tensor:
            raise UserError(
                f"config.mesh.tensor is {tensor}, but each host process has {own} devices: those "
                "that share a reply's row must be of one process, so choose a divisor of that"
            )
        own_fsdp = math.gcd(own // tensor, fsdp)
        own_data = own // tensor // own_fsdp
        placed = mesh_utils.create_hybrid_device_mesh(
            (own_data, own_fsdp, tensor),
            (data // own_data, fsdp // own_fsdp, 1),
            chosen,
            process_is_granule=True,
            **options,
        )
    return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def owners_of_rows(devices: np.ndarray, tensor: int) -> np.ndarray:
    """The process of each device, int [rows, tensor]: a row's devices sample a reply together."""
    return np.vectorize(lambda device: device.process_index, otypes=[int])(
        devices.reshape(-1, tensor)
    )


def check_divisible(policy_config: Any, mesh: Mesh) -> None:
    """Refuse a mesh that would cut through a head or leave devices with uneven pieces."""
    for axis, dimensions in {
        "fsdp": ("hidden_size",),
        "tensor": ("num_heads", "num_kv_heads", "intermediate_size", "vocab_size"),
    }.items():
        for name in dimensions:
            size = getattr(policy_config, name)
            if size % mesh.shape[axis]:
                raise UserError(
                    f"config.mesh.{axis} is {mesh.shape[axis]}, which does not divide the "
                    f"policy's {name} of {size}: choose a divisor of it"
                )
