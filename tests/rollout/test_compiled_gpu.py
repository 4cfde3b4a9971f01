"""Rollout's programs for an A100 and an H100, compiled by the real compiler and read."""

import re

import jax
import pytest
from compiled_programs import (
    PROGRAMS,
    ROWS,
    SHAPES,
    SLOTS,
    cache_bytes,
    check_fit_and_cache_in_place,
    compiled,
)

pytestmark = pytest.mark.compiled

MACHINES = ["a100-80:1", "h100:1"]


@pytest.mark.parametrize("kind, size", PROGRAMS)
@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("machine_name", MACHINES)
def test_programs_fit_and_update_the_cache_in_place(machine_name, model, kind, size):
    check_fit_and_cache_in_place(machine_name, model, kind, size)


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("machine_name", MACHINES)
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
