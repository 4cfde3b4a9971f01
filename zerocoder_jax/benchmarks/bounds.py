"""What a phase of a step must at least take on a machine, from published rates and counted work.

Everything is counted for one device with every prompt and reply at its longest: FLOPs, bytes of its
memory that are read and written, bytes that it must receive from other devices. A phase cannot be
faster than the slowest of the three. What is left out (activations, the embedding's look-up,
sampling) only makes the true time longer.
"""

import dataclasses
import math
from typing import Any

from jax.sharding import Mesh

from zerocoder_jax.parallel import Accelerator, Machine, batch_shards
from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.training.problem_order import calibration_problems, drawn_problems
from zerocoder_jax.training.update_programs import batch_shapes


@dataclasses.dataclass(frozen=True)
class Bound:
    """The work of one device in a phase of a step.

    Attributes:
        name: of the phase.
        accelerator: whose rates count.
        flops: done, those of recomputation included.
        bytes_moved: between the device and its memory.
        collective_bytes: received from other devices.
        network_bytes: of them, what its share of the host's network must bring from other hosts; 0
            for TPU slices, whose interconnect joins their hosts.
    """

    name: str
    accelerator: Accelerator
    flops: float
    bytes_moved: float
    collective_bytes: float
    network_bytes: float = 0.0

    @property
    def arithmetic(self) -> float:
        """Seconds of matrix products."""
        return self.flops / self.accelerator.flops

    @property
    def memory(self) -> float:
        """Seconds of reading and writing."""
        return self.bytes_moved / self.accelerator.bandwidth

    @property
    def wires(self) -> float:
        """Seconds of receiving."""
        within = self.collective_bytes / self.accelerator.interconnect
        return max(within, self.network_bytes / self.accelerator.network)

    @property
    def seconds(self) -> float:
        """The phase cannot be faster than its slowest part."""
        return max(self.arithmetic, self.memory, self.wires)


def forward_flops(
    policy: PolicyConfig, tokens: float, predictions: float, seen: float
) -> tuple[float, float, float]:
    """FLOPs of a forward pass: the layers' products with weights, their attention, the head.

    2 per matmul parameter and token (the head: per prediction), and 4 per query size, layer and
    pair of a query and a key.

    Args:
        tokens: that the layers compute.
        predictions: whose logits the head computes.
        seen: keys that the tokens' queries see, all together; T^2 / 2 of a sequence.
    """
    head = policy.hidden_size * policy.vocab_size
    layers = policy.num_matmul_parameters - head
    attention = 4 * seen * policy.num_layers * policy.query_size
    return 2 * layers * tokens, attention, 2 * head * predictions


def update_flops(
    policy: PolicyConfig,
    tokens: float,
    predictions: float,
    seen: float,
    *,
    reference: bool,
    remat: bool,
    lora: bool = False,
) -> tuple[float, float]:
    """FLOPs of an update: those that count for MFU, and those that are done.

    Three times the forward pass; where only adapters have a gradient, twice its products with
    weights. Done besides: the reference's forward pass, and the layers' once more under full
    rematerialisation. Arguments as in ``forward_flops``.
    """
    products, attention, head = forward_flops(policy, tokens, predictions, seen)
    counted = (2 if lora else 3) * (products + head) + 3 * attention
    # The chunked head always computes its logits again.
    done = counted + head + (products + attention if remat else 0)
    return counted, done + (products + attention + head if reference else 0)


def samples_of_step(config: Any) -> int:
    """Replies of both roles to the problems of a step and of the calibration set."""
    problems = drawn_problems(config) + calibration_problems(config)
    return problems * (config.rollout.solutions + config.rollout.tests)


