"""What is written is what is read, and what is malformed is refused by name."""

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Policy, load_policy, save_policy
from zerocoder_jax.policy.loading import base_model
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_tensor(
    value: float, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    save_policy(tiny_policy("qwen2_tied"), tmp_path / "model")
    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        tensors = load_file(tmp_path / "model" / "model.safetensors")
        before = tensors[name].copy()
        tensors[name].reshape(-1)[-1] = value
        save_file(tensors, tmp_path / "model" / "model.safetensors")
        said = refusal(tmp_path / "model")
        assert f"tensor {name} has values that are not finite in float32" in said
        tensors[name][...] = before
        save_file(tensors, tmp_path / "model" / "model.safetensors")
    load_policy(f"hf:{tmp_path / 'model'}")


def test_values_beyond_the_precision_that_is_asked_for_are_refused(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    policy = tiny_policy("qwen2_tied")
    scale = policy.params["final_norm"]["scale"].at[3].set(1e6)
    policy = policy.with_params(policy.params | {"final_norm": {"scale": scale}})
    with pytest.raises(UserError, match=r"tensor model\.norm\.weight .* not finite in float16"):
        save_policy(policy, tmp_path / "half", dtype="float16")
    assert not list(tmp_path.iterdir())
    save_policy(policy, tmp_path / "whole")
    with pytest.raises(UserError, match=r"tensor model\.norm\.weight .* not finite in float16"):
        load_policy(f"hf:{tmp_path / 'whole'}", dtype="float16")
    load_policy(f"hf:{tmp_path / 'whole'}", dtype="bfloat16")


SAMPLING = {
    "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1,
    "eos_token_id": 49, "transformers_version": "4.37.0", "a_field_of_tomorrow": [1],
}  # fmt: skip


def test_a_generation_config_is_exported_with_all_its_fields(saved: Path, tmp_path: Path) -> None:
    (saved / "generation_config.json").write_text(json.dumps(SAMPLING))
    policy = load_policy(f"hf:{saved}")
    assert policy.generation_config == SAMPLING
    save_policy(policy, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    # The tokenizer knows a further token that ends replies.
    assert written == SAMPLING | {"eos_token_id": [49, 47], "pad_token_id": 47}


def test_an_export_names_what_others_read(saved: Path, tiny_policy: TinyPolicy) -> None:
    config = json.loads((saved / "config.json").read_text())
    tokens = json.loads((saved / "tokenizer_config.json").read_text())
    generation = json.loads((saved / "generation_config.json").read_text())
    assert config["eos_token_id"] == 49 and generation["eos_token_id"] == [49, 47]
    assert tokens["eos_token"] == "<|im_end|>"
    assert tokens["model_max_length"] == tiny_policy("qwen2_untied").config.context == 1024
    version = importlib.metadata.version("transformers")
    assert config["transformers_version"] == generation["transformers_version"] == version


@pytest.mark.parametrize("name", ["qwen2_untied", "qwen2_yarn", "qwen3", "llama"])
def test_an_export_has_what_llama_cpps_converter_asks_for(
    name: str, tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    """Files and fields that convert_hf_to_gguf.py reads, and its vocabulary as the ``gguf`` package
    reads it."""
    policy, directory = tiny_policy(name), tmp_path / "model"
    save_policy(policy, directory, max_shard_bytes=8_000)
    config = json.loads((directory / "config.json").read_text())
    # By its name it takes the converter of a family; of the sizes it asks by these.
    assert config["architectures"] in (
        ["Qwen2ForCausalLM"], ["Qwen3ForCausalLM"], ["LlamaForCausalLM"]
    )  # fmt: skip
    for field in (
        "num_hidden_layers", "max_position_embeddings", "hidden_size", "intermediate_size",
        "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "vocab_size", "head_dim",
    ):  # fmt: skip
        assert isinstance(config[field], float if field == "rms_norm_eps" else int), field
    for rope in (config["rope_parameters"], config["rope_scaling"] or {"rope_type": "default"}):
        assert isinstance(rope["rope_type"], str)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    if name == "qwen2_yarn":
        assert config["rope_scaling"].keys() >= {"factor", "original_max_position_embeddings"}
    # Parts are found by name and must hold exactly what the index lists, under names it maps.
    parts = sorted(file.name for file in directory.glob("model*.safetensors"))
    index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    assert sorted(set(index.values())) == parts
    assert {n: p for p in parts for n in load_file(directory / p)} == index
    kind = gguf.MODEL_ARCH[config["model_type"].upper()]
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    wanted = {t.name: t.gguf_name for t in checkpoint_tensors(policy.config)}
    found = {name: names.get_name(name, try_suffixes=(".weight", ".bias")) for name in index}
    assert found == wanted
    # Its tokens: the file of the tokenizer, every id below vocab_size, special ones by name.
    vocabulary = gguf.SpecialVocab(directory, load_merges=True, n_vocab=config["vocab_size"])
    tokens = json.loads((directory / "tokenizer.json").read_text())
    assert tokens["model"]["type"] == "BPE" and tokens["model"]["merges"] == vocabulary.merges
    assert vocabulary.special_token_ids == {"eos": 49, "pad": 47}
    assert policy.tokenizer is not None and vocabulary.chat_template == policy.tokenizer.template


def test_the_base_of_adapters_is_what_others_load(saved: Path, tmp_path: Path) -> None:
    assert base_model("hf:Qwen/Qwen3-4B") == ("Qwen/Qwen3-4B", None)
    assert base_model("hf:Qwen/Qwen3-4B@main") == ("Qwen/Qwen3-4B", "main")
    assert base_model(f"hf:{saved}") == (str(saved), None)
    cached = tmp_path / "models--Qwen--Qwen3-4B" / "snapshots" / "1cfa9a7"
    cached.mkdir(parents=True)
    assert base_model(f"hf:{cached}") == ("Qwen/Qwen3-4B", "1cfa9a7")
    assert base_model("gguf:model.gguf") == ("", None)
    assert load_policy(f"hf:{base_model('toy')[0]}").tokenizer is not None


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
