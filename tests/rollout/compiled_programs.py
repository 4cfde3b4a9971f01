"""Rollout's programs for accelerators that are not here, and what holds for all of them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from zerocoder_jax.benchmarks.plan import PUBLISHED
from zerocoder_jax.parallel.machines import compile_only_devices, parse_machine
from zerocoder_jax.rollout.programs import Programs

ROWS, SLOTS = 128, 2560
# Of a program: what it does, and for how many rows or prompt tokens.
PROGRAMS = [("decode", ROWS), ("prefill", 512)]
SHAPES = {
    name: PUBLISHED[name]
    for name in (
        "Qwen/Qwen2.5-1.5B-Instruct",
        "Qwen/Qwen3-4B",
        "Qwen/Qwen2.5-Coder-7B-Instruct",
    )
}


@functools.cache
def compiled(machine_name, model, kind, size, tensor=1):
    config = SHAPES[model]
    machine = parse_machine(machine_name)
    devices = np.array(compile_only_devices(machine)).reshape(-1, tensor)
    programs = Programs(
        config,
        Mesh(devices, ("rows", "tensor")),
        rows=ROWS,
        slots=SLOTS,
        window=32,
        stop_tokens=(1, 2),
        compute_dtype=jnp.bfloat16,
    )
    return machine, programs.lower(kind, size).compile()


def cache_bytes(config):
    """Of one device; one layer's keys."""
    return ROWS * config.num_kv_heads * SLOTS * config.head_dim * 2


def check_fit_and_cache_in_place(machine_name, model, kind, size):
    config = SHAPES[model]
    machine, program = compiled(machine_name, model, kind, size)
    memory = program.memory_analysis()
    # Every byte of the cache that comes in goes out in the same place.
    assert memory.alias_size_in_bytes >= 2 * config.num_layers * cache_bytes(config)
    # Beside weights and cache there are activations and logits, and no second layer's cache: the
    # float32 logits and what the sampling makes of them are what is left.
    logits = ROWS * config.vocab_size * 4
    layer = 2 * cache_bytes(config)
    allowed = 8 * logits if kind == "decode" else 2 * layer
    assert memory.temp_size_in_bytes < allowed
    total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert total < 0.9 * machine.accelerator.memory
    weights = 2 * (config.num_matmul_parameters + config.vocab_size * config.hidden_size)
    if kind == "prefill":  # It asks for no logits, so the head is no argument of it.
        weights -= 2 * config.vocab_size * config.hidden_size
    planned = weights + 2 * config.num_layers * cache_bytes(config)
    assert memory.argument_size_in_bytes == pytest.approx(planned, rel=0.02)
