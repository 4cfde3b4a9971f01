"""Bounds count what a device does at least, and no rate is asked of the wrong wire."""

import pytest

from configs import qwen2_5_coder_7b
from zerocoder_jax.benchmarks.bounds import rollout_bound, update_bound, update_flops
from zerocoder_jax.benchmarks.plan import PUBLISHED
from zerocoder_jax.parallel import parse_machine

POLICY = PUBLISHED["Qwen/Qwen2.5-Coder-7B-Instruct"]
BF16 = 2 * POLICY.num_matmul_parameters


class Shape:
    """As much of a mesh as a bound looks at: no such devices are here."""

    def __init__(self, data: int, fsdp: int, tensor: int):
        self.shape = {"data": data, "fsdp": fsdp, "tensor": tensor}


def bounds(machine: str, mesh: Shape, **fields):
    config = qwen2_5_coder_7b.get_config()
    config.update_from_flattened_dict(fields)
    cut = mesh.shape["fsdp"] * mesh.shape["tensor"]
    trained = 4 * POLICY.num_matmul_parameters // cut
    machine = parse_machine(machine)
    return (
        rollout_bound(config, POLICY, machine, mesh),
        update_bound(config, POLICY, machine, mesh, trained),
    )


def test_attention_counts_as_causal_and_recomputation_does_not_count():
    policy = PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"]
    counted, done = update_flops(policy, 1024, 1024, 1024**2 / 2, reference=False, remat=True)
    attention = 6 * 1024**2 * policy.num_layers * policy.query_size
    assert counted == 6 * policy.num_matmul_parameters * 1024 + attention
    assert 1.3 < done / counted < 1.34


def test_frozen_weights_have_no_gradient_to_count():
    policy = PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"]
    counted, _ = update_flops(
        policy, 1024, 1024, 1024**2 / 2, reference=False, remat=False, lora=True
    )
    attention = 6 * 1024**2 * policy.num_layers * policy.query_size
    assert counted == 4 * policy.num_matmul_parameters * 1024 + attention


def test_weights_are_collected_once_a_rollout_and_each_micro_batch():
    fields = {"training.share_prefixes": False}
    rollout, update = bounds("a100-80:4", Shape(1, 4, 1), **fields)
    assert rollout.collective_bytes == BF16 * 3 / 4
    # 256 sequences of 4096 tokens, four on each of four devices: 16 passes of a forward, a
    # recomputed, a backward and a reference's reading, and one scattering of gradients.
    assert update.collective_bytes == pytest.approx(16 * 5 * BF16 * 3 / 4)
    assert update.network_bytes == 0
    # With each problem's prompt once: 32 prompts and 256 replies of 2048 tokens, in 9 passes.
    _, shared = bounds("a100-80:4", Shape(1, 4, 1), **fields | {"training.share_prefixes": True})
    assert shared.collective_bytes == pytest.approx(9 * 5 * BF16 * 3 / 4)
    assert 1.5 < update.flops / shared.flops < 2


def test_a_host_receives_once_what_all_its_devices_need():
    rollout, _ = bounds("h100:2x8", Shape(1, 16, 1))
    assert rollout.network_bytes == BF16 / 2 / 8
    # Eight ports bring half the weights; each device has 15 sixteenths to take over NVLink.
    network, interconnect = BF16 / 2 / 8 / 50e9, BF16 * 15 / 16 / 450e9
    assert rollout.wires == pytest.approx(max(network, interconnect))


def test_replicas_of_the_state_do_not_share_its_traffic():
    _, cut = bounds("h100:8", Shape(1, 8, 1))
    _, repeated = bounds("h100:8", Shape(8, 1, 1))
    assert repeated.bytes_moved > 1.5 * cut.bytes_moved


def test_the_tensor_axis_may_be_left_to_be_filled_in():
    given, filled = (
        bounds("h100:8", Shape(1, 2, 4), **{"mesh.fsdp": 2, "mesh.tensor": tensor})
        for tensor in (4, -1)
    )
    assert given == filled
