"""GGUF files: metadata, parts, every quantization; what is not computed is refused by name."""

import gc
import struct
import weakref
from collections.abc import Callable
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Policy, PolicyConfig, RopeScaling, init_policy, load_policy
from zerocoder_jax.policy.loading import open_checkpoint, read_params
from zerocoder_jax.policy.saving import tensor_of
from zerocoder_jax.policy.weight_names import checkpoint_tensors

GOLDENS = Path(__file__).parent / "goldens"

TinyPolicy = Callable[[str], Policy]


def write_gguf(
    path: Path,
    policy: Policy,
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    quantize: Callable[[str, tuple[int, ...]], np.ndarray] | None = None,
    metadata: dict[str, object] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    split: int = 0,
    **changes: object,
) -> None:
    """A tiny policy as llama.cpp's converter would write it, with further metadata and tensors; in
    files of ``split`` tensors."""
    config, arch = policy.config, policy.config.family
    writer = gguf.GGUFWriter(path, arch, split_max_tensors=split)
    fields = {
        "block_count": config.num_layers,
        "context_length": config.max_positions,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
    } | changes
    for name, value in fields.items():
        writer.add_uint32(f"{arch}.{name}", value)
    for name, value in (metadata or {}).items():
        add = {str: writer.add_string, float: writer.add_float32, bool: writer.add_bool}
        add.get(type(value), writer.add_uint32)(f"{arch}.{name}", value)  # type: ignore[operator]
    writer.add_float32(f"{arch}.rope.freq_base", config.rope_theta)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    tokens = [*"abcdefghijklmnopqrstuvwxyz", "ab"]
    tokens += [f"<{i}>" for i in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 27 + [3] * (config.vocab_size - 27))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(27)
    for tensor in checkpoint_tensors(config):
        values = np.asarray(tensor_of(policy.params, tensor), np.float32)
        if arch == "llama" and tensor.path[-2] in ("query", "key"):
            # llama.cpp interleaves the pairs that Hugging Face keeps half a head apart.
            rows, width = values.shape
            heads = rows // config.head_dim
            values = values.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(rows, width)
        values = np.ascontiguousarray(values)
        kind = quantization if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        if quantize is not None and values.ndim == 2:
            raw = quantize(tensor.gguf_name, values.shape)
        else:
            raw = gguf.quantize(values, kind)
        writer.add_tensor(tensor.gguf_name, raw, raw_dtype=kind)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", ["qwen2_tied", "qwen2_untied", "qwen3", "llama"])
def test_a_gguf_file_gives_the_policy_it_was_made_from(
    name: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    policy = tiny_policy(name)
    write_gguf(tmp_path / "model.gguf", policy)
    loaded = load_policy(f"gguf:{tmp_path / 'model.gguf'}")
    assert loaded.config == policy.config
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, policy.params))


