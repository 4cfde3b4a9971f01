"""Does a config fit a machine that is not here, and what will a step cost there?

The real programs (update, optimizer, prefill, decode) are compiled for the machine by the real XLA
compiler, and the memory is what the compiler reports. The times are bounds, not promises: the
slower of arithmetic, memory and wires at their published rates.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import Machine, batch_shards, compile_only_devices, make_mesh
from zerocoder_jax.parallel.machines import GiB
from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.policy.loading import open_checkpoint
from zerocoder_jax.rollout.engine import SLOT_MULTIPLE
from zerocoder_jax.rollout.programs import Programs, prompt_buckets
from zerocoder_jax.training.update_programs import UpdatePrograms, batch_shapes

# Of a device's memory: the rest belongs to the runtime, its libraries and fragmentation.
USABLE = 0.92


@dataclasses.dataclass(frozen=True)
class Phase:
    """What one device holds during a phase: bytes by what they are, and the compiler's extra."""

    name: str
    holds: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of the phase at its peak."""
        return sum(self.holds.values())


@dataclasses.dataclass(frozen=True)
class Bound:
    """Lower bounds of a phase's seconds, by what limits them."""

    name: str
    arithmetic: float
    memory: float
    wires: float

    @property
    def seconds(self) -> float:
        """The phase cannot be faster than its slowest part."""
        return max(self.arithmetic, self.memory, self.wires)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The answer for one config and machine."""

    machine: Machine
    phases: list[Phase]
    bounds: list[Bound]
    # XLA's own refusal, where the compiler gave up before reporting sizes.
    refusal: str = ""

    @property
    def budget(self) -> int:
        """Bytes of a device that the run may use."""
        return int(USABLE * self.machine.accelerator.memory)

    @property
    def fits(self) -> bool:
        """Whether every phase stays within the budget."""
        return not self.refusal and all(phase.total <= self.budget for phase in self.phases)

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total).name if self.phases else "update"


def tree_bytes(tree: Any) -> int:
    """Bytes that one device holds of a tree of shape structs with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def make_plan(config: Any, policy: PolicyConfig, machine: Machine) -> Plan:
    """Compile the run's programs for ``machine`` and add up what lies beside them.

    Raises:
        UserError: the config is wrong for the mesh, or a compiler is not installed.
    """
    devices = compile_only_devices(machine)
    mesh = make_mesh(config.mesh, devices)
    bounds = [
        _rollout_bound(config, policy, machine),
        _update_bound(config, policy, machine, mesh),
    ]
    try:
        phases = _update_phases(config, policy, mesh) + _rollout_phases(config, policy, mesh)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        return Plan(machine, [], bounds, refusal=" ".join(lines[0].split())[:400])
    return Plan(machine, phases, bounds)


def _update_phases(config: Any, policy: PolicyConfig, mesh: Mesh) -> list[Phase]:
    programs = UpdatePrograms(policy, config, mesh)
    state, frozen = programs.abstract_state(), programs.abstract_frozen()
    resident = {
        "weights being trained": tree_bytes(state.params),
        "optimizer": tree_bytes(state.optimizer_state),
        "frozen reference": tree_bytes(frozen),
    }
    gradients, sums = programs.abstract_sums()
    length = programs.shapes.lengths[-1]
    accumulate = programs.accumulate.lower(
        state.params,
        frozen if programs.lora else None,
        gradients,
        sums,
        programs.abstract_batch(length),
        programs.abstract_totals(),
    ).compile()
    apply = programs.apply.lower(state, gradients).compile()
    return [
        Phase(
            name,
            resident
            | {
                "gradients": tree_bytes(gradients),
                "activations and other temporaries": extra_bytes(compiled),
            },
        )
        for name, compiled in (("update", accumulate), ("optimizer step", apply))
    ]


