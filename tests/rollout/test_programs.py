"""A program is traced and compiled no more often than it has to be."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.rollout.programs import Programs

LAYERS = 3
CONFIG = PolicyConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_layers=LAYERS,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
)


def programs(rows: int, window: int = 5) -> Programs:
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("rows", "tensor"))
    return Programs(
        CONFIG,
        mesh,
        rows=rows,
        slots=64,
        window=window,
        stop_tokens=(3,),
        compute_dtype=jnp.float32,
    )


def test_python_traces_the_attention_of_one_layer_for_all_of_them() -> None:
    text = programs(rows=4).lower("decode", 4).as_text()
    # A function of the program, and one call of it a layer.
    assert len(re.findall(r"func\.func private @decode_attention", text)) == 1
    assert len(re.findall(r"call @decode_attention", text)) == LAYERS


def test_a_second_engine_of_the_same_settings_compiles_nothing(
    counted_compilations: Callable[[], AbstractContextManager[list[dict]]],
) -> None:
    wanted = {"batch_sizes": (2, 4), "buckets": (64,)}
    with counted_compilations() as compiled:
        programs(rows=4).warm_up(**wanted)
        first = len(compiled)
        programs(rows=4).warm_up(**wanted)
        again = len(compiled) - first
        programs(rows=4, window=6).warm_up(**wanted)
        other = len(compiled) - first - again
    assert (first, again) == (4, 0)
    # Rows are copied alike, but a function belongs to its settings.
    assert other == 4