def rollout_bound(config: Any, policy: PolicyConfig, machine: Machine, mesh: Mesh) -> Bound:
    """Each decode step reads the weights and what is cached so far; prefill is left out."""
    rollout, tensor = config.rollout, mesh.shape["tensor"]
    groups = machine.num_devices // tensor
    rows = min(rollout.rows, -(-samples_of_step(config) // groups))
    turns = -(-samples_of_step(config) // (groups * rows))
    steps = turns * rollout.max_new_tokens
    width = 4 if rollout.dtype == "float32" else 2
    weights = policy.num_matmul_parameters * (1 if rollout.dtype == "int8" else width)
    mean_length = rollout.max_prompt_tokens / 2 + rollout.max_new_tokens / 2
    token_bytes = 2 * width * policy.num_layers * policy.kv_size
    # The weights are collected once; rows that share their layers add up twice a layer and step.
    collected, from_hosts = _gathered(weights / tensor, machine, mesh)
    sums = 2 * policy.num_layers * steps * rows * policy.hidden_size * width
    return Bound(
        "rollout",
        machine.accelerator,
        flops=steps * 2 * policy.num_matmul_parameters * rows / tensor,
        bytes_moved=steps * (weights + rows * mean_length * token_bytes) / tensor,
        collective_bytes=collected + _summed(sums, tensor),
        network_bytes=from_hosts,
    )


def update_bound(
    config: Any, policy: PolicyConfig, machine: Machine, mesh: Mesh, trained_bytes: int
) -> Bound:
    """Every micro-batch collects the weights, every step reads and writes the state once.

    Args:
        trained_bytes: of one device's share of the float32 weights that are trained.
    """
    reference = config.grpo.kl_coefficient != 0
    remat = config.training.remat == "full"
    prompt, response = config.rollout.max_prompt_tokens, config.rollout.max_new_tokens
    samples = max(config.rollout.solutions, config.rollout.tests)
    sequences = config.problems.per_step * samples
    lora = config.policy.lora.rank > 0
    # A prompt is computed once for each problem, or once for each of its samples.
    prompts = config.problems.per_step if config.training.share_prefixes else sequences
    tokens = prompts * prompt + sequences * response
    seen = prompts * prompt**2 / 2 + sequences * response * (prompt + response / 2)
    _, flops = update_flops(
        policy, tokens, sequences * response, seen, reference=reference, remat=remat, lora=lora
    )
    shards = batch_shards(mesh)
    shapes = batch_shapes(config, shards)
    longest = shapes.lengths[-1]
    passes = math.ceil(tokens / (shapes.rows(longest) * longest))
    tensor, data = mesh.shape["tensor"], mesh.shape["data"]
    # Weights are read forward, backward and, where that is wanted, once more for each.
    readings = passes * (2 + remat + reference)
    weights = 2 * policy.num_matmul_parameters / tensor
    collected, from_hosts = _gathered(weights, machine, mesh)
    # Gradients leave in 16 bits and are cut along fsdp; replicas add theirs up.
    gradients = 0.0 if lora else collected * passes
    replicas = _summed(trained_bytes / 2, data) * passes
    sums = 2 * policy.num_layers * tokens / shards
    sums *= policy.hidden_size * 2 * (2 + remat + reference)
    return Bound(
        "update",
        machine.accelerator,
        flops=flops / machine.num_devices,
        # AdamW reads weight, gradient and two moments and writes three of them; a sum of gradients
        # is read and written in every pass.
        bytes_moved=7 * trained_bytes + passes * 2 * trained_bytes + readings * weights,
        collective_bytes=readings * collected + gradients + replicas + _summed(sums, tensor),
        network_bytes=readings * from_hosts + (0.0 if lora else passes * from_hosts),
    )


def _gathered(size: float, machine: Machine, mesh: Mesh) -> tuple[float, float]:
    """Bytes that a device receives to have the whole of ``size`` bytes cut along fsdp.

    Returns:
        All of them, and its share of what its host must receive from other hosts: once for all its
        devices, which pass it on to one another.
    """
    fsdp = mesh.shape["fsdp"]
    collected = size * (fsdp - 1) / fsdp
    if machine.accelerator.platform == "tpu" or machine.hosts == 1:
        return collected, 0.0
    per_host = machine.num_devices // machine.hosts
    spanned = -(-fsdp * mesh.shape["tensor"] // per_host)
    # Devices along "tensor" need different parts.
    return collected, size * mesh.shape["tensor"] * (spanned - 1) / spanned / per_host


def _summed(size: float, devices: int) -> float:
    """Bytes that a device receives while ``devices`` add up ``size`` bytes each."""
    return 2 * size * (devices - 1) / devices
