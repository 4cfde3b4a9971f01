"""The compiled programs of an engine: a small table, so that nothing is ever compiled unseen.

Programs are compiled ahead of their use and refuse any other shapes. So their number is known, the
seconds they cost are measured, and a recompilation is a line in the statistics. Engines of the same
settings have the same jitted functions, so that JAX compiles for the first of them only.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zerocoder_jax.parallel.program_table import ProgramTable
from zerocoder_jax.policy import LoraSettings, PolicyConfig
from zerocoder_jax.policy.attention import AttentionName
from zerocoder_jax.rollout.attention import DecodeAttentionName, Tile, attention_for, tile_read
from zerocoder_jax.rollout.cache import Cache, cache_shape, copy_rows
from zerocoder_jax.rollout.decode import Rows, Window, decode_window
from zerocoder_jax.rollout.drafts import DRAFT_ROWS, Texts, draft_window
from zerocoder_jax.rollout.prefill import prefill
from zerocoder_jax.rollout.prompt_packing import SMALLEST_PROMPT, prompts_per_prefill
from zerocoder_jax.rollout.weights import DecodeWeights, decode_weights, weight_specs


class Programs:
    """Compiles and keeps the programs of one engine.

    Devices along "rows" run independently, with rows of their own and without collectives. Devices
    along "tensor" shard each row.
    """

    def __init__(
        self,
        config: PolicyConfig,
        mesh: Mesh,
        *,
        rows: int,
        slots: int,
        window: int,
        stop_tokens: tuple[int, ...],
        vocabulary: int | None = None,
        compute_dtype: Any,
        quantized: bool = False,
        lora: LoraSettings | None = None,
        shared_tokens: int = 0,
        draft_tokens: int = 0,
    ):
        """
        Args:
            config: of the policy.
            mesh: of ``engine.rollout_meshes``.
            rows: of the cache on each device.
            slots: of each row of the cache.
            window: the most steps of decoding between two looks.
            stop_tokens: ids that end a row.
            vocabulary: ids from here on are never sampled; None: all may be.
            compute_dtype: of products, cache and all weights but quantized ones.
            quantized: kernels are int8.
            lora: of the adapters that the weights have; None: they have none.
            shared_tokens: of the longest beginning that prompts share; 0: none is shared.
            draft_tokens: drafted for each row and pass when few rows are left; 0: none.
        """
        self.mesh = mesh
        self._config = config
        self._rows, self._slots = rows, slots
        self._devices = mesh.shape["rows"]
        self._dtype = compute_dtype
        self._quantized = quantized
        self._lora = lora
        self._draft_tokens = draft_tokens
        # Of a text to draft from: room for one window's tokens, in addition to a prompt, its reply
        # and the other replies that fit.
        self.text_room = (window + 1) * (draft_tokens + 1)
        self.text_capacity = 2 * slots + self.text_room
        platform = mesh.devices.flat[0].platform
        self.decode_attention = attention_for(platform, config.head_dim)
        self._functions = _functions(
            *(config, mesh, self.decode_attention, window, stop_tokens, vocabulary, compute_dtype),
            *(quantized, lora, -(-shared_tokens // SMALLEST_PROMPT) * SMALLEST_PROMPT),
            draft_tokens,
        )
        self._table = ProgramTable(self.lower)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def seconds(self) -> float:
        """Spent on compiling so far."""
        return self._table.seconds

    def tile_read(self, batch: int) -> Tile:
        """What attention reads at once, for a batch of so many rows on each device."""
        kv_heads = self._config.num_kv_heads // self.mesh.shape["tensor"]
        size, item = self._config.head_dim, jnp.dtype(self._dtype).itemsize
        return tile_read(self.decode_attention, batch, kv_heads, size, item, self._slots)

    # ---- the four programs ---------------------------------------------------------------------

    def decode(
        self, weights: DecodeWeights, cache: Cache, rows: Rows, clock: Any, least_live: Any
    ) -> tuple[Cache, Window]:
        """``decode.decode_window`` of ``[devices * R]`` rows; clock and least_live [devices]."""
        size = rows.token.shape[0] // self._devices
        return self._table["decode", size](weights, cache, rows, clock, least_live)

    def draft(
        self, weights: DecodeWeights, cache: Cache, rows: Rows, texts: Texts
    ) -> tuple[Cache, Window]:
        """``drafts.draft_window`` of ``[devices * R]`` rows."""
        size = rows.token.shape[0] // self._devices
        return self._table["draft", size](weights, cache, rows, texts)

    def prefill(self, weights: DecodeWeights, cache: Cache, tokens: Any, *places: Any) -> Cache:
        """``prefill.prefill`` of ``[devices * N, T]`` tokens; its count is [devices]."""
        return self._table["prefill", tokens.shape[1]](weights, cache, tokens, *places)

    def copy_rows(self, cache: Cache, sources: Any, targets: Any, turns: Any, count: Any) -> Cache:
        """``cache.copy_rows`` of ``[devices * M]`` copies; count [devices]."""
        return self._table["copy_rows", self._rows](cache, sources, targets, turns, count)

    def warm_up(self, batch_sizes: Sequence[int], buckets: Iterable[int]) -> None:
        """Compile all that is missing, side by side."""
        wanted = [("decode", size) for size in batch_sizes]
        if self._draft_tokens:
            wanted += [("draft", size) for size in batch_sizes if size <= DRAFT_ROWS]
        wanted += [("prefill", bucket) for bucket in buckets] + [("copy_rows", self._rows)]
        self._table.compile(wanted)

    def empty_cache(self) -> Cache:
        """Zeros on every device."""
        return self._fill()

    @functools.cached_property
    def _fill(self) -> Callable[[], Cache]:
        """Kept: the cache is made anew in every step of training, its program only once."""
        shapes = self.abstract_cache()
        return jax.jit(
            lambda: jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), shapes),
            out_shardings=jax.tree.map(lambda array: array.sharding, shapes),
        )

    # ---- compiling -----------------------------------------------------------------------------

    def lower(self, kind: str, size: int) -> Any:
        """The program before compilation, for this mesh, which may be of devices not here."""
        weights, cache = self.abstract_weights(), self.abstract_cache()
        if kind in ("decode", "draft"):
            rows = Rows(
                token=self._vector(size),
                start=self._vector(size),
                position=self._vector(size),
                produced=self._vector(size),
                limit=self._vector(size),
                live=self._vector(size, jnp.bool_),
                key=self._vector(size, jnp.uint32, 2),
                temperature=self._vector(size, jnp.float32),
                top_p=self._vector(size, jnp.float32),
                top_k=self._vector(size),
            )
            arguments: tuple[Any, ...] = (weights, cache, rows, self._vector(1), self._vector(1))
            if kind == "draft":
                tokens = self._vector(size, jnp.int32, self.text_capacity)
                arguments = (weights, cache, rows, Texts(tokens, self._vector(size)))
        elif kind == "prefill":
            vector = self._vector(prompts_per_prefill(size))
            tokens = self._vector(prompts_per_prefill(size), jnp.int32, size)
            arguments = (weights, cache, tokens, *[vector] * 5, self._vector(1))
        else:
            vector = self._vector(size)
            arguments = (cache, vector, vector, vector, self._vector(1))
        exact = "highest" if self._dtype == jnp.float32 else None
        with jax.default_matmul_precision(exact):
            return self._functions[kind].lower(*arguments)

    def _vector(self, size: int, dtype: Any = jnp.int32, *more: int) -> jax.ShapeDtypeStruct:
        """So many entries on every device."""
        sharding = NamedSharding(self.mesh, P("rows"))
        return jax.ShapeDtypeStruct((self._devices * size, *more), dtype, sharding=sharding)

    def abstract_cache(self) -> Cache:
        """The cache's shapes on all devices, with their shardings."""
        shape = cache_shape(self._config, self._devices * self._rows, self._slots)
        sharding = NamedSharding(self.mesh, P("rows", "tensor"))
        layer: Any = jax.ShapeDtypeStruct(shape, self._dtype, sharding=sharding)
        return Cache([layer] * self._config.num_layers, [layer] * self._config.num_layers)

    def abstract_weights(self) -> DecodeWeights:
        """The shapes of the weights as they are laid out for decoding, with their shardings."""
        from zerocoder_jax.policy import abstract_lora, abstract_params

        lay_out = functools.partial(
            decode_weights, config=self._config, dtype=self._dtype, quantized=self._quantized
        )
        adapters = abstract_lora(self._config, self._lora) if self._lora else None
        shapes = jax.eval_shape(lay_out, abstract_params(self._config), adapters=adapters)
        specs = weight_specs(self._config, quantized=self._quantized, lora=self._lora)
        return jax.tree.map(
            lambda array, spec: jax.ShapeDtypeStruct(
                array.shape, array.dtype, sharding=NamedSharding(self.mesh, spec)
            ),
            shapes,
            specs,
        )


