"""From a file or a hub id to a policy on its devices, one tensor at a time.

Each tensor is read slice by slice, every slice once, into a sharded array, and from there written
into the stacked parameter on the devices. A host never holds more than one tensor of the checkpoint
beside the shards of its own devices: of a tensor that is cut in pieces, one piece.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jax.typing import DTypeLike

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.rules import LOGICAL_RULES, LogicalRules, shardings
from zerocoder_jax.policy.config import PolicyConfig
from zerocoder_jax.policy.decoder import Params, abstract_params, decoder_graphdef, logical_axes
from zerocoder_jax.policy.gguf_checkpoint import GgufCheckpoint
from zerocoder_jax.policy.policy import Policy
from zerocoder_jax.policy.safetensors_checkpoint import SafetensorsCheckpoint
from zerocoder_jax.policy.tokenizer import ChatTokenizer
from zerocoder_jax.policy.weight_names import CheckpointTensor, checkpoint_tensors

_TOY_WEIGHTS = Path(__file__).parent / "toy_weights"

# What is fetched of a repository on the hub.
_HUB_FILES = ["*.json", "*.safetensors", "merges.txt", "*.jinja"]


class Checkpoint(Protocol):
    """Where weights come from; tensors go by their Hugging Face names."""

    origin: str

    def config(self) -> PolicyConfig: ...
    def tokenizer(self) -> ChatTokenizer: ...
    def generation_config(self) -> dict[str, Any]: ...
    def shapes(self) -> dict[str, tuple[int, ...]]: ...
    def file_of(self, name: str) -> str: ...
    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray: ...


def load_policy(
    source: str,
    *,
    dtype: DTypeLike = "float32",
    mesh: Mesh | None = None,
    rules: LogicalRules | None = None,
) -> Policy:
    """The policy that ``source`` names, its weights in ``dtype`` on the devices.

    Args:
        source: "hf:HUB_ID_OR_DIRECTORY", "hf:HUB_ID@REVISION", "gguf:FILE" or "toy".
        dtype: of every parameter, whatever the file holds.
        mesh: shards the parameters by ``rules``; without one they live on the first device.
        rules: logical axis -> mesh axis; default: ``parallel.LOGICAL_RULES``.

    Raises:
        UserError: an unknown source, a missing, truncated or malformed file, an unsupported
            architecture, a tensor missing, unexpected or of the wrong shape, a tokenizer larger
            than the model's vocabulary, a tensor with values that are not finite in ``dtype``.
    """
    checkpoint = open_checkpoint(source)
    policy = _without_weights(checkpoint)
    check_tensors(checkpoint, policy.config)
    return policy.with_params(read_params(checkpoint, policy.config, dtype, mesh, rules))


def load_policy_without_weights(source: str) -> Policy:
    """The policy that ``source`` names, with no parameters: its configuration and tokenizer."""
    return _without_weights(open_checkpoint(source))


def _without_weights(checkpoint: Checkpoint) -> Policy:
    config, tokenizer = checkpoint.config(), checkpoint.tokenizer()
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{checkpoint.origin}: the tokenizer has {tokenizer.vocab_size} tokens but the model's "
            f"vocab_size is {config.vocab_size}; they do not belong together"
        )
    return Policy(
        config=config,
        graphdef=decoder_graphdef(config),
        params={},
        tokenizer=tokenizer,
        stop_token_ids=tokenizer.stop_token_ids,
        pad_token_id=tokenizer.pad_token_id,
        generation_config=checkpoint.generation_config(),
    )


def open_checkpoint(source: str) -> Checkpoint:
    """The checkpoint that a ``config.policy.source`` names, with nothing but headers read."""
    if source == "toy":
        return SafetensorsCheckpoint(_TOY_WEIGHTS)
    kind, _, location = source.partition(":")
    if kind not in ("hf", "gguf") or not location:
        raise UserError(
            f"config.policy.source {source!r} is not understood: give hf:HUB_ID_OR_DIRECTORY, "
            "gguf:FILE or toy"
        )
    path = Path(os.path.expanduser(location))
    if kind == "gguf":
        return GgufCheckpoint(path)
    return SafetensorsCheckpoint(path if path.exists() else _download(location))


# A repository's files in the cache of huggingface_hub.
_HUB_CACHE = re.compile(r".*/models--([^/]+)--([^/]+)/snapshots/([^/]+)/?")


def base_model(source: str) -> tuple[str, str | None]:
    """What others load as the model that ``source`` names: its id on the hub and the revision, or
    its directory here; an empty name for a GGUF file, which neither PEFT nor transformers' adapters
    take as a base."""
    kind, _, location = source.partition(":")
    if source == "toy":
        return str(_TOY_WEIGHTS), None
    if kind != "hf":
        return "", None
    path = Path(os.path.expanduser(location))
    if not path.exists():
        name, _, revision = location.partition("@")
        return name, revision or None
    cached = _HUB_CACHE.fullmatch(str(path.absolute()))
    if cached:
        return f"{cached[1]}/{cached[2]}", cached[3]
    return str(path.resolve()), None


def check_tensors(checkpoint: Checkpoint, config: PolicyConfig) -> None:
    """Refuse a checkpoint whose tensors are not exactly those of ``config``, before reading any."""
    shapes = checkpoint.shapes()
    expected = {tensor.name: tensor.shape for tensor in checkpoint_tensors(config)}
    for name, shape in expected.items():
        if name not in shapes:
            raise UserError(f"{checkpoint.file_of(name)}: tensor {name} is missing")
        if shapes[name] != shape:
            raise UserError(
                f"{checkpoint.file_of(name)}: tensor {name} has shape {shapes[name]}, but the "
                f"configuration asks for {shape}; weights and configuration do not belong together"
            )
    for name in shapes.keys() - expected.keys():
        if name == "lm_head.weight" and _repeats_embedding(checkpoint, shapes):
            continue
        raise UserError(
            f"{checkpoint.file_of(name)}: tensor {name} is unexpected; weights and configuration "
            "do not belong together"
        )


def read_params(
    checkpoint: Checkpoint,
    config: PolicyConfig,
    dtype: DTypeLike,
    mesh: Mesh | None = None,
    rules: LogicalRules | None = None,
) -> Params:
    """Every parameter of ``config`` from ``checkpoint``, sharded over ``mesh``."""
    tree = abstract_params(config, dtype)
    if mesh is None:
        placement = jax.tree.map(lambda _: SingleDeviceSharding(jax.local_devices()[0]), tree)
    else:
        placement = shardings(logical_axes(config), mesh, rules or LOGICAL_RULES)
    tensors: dict[tuple[str, ...], list[CheckpointTensor]] = {}
    for tensor in checkpoint_tensors(config):
        tensors.setdefault(tensor.path, []).append(tensor)

    def read(keys: tuple, leaf: jax.ShapeDtypeStruct, sharding: Sharding) -> jax.Array:
        return _read_parameter(checkpoint, tensors[tuple(k.key for k in keys)], leaf, sharding)

    return jax.tree_util.tree_map_with_path(read, tree, placement)


def refuse_non_finite(params: Any, origin: str) -> None:
    """Refuse weights, adapters or a train state with values that are not finite, by name.

    Raises:
        UserError: names ``origin`` and the first such tensor of the tree.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not _all_finite(leaf.sharding, leaf.dtype)(leaf).addressable_data(0):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise UserError(
                f"{origin}, tensor {name} has values that are not finite; choose an earlier "
                "checkpoint with --step"
            )