def _rollout_phases(config: Any, policy: PolicyConfig, mesh: Mesh) -> list[Phase]:
    rollout, tensor = config.rollout, mesh.shape["tensor"]
    slots = rollout.max_prompt_tokens + rollout.max_new_tokens
    programs = Programs(
        policy,
        Mesh(np.asarray(mesh.devices).reshape(-1, tensor), ("rows", "tensor")),
        rows=rollout.rows,
        slots=-(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE,
        window=rollout.window,
        stop_tokens=(0,),
        compute_dtype=jnp.float32 if rollout.dtype == "float32" else jnp.bfloat16,
        quantized=rollout.dtype == "int8",
    )
    update = UpdatePrograms(policy, config, mesh)
    state, frozen = update.abstract_state(), update.abstract_frozen()
    phases = []
    for name, size in (
        ("decode", rollout.rows),
        ("prefill", prompt_buckets(rollout.max_prompt_tokens - 1)[-1]),
    ):
        compiled = programs.lower(name, size).compile()
        arguments = compiled.memory_analysis().argument_size_in_bytes
        cache = compiled.memory_analysis().alias_size_in_bytes
        phases.append(
            Phase(
                name,
                {
                    "weights being trained": tree_bytes(state.params),
                    "optimizer": tree_bytes(state.optimizer_state),
                    "frozen reference": tree_bytes(frozen),
                    "weights sampled from": arguments - cache,
                    "cache": cache,
                    "activations and other temporaries": extra_bytes(compiled),
                },
            )
        )
    return phases


def extra_bytes(compiled: Any) -> int:
    """What a program needs beside its arguments: temporaries, and results with no donated home."""
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes


# ---- the policy's shape --------------------------------------------------------------------------

# The paper's policies and the smallest of their family, from their published config.json: a plan
# needs no download.
_QWEN2: dict[str, Any] = {"family": "qwen2", "qkv_bias": True, "rope_theta": 1e6}
PUBLISHED = {
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": PolicyConfig(
        151_936, 896, 4864, 24, 14, 2, 64, tie_embeddings=True, **_QWEN2
    ),
    "Qwen/Qwen2.5-1.5B-Instruct": PolicyConfig(
        151_936, 1536, 8960, 28, 12, 2, 128, tie_embeddings=True, **_QWEN2
    ),
    "Qwen/Qwen3-4B": PolicyConfig(
        151_936, 2560, 9728, 36, 32, 8, 128, tie_embeddings=True, qk_norm=True, family="qwen3",
        rope_theta=1e6, max_positions=40_960,
    ),
    "Qwen/Qwen2.5-Coder-7B-Instruct": PolicyConfig(
        152_064, 3584, 18_944, 28, 28, 4, 128, **_QWEN2
    ),
}  # fmt: skip


def policy_shape(source: str) -> PolicyConfig:
    """The configuration of a ``config.policy.source``, without reading a weight.

    Raises:
        UserError: the source is unknown.
    """
    name = source.removeprefix("hf:")
    return PUBLISHED[name] if name in PUBLISHED else open_checkpoint(source).config()


# ---- bounds --------------------------------------------------------------------------------------


def _samples(config: Any) -> int:
    problems = config.problems.per_step
    if config.selector.calibration.enabled:
        problems += config.selector.calibration.problems
    return problems * (config.rollout.solutions + config.rollout.tests)


