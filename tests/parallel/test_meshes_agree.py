"""Ten training steps end the same on one device, on eight, and on two processes of four."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest


def start(repository, devices: int, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(repository / "tests/parallel/ten_steps.py"), *arguments],
        env=os.environ
        | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(repository),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=repository,
    )


def result(process: subprocess.Popen) -> dict:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def assert_same_run(found: dict, expected: dict) -> None:
    for step, (ours, theirs) in enumerate(zip(found["metrics"], expected["metrics"])):
        for name in theirs.keys() - {"policy/recompilations"}:
            np.testing.assert_allclose(
                ours[name], theirs[name], atol=1e-5, rtol=1e-5, err_msg=f"{name} at step {step}"
            )
    np.testing.assert_allclose(found["weights"], expected["weights"], atol=1e-5)


@pytest.fixture(scope="module")
def one_process(repository):
    return result(start(repository, 8, "rows", "1x1x1", "8x1x1", "1x8x1", "2x2x2"))


@pytest.mark.parametrize("mesh", ["8x1x1", "1x8x1", "2x2x2"])
def test_any_mesh_of_eight_devices_gives_the_run_of_one(one_process, mesh):
    assert_same_run(one_process[mesh], one_process["1x1x1"])


def test_shared_prefixes_give_the_run_of_a_row_for_each_sequence(one_process):
    assert_same_run(one_process["1x1x1"], one_process["rows"])


def test_programs_are_compiled_in_the_first_step_and_never_again(one_process):
    for run in one_process.values():
        assert run["metrics"][0]["policy/recompilations"] > 0
        assert all(metrics["policy/recompilations"] == 0 for metrics in run["metrics"][2:])


def test_two_processes_with_uneven_shares_give_the_run_of_one_device(repository, one_process):
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    processes = [
        start(repository, 4, "2x2x2", f"--process={i}", "--processes=2", coordinator)
        for i in range(2)
    ]
    # Both are read at once: one that waits for a reader keeps the other from leaving.
    with ThreadPoolExecutor(2) as readers:
        results = list(readers.map(result, processes))
    for found in results:
        assert_same_run(found["2x2x2"], one_process["1x1x1"])