# ---- private ------------------------------------------------------------------------------------


def _read_parameter(
    checkpoint: Checkpoint,
    tensors: list[CheckpointTensor],
    leaf: jax.ShapeDtypeStruct,
    sharding: Sharding,
) -> jax.Array:
    """One parameter: the single tensor it is, or the stack of its layers' tensors."""
    stacked, transposed = tensors[0].layer is not None, tensors[0].transposed
    layout = _tensor_sharding(sharding, len(leaf.shape), stacked, transposed)
    convert, write = _placement(sharding, jnp.dtype(leaf.dtype), transposed)
    if not stacked:
        return convert(_read_finite(checkpoint, tensors[0], layout, leaf.dtype))
    parameter = jnp.zeros(leaf.shape, leaf.dtype, device=sharding)
    for layer, tensor in enumerate(tensors):
        piece = _read_finite(checkpoint, tensor, layout, leaf.dtype)
        # Wait: dispatch runs ahead, and every piece in flight is one more tensor in memory.
        parameter = write(parameter, piece, layer).block_until_ready()
        del piece  # Before the next one is read.
    return parameter


def _read_finite(
    checkpoint: Checkpoint, tensor: CheckpointTensor, sharding: Sharding, dtype: DTypeLike
) -> jax.Array:
    """One tensor on the devices, as it is stored; refused where a value is not finite."""
    values = _read_tensor(checkpoint, tensor, sharding)
    if not _all_finite(sharding, jnp.dtype(dtype))(values).addressable_data(0):
        raise UserError(
            f"{checkpoint.file_of(tensor.name)}: tensor {tensor.name} has values that are not "
            f"finite in {jnp.dtype(dtype)}; download the file again, or take an earlier checkpoint "
            "of the run that wrote it"
        )
    return values


