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
    assert here.returncode == 2
    assert "process 1 on host" in errors and socket.gethostname() in errors
    assert time.monotonic() - began < 60


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