def test_quantized_tensors_are_dequantized(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    """Rows of 32 numbers are blocks of Q8_0: each is within half a step of its original."""

    config = PolicyConfig(
        vocab_size=53, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4,
        num_kv_heads=2, head_dim=8, qkv_bias=True,
    )  # fmt: skip
    policy = init_policy(config, jax.random.key(1))
    write_gguf(tmp_path / "model.gguf", policy, gguf.GGMLQuantizationType.Q8_0)
    loaded = load_policy(f"gguf:{tmp_path / 'model.gguf'}")
    for found, original in zip(
        jax.tree.leaves(loaded.params), jax.tree.leaves(policy.params), strict=True
    ):
        step = float(jnp.max(jnp.abs(original))) / 127
        assert float(jnp.max(jnp.abs(found - original))) <= 0.51 * step


RECORDED = np.load(GOLDENS / "ggml_blocks.npz")
KINDS = sorted({name.split("/")[0] for name in RECORDED.files})


@pytest.mark.parametrize("kind", KINDS)
def test_every_quantization_has_the_values_that_ggml_computes(kind: str, tmp_path: Path) -> None:
    """Recorded: blocks that ggml's C code quantized and random ones, and what its
    ``dequantize_row`` makes of them (revision d99724f2); the latter bit for bit."""
    blocks, values = RECORDED[f"{kind}/blocks"], RECORDED[f"{kind}/values"]
    config = PolicyConfig(
        vocab_size=53, hidden_size=256, intermediate_size=256, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=256, qkv_bias=True,
    )  # fmt: skip
    quantization = gguf.GGMLQuantizationType[kind]
    path, random = tmp_path / "model.gguf", np.random.default_rng(0)
    # Halves of the recorded rows, 256 numbers each, in another order in every tensor.
    pieces, wanted = blocks.reshape(8, -1), values.reshape(8, 256)
    order: dict[str, np.ndarray] = {}

    def quantize(name: str, shape: tuple[int, ...]) -> np.ndarray:
        order[name] = random.integers(0, 8, size=shape[0] * shape[1] // 256)
        return np.ascontiguousarray(pieces[order[name]].reshape(shape[0], -1))

    write_gguf(path, init_policy(config, jax.random.key(1)), quantization, quantize=quantize)
    params = read_params(open_checkpoint(f"gguf:{path}"), config, "float32")
    assert len(order) == 2 + 7 * config.num_layers
    for tensor in checkpoint_tensors(config):
        if tensor.gguf_name in order:
            found = np.asarray(tensor_of(params, tensor))
            expected = wanted[order[tensor.gguf_name]].reshape(tensor.shape)
            np.testing.assert_array_equal(found, expected)


def test_every_quantization_that_the_library_undoes_was_recorded() -> None:
    readable = set()
    for kind in gguf.GGMLQuantizationType:
        try:
            gguf.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind)
        except NotImplementedError:
            continue
        readable.add(kind.name)
    assert readable == {*KINDS, "F32", "F16"}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (31, "has quantization Q4_0_4_4, which was removed from the format"),
        (36, "has quantization IQ4_NL_4_4, which was removed"),
        (4, "has quantization Q4_2, which was removed"),
        (9, "has quantization Q8_1, which cannot be read"),
        (28, "has quantization F64, which cannot be read"),
        (999, "has quantization number 999, which the installed gguf package does not know"),
    ],
)
def test_another_quantization_is_refused_by_name(
    number: int, said: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    path, name = tmp_path / "model.gguf", b"blk.1.ffn_up.weight"
    write_gguf(path, tiny_policy("qwen2_tied"))
    content = bytearray(path.read_bytes())
    # After the name: the number of axes, two axes of 8 bytes each, the quantization.
    place = content.index(name) + len(name) + 4 + 16
    content[place : place + 4] = struct.pack("<I", number)
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        open_checkpoint(f"gguf:{path}")
    assert f"{path}: tensor {name.decode()} " in str(error.value) and "\n" not in str(error.value)


def test_a_model_in_parts_is_read_from_any_of_them(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    policy = tiny_policy("qwen3")
    write_gguf(tmp_path / "model.gguf", policy, split=12)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 3 and parts[0].name == "model-00001-of-00003.gguf"
    for part in parts:
        loaded = load_policy(f"gguf:{part}")
        assert loaded.config == policy.config
        assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, policy.params))


