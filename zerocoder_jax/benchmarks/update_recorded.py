"""The update of recorded replies: each distinct prefix once, against a row for each sequence.

Both run on the same weights, in turns, in one process. A micro-batch's time depends on its size
alone, so on a slow machine a few of each size may stand for all.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zerocoder_jax.benchmarks.bounds import update_flops
from zerocoder_jax.benchmarks.matmul import matmul_peak
from zerocoder_jax.benchmarks.plan import policy_shape
from zerocoder_jax.benchmarks.recorded import recorded_tokens
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.parallel.program_table import ProgramTable
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.training.batches import MicroBatch
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence
from zerocoder_jax.training.update_programs import Batch, UpdatePrograms

ROLES = {"coder": "solutions", "tester": "tests"}


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure both roles' updates; keys that end in ``_coder`` and ``_tester`` are one role's.

    ``tokens`` and ``tokens_per_second`` count the sequences' tokens, however many were computed.
    ``fill`` is the share of computed slots that hold a token, ``distinct_share`` that of the
    sequences' tokens which are computed, ``mfu_ceiling`` the MFU if every product ran at the
    measured peak, ``ratio_unshared`` how many times as long it takes with a row for each sequence.
    """
    shape = policy_shape(config.policy.source)
    steps = {role: _sequences(name, shape, arguments) for role, name in ROLES.items()}
    shared = _Measured(config, shape, share=True)
    plain = _Measured(config, shape, share=False)
    policy = init_policy(shape, jax.random.key(config.seed), "float32")
    update = PolicyUpdate(policy, shared.config, shared.programs.mesh)
    state = update.init(policy.params)
    del policy
    sums = shared.programs.zeros()
    for _ in range(arguments.update_rounds):
        for role, sequences in steps.items():
            for one in (shared, plain):
                sums = one.measure(role, update, state, sums, sequences, arguments)
    began = time.perf_counter()
    jax.block_until_ready(shared.table["apply", 0](state, sums[0]))
    apply_seconds = time.perf_counter() - began

    peak = matmul_peak(jnp.dtype(config.policy.compute_dtype))
    tokens = {role: sum(one.length for one in step) for role, step in steps.items()}
    result = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "policy": config.policy.source,
        "dtype": config.policy.compute_dtype,
        "remat": config.training.remat,
        "sequences": sum(map(len, steps.values())),
        "tokens": sum(tokens.values()),
        "compile_seconds": shared.table.seconds,
        "matmul_flops_per_second": peak,
        "apply_seconds": apply_seconds,
    }
    for suffix, roles in {"": list(steps), **{f"_{role}": [role] for role in steps}}.items():
        seconds = sum(shared.seconds(role) for role in roles)
        counted, done = (sum(shared.work[role][i] for role in roles) for i in (0, 1))
        slots = sum(shared.slots[role] for role in roles)
        used = sum(shared.used[role] for role in roles)
        result |= {
            f"seconds{suffix}": seconds + apply_seconds * len(roles),
            f"tokens_per_second{suffix}": sum(tokens[role] for role in roles)
            / (seconds + apply_seconds * len(roles)),
            f"mfu{suffix}": counted / seconds / peak / jax.device_count(),
            f"mfu_ceiling{suffix}": counted / done,
            f"fill{suffix}": used / slots,
            f"distinct_share{suffix}": used / sum(tokens[role] for role in roles),
            f"ratio_unshared{suffix}": sum(plain.seconds(role) for role in roles) / seconds,
        }
    return result


