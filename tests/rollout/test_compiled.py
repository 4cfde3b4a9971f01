"""The programs of accelerators that are not here, compiled by the real compilers and read."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from zerocoder_jax.benchmarks.plan import PUBLISHED
from zerocoder_jax.parallel.machines import compile_only_devices, parse_machine
from zerocoder_jax.rollout.programs import Programs

pytestmark = pytest.mark.compiled

ROWS, SLOTS = 128, 2560
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


@pytest.mark.parametrize("kind, size", [("decode", ROWS), ("prefill", 512)])
@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("machine_name", ["a100-80:1", "h100:1", "v5p:2x2x1"])
def test_programs_fit_and_update_the_cache_in_place(machine_name, model, kind, size):
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


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("machine_name", ["a100-80:1", "h100:1"])
def test_no_step_copies_a_cache_or_lays_weights_out_anew(machine_name, model):
    config = SHAPES[model]
    _, program = compiled(machine_name, model, "decode", ROWS)
    text = program.as_text()
    ring = f"bf16[{ROWS},{config.num_kv_heads},{SLOTS},{config.head_dim}]"
    written = [
        line
        for line in text.splitlines()
        if re.search(rf"= {re.escape(ring)}\S* (fusion|copy|transpose|custom-call)\(", line)
    ]
    # One update a layer for keys and one for values, and nothing else that makes a cache.
    assert len(written) == 2 * config.num_layers
    assert all("dynamic_update_slice" in line for line in written)
    wide = config.query_size + 2 * config.kv_size
    for shape in (
        (config.hidden_size, wide),
        (config.query_size, config.hidden_size),
        (config.hidden_size, 2 * config.intermediate_size),
        (config.intermediate_size, config.hidden_size),
        (config.hidden_size, config.vocab_size),
    ):
        kernel = re.escape(f"bf16[{shape[0]},{shape[1]}]")
        assert not re.search(rf"= {kernel}\S* (copy|transpose|convert)\(", text)
    assert len(re.findall(r'custom-call.*decode_attention|"decode_attention"', text)) > 0


def test_tensor_parallel_rows_talk_only_in_sums_and_over_logits():
    model = "Qwen/Qwen2.5-Coder-7B-Instruct"
    config = SHAPES[model]
    _, program = compiled("h100:4", model, "decode", ROWS, tensor=4)
    text = program.as_text()
    sums = re.findall(r"= \S+ all-reduce(?:-start)?\(", text)
    # The embedding is whole, so each layer has two sums: after attention and after the mlp.
    assert len(sums) == 2 * config.num_layers
    memory = program.memory_analysis()
    quarter = 2 * config.num_layers * cache_bytes(config) / 4
    assert memory.alias_size_in_bytes == pytest.approx(quarter, rel=0.01)
    assert jax.default_backend() == "cpu"
