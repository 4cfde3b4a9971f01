"""Properties of the decoder that need no oracle."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.policy import (
    Params,
    Policy,
    apply_rotary,
    decoder_graphdef,
    forward,
    rms_norm,
    rotary_tables,
    vocabulary_logits,
)

TinyPolicy = Callable[[str], Policy]


def hidden_states(policy: Policy, tokens: np.ndarray, mask: np.ndarray, **options) -> np.ndarray:  # type: ignore[no-untyped-def]
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    return np.asarray(forward(policy.graphdef, policy.params, tokens, positions, mask, **options))


def tokens_of(policy: Policy, rows: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, policy.config.vocab_size, (rows, length))


def test_the_side_of_the_padding_changes_nothing(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen3")
    tokens = tokens_of(policy, 1, 5)
    alone = hidden_states(policy, tokens, np.ones((1, 5), bool))
    padded = np.zeros((2, 9), np.int32)
    mask = np.zeros((2, 9), bool)
    padded[0, :5], mask[0, :5] = tokens, True
    padded[1, 4:], mask[1, 4:] = tokens, True
    together = hidden_states(policy, padded, mask)
    np.testing.assert_allclose(together[0, :5], alone[0], atol=2e-5)
    np.testing.assert_allclose(together[1, 4:], alone[0], atol=2e-5)


def test_later_tokens_and_padding_never_reach_earlier_ones(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen2_tied")
    tokens = tokens_of(policy, 1, 8)
    mask = np.array([[False, False, True, True, True, True, True, True]])
    before = hidden_states(policy, tokens, mask)
    changed = tokens.copy()
    changed[0, :2] = (changed[0, :2] + 1) % policy.config.vocab_size
    changed[0, 6:] = (changed[0, 6:] + 1) % policy.config.vocab_size
    after = hidden_states(policy, changed, mask)
    np.testing.assert_array_equal(after[0, 2:6], before[0, 2:6])
    assert not np.allclose(after[0, 6:], before[0, 6:])


def test_recomputing_changes_no_gradient(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen3")
    tokens, mask = tokens_of(policy, 2, 7), np.ones((2, 7), bool)
    positions = np.broadcast_to(np.arange(7), (2, 7))

    def gradient(remat: str) -> Params:
        def loss(params: Params) -> jax.Array:
            hidden = forward(policy.graphdef, params, tokens, positions, mask, remat=remat)  # type: ignore[arg-type]
            return jnp.sum(vocabulary_logits(params, hidden) ** 2)

        return jax.jit(jax.grad(loss))(policy.params)

    whole = gradient("none")
    for remat in ("minimal", "full"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
            gradient(remat),
            whole,
        )


def test_only_distances_between_positions_matter(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("llama")
    tokens, mask = tokens_of(policy, 1, 6), np.ones((1, 6), bool)
    near, far = (
        forward(policy.graphdef, policy.params, tokens, np.arange(6)[None] + start, mask)
        for start in (0, 90)
    )
    np.testing.assert_allclose(near, far, atol=2e-4)


def test_equal_configurations_share_one_compiled_program(tiny_policy: TinyPolicy) -> None:
    config = tiny_policy("qwen3").config
    graphdef = decoder_graphdef(config)
    assert graphdef == decoder_graphdef(config) and hash(graphdef) == hash(graphdef)
    assert graphdef != decoder_graphdef(tiny_policy("llama").config)


def test_rotation_keeps_lengths_and_turns_by_position(tiny_policy: TinyPolicy) -> None:
    config = tiny_policy("qwen3").config
    cos, sin = rotary_tables(jnp.array([[0, 3]]), config)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, config.head_dim)), jnp.float32)
    rotated = apply_rotary(x, cos, sin)
    np.testing.assert_array_equal(rotated[0, 0], x[0, 0])  # position 0 turns nothing
    np.testing.assert_allclose(
        jnp.linalg.norm(rotated, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-6
    )
    half = config.head_dim // 2
    first = x[0, 1, 0, 0] * jnp.cos(3.0) - x[0, 1, 0, half] * jnp.sin(3.0)
    np.testing.assert_allclose(rotated[0, 1, 0, 0], first, rtol=1e-5)


def test_rms_norm_is_computed_in_float32() -> None:
    """A mean of 512 squares, summed in bfloat16, would stop growing at half its value."""
    x = jnp.full((1, 512), 0.01, jnp.bfloat16)
    normalized = rms_norm(x, jnp.ones(512), 0.0)
    assert normalized.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(normalized, np.float32), 1.0, rtol=4e-3)


def test_compute_dtype_is_the_dtype_of_what_comes_out(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("qwen2_untied")
    tokens, mask = tokens_of(policy, 1, 4), np.ones((1, 4), bool)
    hidden = forward(
        policy.graphdef, policy.params, tokens, np.arange(4)[None], mask, compute_dtype="bfloat16"
    )
    assert hidden.dtype == jnp.bfloat16
    assert vocabulary_logits(policy.params, hidden).dtype == jnp.float32


def test_float32_products_are_asked_for_in_full_precision(tiny_policy: TinyPolicy) -> None:
    """Accelerators otherwise round the operands to TensorFloat-32 or bfloat16."""
    policy = tiny_policy("qwen2_untied")
    tokens, mask = tokens_of(policy, 1, 4), np.ones((1, 4), bool)

    def logits(params: Params, dtype: str) -> jax.Array:
        hidden = forward(
            policy.graphdef, params, tokens, np.arange(4)[None], mask, compute_dtype=dtype
        )
        return vocabulary_logits(params, hidden).sum()

    for dtype, precise in (("float32", True), ("bfloat16", False)):
        program = jax.jit(jax.grad(logits), static_argnums=1).lower(policy.params, dtype).as_text()
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert products
        assert all(("HIGHEST" in line) == precise for line in products)


def test_an_unknown_attention_is_refused(tiny_policy: TinyPolicy) -> None:
    policy = tiny_policy("llama")
    with pytest.raises(ValueError, match="unknown attention 'flash'"):
        hidden_states(policy, tokens_of(policy, 1, 3), np.ones((1, 3), bool), attention="flash")