class _Measured:
    """One way to make micro-batches, and what was measured of it."""

    def __init__(self, config: Any, shape: PolicyConfig, *, share: bool):
        self.config = config.copy_and_resolve_references()
        self.config.training.share_prefixes = share
        self.programs = UpdatePrograms(shape, self.config, make_mesh(config.mesh))
        self.table = ProgramTable(self.programs.lower)
        self.work: dict[str, tuple[float, float]] = {}
        self.slots: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self._shape = shape
        self._best: dict[tuple[str, int], float] = {}
        self._count: dict[tuple[str, int], int] = {}

    def seconds(self, role: str) -> float:
        """Of all micro-batches, at each size's best rate."""
        return sum(best * self._count[name] for name, best in self._best.items() if name[0] == role)

    def measure(
        self,
        role: str,
        update: PolicyUpdate,
        state: Any,
        sums: Any,
        sequences: list[TrainingSequence],
        arguments: argparse.Namespace,
    ) -> Any:
        """Time the role's micro-batches, and add their gradients to ``sums``."""
        base = update._frozen if self.programs.lora else None
        totals = {
            "tokens": np.float32(sum(len(one.response) for one in sequences)),
            "sequences": np.float32(len(sequences)),
        }
        batches = [batch for _, batch in self.programs.batches(sequences)]
        counts = [_counts(batch) for batch in batches]
        self.slots[role] = sum(one["slots"] for one in counts)
        self.used[role] = sum(one["tokens"] for one in counts)
        self.work[role] = self._flops(counts)
        sizes = [batch.tokens.shape[1] for batch in batches]
        for size in sorted(set(sizes)):
            own = [batch for batch, other in zip(batches, sizes) if other == size]
            self._count[role, size] = len(own)
            accumulate = self.table["accumulate", size]
            own = own[: arguments.update_micro_batches or len(own)]
            began = time.perf_counter()
            for batch in own:
                placed = update._placed(batch)
                sums = accumulate(state.params, base, *sums, placed, totals)
            jax.block_until_ready(sums)
            seconds = (time.perf_counter() - began) / len(own)
            before = self._best.get((role, size), float("inf"))
            self._best[role, size] = min(before, seconds)
        return sums

    def _flops(self, counts: list[dict[str, int]]) -> tuple[float, float]:
        """Counted for MFU, of real tokens; done, empty slots included."""
        options = {
            "reference": False,
            "remat": self.config.training.remat == "full",
            "lora": self.config.policy.lora.rank > 0,
        }
        total = {name: sum(one[name] for one in counts) for name in counts[0]}
        predictions, seen = total["predictions"], total["seen"]
        counted, _ = update_flops(self._shape, total["tokens"], predictions, seen, **options)
        _, done = update_flops(self._shape, total["slots"], predictions, seen, **options)
        return counted, done


def _counts(batch: Batch) -> dict[str, int]:
    """Slots, real tokens, predictions, and keys that the real tokens see."""
    if isinstance(batch, MicroBatch):
        real, positions = batch.mask, np.arange(batch.tokens.shape[1])[None]
        predictions = int(batch.response.sum())
    else:
        nodes = batch.paths.nodes.reshape(len(batch.tokens), -1)
        real = np.zeros((len(nodes), batch.tokens.shape[1] + 1), bool)
        np.put_along_axis(real, nodes, True, axis=1)
        real, positions = real[:, :-1], batch.positions
        predictions = int(batch.predicted.sum())
    return {
        "slots": batch.tokens.size,
        "tokens": int(real.sum()),
        "predictions": predictions,
        "seen": int(((positions + 1) * real).sum()),
    }


def _sequences(
    name: str, shape: PolicyConfig, arguments: argparse.Namespace
) -> list[TrainingSequence]:
    recorded = recorded_tokens(name)[: -(-arguments.update_sequences // 8)]
    largest = max(int(prompt.max()) for prompt, _ in recorded)
    if largest >= shape.vocab_size:
        raise UserError(
            f"--update-lengths=recorded: the recorded tokens are Qwen2.5's, but the policy's "
            f"vocabulary has {shape.vocab_size} entries; choose a Qwen2.5 policy, or equal lengths"
        )
    random = np.random.default_rng(0)
    return [
        TrainingSequence(
            prompt=prompt,
            response=reply,
            advantage=float(random.normal()),
            rollout_log_probs=np.full(len(reply), -12.0, np.float32),
        )
        for prompt, replies in recorded
        for reply in replies
    ][: arguments.update_sequences]
