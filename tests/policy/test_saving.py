"""What is written is what is read, and what is malformed is refused by name."""

import gc
import json
import struct
import weakref
from collections.abc import Callable
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Policy, PolicyConfig, init_policy, load_policy, save_policy
from zerocoder_jax.policy.loading import open_checkpoint, read_params
from zerocoder_jax.policy.saving import tensor_of
from zerocoder_jax.policy.weight_names import checkpoint_tensors

TinyPolicy = Callable[[str], Policy]


@pytest.fixture
def saved(tiny_policy: TinyPolicy, tmp_path: Path) -> Path:
    """A tiny Qwen2 with an untied head, saved."""
    save_policy(tiny_policy("qwen2_untied"), tmp_path / "model")
    return tmp_path / "model"


def rewrite(directory: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def reconfigure(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(directory: Path) -> str:
    with pytest.raises(UserError) as error:
        load_policy(f"hf:{directory}")
    message = str(error.value)
    assert "\n" not in message and str(directory) in message
    return message


def test_a_saved_policy_loads_bit_for_bit(
    tiny_name: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    policy = tiny_policy(tiny_name)
    save_policy(policy, tmp_path / "model")
    loaded = load_policy(f"hf:{tmp_path / 'model'}")
    assert loaded.config == policy.config
    assert loaded.stop_token_ids == policy.stop_token_ids
    assert loaded.pad_token_id == policy.pad_token_id
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, policy.params))
    messages = [{"role": "user", "content": "f(1)"}]
    assert loaded.tokenizer is not None and policy.tokenizer is not None
    assert loaded.tokenizer.chat_tokens(messages) == policy.tokenizer.chat_tokens(messages)


def test_shards_hold_what_one_file_holds(
    saved: Path, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    save_policy(tiny_policy("qwen2_untied"), tmp_path / "shards", max_shard_bytes=8_000)
    files = sorted(file.name for file in (tmp_path / "shards").glob("*.safetensors"))
    assert len(files) > 2 and files[0].startswith("model-00001-of-")
    whole, parts = load_policy(f"hf:{saved}"), load_policy(f"hf:{tmp_path / 'shards'}")
    assert jax.tree.all(jax.tree.map(np.array_equal, whole.params, parts.params))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_stored_and_read(
    dtype: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    policy = tiny_policy("qwen3")
    save_policy(policy, tmp_path / "model", dtype=dtype)
    loaded = load_policy(f"hf:{tmp_path / 'model'}", dtype=dtype)
    rounded = jax.tree.map(lambda x: x.astype(dtype), policy.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, rounded))
    assert jax.tree.leaves(loaded.params)[0].dtype == jnp.dtype(dtype)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == dtype


def test_nothing_is_overwritten(saved: Path, tiny_policy: TinyPolicy) -> None:
    with pytest.raises(UserError, match="exists already"):
        save_policy(tiny_policy("qwen3"), saved)
    assert not list(saved.parent.glob("*.partial"))


def test_a_missing_tensor_is_named(saved: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(saved, lambda tensors: tensors.pop(name))
    assert f"tensor {name} is missing" in refusal(saved)


def test_an_unexpected_tensor_is_named(saved: Path) -> None:
    rewrite(saved, lambda tensors: tensors.update({"model.extra": np.zeros(2, np.float32)}))
    message = refusal(saved)
    assert "tensor model.extra is unexpected" in message and "model.safetensors" in message


def test_a_tensor_of_the_wrong_shape_is_named(saved: Path) -> None:
    name = "model.layers.2.self_attn.k_proj.weight"
    rewrite(saved, lambda tensors: tensors.update({name: np.zeros((3, 4), np.float32)}))
    message = refusal(saved)
    assert f"model.safetensors: tensor {name} has shape (3, 4)" in message
    assert "(12, 12)" in message


def test_a_checkpoint_of_another_size_is_refused(saved: Path) -> None:
    reconfigure(saved, num_hidden_layers=2)
    assert "model.safetensors: tensor model.layers.2." in refusal(saved)


def test_a_wrong_vocabulary_size_is_refused(saved: Path) -> None:
    reconfigure(saved, vocab_size=64)
    message = refusal(saved)
    assert "model.safetensors: tensor model.embed_tokens.weight has shape (53, 12)" in message
    assert "(64, 12)" in message


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(saved: Path) -> None:
    fields = json.loads((saved / "tokenizer.json").read_text())
    known = fields["added_tokens"][-1]
    fields["added_tokens"] += [
        {**known, "id": known["id"] + i, "content": f"<{i}>"} for i in range(1, 11)
    ]
    (saved / "tokenizer.json").write_text(json.dumps(fields))
    message = refusal(saved)
    assert f"has {known['id'] + 11} tokens but the model's vocab_size is 53" in message


def test_another_architecture_is_refused_by_name(saved: Path) -> None:
    reconfigure(saved, model_type="gemma2")
    assert "model_type 'gemma2' is not supported" in refusal(saved)


def test_a_truncated_file_names_the_tensor_it_ends_in(saved: Path) -> None:
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    message = refusal(saved)
    assert "model.safetensors: truncated: tensor model." in message
    file.write_bytes(content[:50])
    assert "truncated or not a safetensors file" in refusal(saved)
    file.write_bytes(b"")
    assert "truncated or not a safetensors file" in refusal(saved)


def test_a_missing_shard_is_named(tiny_policy: TinyPolicy, tmp_path: Path) -> None:
    save_policy(tiny_policy("llama"), tmp_path / "model", max_shard_bytes=8_000)
    missing = sorted((tmp_path / "model").glob("model-*.safetensors"))[1]
    missing.unlink()
    assert missing.name in refusal(tmp_path / "model")


def test_a_quantized_tensor_is_named(saved: Path) -> None:
    name = "model.norm.weight"
    rewrite(saved, lambda tensors: tensors.update({name: np.zeros(12, np.int8)}))
    assert f"tensor {name} is I8" in refusal(saved)


def test_a_tied_checkpoint_may_repeat_its_embedding_as_the_head_and_nothing_else(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    save_policy(tiny_policy("qwen2_tied"), tmp_path / "model")

    def repeat(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    def differ(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"][0, 0] += 1

    rewrite(tmp_path / "model", repeat)
    assert "head" not in load_policy(f"hf:{tmp_path / 'model'}").params
    rewrite(tmp_path / "model", differ)
    assert "tensor lm_head.weight is unexpected" in refusal(tmp_path / "model")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("qwen", "hf:HUB_ID_OR_DIRECTORY"),
        ("gguf:", "gguf:FILE"),
        ("gguf:/nowhere/model.gguf", "/nowhere/model.gguf: there is no such file"),
    ],
)
def test_a_source_that_is_not_understood_is_refused(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_policy(source)


# ---- GGUF ---------------------------------------------------------------------------------------


def write_gguf(
    path: Path,
    policy: Policy,
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    quantize: Callable[[str, tuple[int, ...]], np.ndarray] | None = None,
    **changes: object,
) -> None:
    """A tiny policy as llama.cpp's converter would write it."""
    config, arch = policy.config, policy.config.family
    writer = gguf.GGUFWriter(path, arch)
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


@pytest.mark.parametrize(
    "kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q5_0", "Q5_1", "Q8_0", "IQ4_XS"]
)
def test_every_common_quantization_is_read(kind: str, tmp_path: Path) -> None:
    """Arbitrary blocks, with scales of one: what the file's own library makes of them is read."""
    config = PolicyConfig(
        vocab_size=53, hidden_size=256, intermediate_size=256, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=256, qkv_bias=True,
    )  # fmt: skip
    quantization = gguf.GGMLQuantizationType[kind]
    path, random = tmp_path / "model.gguf", np.random.default_rng(0)
    stored: dict[str, np.ndarray] = {}

    def blocks(name: str, shape: tuple[int, ...]) -> np.ndarray:
        width = gguf.quant_shape_to_byte_shape(shape, quantization)
        # Bytes below 0x3c: read as halves, the scales among them are finite.
        raw = random.integers(0, 0x3C, size=width, dtype=np.uint8)
        stored[name] = gguf.dequantize(raw, quantization)
        return raw

    write_gguf(path, init_policy(config, jax.random.key(1)), quantization, quantize=blocks)
    params = read_params(open_checkpoint(f"gguf:{path}"), config, "float32")
    assert len(stored) == 2 + 7 * config.num_layers
    for tensor in checkpoint_tensors(config):
        if tensor.gguf_name in stored:
            found = np.asarray(tensor_of(params, tensor))
            assert np.isfinite(found).all() and found.std() > 0
            np.testing.assert_array_equal(found, stored[tensor.gguf_name])


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
