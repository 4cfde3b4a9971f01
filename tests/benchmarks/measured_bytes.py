"""The bytes that the toy run takes in each phase, planned and measured, printed as JSON; a program
of its own, since it measures its process.

    python tests/benchmarks/measured_bytes.py
"""

import gc
import json
import re
from pathlib import Path

import jax
import numpy as np

from configs.toy import get_config
from zerocoder_jax.benchmarks.plan import plan_phases
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import load_policy
from zerocoder_jax.rollout import RolloutEngine, SamplingSettings, sample_key
from zerocoder_jax.training.memory import return_freed_memory
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence

TEMPORARIES = "activations and other temporaries"


def size(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at most since ``peak`` was last forgotten."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", text)[1])


def measured_update(update: PolicyUpdate, state, config) -> dict[str, int]:
    programs = update.programs
    response = np.ones(config.rollout.max_new_tokens, np.int32)
    log_probs = np.full(len(response), -4, np.float32)
    rows = programs.sizes[-1] // (config.rollout.max_prompt_tokens + len(response))
    # Prompts that share nothing fill the largest micro-batch.
    sequences = [
        TrainingSequence(
            np.full(config.rollout.max_prompt_tokens, row, np.int32),
            *(response, 1.0, log_probs, None, log_probs),
        )
        for row in range(rows)
    ]
    [(_, batch)] = programs.batches(sequences)
    assert batch.tokens.shape[1] == programs.sizes[-1]
    placed = update._placed(batch)
    totals = {"tokens": np.float32(rows * len(response)), "sequences": np.float32(rows)}
    gradients, sums = programs.zeros()
    measured = {"gradients": size(gradients)}
    for _ in range(2):  # The first call compiles.
        gc.collect()
        return_freed_memory()
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # Forget the peak.
        gradients, sums = programs.accumulate(state.params, None, gradients, sums, placed, totals)
        jax.block_until_ready(gradients)
        measured[TEMPORARIES] = resident(peak=True) - before
    return measured


def measured_rollout(policy, state, config) -> dict[str, int]:
    sampling = SamplingSettings(max_new_tokens=config.rollout.max_new_tokens)
    engine = RolloutEngine(policy, sampling, config.rollout)
    engine.load(state.params)
    keys = np.stack([sample_key(0, 0, 0, 0, sample) for sample in range(config.rollout.rows)])
    limits = np.ones(config.rollout.rows, int)
    assert len(list(engine.generate([[1, 2]], config.rollout.rows, keys, limits=limits)))
    return {"weights sampled from": size(engine.decode_weights), "cache": size(engine._cache)}


def main() -> None:
    config = get_config()
    config.grpo.kl_coefficient = 0.001  # So that there is a reference.
    config.problems.per_step = 64  # So that a micro-batch is full.
    mesh = make_mesh(config.mesh)
    policy = load_policy("toy", mesh=mesh)
    phases = plan_phases(config, policy.config, mesh, ("update", "decode"))
    update = PolicyUpdate(policy, config, mesh)
    state = update.init(policy.params)
    resident_state = {
        "weights being trained": size(state.params),
        "optimizer": size(state.optimizer_state),
        "frozen reference": size(update._frozen),
    }
    measured = {
        "update": resident_state | measured_update(update, state, config),
        "decode": resident_state | measured_rollout(policy, state, config),
    }
    planned = {phase.name: phase.holds for phase in phases}
    print(json.dumps({"planned": planned, "measured": measured}))


if __name__ == "__main__":
    main()
