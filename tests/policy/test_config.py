"""What a configuration file says is what the decoder is; what it cannot be is refused by name."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Policy, PolicyConfig, RopeScaling, abstract_params, logical_axes
from zerocoder_jax.policy.config import config_from_hugging_face, config_to_hugging_face

# Published config.json files, as far as they concern the decoder.
QWEN2_5_CODER_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06,
    "max_position_embeddings": 32768, "max_window_layers": 28, "sliding_window": 131072,
    "use_sliding_window": False, "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip
QWEN3_4B = {
    "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "head_dim": 128,
    "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
    "vocab_size": 151936, "rope_theta": 1000000, "rope_scaling": None, "rms_norm_eps": 1e-06,
    "max_position_embeddings": 40960, "use_sliding_window": False, "tie_word_embeddings": True,
    "attention_bias": False, "hidden_act": "silu",
}  # fmt: skip


def parameters(config: PolicyConfig) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def test_published_configurations_have_the_published_number_of_parameters() -> None:
    assert parameters(config_from_hugging_face(QWEN2_5_CODER_7B, "7B")) == 7_615_616_512
    assert parameters(config_from_hugging_face(QWEN3_4B, "4B")) == 4_022_468_096


def test_matmul_parameters_leave_out_only_what_is_looked_up_or_added() -> None:
    config = config_from_hugging_face(QWEN3_4B, "4B")
    vectors = sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(config))
        if path[-1].key in ("scale", "bias")
    )
    # The head is tied: the one table is counted as the matrix it is at the output.
    assert config.num_matmul_parameters == parameters(config) - vectors


def test_a_configuration_survives_being_written(tiny_name: str, make_goldens: ModuleType) -> None:
    config = config_from_hugging_face(make_goldens.tiny_fields(tiny_name), tiny_name)
    assert config_from_hugging_face(config_to_hugging_face(config), tiny_name) == config


def test_yarn_is_read_as_qwen_documents_it() -> None:
    scaling = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    config = config_from_hugging_face(QWEN2_5_CODER_7B | {"rope_scaling": scaling}, "7B")
    assert config.rope_scaling == RopeScaling("yarn", 4.0, original_max_positions=32768)
    assert config.rope_theta == 1e6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "mistral"}, "model_type 'mistral' is not supported"),
        ({"model_type": "qwen3_moe"}, "model_type 'qwen3_moe' is not supported"),
        ({"num_experts": 128}, "mixture-of-experts"),
        ({"use_sliding_window": True}, "sliding-window attention is in use"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        ({"layer_types": ["linear_attention"] * 28}, "layer type 'linear_attention'"),
        ({"layer_types": "full_attention"}, "'layer_types' is \"full_attention\"; a list"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2}}, "rope scaling 'longrope'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope scaling 'yarn' has no factor"),
        ({"rope_scaling": {"type": "yarn", "factor": None}}, "rope scaling 'yarn' has no factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "mscale": 0.7}}, "'mscale'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"num_hidden_layers": None}, "field 'num_hidden_layers' is missing"),
        ({"num_attention_heads": 27}, "27 attention heads cannot share 4"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config_from_hugging_face(QWEN2_5_CODER_7B | fields, "config.json")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_size": "3584"}, "'hidden_size' is \"3584\"; a positive integer is expected"),
        ({"hidden_size": 3584.0}, "'hidden_size' is 3584.0; a positive integer"),
        ({"num_hidden_layers": True}, "'num_hidden_layers' is true; a positive integer"),
        ({"num_attention_heads": 0}, "'num_attention_heads' is 0; a positive integer"),
        ({"vocab_size": [152064]}, r"'vocab_size' is \[152064\]; a positive integer"),
        ({"head_dim": {"size": 128}}, "'head_dim' is {\"size\": 128}; a positive integer"),
        ({"max_position_embeddings": "x" * 99}, "'max_position_embeddings' is \"xxx.*[.][.][.]; "),
        ({"rms_norm_eps": "1e-6"}, "'rms_norm_eps' is \"1e-6\"; a positive number"),
        ({"rms_norm_eps": float("inf")}, "'rms_norm_eps' is Infinity; a positive number"),
        ({"rope_theta": [1e6]}, "'rope_theta' is .*; a positive number"),
        ({"tie_word_embeddings": "false"}, "'tie_word_embeddings' is \"false\"; true or false"),
        ({"use_sliding_window": 1}, "'use_sliding_window' is 1; true or false"),
        ({"hidden_act": None, "mlp_bias": 0}, "'mlp_bias' is 0; true or false"),
        ({"rope_scaling": "yarn"}, 'rope_scaling is "yarn"; an object is expected'),
        ({"rope_scaling": {"type": 4}}, "'rope_scaling.type' is 4; a string is expected"),
        ({"rope_scaling": {"type": "yarn", "factor": "4"}}, "'rope_scaling.factor' is \"4\""),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\]; an object"),
        ({"model_type": 7}, "'model_type' is 7; a string"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^config.json: .*{said}") as error:
        config_from_hugging_face(QWEN2_5_CODER_7B | fields, "config.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fields", [[], "qwen2", 7, None])
def test_a_configuration_that_is_no_object_is_refused(fields: Any) -> None:
    with pytest.raises(UserError, match=r"config\.json: the file is .*; an object is expected"):
        config_from_hugging_face(fields, "config.json")


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({"rope_parameters": {"rope_theta": 5e5}}, 5e5, None),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5e5}}}, 5e5, None),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 5e5} | YARN}},
            5e5,
            RopeScaling("yarn", 4.0, original_max_positions=32768),
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": YARN, "rope_parameters": {"rope_theta": 5e5}}
            | {"rope_parameters": {"rope_theta": 5e5} | YARN},
            5e5,
            RopeScaling("yarn", 4.0, original_max_positions=32768),
        ),
        ({}, 10_000.0, None),
    ],
)
def test_rotary_parameters_are_read_wherever_they_stand(
    fields: dict[str, Any], theta: float, scaling: RopeScaling | None
) -> None:
    without = {name: value for name, value in QWEN2_5_CODER_7B.items() if name != "rope_theta"}
    config = config_from_hugging_face(without | fields, "config.json")
    assert (config.rope_theta, config.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rope_scaling": YARN | {"attn_factor": 1.5}}, "rope scaling field 'attn_factor'"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "contradict one another"),
        ({"rope_scaling": YARN, "rope_parameters": {"rope_theta": 1e6}}, "contradict"),
        ({"rope_scaling": YARN | {"short_factor": [1.0]}}, "'short_factor' is not supported"),
        ({"rope_parameters": {"mrope_section": [16, 24, 24]}}, "'mrope_section' is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
        ({"rope_scaling": YARN | {"truncate": False}}, "'truncate' is not supported"),
    ],
)
def test_rotary_parameters_that_would_be_dropped_are_refused_by_name(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        config_from_hugging_face(QWEN2_5_CODER_7B | fields, "config.json")


def test_a_bias_that_would_be_dropped_is_refused() -> None:
    with pytest.raises(UserError, match="attention_bias"):
        config_from_hugging_face(QWEN3_4B | {"attention_bias": True}, "config.json")


def test_every_axis_of_every_parameter_has_a_name(
    tiny_name: str, tiny_policy: Callable[[str], Policy]
) -> None:
    policy = tiny_policy(tiny_name)
    axes = logical_axes(policy.config)
    ranks = jax.tree.map(lambda leaf: leaf.ndim, policy.params)
    named = jax.tree.map(len, axes, is_leaf=lambda node: isinstance(node, tuple))
    assert named == ranks
    assert axes["layers"]["mlp"]["down"]["kernel"] == ("layers", "mlp", "embed")