def _rollout_bound(config: Any, policy: PolicyConfig, machine: Machine) -> Bound:
    """Every sample at its longest: each step reads the weights and what is cached so far."""
    accelerator, rollout = machine.accelerator, config.rollout
    tensor = config.mesh.tensor
    groups = machine.num_devices // tensor
    rows = min(rollout.rows, -(-_samples(config) // groups))
    turns = -(-_samples(config) // (groups * rows))
    width = 4 if rollout.dtype == "float32" else 2
    weights = policy.num_matmul_parameters * (1 if rollout.dtype == "int8" else width)
    mean_length = rollout.max_prompt_tokens / 2 + rollout.max_new_tokens / 2
    token_bytes = 2 * width * policy.num_layers * policy.kv_size
    steps = turns * rollout.max_new_tokens
    return Bound(
        "rollout",
        arithmetic=steps * 2 * policy.num_matmul_parameters * rows / tensor / accelerator.flops,
        memory=steps
        * (weights + rows * mean_length * token_bytes)
        / tensor
        / accelerator.bandwidth,
        wires=0.0,
    )


def update_flops(
    policy: PolicyConfig, prompt: float, response: float, *, reference: bool, remat: bool
) -> tuple[float, float]:
    """FLOPs of one sequence: those that count for MFU, and those that are done.

    6 per matmul parameter and token (the head: per response token), and causal attention's
    2 x 2 x T^2 / 2 per layer and query size, three times. Done besides: the reference's forward
    pass, and the layers' once more under full rematerialisation.
    """
    tokens = prompt + response
    head = policy.hidden_size * policy.vocab_size
    layers = policy.num_matmul_parameters - head
    attention = 2 * tokens**2 * policy.num_layers * policy.query_size
    forward_layers, forward_head = 2 * layers * tokens + attention, 2 * head * response
    counted = 3 * (forward_layers + forward_head)
    # The chunked head always computes its logits again.
    done = counted + forward_head + (forward_layers if remat else 0)
    return counted, done + (forward_layers + forward_head if reference else 0)


def _update_bound(config: Any, policy: PolicyConfig, machine: Machine, mesh: Mesh) -> Bound:
    """Every sequence at its longest."""
    accelerator = machine.accelerator
    sequences = config.problems.per_step * max(config.rollout.solutions, config.rollout.tests)
    reference = config.grpo.kl_coefficient != 0
    _, flops = update_flops(
        policy,
        config.rollout.max_prompt_tokens,
        config.rollout.max_new_tokens,
        reference=reference,
        remat=config.training.remat == "full",
    )
    shapes = batch_shapes(config, batch_shards(mesh))
    passes = -(-sequences // shapes.rows(shapes.lengths[-1]))
    parameters = policy.num_matmul_parameters + policy.hidden_size * policy.vocab_size * (
        not policy.tie_embeddings
    )
    fsdp = mesh.shape["fsdp"]
    # Weights are collected for the forward, the recomputed and the reference's pass, gradients are
    # scattered once; each in 16 bits.
    trips = (4 if reference else 3) * passes * (fsdp - 1) / fsdp
    wire = accelerator.interconnect if machine.hosts == 1 else accelerator.network
    moments = 7 * 4 * parameters / mesh.size
    return Bound(
        "update",
        arithmetic=sequences * flops / machine.num_devices / accelerator.flops,
        memory=(moments + passes * 8 * parameters) / accelerator.bandwidth,
        wires=trips * 2 * parameters / mesh.shape["tensor"] / wire,
    )


# ---- what would make it fit ----------------------------------------------------------------------


def smaller_changes(config: Any, worst: str) -> list[dict[str, Any]]:
    """Changes of single fields that need less memory in the phase that needs most, small first."""
    rollout, training = config.rollout, config.training
    if worst in ("decode", "prefill"):
        rows = [rollout.rows * 3 // 4, rollout.rows // 2, rollout.rows // 4, rollout.rows // 8]
        changes: list[dict[str, Any]] = [{"rollout.rows": n} for n in rows if n >= 8]
    else:
        longest = max(training.length_buckets)
        tokens = [training.micro_batch_tokens // n for n in (2, 4, 8)]
        changes = [{"training.micro_batch_tokens": n} for n in tokens if n >= longest]
        changes += [{"optimizer.first_moment_dtype": "bfloat16"}, {"optimizer.name": "adafactor"}]
    return [*changes, {"policy.lora.rank": 32}]


def smallest_change(
    config: Any, policy: PolicyConfig, plan: Plan
) -> tuple[dict[str, Any], Plan] | None:
    """The first of ``smaller_changes`` with which everything fits, and its plan; None: none does.

    What no activation or cache can save is not tried: state alone may be over the budget.
    """
    for change in smaller_changes(config, plan.worst):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(change)
        try:
            tried = make_plan(changed, policy, plan.machine)
        except UserError:
            continue
        if tried.fits:
            return change, tried
    return None


def report(plan: Plan) -> str:
    """The plan as a table for people."""
    accelerator = plan.machine.accelerator
    lines = [
        f"{plan.machine.name}: {plan.machine.num_devices} devices on {plan.machine.hosts} host(s), "
        f"{accelerator.memory / GiB:.0f} GiB each, of which {plan.budget / GiB:.1f} may be used",
        "",
    ]
    if plan.refusal:
        lines += [f"The compiler refuses: {plan.refusal}", ""]
    for phase in plan.phases:
        verdict = "fits" if phase.total <= plan.budget else "DOES NOT FIT"
        lines.append(f"{phase.name:<40}{phase.total / GiB:8.1f} GiB  {verdict}")
        lines += [f"  {name:<38}{size / GiB:8.1f}" for name, size in phase.holds.items()]
    lines += ["", f"{'lower bounds, seconds a step':<40}arithmetic   memory    wires"]
    lines += [
        f"  {bound.name:<38}{bound.arithmetic:10.1f}{bound.memory:9.1f}{bound.wires:9.1f}"
        for bound in plan.bounds
    ]
    lines.append("  (every prompt and reply at its longest allowed; execution is not counted)")
    return "\n".join(lines)
