"""Does a config fit a machine that is not here, and what will a step cost there?

The real programs (update, optimizer, prefill, decode) are compiled for the machine by the real XLA
compiler, and the memory is what the compiler reports. The times are ``bounds``, not promises.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from zerocoder_jax.benchmarks.bounds import Bound, rollout_bound, update_bound
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import USABLE_MEMORY, Machine, compile_only_devices, make_mesh
from zerocoder_jax.parallel.machines import GiB
from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.policy.loading import open_checkpoint
from zerocoder_jax.policy.lora import lora_settings
from zerocoder_jax.rollout.engine import SLOT_MULTIPLE
from zerocoder_jax.rollout.programs import Programs
from zerocoder_jax.rollout.prompt_packing import prompt_bucket
from zerocoder_jax.training.update_programs import UpdatePrograms

UPDATE, ROLLOUT = ("update", "optimizer step"), ("decode", "prefill")


@dataclasses.dataclass(frozen=True)
class Phase:
    """What one device holds during a phase.

    Attributes:
        name: "update", "optimizer step", "decode" or "prefill".
        holds: bytes by what they are; "activations and other temporaries" is the compiler's figure.
        refusal: why there is no such figure: XLA gave up, or was not asked, since what lies beside
            the temporaries is too much already.
    """

    name: str
    holds: dict[str, int]
    refusal: str = ""

    @property
    def total(self) -> int:
        """Bytes of the phase at its peak; of a refused one, of what lies beside its temporaries."""
        return sum(self.holds.values())


@dataclasses.dataclass(frozen=True)
class Plan:
    """The answer for one config and machine.

    Attributes:
        checkpoint_bytes: what one save writes, of all devices together.
        saved_every: steps between two saves.
    """

    machine: Machine
    phases: list[Phase]
    bounds: list[Bound]
    checkpoint_bytes: int
    saved_every: int

    @property
    def budget(self) -> int:
        """Bytes of a device that the run may use."""
        return usable(self.machine)

    def too_large(self) -> list[str]:
        """The phases that do not fit."""
        return [phase.name for phase in self.phases if phase.refusal or phase.total > self.budget]

    @property
    def fits(self) -> bool:
        """Whether every phase stays within the budget."""
        return not self.too_large()


def usable(machine: Machine) -> int:
    """Bytes of one of its devices that a run may use."""
    return int(USABLE_MEMORY * machine.accelerator.memory)


def tree_bytes(tree: Any) -> int:
    """Bytes that one device holds of a tree of shape structs with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def make_plan(
    config: Any, policy: PolicyConfig, machine: Machine, names: tuple[str, ...] = UPDATE + ROLLOUT
) -> Plan:
    """Compile the run's programs for ``machine`` and add up what lies beside them.

    Args:
        names: the phases that are wanted.

    Raises:
        UserError: the config is wrong for the mesh, or a compiler is not installed.
    """
    mesh = make_mesh(config.mesh, compile_only_devices(machine))
    state = UpdatePrograms(policy, config, mesh).abstract_state()
    bounds = [
        rollout_bound(config, policy, machine, mesh),
        update_bound(config, policy, machine, mesh, tree_bytes(state.params)),
    ]
    phases = plan_phases(config, policy, mesh, names, usable(machine))
    saved = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return Plan(machine, phases, bounds, saved, config.checkpoint.every)


def plan_phases(
    config: Any,
    policy: PolicyConfig,
    mesh: Mesh,
    names: tuple[str, ...] = UPDATE + ROLLOUT,
    budget: float = math.inf,
) -> list[Phase]:
    """What one device of ``mesh`` holds in each phase; nothing is compiled that cannot fit."""
    update = UpdatePrograms(policy, config, mesh)
    state = update.abstract_state()
    resident = {
        "weights being trained": tree_bytes(state.params),
        "optimizer": tree_bytes(state.optimizer_state),
        "frozen reference": tree_bytes(update.abstract_frozen()),
    }
    programs = _rollout_programs(config, policy, mesh)
    gradients = {"gradients": tree_bytes(update.abstract_sums()[0])}
    sampled = {
        "weights sampled from": tree_bytes(programs.abstract_weights()),
        "cache": tree_bytes(programs.abstract_cache()),
    }
    lowered: dict[str, Callable[[], Any]] = {
        "update": lambda: update.lower("accumulate", update.sizes[-1]),
        "optimizer step": lambda: update.lower("apply"),
        "decode": lambda: programs.lower("decode", config.rollout.rows),
        "prefill": lambda: programs.lower(
            "prefill", prompt_bucket(config.rollout.max_prompt_tokens - 1)
        ),
    }
    return [
        _phase(name, resident | (gradients if name in UPDATE else sampled), lowered[name], budget)
        for name in names
    ]


