"""Low-rank adapters: what is trained of a policy that does not fit into memory a second time.

Each adapted projection computes ``x @ W + (alpha / rank) * (x @ a) @ b`` with ``W`` frozen (Hu et
al. 2021, arXiv:2106.09685). Without its adapters the policy is its own reference policy. Adapters
are stored in PEFT's layout.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.config import PolicyConfig, TypedFields
from zerocoder_jax.policy.decoder import Params, abstract_params, logical_axes
from zerocoder_jax.policy.weight_names import projection_module

# Block of the decoder layer that holds each projection.
_BLOCK_OF = {
    "query": "attention",
    "key": "attention",
    "value": "attention",
    "output": "attention",
    "gate": "mlp",
    "up": "mlp",
    "down": "mlp",
}


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """Size and place of the adapters."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = tuple(_BLOCK_OF)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"config.policy.lora.rank is {self.rank}; it must be positive")
        for target in self.targets:
            if target not in _BLOCK_OF:
                raise UserError(
                    f"config.policy.lora.targets: {target!r} is no projection; known are "
                    + ", ".join(_BLOCK_OF)
                )
        if not self.targets:
            raise UserError("config.policy.lora.targets is empty; name at least one projection")

    @property
    def scale(self) -> float:
        """The factor on an adapter's output: ``lora_scale`` of ``forward``."""
        return self.alpha / self.rank


def lora_settings(lora_config: Any) -> LoraSettings | None:
    """The settings in ``config.policy.lora``; None where its rank is 0."""
    if lora_config.rank == 0:
        return None
    targets = (name.strip() for name in lora_config.targets.split(","))
    return LoraSettings(lora_config.rank, lora_config.alpha, tuple(t for t in targets if t))


def init_lora(
    config: PolicyConfig, settings: LoraSettings, key: jax.Array, dtype: DTypeLike = jnp.float32
) -> Params:
    """Adapters that change nothing yet.

    Returns:
        ``{"layers": {block: {projection: {"a": [L, in, rank], "b": [L, rank, out]}}}}``; ``a`` is
        uniform within 1 / sqrt(in) as in PEFT, ``b`` is zero.
    """
    tree = abstract_lora(config, settings, dtype)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    arrays = []
    for index, (path, leaf) in enumerate(leaves):
        if path[-1].key == "a":
            bound = 1 / math.sqrt(leaf.shape[1])
            leaf_key = jax.random.fold_in(key, index)
            arrays.append(jax.random.uniform(leaf_key, leaf.shape, dtype, -bound, bound))
        else:
            arrays.append(jnp.zeros(leaf.shape, dtype))
    return jax.tree.unflatten(structure, arrays)


def abstract_lora(
    config: PolicyConfig, settings: LoraSettings, dtype: DTypeLike = jnp.float32
) -> Params:
    """The adapters' tree with a ``ShapeDtypeStruct`` for each array."""
    kernels = abstract_params(config)["layers"]
    tree: Params = {"layers": {}}
    for target in settings.targets:
        block = _BLOCK_OF[target]
        layers, inputs, outputs = kernels[block][target]["kernel"].shape
        tree["layers"].setdefault(block, {})[target] = {
            "a": jax.ShapeDtypeStruct((layers, inputs, settings.rank), dtype),
            "b": jax.ShapeDtypeStruct((layers, settings.rank, outputs), dtype),
        }
    return tree


def lora_logical_axes(config: PolicyConfig, settings: LoraSettings) -> Params:
    """The adapters' tree with a tuple of logical axis names for each array."""
    kernels = logical_axes(config)["layers"]
    tree: Params = {"layers": {}}
    for target in settings.targets:
        block = _BLOCK_OF[target]
        layers, inputs, outputs = kernels[block][target]["kernel"]
        tree["layers"].setdefault(block, {})[target] = {
            "a": (layers, inputs, "rank"),
            "b": (layers, "rank", outputs),
        }
    return tree


def merge_lora(params: Params, lora: Params, scale: float) -> Params:
    """The weights with their adapters added, in the weights' dtype; the sum is in float32."""

    def merge(node: Any, adapters: Any) -> Any:
        if "a" in adapters:
            a, b = adapters["a"].astype(jnp.float32), adapters["b"].astype(jnp.float32)
            product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)  # [L, in, out]
            kernel = node["kernel"]
            merged = kernel.astype(jnp.float32) + scale * product
            return {**node, "kernel": merged.astype(kernel.dtype)}
        return {**node, **{name: merge(node[name], below) for name, below in adapters.items()}}

    return merge(params, lora)


