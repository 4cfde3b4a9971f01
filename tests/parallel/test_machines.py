"""A machine's name says what it is made of, or why it cannot be."""

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import ACCELERATORS, compile_only_devices, parse_machine


@pytest.mark.parametrize(
    ("name", "devices", "hosts"),
    [("a100-80:4", 4, 1), ("h100:2x8", 16, 2), ("v5p:2x2x1", 4, 1), ("v6e:4x4", 16, 4)],
)
def test_a_name_gives_devices_and_hosts(name, devices, hosts):
    machine = parse_machine(name)
    assert (machine.num_devices, machine.hosts) == (devices, hosts)
    assert machine.name == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b300:8", "'b300' is not one of a100-80"),
        ("h100", "write it like h100:4 or h100:2x8"),
        ("v5p:4", "write it like v5p:2x2x1"),
        ("v6e:0x4", "write it like v6e:2x2"),
    ],
)
def test_a_wrong_name_is_refused_with_an_example(name, reason):
    with pytest.raises(UserError, match=reason):
        parse_machine(name)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["a100-80:4", "h200:2x8", "v4:2x2x1", "v5p:2x2x2", "v6e:4x4"])
def test_the_compilers_know_every_kind_of_device(name):
    machine = parse_machine(name)
    devices = compile_only_devices(machine)
    assert len(devices) == machine.num_devices
    assert {device.platform for device in devices} == {machine.accelerator.platform}
    assert len({device.process_index for device in devices}) == machine.hosts


@pytest.mark.compiled
def test_a_slice_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="knows no such slice"):
        compile_only_devices(parse_machine("v6e:3x5"))


def test_every_accelerator_has_its_numbers_in_the_right_units():
    for accelerator in ACCELERATORS.values():
        assert 1e10 < accelerator.memory < 1e12
        assert 5e11 < accelerator.bandwidth < 1e13
        assert 1e14 < accelerator.flops < 1e16
        assert accelerator.network <= accelerator.interconnect < accelerator.bandwidth