def _phase(name: str, holds: dict[str, int], lower: Callable[[], Any], budget: float) -> Phase:
    if sum(holds.values()) > budget:
        return Phase(name, holds, refusal="no room for temporaries is left")
    try:
        temporaries = extra_bytes(lower().compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        return Phase(name, holds, refusal="the compiler: " + " ".join(lines[0].split())[:400])
    return Phase(name, holds | {"activations and other temporaries": temporaries})


def _rollout_programs(config: Any, policy: PolicyConfig, mesh: Mesh) -> Programs:
    rollout, tensor = config.rollout, mesh.shape["tensor"]
    slots = rollout.max_prompt_tokens + rollout.max_new_tokens
    return Programs(
        policy,
        Mesh(np.asarray(mesh.devices).reshape(-1, tensor), ("rows", "tensor")),
        rows=rollout.rows,
        slots=-(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE,
        window=rollout.window,
        stop_tokens=(0,),
        compute_dtype=jnp.float32 if rollout.dtype == "float32" else jnp.bfloat16,
        quantized=rollout.dtype == "int8",
        lora=lora_settings(config.policy.lora),
    )


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


# ---- what would make it fit ----------------------------------------------------------------------

# From the mildest on: what leaves the result alone comes before what changes the optimizer, and
# that before training adapters alone.
STATES: tuple[dict[str, Any], ...] = (
    {},
    {"mesh.tensor": 2},
    {"mesh.tensor": 4},
    {"optimizer.first_moment_dtype": "bfloat16"},
    {"optimizer.name": "adafactor"},
    {"policy.lora.rank": 32},
)


def milder_changes(config: Any, side: tuple[str, ...]) -> list[dict[str, Any]]:
    """What needs less memory in the phases of ``side`` and leaves the result alone, mild first."""
    if side == ROLLOUT:
        rows = config.rollout.rows
        return [{"rollout.rows": n} for n in (rows * 3 // 4, rows // 2, rows // 4) if n >= 8]
    longest, tokens = max(config.training.length_buckets), config.training.micro_batch_tokens
    parts = [tokens // part for part in (2, 4, 8)]
    return [{"training.micro_batch_tokens": n} for n in parts if n >= longest]


def smallest_change(config: Any, policy: PolicyConfig, plan: Plan) -> dict[str, Any] | None:
    """The mildest change of fields with which everything fits; None: none does.

    Update and rollout are looked at apart: what both share comes from ``STATES``, and beside it
    each side has changes of its own.
    """
    for state in STATES:
        change = dict(state)
        for side in (ROLLOUT, UPDATE):
            if state or set(side) & set(plan.too_large()):
                changed = _changed(config, state)
                # Without any change the side is known not to fit.
                milder: list[dict[str, Any]] = [{}] if state else []
                milder += milder_changes(changed, side)
                found = _first_that_fits(milder, changed, policy, plan.machine, side)
                if found is None:
                    break
                change |= found
        else:
            return change
    return None


def _first_that_fits(
    changes: list[dict[str, Any]],
    config: Any,
    policy: PolicyConfig,
    machine: Machine,
    side: tuple[str, ...],
) -> dict[str, Any] | None:
    for change in changes:
        try:
            tried = make_plan(_changed(config, change), policy, machine, side)
        except UserError:  # a change may contradict another field
            continue
        if tried.fits:
            return change
    return None


def _changed(config: Any, change: dict[str, Any]) -> Any:
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(change)
    return changed


def report(plan: Plan) -> str:
    """The plan as a table for people."""
    accelerator = plan.machine.accelerator
    lines = [
        f"{plan.machine.name}: {plan.machine.num_devices} devices on {plan.machine.hosts} host(s), "
        f"{accelerator.memory / GiB:.0f} GiB each, of which {plan.budget / GiB:.1f} may be used",
        "",
    ]
    for phase in plan.phases:
        verdict = "DOES NOT FIT" if phase.name in plan.too_large() else "fits"
        more = "more than " if phase.refusal else ""
        lines.append(f"{phase.name:<30}{more:>10}{phase.total / GiB:8.1f} GiB  {verdict}")
        lines += [f"  {name:<38}{size / GiB:8.1f}" for name, size in phase.holds.items()]
        lines += [f"  {phase.refusal}"] if phase.refusal else []
    every = plan.saved_every
    lines += [
        "",
        f"a checkpoint writes {plan.checkpoint_bytes / 1e9:.1f} GB; saved every {every} steps, "
        f"that is {plan.checkpoint_bytes / every / 1e9:.1f} GB a step",
    ]
    lines += ["", f"{'one step, of each device':<26}{'rollout':>10}{'update':>10}"]
    for title, values in {
        "TFLOP": [bound.flops / 1e12 for bound in plan.bounds],
        "memory, GB moved": [bound.bytes_moved / 1e9 for bound in plan.bounds],
        "collectives, GB received": [bound.collective_bytes / 1e9 for bound in plan.bounds],
        "seconds of arithmetic": [bound.arithmetic for bound in plan.bounds],
        "seconds of memory": [bound.memory for bound in plan.bounds],
        "seconds of wires": [bound.wires for bound in plan.bounds],
    }.items():
        lines.append(f"  {title:<24}" + "".join(f"{value:10.1f}" for value in values))
    lines.append(
        "  (every prompt and reply at its longest allowed; lower bounds, from published rates; "
        "execution is not counted)"
    )
    return "\n".join(lines)
