"""Ten toy updates on each mesh named, printed as JSON; a program of its own, since the number of
devices and processes is fixed when JAX starts.

    python tests/parallel/ten_steps.py MESH... [--process=I --processes=N --coordinator=HOST:PORT]
"""

import argparse
import json
import math

import jax
import numpy as np

from configs.base import get_config
from zerocoder_jax.parallel import exchange, make_mesh, start_hosts
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence

POLICY = PolicyConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    qkv_bias=True,
)
STEPS = 10


def toy_config(mesh: str):
    config = get_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = map(int, mesh.split("x"))
    config.policy.compute_dtype = config.policy.reference_dtype = "float32"
    config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = 8
    config.training.length_buckets = (8, 16)
    config.training.micro_batch_tokens = 32
    config.training.log_prob_chunk = 4
    config.problems.per_step = 3
    config.grpo.kl_coefficient = 0.1
    config.optimizer.learning_rate = 1e-2
    # Adam divides by the root of squared gradients: with the usual epsilon it would blow the
    # rounding error of a vanishing gradient up to a whole step.
    config.optimizer.epsilon = 1e-3
    return config


def sequences_of_step(step: int) -> list[TrainingSequence]:
    """24 random ones to six prompts, of all lengths; the same on every host."""
    random = np.random.default_rng(step)
    prompts = [random.integers(0, 64, random.integers(1, 9), dtype=np.int32) for _ in range(6)]

    def sequence() -> TrainingSequence:
        response = random.integers(1, 9)
        return TrainingSequence(
            prompt=prompts[random.integers(6)],
            # Few distinct tokens: replies begin alike.
            response=random.integers(0, 4, response, dtype=np.int32),
            advantage=float(random.normal()),
            rollout_log_probs=-4 * random.random(response, dtype=np.float32),
        )

    return [sequence() for _ in range(24)]


def ten_steps(mesh: str) -> dict:
    """On one mesh; "rows" is one device without shared prefixes."""
    share, mesh = mesh != "rows", mesh.replace("rows", "1x1x1")
    config = toy_config(mesh)
    config.training.share_prefixes = share
    devices = jax.devices()[: math.prod(map(int, mesh.split("x")))]
    update = PolicyUpdate(
        init_policy(POLICY, jax.random.key(0), "float32"), config, make_mesh(config.mesh, devices)
    )
    state = update.init(init_policy(POLICY, jax.random.key(0), "float32").params)
    history = []
    for step in range(STEPS):
        sequences = sequences_of_step(step)
        if jax.process_count() > 1:
            # Uneven shares: the first host drew a third of the problems.
            sequences = sequences[:8] if jax.process_index() == 0 else sequences[8:]
        state, metrics = update(state, sequences)
        history.append(metrics)
    whole = jax.jit(lambda tree: tree, out_shardings=update.programs.whole)(state.params)
    weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(whole))])
    return {"metrics": history, "weights": weights.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("meshes", nargs="+")
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--coordinator", default="")
    arguments = parser.parse_args()
    config = get_config()
    if arguments.processes > 1:
        config.distributed.mode = "explicit"
        config.distributed.process = arguments.process
        config.distributed.processes = arguments.processes
        config.distributed.coordinator = arguments.coordinator
        config.distributed.timeout = 120
    start_hosts(config.distributed)
    results = {mesh: ten_steps(mesh) for mesh in arguments.meshes}
    # Nobody leaves before everybody is done: process 0 hosts the coordination service.
    exchange("done")
    print(json.dumps(results))
