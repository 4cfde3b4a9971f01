"""From a policy to a Hugging Face directory that transformers and `load_policy` read."""

import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.config import config_to_hugging_face
from zerocoder_jax.policy.decoder import Params
from zerocoder_jax.policy.policy import Policy
from zerocoder_jax.policy.weight_names import CheckpointTensor, checkpoint_tensors

# transformers needs to be told which framework's conventions the tensors follow.
_METADATA = {"format": "pt"}


def save_policy(
    policy: Policy,
    directory: str | Path,
    *,
    dtype: DTypeLike | None = None,
    max_shard_bytes: int = 4_000_000_000,
) -> None:
    """Write configuration, tokenizer, generation config and weights in Hugging Face layout.

    The directory appears only when it is whole. In a multi-host run every process calls this, each
    tensor is gathered in turn, and process 0 writes.

    Args:
        policy: its parameters may be sharded over any mesh.
        directory: must not exist, or be empty.
        dtype: of the stored weights; default: the parameters' own.
        max_shard_bytes: weights of one file at most, and so of host memory at most.

    Raises:
        UserError: the directory has something in it, or cannot be written; a tensor has values
            that are not finite in ``dtype``. Nothing is left behind.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists already; remove it or choose another directory")
    writes = jax.process_index() == 0
    partial = directory.with_name(directory.name + ".partial")
    try:
        if writes:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write_configuration(policy, partial, dtype)
            if policy.tokenizer is not None:
                policy.tokenizer.save(partial, model_max_length=policy.config.context)
        _write_weights(policy, partial, dtype, max_shard_bytes, writes)
        if writes:
            partial.replace(directory)
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror or error}") from error
    finally:
        if writes:
            shutil.rmtree(partial, ignore_errors=True)


def tensor_of(params: Params, tensor: CheckpointTensor) -> jax.Array:
    """The values of one checkpoint tensor, taken out of the parameter tree."""
    node: Any = params
    for key in tensor.path:
        node = node[key]
    values = node if tensor.layer is None else node[tensor.layer]
    return values.T if tensor.transposed else values


# ---- private ------------------------------------------------------------------------------------


def _write_configuration(policy: Policy, directory: Path, dtype: DTypeLike | None) -> None:
    stored = dtype or jax.tree.leaves(policy.params)[0].dtype
    version = importlib.metadata.version("transformers")
    fields = config_to_hugging_face(policy.config) | {
        "transformers_version": version,
        "dtype": jnp.dtype(stored).name,
        "torch_dtype": jnp.dtype(stored).name,  # the spelling of transformers before 5
    }
    tokens: dict[str, Any] = {}
    if policy.tokenizer is not None and policy.tokenizer.bos_token_id is not None:
        tokens["bos_token_id"] = policy.tokenizer.bos_token_id
    # One id here, which is what llama.cpp's converter reads; generation stops at each of them.
    end = {"eos_token_id": policy.stop_token_ids[0]} if policy.stop_token_ids else {}
    _write_json(directory / "config.json", fields | tokens | end)
    if policy.stop_token_ids:
        tokens["eos_token_id"] = list(policy.stop_token_ids)
    # Not in config.json: there it would make PyTorch drop the padding token's gradient, and the
    # padding token of some models is a token that they also write.
    tokens["pad_token_id"] = policy.pad_token_id
    tokens["transformers_version"] = version
    # What the source says of sampling stands as it is; its stop tokens may be fewer.
    generation = tokens | dict(policy.generation_config)
    if policy.stop_token_ids:
        generation["eos_token_id"] = tokens["eos_token_id"]
    _write_json(directory / "generation_config.json", generation)


def _write_weights(
    policy: Policy,
    directory: Path,
    dtype: DTypeLike | None,
    max_shard_bytes: int,
    writes: bool,
) -> None:
    weight_map: dict[str, str] = {}
    total_bytes = 0
    shards = list(_shard_plan(policy, dtype, max_shard_bytes))
    for number, tensors in enumerate(shards, start=1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        arrays = {}
        for tensor in tensors:
            values = _on_host(tensor_of(policy.params, tensor), dtype)
            if not np.isfinite(values).all():
                raise UserError(
                    f"tensor {tensor.name} has values that are not finite in {values.dtype}; "
                    "nothing is written: choose an earlier checkpoint or a wider --dtype"
                )
            if writes:
                arrays[tensor.name] = values
            weight_map[tensor.name] = file
            total_bytes += values.nbytes
        if writes:
            save_file(arrays, directory / file, metadata=_METADATA)
    if writes and len(shards) > 1:
        _write_json(
            directory / "model.safetensors.index.json",
            {"metadata": {"total_size": total_bytes}, "weight_map": weight_map},
        )


def _shard_plan(
    policy: Policy, dtype: DTypeLike | None, max_shard_bytes: int
) -> Iterator[list[CheckpointTensor]]:
    """Tensors of each file, in layer order, as many as fit."""
    stored = jnp.dtype(dtype or jax.tree.leaves(policy.params)[0].dtype)
    shard: list[CheckpointTensor] = []
    shard_bytes = 0
    # Layer by layer, so that a reader of few layers opens few files.
    for tensor in sorted(checkpoint_tensors(policy.config), key=lambda t: (t.layer or -1, t.name)):
        size = int(np.prod(tensor.shape)) * stored.itemsize
        if shard and shard_bytes + size > max_shard_bytes:
            yield shard
            shard, shard_bytes = [], 0
        shard.append(tensor)
        shard_bytes += size
    yield shard


def _on_host(values: jax.Array, dtype: DTypeLike | None) -> np.ndarray:
    if not values.is_fully_addressable:
        values = multihost_utils.process_allgather(values, tiled=True)
    # The file format wants rows of memory in order; a transposed view is not.
    with np.errstate(over="ignore"):  # What overflows is refused by name.
        return np.ascontiguousarray(np.asarray(values, dtype=dtype))


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")
