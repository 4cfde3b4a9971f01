"""Hosts pass small things around, and a missing one is named instead of waited for."""

import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import exchange, start_hosts
from zerocoder_jax.parallel.hosts import _local_devices

HOST = """
import sys, time
from types import SimpleNamespace
from zerocoder_jax.errors import run_command
from zerocoder_jax.parallel import exchange, start_hosts

def main():
    process, coordinator, timeout, absent = sys.argv[1:]
    process = int(process)
    start_hosts(SimpleNamespace(mode="explicit", coordinator=coordinator, processes=2,
                                process=process, timeout=int(timeout)))
    # More than one piece, and different on each host.
    values = exchange({"from": process, "data": bytes(3_000_000 + process)})
    print([(value["from"], len(value["data"])) for value in values], flush=True)
    if absent == "absent":
        time.sleep(600)
    exchange("again")
    exchange("and again")

run_command(main)
"""


def start(process: int, port: int, timeout: int, absent: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOST, str(process), f"127.0.0.1:{port}", str(timeout), absent],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_every_host_gets_every_value_in_the_order_of_the_processes(port):
    hosts = [start(process, port, 120) for process in range(2)]
    for host in hosts:
        output, errors = host.communicate(timeout=180)
        assert host.returncode == 0, errors[-2000:]
        assert output.splitlines()[-1] == "[(0, 3000000), (1, 3000001)]"


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_a_host_that_hangs_or_dies_is_named_and_the_others_stop(port, how):
    here, gone = start(0, port, 15), start(1, port, 15, "absent")
    try:
        gone.stdout.readline()
        if how == "dies":
            gone.kill()
        began = time.monotonic()
        _, errors = here.communicate(timeout=120)
    finally:
        gone.kill()
        gone.wait()
    assert here.returncode == 75
    assert "process 1 on host" in errors and socket.gethostname() in errors
    assert time.monotonic() - began < 60


COLLECTIVE = """
import sys, time
from types import SimpleNamespace
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from zerocoder_jax.errors import run_command
from zerocoder_jax.parallel import start_hosts
from zerocoder_jax.parallel.hosts import lost_host_named

def main():
    process, coordinator = sys.argv[1:]
    start_hosts(SimpleNamespace(mode="explicit", coordinator=coordinator, processes=2,
                                process=int(process), timeout=120))
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    ones = jax.make_array_from_callback((len(jax.devices()),), rows, lambda at: np.ones(1))
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    print(float(total(ones)), flush=True)
    with lost_host_named():
        while True:
            float(total(ones))
            time.sleep(0.1)

run_command(main)
"""


def test_a_collective_whose_other_host_is_gone_ends_in_the_line_that_names_it(port):
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECTIVE, str(process), f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
        )
        for process in range(2)
    ]
    here, gone = hosts
    try:
        while here.stdout.readline() != "2.0\n":
            assert here.poll() is None  # Gloo says on standard output whom it has found
        gone.kill()
        _, errors = here.communicate(timeout=120)
    finally:
        gone.kill()
        gone.wait()
    assert here.returncode == 75
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "process 1 on host" in lines[0] and "Traceback" not in errors


def test_the_log_says_which_process_is_which_host(port):
    # Where process 0 dies, JAX ends the others at once, and names nobody but "the leader".
    gone, here = start(0, port, 120, "absent"), start(1, port, 120)
    try:
        gone.stdout.readline()
        gone.kill()
        _, errors = here.communicate(timeout=120)
    finally:
        gone.kill()
        gone.wait()
    assert here.returncode != 0
    name = socket.gethostname()
    assert errors.splitlines()[0] == f"processes of this run: 0 on {name}, 1 on {name}"


def test_a_process_alone_on_its_slurm_node_drives_all_devices_of_it():
    alone = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
    assert _local_devices(alone) == []
    assert _local_devices(alone | {"SLURM_NTASKS": "8"}) is None
    assert _local_devices(alone | {"JAX_LOCAL_DEVICE_IDS": "0,1"}) is None
    assert _local_devices({}) is None


def test_a_slurm_step_of_one_task_a_node_hides_no_device_from_jax(port):
    # What `srun --ntasks-per-node=1` sets on a node; the devices are asked for as on GPUs.
    program = (
        "from types import SimpleNamespace; import jax\n"
        "from jax._src import xla_bridge\n"
        "from zerocoder_jax.parallel import start_hosts\n"
        "start_hosts(SimpleNamespace(mode='auto', timeout=60))\n"
        "print(jax.process_count(), xla_bridge.CUDA_VISIBLE_DEVICES.value)"
    )
    step = {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    step |= {"STEP_NODELIST": "localhost", "STEP_NUM_NODES": "1"}
    made = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_PORT": str(port)}
        | {f"SLURM_{name}": value for name, value in step.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert made.stdout.splitlines()[-1] == "1 all"


def test_a_single_host_talks_to_itself():
    start_hosts(SimpleNamespace(mode="none", timeout=900))
    assert exchange("alone") == ["alone"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mode": "cluster"}, "choose none, auto or explicit"),
        ({"mode": "explicit", "coordinator": "host"}, "give HOST:PORT"),
        (
            {"mode": "explicit", "coordinator": "h:1", "process": 2, "processes": 2},
            "it counts from 0",
        ),
    ],
)
def test_wrong_settings_are_named(fields, reason):
    with pytest.raises(UserError, match=reason):
        start_hosts(SimpleNamespace(timeout=1, **fields))