def _read_tensor(checkpoint: Checkpoint, tensor: CheckpointTensor, sharding: Sharding) -> jax.Array:
    """One tensor of the checkpoint on the devices. Each slice that a device of this host wants is
    read once, copied to all that want it, and dropped before the next is read."""
    slices = {
        device: index or ()
        for device, index in sharding.addressable_devices_indices_map(tensor.shape).items()
    }
    # Keyed by the ends of its slices: a slice itself is not hashable before Python 3.12.
    wanting: dict[tuple[tuple[int | None, int | None], ...], list[jax.Device]] = {}
    for device, index in slices.items():
        wanting.setdefault(tuple((one.start, one.stop) for one in index), []).append(device)
    shards: dict[jax.Device, jax.Array] = {}
    for devices in wanting.values():
        values = checkpoint.read(tensor.name, slices[devices[0]])
        for device in devices:
            shards[device] = jax.device_put(values, device)
        jax.block_until_ready([shards[device] for device in devices])
        del values
    return jax.make_array_from_single_device_arrays(
        tensor.shape, sharding, [shards[device] for device in slices]
    )


@functools.cache
def _placement(sharding: Sharding, dtype: jnp.dtype, transposed: bool) -> tuple[Any, Any]:
    """Jitted: a checkpoint tensor to a parameter, and to one layer of a stacked parameter."""

    def convert(piece: jax.Array) -> jax.Array:
        return (piece.T if transposed else piece).astype(dtype)

    def write(parameter: jax.Array, piece: jax.Array, layer: int) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(parameter, convert(piece), layer, axis=0)

    return (
        jax.jit(convert, out_shardings=sharding),
        jax.jit(write, out_shardings=sharding, donate_argnums=0),
    )


@functools.cache
def _all_finite(sharding: Sharding, dtype: jnp.dtype) -> Any:
    """Jitted: whether all values of a tensor are finite as ``dtype``; known on every device."""
    everywhere = sharding
    if isinstance(sharding, NamedSharding):
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.jit(
        lambda values: jnp.all(jnp.isfinite(values.astype(dtype))), out_shardings=everywhere
    )


def _tensor_sharding(sharding: Sharding, rank: int, stacked: bool, transposed: bool) -> Sharding:
    """A checkpoint tensor's sharding, from that of the parameter it becomes part of."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    spec = tuple(sharding.spec) + (None,) * (rank - len(sharding.spec))
    spec = spec[1:] if stacked else spec
    return NamedSharding(sharding.mesh, PartitionSpec(*(spec[::-1] if transposed else spec)))


def _repeats_embedding(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a tied model's checkpoint also stores its head, equal to the embedding table."""
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    if shapes[head] != shapes.get(table):
        return False
    rows = shapes[head][0]
    blocks = (slice(start, min(start + 4096, rows)) for start in range(0, rows, 4096))
    everything = slice(None)
    return all(
        np.array_equal(
            checkpoint.read(head, (block, everything)), checkpoint.read(table, (block, everything))
        )
        for block in blocks
    )


def _download(hub_id: str) -> Path:
    """The local directory of a repository on the Hugging Face hub, ID or ID@REVISION, fetched where
    it is not yet."""
    import huggingface_hub

    name, _, revision = hub_id.partition("@")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=_HUB_FILES
            )
        )
    except Exception as error:  # a dozen kinds, from a malformed id to a broken connection
        raise UserError(
            f"config.policy.source hf:{hub_id} is neither a directory here nor could it be fetched "
            f"from the hub ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