def test_parts_that_do_not_make_a_model_are_refused(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", tiny_policy("qwen3"), split=12)
    first, second, third = sorted(tmp_path.glob("*.gguf"))
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    with pytest.raises(UserError, match=f"{second}: it is not part 2 of 3"):
        open_checkpoint(f"gguf:{first}")
    second.write_bytes(content[:-40])
    with pytest.raises(UserError, match=f"{second}: truncated: tensor "):
        open_checkpoint(f"gguf:{first}")
    second.unlink()
    with pytest.raises(UserError, match=f"{second} is missing, though {third.name} is one of 3"):
        open_checkpoint(f"gguf:{third}")
    alone = third.rename(tmp_path / "renamed.gguf")
    with pytest.raises(UserError, match=f"{alone}: it is not part 1 of 1"):
        open_checkpoint(f"gguf:{alone}")


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({}, None),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
        ({"rope.scaling.factor": 4.0}, RopeScaling("linear", 4.0)),
        ({"rope.scale_linear": 2.0}, RopeScaling("linear", 2.0)),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            RopeScaling("yarn", 4.0, original_max_positions=1024),
        ),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 256,
                "rope.scaling.attn_factor": 0.5,
                "rope.scaling.yarn_ext_factor": 1.0,
            },
            # ggml multiplies the factor with 1 + 0.1 ln 4.
            RopeScaling(
                "yarn", 4.0, original_max_positions=256, attention_factor=0.5 * 1.1386294361119891
            ),
        ),
    ],
)
def test_rotary_scaling_is_what_llama_cpp_makes_of_the_metadata(
    metadata: dict[str, object],
    scaling: RopeScaling | None,
    tiny_policy: TinyPolicy,
    tmp_path: Path,
) -> None:
    write_gguf(tmp_path / "model.gguf", tiny_policy("qwen2_tied"), metadata=metadata)
    assert open_checkpoint(f"gguf:{tmp_path / 'model.gguf'}").config().rope_scaling == scaling


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"rope.scaling.type": "longrope"}, "rope scaling 'longrope'"),
        ({"rope.scaling.type": "yarn"}, r"field 'qwen2.rope.scaling.factor' is missing"),
        ({"rope.scaling.attn_factor": 0.5}, "qwen2.rope.scaling.attn_factor"),
        ({"rope.scaling.yarn_attn_factor": 0.5}, "yarn_attn_factor = 0.5 is not supported"),
        ({"rope.scaling.yarn_ext_factor": 0.0}, "yarn_ext_factor = 0.0 is not supported"),
        ({"rope.scaling.alpha": 8.0}, "qwen2.rope.scaling.alpha = 8.0 is not supported"),
        ({"rope.dimension_count": 4}, "qwen2.rope.dimension_count"),
        ({"rope.freq_base_swa": 1e4}, "rope.freq_base_swa"),
        ({"attention.value_length": 4}, "qwen2.attention.value_length"),
        ({"attention.scale": 0.1}, "qwen2.attention.scale"),
        ({"attention.causal": False}, "qwen2.attention.causal = False"),
        ({"attention.sliding_window": 512}, "sliding-window"),
        ({"rope.scaling.factor": "four"}, 'is "four"; a positive number is expected'),
    ],
)
def test_metadata_that_is_not_computed_is_refused_by_name(
    metadata: dict[str, object], said: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, tiny_policy("qwen2_tied"), metadata=metadata)
    with pytest.raises(UserError, match=said) as error:
        open_checkpoint(f"gguf:{path}")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_frequencies_that_are_stretched_one_by_one_are_refused_by_name(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    path, factors = tmp_path / "model.gguf", np.array([1, 2, 8], np.float32)
    write_gguf(path, tiny_policy("llama"), tensors={"rope_freqs.weight": factors})
    with pytest.raises(UserError, match=r"tensor rope_freqs\.weight stretches"):
        open_checkpoint(f"gguf:{path}")


def test_a_gguf_file_is_let_go_of_once_its_tensors_are_read(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    """Its map, its metadata and its last tensor would lie beside a whole run."""
    path, policy = tmp_path / "model.gguf", tiny_policy("qwen2_tied")
    write_gguf(path, policy)
    checkpoint = open_checkpoint(f"gguf:{path}")
    read_params(checkpoint, policy.config, "float32")
    left = weakref.ref(checkpoint)
    del checkpoint
    gc.collect()
    assert left() is None


def test_a_truncated_gguf_names_the_tensor_it_ends_in(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, tiny_policy("qwen2_untied"))
    content = path.read_bytes()
    for kept, said in ((len(content) - 200, "truncated: tensor "), (900, "truncated"), (2, "not")):
        path.write_bytes(content[:kept])
        with pytest.raises(UserError, match=said) as error:
            load_policy(f"gguf:{path}")
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    path.write_bytes(struct.pack("<4sI", b"GGUF", 999) + bytes(100))
    with pytest.raises(UserError, match="malformed"):
        load_policy(f"gguf:{path}")


def test_a_gguf_of_a_mixture_of_experts_is_refused(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", tiny_policy("qwen3"), expert_count=8)
    with pytest.raises(UserError, match="mixture-of-experts"):
        load_policy(f"gguf:{tmp_path / 'model.gguf'}")


def test_a_gguf_of_fewer_layers_than_it_says_names_the_missing_tensor(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", tiny_policy("qwen3"), block_count=4)
    with pytest.raises(UserError, match=r"model\.gguf \(blk\.3\..*is missing"):
        load_policy(f"gguf:{tmp_path / 'model.gguf'}")
