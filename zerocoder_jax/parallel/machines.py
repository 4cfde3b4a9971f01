"""Machines that a run may be planned for, and their devices for the compilers: none is needed here.

XLA compiles for a TPU slice with ``libtpu`` and for GPUs with the CUDA plugin and a description of
the target, on any computer (extras ``plan-tpu`` and ``plan-gpu``). What this file knows of a
machine are published facts of its parts; it knows nothing of policies or programs.

    machine = parse_machine("a100-80:4")         # one host with 4 GPUs
    machine = parse_machine("h100:2x8")          # 2 hosts with 8 GPUs each
    machine = parse_machine("v5p:2x2x1")         # a slice of 4 chips
    mesh = make_mesh(config.mesh, compile_only_devices(machine))
"""

import dataclasses
import importlib.util
import math
import os
from pathlib import Path
from typing import Any, Literal

from zerocoder_jax.errors import UserError

GiB = 2**30

# Share of a device's memory that a run may use: the rest belongs to the runtime, its libraries and
# fragmentation.
USABLE_MEMORY = 0.92


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One kind of device: a GPU, or a TPU chip.

    Attributes:
        name: as in a machine's name.
        platform: of JAX.
        memory: bytes.
        bandwidth: of that memory, bytes per second.
        flops: bfloat16 matrix products, dense, per second.
        interconnect: bytes per second that one device sends to its neighbours (NVLink, ICI).
        network: bytes per second that one device sends to other hosts. A TPU slice has its
            interconnect everywhere.
        devices_per_host: TPUs: chips on one host.
        source: of these numbers.
        gpu: for XLA's GPU compiler.
    """

    name: str
    platform: Literal["gpu", "tpu"]
    memory: int
    bandwidth: float
    flops: float
    interconnect: float
    network: float
    devices_per_host: int
    source: str
    gpu: "GpuTarget | None" = None


@dataclasses.dataclass(frozen=True)
class GpuTarget:
    """What XLA's GPU compiler asks of a device it cannot see."""

    description: str
    compute_capability: tuple[int, int]
    cores: int
    fpus_per_core: int
    # Bytes; the largest that one block may ask for is 1 KiB less than a core has.
    shared_memory_per_core: int
    l2_cache: int
    clock_ghz: float

    def text(self, memory: int, bandwidth: float) -> str:
        """The ``GpuTargetConfigProto`` as text."""
        major, minor = self.compute_capability
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared_memory_per_core}
  shared_memory_per_block_optin: {self.shared_memory_per_core - 1024}
  threads_per_core_limit: 2048
  core_count: {self.cores}
  fpus_per_core: {self.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth:.0f}
  l2_cache_size: {self.l2_cache}
  clock_rate_ghz: {self.clock_ghz}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{self.description}"
