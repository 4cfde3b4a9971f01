"""The learning rate over a run: constant as the paper's, or with warm-up and decay."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from zerocoder_jax.training.optimizer import learning_rate, make_optimizer


def optimizer_config(**changes):
    config = get_config().optimizer
    config.update({"learning_rate": 0.5} | changes)
    return config


def test_the_default_is_the_papers_constant_rate() -> None:
    assert learning_rate(optimizer_config(), total_updates=150) == 0.5


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 4, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", 0, [0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625]),
        ("linear", 4, [0.125, 0.25, 0.375, 0.5, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", 4, [0.125, 0.25, 0.375, 0.5, 0.5, 0.4267767, 0.25, 0.0732233]),
    ],
)
def test_the_rate_rises_in_the_warm_up_and_falls_to_nothing_at_the_end(
    schedule: str, warmup: int, expected: list[float]
) -> None:
    rate = learning_rate(optimizer_config(schedule=schedule, warmup_steps=warmup), 8)
    np.testing.assert_allclose([float(rate(step)) for step in range(8)], expected, rtol=1e-5)
    # A run that was extended and shortened again does not train backwards.
    assert float(rate(20)) == (0.5 if schedule == "constant" else 0.0)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_updates_follow_the_rate(name: str) -> None:
    """Of equal gradients, AdamW's step is the rate itself: the sign of the gradient times it."""
    config = optimizer_config(name=name, schedule="linear", weight_decay=0.0)
    optimizer = make_optimizer(config, total_updates=4)
    params = {"kernel": jnp.ones((2, 3))}
    state, sizes = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update({"kernel": jnp.full((2, 3), 0.1)}, state, params)
        sizes.append(float(jnp.abs(updates["kernel"]).max()))
    np.testing.assert_allclose(sizes, np.array([1, 0.75, 0.5, 0.25]) * sizes[0], rtol=1e-3)
