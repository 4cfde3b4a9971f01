"""Where arrays live: the device mesh, the table from logical axes to it, and the hosts of a run.

This room knows devices, hosts and axis names. It must not know what the arrays mean: no model, no
rollout, no training. Every package from ``policy`` on may import it.
"""

import os

import jax

from zerocoder_jax.parallel.compilation_cache import keep_compiled_programs
from zerocoder_jax.parallel.hosts import HostLost, exchange, start_hosts
from zerocoder_jax.parallel.machines import (
    ACCELERATORS,
    USABLE_MEMORY,
    Accelerator,
    Machine,
    compile_only_devices,
    parse_machine,
)
from zerocoder_jax.parallel.mesh import MESH_AXES, check_divisible, make_mesh
from zerocoder_jax.parallel.rules import (
    BATCH_AXES,
    LOGICAL_RULES,
    LogicalRules,
    batch_shards,
    partition_spec,
    shardings,
)

# On CPUs a dispatched program takes its memory at once and keeps it until its thread gets other
# work: with a queue of programs, gigabytes would lie beside each other. There they run in order.
jax.config.update("jax_cpu_enable_async_dispatch", False)

# Left alone, JAX takes three quarters of a GPU's memory and no more; plans count on this share.
if not os.environ.keys() & {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"}:
    os.environ["XLA_CLIENT_MEM_FRACTION"] = str(USABLE_MEMORY)

__all__ = [
    "ACCELERATORS",
    "BATCH_AXES",
    "LOGICAL_RULES",
    "MESH_AXES",
    "USABLE_MEMORY",
    "Accelerator",
    "HostLost",
    "LogicalRules",
    "Machine",
    "batch_shards",
    "check_divisible",
    "compile_only_devices",
    "exchange",
    "keep_compiled_programs",
    "make_mesh",
    "parse_machine",
    "partition_spec",
    "shardings",
    "start_hosts",
]
