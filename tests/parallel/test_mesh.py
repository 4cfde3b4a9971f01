"""Three numbers give a mesh, and one table says what is cut along it."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import (
    check_divisible,
    compile_only_devices,
    make_mesh,
    parse_machine,
    partition_spec,
    shardings,
)
from zerocoder_jax.parallel.mesh import mesh_shape
from zerocoder_jax.rollout.engine import rollout_meshes


def axes(data, fsdp, tensor):
    return SimpleNamespace(data=data, fsdp=fsdp, tensor=tensor)


@pytest.mark.parametrize(
    ("config", "devices", "shape"),
    [
        (axes(1, -1, 1), 8, (1, 8, 1)),
        (axes(1, -1, 2), 8, (1, 4, 2)),
        (axes(2, 2, 2), 8, (2, 2, 2)),
        (axes(-1, 1, 1), 1, (1, 1, 1)),
    ],
)
def test_minus_one_takes_all_devices_that_remain(config, devices, shape):
    assert mesh_shape(config, devices) == shape


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (axes(-1, -1, 1), "one at most is -1"),
        (axes(0, 1, 1), "positive"),
        (axes(1, -1, 3), "8 devices"),
        (axes(2, 2, 1), "8 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_refused(config, reason):
    with pytest.raises(UserError, match=reason):
        mesh_shape(config, 8)


@pytest.mark.compiled
@pytest.mark.parametrize("sizes", [(1, 16, 1), (1, 8, 2), (2, 4, 2), (1, 4, 4), (8, 2, 1)], ids=str)
def test_on_a_slice_the_devices_that_talk_most_are_neighbours(sizes):
    """They fill a line or a square, also where an axis is shorter than the slice's sides."""
    devices = compile_only_devices(parse_machine("v6e:4x4"))
    mesh = make_mesh(axes(*sizes), devices)
    assert mesh.devices.shape == sizes
    assert set(mesh.devices.flat) == set(devices)
    along_tensor = np.array([device.coords for device in mesh.devices.flat]).reshape(*sizes, -1)
    assert ((np.ptp(along_tensor, axis=2) + 1).prod(axis=-1) == sizes[2]).all()


def test_weights_are_cut_by_their_logical_axes():
    assert partition_spec(("layers", "embed", "heads")) == PartitionSpec(None, "fsdp", "tensor")
    mesh = make_mesh(axes(1, -1, 1), jax.devices()[:1])
    tree = shardings({"head": {"kernel": ("embed", "vocab")}}, mesh)
    assert tree["head"]["kernel"].spec == PartitionSpec("fsdp", "tensor")


def test_a_mesh_that_would_cut_through_a_head_is_refused():
    policy = SimpleNamespace(
        hidden_size=64, num_heads=4, num_kv_heads=2, intermediate_size=128, vocab_size=256
    )
    mesh = SimpleNamespace(shape={"data": 1, "fsdp": 1, "tensor": 4})
    with pytest.raises(UserError, match=r"config.mesh.tensor is 4.*num_kv_heads of 2"):
        check_divisible(policy, mesh)


# What a host's chips share: the slices' hosts have four.
@pytest.mark.compiled
@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("slice_name", ["v6e:4x4", "v6e:4x8", "v5p:2x2x2", "v5p:2x2x4"])
def test_every_host_of_a_slice_samples_with_all_of_its_chips(slice_name, tensor):
    """Wherever they lie in the mesh, and with the piece of the weights that they hold there."""
    devices = compile_only_devices(parse_machine(slice_name))
    mesh = make_mesh(axes(1, -1, tensor), devices)
    assert set(mesh.devices.flat) == set(devices)
    processes = {device.process_index for device in devices}
    assert len(processes) == len(devices) // 4
    for process in processes:
        everywhere, own = rollout_meshes(mesh, process)
        assert own.devices.shape == (4 // tensor, tensor)
        assert {device.process_index for device in own.devices.flat} == {process}
        columns = {d: column for row in everywhere.devices for column, d in enumerate(row)}
        assert [[columns[d] for d in row] for row in own.devices] == [[*range(tensor)]] * len(
            own.devices
        )


@pytest.mark.compiled
def test_a_row_that_would_need_devices_of_two_hosts_is_refused():
    devices = compile_only_devices(parse_machine("v6e:4x4"))
    with pytest.raises(UserError, match=r"config.mesh.tensor is 8, but each host process has 4"):
        make_mesh(axes(1, -1, 8), devices)