def save_lora(
    lora: Params,
    settings: LoraSettings,
    directory: str | Path,
    *,
    base_model: str = "",
    revision: str | None = None,
) -> None:
    """Write the adapters as ``peft`` reads them; ``base_model``, a hub id or a directory, and
    ``revision`` name what they belong to.

    Raises:
        UserError: the directory cannot be written, an adapter has values that are not finite.
    """
    directory = Path(directory)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": revision,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": [projection_module(t).split(".")[-1] for t in settings.targets],
    }
    arrays = {}
    for target, matrix, layer, name in _peft_tensors(settings, _num_layers(lora)):
        values = lora["layers"][_BLOCK_OF[target]][target][matrix][layer]
        arrays[name] = np.ascontiguousarray(np.asarray(values).T)
        if not np.isfinite(arrays[name]).all():
            raise UserError(
                f"tensor {name} has values that are not finite; choose an earlier checkpoint"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(arrays, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        (directory / "adapter_config.json").write_text(json.dumps(fields, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror or error}") from error


def load_lora(directory: str | Path, config: PolicyConfig) -> tuple[Params, LoraSettings]:
    """Adapters in PEFT's layout, float32, for a policy of ``config``.

    Raises:
        UserError: a missing or malformed file, a variant other than plain LoRA, a tensor that is
            missing, unexpected or of another shape.
    """
    directory = Path(directory)
    settings = _read_settings(directory / "adapter_config.json")
    file = directory / "adapter_model.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    tree = abstract_lora(config, settings)
    for target in settings.targets:
        adapter = tree["layers"][_BLOCK_OF[target]][target]
        tree["layers"][_BLOCK_OF[target]][target] = {
            matrix: np.empty(leaf.shape, leaf.dtype) for matrix, leaf in adapter.items()
        }
    for target, matrix, layer, name in _peft_tensors(settings, config.num_layers):
        place = tree["layers"][_BLOCK_OF[target]][target][matrix][layer]
        values = tensors.pop(name, None)
        if values is None:
            raise UserError(f"{file}: tensor {name} is missing")
        if not np.isfinite(values).all():
            raise UserError(f"{file}: tensor {name} has values that are not finite")
        if values.T.shape != place.shape:
            raise UserError(
                f"{file}: tensor {name} has shape {values.shape}, but the policy asks for "
                f"{place.shape[::-1]}; adapters and policy do not belong together"
            )
        place[...] = values.T
    if tensors:
        raise UserError(f"{file}: tensor {min(tensors)} is unexpected")
    return jax.tree.map(jnp.asarray, tree), settings


# ---- private ------------------------------------------------------------------------------------


def _peft_tensors(settings: LoraSettings, num_layers: int) -> Iterator[tuple[str, str, int, str]]:
    """(projection, "a" or "b", layer, PEFT's name) of every tensor of the adapters."""
    for target in settings.targets:
        for layer in range(num_layers):
            module = f"base_model.model.model.layers.{layer}.{projection_module(target)}"
            yield target, "a", layer, f"{module}.lora_A.weight"
            yield target, "b", layer, f"{module}.lora_B.weight"


def _num_layers(lora: Params) -> int:
    return jax.tree.leaves(lora)[0].shape[0]


def _read_settings(path: Path) -> LoraSettings:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    read = TypedFields(fields, str(path))
    for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if fields.get(name):
            raise UserError(f"{path}: {name} is not supported; only plain LoRA is")
    if fields.get("peft_type") != "LORA" or fields.get("bias", "none") != "none":
        raise UserError(f"{path}: only plain LoRA without biases is supported")
    projections = {projection_module(target).split(".")[-1]: target for target in _BLOCK_OF}
    modules: Any = fields.get("target_modules") or ()
    if modules == "all-linear":
        modules = list(projections)
    if not isinstance(modules, list) or not all(module in list(projections) for module in modules):
        raise UserError(f"{path}: target_modules {modules} go beyond the decoder's projections")
    return LoraSettings(
        rank=read.integer("r"),
        alpha=read.number("lora_alpha"),
        targets=tuple(target for module, target in projections.items() if module in modules),
    )