# Enough for the engines of one process; what is dropped is compiled again.
@functools.lru_cache(maxsize=8)
def _functions(
    config: PolicyConfig,
    mesh: Mesh,
    decode_attention: DecodeAttentionName,
    window: int,
    stop_tokens: tuple[int, ...],
    vocabulary: int | None,
    compute_dtype: Any,
    quantized: bool,
    lora: LoraSettings | None,
    shared_capacity: int,
    draft_tokens: int,
) -> dict[str, Any]:
    """The four programs, jitted for a mesh; the cache is donated."""
    platform = mesh.devices.flat[0].platform
    # Prompts on GPUs go through cuDNN's flash attention, which takes no float32.
    on_gpu = platform in ("gpu", "cuda") and compute_dtype != jnp.float32
    prompt_attention: AttentionName = "cudnn" if on_gpu else "xla"
    shared: dict[str, Any] = {
        "config": config,
        "compute_dtype": compute_dtype,
        "tensor_axis": "tensor" if mesh.shape["tensor"] > 1 else None,
    }

    def decode_rows(weights: Any, cache: Any, rows: Any, clock: Any, least_live: Any) -> Any:
        return decode_window(
            *(weights, cache, rows, clock, least_live),
            window=window,
            stop_tokens=stop_tokens,
            vocabulary=vocabulary,
            attention=decode_attention,
            **shared,
        )

    def draft_rows(weights: Any, cache: Any, rows: Any, texts: Any) -> Any:
        return draft_window(
            *(weights, cache, rows, texts),
            window=window,
            fed=draft_tokens + 1,
            stop_tokens=stop_tokens,
            vocabulary=vocabulary,
            **shared,
        )

    # A count comes as one number for each device.
    def prefill_prompts(weights: Any, cache: Any, tokens: Any, *places: Any) -> Any:
        *rows, count = places
        inputs = (weights, cache, tokens, *rows, count[0])
        return prefill(*inputs, attention=prompt_attention, capacity=shared_capacity, **shared)

    def copy(cache: Any, sources: Any, targets: Any, turns: Any, count: Any) -> Any:
        return copy_rows(cache, sources, targets, turns, count[0])

    def mapped(function: Callable[..., Any], inputs: Any, outputs: Any, donated: int) -> Any:
        # What varies over which axis is plain here and not provable for while loops.
        on_each = jax.shard_map(
            function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )
        return jax.jit(on_each, donate_argnums=donated)

    weights_spec = weight_specs(config, quantized=quantized, lora=lora)
    split, cache_spec, by_step = P("rows"), P("rows", "tensor"), P(None, "rows")
    window_spec: Any = Window(
        *cast(Any, (split, split, split, by_step, by_step, by_step, split, split))
    )
    return {
        "decode": mapped(
            decode_rows,
            (weights_spec, cache_spec, split, split, split),
            (cache_spec, window_spec),
            donated=1,
        ),
        "draft": mapped(
            draft_rows,
            (weights_spec, cache_spec, split, split),
            (cache_spec, window_spec),
            donated=1,
        ),
        "prefill": mapped(
            prefill_prompts,
            (weights_spec, cache_spec, *[split] * 7),
            cache_spec,
            donated=1,
        ),
        "copy_rows": mapped(copy, (cache_spec, split, split, split, split), cache_spec, donated=0),
    }