"""


_A100 = GpuTarget("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167_936, 41_943_040, 1.41)
_H100 = GpuTarget("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233_472, 52_428_800, 1.98)
_H200 = dataclasses.replace(_H100, description="NVIDIA H200")
_NVIDIA = "NVIDIA data sheets and device queries; network: one 200 or 400 Gb/s port per GPU"
_TPU = "Google Cloud TPU documentation; 'How to Scale Your Model', chapter TPUs"

ACCELERATORS = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator(
            "a100-80", "gpu", 85_899_345_920, 2.039e12, 312e12, 300e9, 25e9, 8, _NVIDIA, _A100
        ),
        Accelerator(
            "h100", "gpu", 85_520_809_984, 3.352e12, 989e12, 450e9, 50e9, 8, _NVIDIA, _H100
        ),
        Accelerator("h200", "gpu", 139 * GiB, 4.8e12, 989e12, 450e9, 50e9, 8, _NVIDIA, _H200),
        Accelerator("v4", "tpu", 32 * GiB, 1.23e12, 275e12, 270e9, 270e9, 4, _TPU),
        Accelerator("v5e", "tpu", 16 * GiB, 8.1e11, 197e12, 180e9, 180e9, 4, _TPU),
        Accelerator("v5p", "tpu", 95 * GiB, 2.77e12, 459e12, 540e9, 540e9, 4, _TPU),
        Accelerator("v6e", "tpu", 32 * GiB, 1.64e12, 918e12, 360e9, 360e9, 4, _TPU),
    )
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Some accelerators and how they are arranged.

    Attributes:
        accelerator: the kind of device.
        arrangement: GPUs: (hosts, GPUs per host). TPUs: the slice's chips along each direction.
    """

    accelerator: Accelerator
    arrangement: tuple[int, ...]

    @property
    def num_devices(self) -> int:
        """Devices of all hosts together."""
        return math.prod(self.arrangement)

    @property
    def hosts(self) -> int:
        """Computers, which is also processes of the run."""
        if self.accelerator.platform == "gpu":
            return self.arrangement[0]
        return -(-self.num_devices // self.accelerator.devices_per_host)

    @property
    def name(self) -> str:
        """As ``parse_machine`` reads it."""
        sides = self.arrangement
        if self.accelerator.platform == "gpu" and self.hosts == 1:
            sides = sides[1:]
        return f"{self.accelerator.name}:{'x'.join(map(str, sides))}"


def parse_machine(name: str) -> Machine:
    """``KIND:N`` or ``KIND:HOSTSxN`` for GPUs, ``KIND:XxY`` or ``KIND:XxYxZ`` for TPU slices."""
    kind, _, arrangement = name.partition(":")
    accelerator = ACCELERATORS.get(kind)
    if accelerator is None:
        raise UserError(f"machine {name!r}: {kind!r} is not one of {', '.join(ACCELERATORS)}")
    try:
        sizes = tuple(int(size) for size in arrangement.split("x"))
    except ValueError:
        sizes = ()
    dimensions = {"gpu": (1, 2), "v4": (3,), "v5p": (3,), "v5e": (2,), "v6e": (2,)}
    expected = dimensions[kind if accelerator.platform == "tpu" else "gpu"]
    if len(sizes) not in expected or min(sizes) < 1:
        example = {1: f"{kind}:4 or {kind}:2x8", 2: f"{kind}:2x2", 3: f"{kind}:2x2x1"}
        raise UserError(f"machine {name!r}: write it like {example[expected[0]]}")
    return Machine(accelerator, (1, *sizes) if expected == (1, 2) and len(sizes) == 1 else sizes)


def compile_only_devices(machine: Machine) -> list[Any]:
    """Devices for a mesh to compile on; no such hardware is touched or needed.

    Raises:
        UserError: the compiler is not installed, or there is no such slice.
    """
    if machine.accelerator.platform == "gpu":
        return _gpu_devices(machine)
    return _tpu_devices(machine)


def _gpu_devices(machine: Machine) -> list[Any]:
    target, hosts = machine.accelerator.gpu, machine.arrangement[0]
    assert target is not None
    _require("jax_cuda12_plugin", "plan-gpu", machine)
    _put_ptxas_on_the_path()
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(
        "",
        "cuda",
        target_config=target.text(machine.accelerator.memory, machine.accelerator.bandwidth),
        topology=f"{hosts}x1x{machine.num_devices // hosts}",
    )
    return list(topology.devices)


def _tpu_devices(machine: Machine) -> list[Any]:
    _require("libtpu", "plan-tpu", machine)
    # Without it libtpu asks a metadata server that exists only in Google's cloud.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # One process may hold a TPU; compiling holds none, so several may do it.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import jax
    from jax.experimental import topologies

    arguments: dict[str, Any] = {}
    if machine.accelerator.name == "v4":
        # A v4 chip's two cores work as one device.
        arguments["chip_config_name"] = "megacore"
    try:
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=machine.name, **arguments
        )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"machine {machine.name!r}: libtpu knows no such slice ({error}); "
            "its sides must be whole hosts, such as 2x2, 2x4 or 4x4"
        ) from error
    return list(topology.devices)


def _require(module: str, extra: str, machine: Machine) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"machine {machine.name!r}: its compiler is not installed; "
            f"run pip install 'zerocoder_jax[{extra}]'"
        )


def _put_ptxas_on_the_path() -> None:
    """XLA calls the assembler by name; the wheel that brings it puts it nowhere it would look."""
    found = importlib.util.find_spec("nvidia.cuda_nvcc")
    for location in (found.submodule_search_locations or []) if found else []:
        folder = str(Path(location) / "bin")
        if folder not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
