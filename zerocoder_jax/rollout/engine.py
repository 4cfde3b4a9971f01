"""The rollout engine: prompts in, replies out, each as soon as it is finished.

The host decides who sits where (``schedule``), three compiled programs do the work (``programs``):
prompts are written into rows of a ring of keys and values, rows are copied, and windows of many
tokens are decoded. Between two windows there is one look at who has finished; the next window is
on its way before the finished replies are handed out: their consumer works while the device does.

**What is promised of a sample.** Its tokens depend on its key, its prompt and the weights. Rows do
not mix, and a row's random numbers do not know their place, so batch layout and number of devices
change only the rounding of sums: a token differs only where the random number falls within that
rounding of the border between two tokens (in float32 about once in a million tokens).
"""

import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.mesh import owners_of_rows
from zerocoder_jax.policy import LoraSettings, Params, Policy
from zerocoder_jax.rollout.decode import Window
from zerocoder_jax.rollout.demand import Demand
from zerocoder_jax.rollout.drafts import DRAFT_ROWS
from zerocoder_jax.rollout.programs import Programs
from zerocoder_jax.rollout.prompt_packing import (
    prefill_calls,
    prefix_of,
    prompt_bucket,
    prompts_per_prefill,
    shared_prefixes,
)
from zerocoder_jax.rollout.replies import Replies, Rollout, Samples
from zerocoder_jax.rollout.sampling import SamplingSettings
from zerocoder_jax.rollout.schedule import FREE, Copy, Prefill, Schedule, batch_sizes
from zerocoder_jax.rollout.statistics import RolloutStatistics
from zerocoder_jax.rollout.weights import (
    DecodeWeights,
    layer_specs,
    layer_weights,
    outer_specs,
    outer_weights,
)

# Slots come in multiples of this, the tile of the attention kernels.
SLOT_MULTIPLE = 128


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The shapes of an engine. ``config.rollout`` has the same fields and may stand in its place.

    Attributes:
        rows: decoded together on one device at most; more samples than that take turns.
        window: decode steps between two looks at who has finished, at most.
        max_prompt_tokens: of the longest prompt that is taken.
        draft_tokens: drafted for each row and pass when at most 16 rows are left on each device and
            no sample waits, see ``drafts``; 0: none. Tokens are the same with and without.
        dtype: of weights, cache and products: "float32", "bfloat16", or "int8" (kernels in int8,
            everything else in bfloat16).
    """

    rows: int = 256
    window: int = 32
    max_prompt_tokens: int = 2048
    draft_tokens: int = 0
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"


class RolloutEngine:
    """Samples replies from a policy.

    Example::

        engine = RolloutEngine(policy, SamplingSettings(temperature=0.7, top_p=0.8))
        engine.load(policy.params)
        keys = np.stack([sample_key(seed, step, problem, role, sample) for sample in range(8)])
        for rollout in engine.generate([prompt], 8, keys):
            ...
        engine.release()
    """

    def __init__(
        self,
        policy: Policy,
        settings: SamplingSettings,
        config: Any = None,
        mesh: Mesh | None = None,
        lora: LoraSettings | None = None,
    ):
        """
        Args:
            policy: its ``params`` are not looked at; ``load`` brings the weights.
            settings: for prompts that bring none of their own.
            config: ``EngineSettings`` or ``config.rollout``.
            mesh: the training mesh. Rows are spread over this host's devices, except that those
                along "tensor" share rows. Default: this host's devices, one by one.
            lora: of the adapters that ``load`` brings beside the weights; None: it brings none.
        """
        shapes = config if config is not None else EngineSettings()
        if shapes.dtype not in ("float32", "bfloat16", "int8"):
            raise UserError(
                f"config.rollout.dtype is {shapes.dtype!r}: choose float32, bfloat16 or int8"
            )
        self._policy = policy
        self._settings = settings
        self._lora = lora
        self._quantized = shapes.dtype == "int8"
        self._dtype = jnp.float32 if shapes.dtype == "float32" else jnp.bfloat16
        self._max_rows, self._window = int(shapes.rows), int(shapes.window)
        self._max_prompt = int(shapes.max_prompt_tokens)
        self._draft_tokens = int(shapes.draft_tokens)
        self._global_mesh, self._mesh = rollout_meshes(mesh)
        self._devices = self._mesh.shape["rows"]
        self._slots = 0
        self._rows = 0
        self._programs: Any = None
        # None while released; device calls replace the cache, which they donate.
        self._weights: Any = None
        self._cache: Any = None
        # Beginnings that prompts share: of the first demand or call, and fixed from then on, for
        # which prefill programs are needed depends on them. None until then.
        self._prefixes: tuple[tuple[int, ...], ...] | None = None
        # True after warm-up; any later compilation is counted as a recompilation.
        self._warm = False
        # Of the call that is running, or ran last.
        self.statistics = RolloutStatistics()

    # ---- weights -------------------------------------------------------------------------------

    def load(self, params: Params, adapters: Params | None = None) -> None:
        """Take these weights for sampling: to be called after every update.

        Casts once, and moves the cast copy to where decoding wants it, a layer at a time. Adapters
        (the tree of ``lora.init_lora``) are not merged: what is sampled is what training computes.
        """
        if (adapters is None) != (self._lora is None):
            raise ValueError("an engine of LoraSettings loads adapters, any other loads none")
        self._weights = None
        outer, layer = self._lay_out
        weights = outer({name: part for name, part in params.items() if name != "layers"})
        low_rank = None if adapters is None else adapters["layers"]
        weights["layers"] = [
            layer(params["layers"], jnp.int32(index), low_rank)
            for index in range(self._policy.config.num_layers)
        ]
        self._weights = jax.tree.map(self._local, weights)

    def warm_up(self, demand: Demand | None = None) -> None:
        """Compile every program that a call can need, so that none of them waits for a compiler.

        Without it, programs are compiled when they are first needed; which batch sizes that are
        depends on the lengths of the replies, so a later call may still meet a new one.

        Args:
            demand: the calls to come; default: all rows filled, with prompts of every length.
        """
        every_length = frozenset(range(self._max_prompt + 1))
        samples, new_tokens = self._max_rows * self._devices, self._settings.max_new_tokens
        demand = demand or Demand(samples, new_tokens, every_length)
        if self._prefixes is None:
            self._prefixes = demand.prefixes
        programs = self._prepare(demand.max_new_tokens, demand.samples)
        # A prompt is computed whole, or behind one of the shared beginnings.
        shared = [0, *map(len, self._prefixes)]
        lengths = demand.prompt_lengths & every_length
        computed = {length - 1 - tokens for length in lengths for tokens in shared}
        buckets = {prompt_bucket(tokens) for tokens in computed if tokens > 0}
        programs.warm_up(batch_sizes(self._rows), sorted(buckets))
        self._warm = True

    @functools.cached_property
    def _lay_out(self) -> tuple[Any, Any]:
        """The programs of ``load``: outer weights from parameters, a layer from the stack."""
        options: dict[str, Any] = {"dtype": self._dtype, "quantized": self._quantized}
        on_mesh = functools.partial(_shardings, mesh=self._global_mesh)
        outer = jax.jit(
            functools.partial(outer_weights, **options),
            out_shardings=on_mesh(outer_specs(quantized=self._quantized)),
        )
        layer = jax.jit(
            functools.partial(
                layer_weights,
                tensor_shards=self._mesh.shape["tensor"],
                lora_scale=self._lora.scale if self._lora else 1.0,
                **options,
            ),
            out_shardings=on_mesh(
                layer_specs(self._policy.config, quantized=self._quantized, lora=self._lora)
            ),
        )
        return outer, layer

    @property
    def context(self) -> int:
        """Tokens of the longest text, prompt and reply together, that the policy was made for."""
        return self._policy.config.context

    @property
    def decode_weights(self) -> DecodeWeights:
        """The weights as they were laid out; for measurements."""
        return self._weights

    def release(self) -> None:
        """Give the memory of weights and cache back, for the update."""
        self._weights = None
        self._cache = None

    def _local(self, array: jax.Array) -> jax.Array:
        """This host's part of an array that lies on the devices of all hosts."""
        if self._global_mesh.devices.size == self._mesh.devices.size:
            return array
        sharding = NamedSharding(self._mesh, array.sharding.spec)  # type: ignore[attr-defined]
        shards = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)

    # ---- sampling ------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        samples_per_prompt: int | Sequence[int],
        keys: np.ndarray,
        sampling: Sequence[SamplingSettings] | None = None,
        limits: np.ndarray | None = None,
    ) -> Iterator[Rollout]:
        """Sample replies; yields each when it is finished, in no particular order.

        Args:
            prompts: token ids. An empty prompt is begun with the policy's padding token.
            samples_per_prompt: one number for all, or one for each prompt.
            keys: uint32 [samples, 2], a raw key for each sample, prompt by prompt.
            sampling: settings of each prompt; default: the engine's.
            limits: int [samples], shorter limits for single samples: recorded lengths, with
                which a benchmark replays a workload.

        Raises:
            UserError: a prompt is longer than ``max_prompt_tokens``.
            RuntimeError: no weights have been loaded.
        """
        if self._weights is None:
            raise RuntimeError("RolloutEngine.generate needs weights: call load(params) first")
        samples = Samples.of(
            prompts, samples_per_prompt, keys, sampling or [self._settings] * len(prompts), limits
        )
        for index, prompt in enumerate(prompts):
            if len(prompt) > self._max_prompt:
                raise UserError(
                    f"prompt {index} has {len(prompt)} tokens, config.rollout.max_prompt_tokens"
                    f" allows {self._max_prompt}: raise it, or leave the prompt out"
                )
        return self._generate(
            [list(prompt) or [self._policy.pad_token_id] for prompt in prompts], samples
        )

    def _generate(self, prompts: list[list[int]], samples: Samples) -> Iterator[Rollout]:
        began = time.perf_counter()
        self.statistics = statistics = RolloutStatistics()
        if self._prefixes is None:
            self._prefixes = shared_prefixes(prompts)
        programs = self._prepare(int(samples.limit.max(initial=1)), len(samples.prompt))
        if self._cache is None:
            self._cache = programs.empty_cache()
        compiled_before, seconds_before = len(programs), programs.seconds
        schedule = Schedule(
            samples.prompt.tolist(),
            [len(prompt) for prompt in prompts],
            rows=self._rows,
            slots=self._slots,
            devices=self._devices,
            prompt_prefixes=[prefix_of(prompt, self._prefixes) for prompt in prompts],
        )
        replies = Replies(schedule.occupant.shape, int(samples.limit.max(initial=1)))
        finished: list[Rollout] = []
        while True:
            prefills, copies = schedule.fill()
            replies.begin(schedule, samples, prompts)
            self._prefill(programs, prefills, prompts)
            self._copy(programs, copies)
            moves = schedule.shrink()
            replies.move(moves)
            self._copy(programs, moves)
            statistics.count_prefills(prefills, prompts)
            if not schedule.live.any():
                break
            drafting = self._drafts(schedule)
            if drafting:
                window = self._draft(programs, schedule, replies, samples, prompts)
            else:
                window = self._decode(programs, schedule, replies, samples)
            statistics.seconds += time.perf_counter() - began
            # The device is at work: now there is time for whoever waits for replies.
            yield from finished
            if self.statistics is not statistics:
                raise RuntimeError("generate was called again before these replies were taken")
            began = time.perf_counter()
            finished = self._harvest(window, schedule, replies, samples, statistics, drafting)
        if self._warm:
            statistics.recompilations = len(programs) - compiled_before
        self._warm = True
        statistics.programs = len(programs)
        statistics.compile_seconds = programs.seconds - seconds_before
        statistics.seconds += time.perf_counter() - began
        yield from finished

    def _prepare(self, longest: int, samples: int) -> Programs:
        """Programs for replies of up to so many tokens and for so many samples.

        Those at hand serve, unless they are too small: then larger ones are made. Memory is taken
        for the rows that calls have needed so far, not for all that the settings allow.
        """
        longest = max(self._settings.max_new_tokens, longest)
        needed = self._max_prompt + longest + self._draft_tokens
        slots = -(-needed // SLOT_MULTIPLE) * SLOT_MULTIPLE
        wanted = min(self._max_rows, max(1, -(-samples // self._devices)))
        rows = next(size for size in batch_sizes(self._max_rows) if size >= wanted)
        if self._programs is None or slots > self._slots or rows > self._rows:
            self._slots, self._rows = max(slots, self._slots), max(rows, self._rows)
            self._cache = None
            self._programs = Programs(
                self._policy.config,
                self._mesh,
                rows=self._rows,
                slots=self._slots,
                window=self._window,
                stop_tokens=tuple(self._policy.stop_token_ids),
                vocabulary=self._policy.vocabulary,
                compute_dtype=self._dtype,
                quantized=self._quantized,
                lora=self._lora,
                shared_tokens=max(map(len, self._prefixes or ()), default=0),
                draft_tokens=self._draft_tokens,
            )
        return self._programs

    # ---- device calls --------------------------------------------------------------------------

    def _decode(
        self, programs: Programs, schedule: Schedule, replies: Replies, samples: Samples
    ) -> Window:
        rows = replies.device_rows(schedule, samples)
        self._cache, window = programs.decode(
            self._weights,
            self._cache,
            jax.tree.map(self._put, rows),
            self._put(schedule.clock.astype(np.int32)),
            self._put(schedule.least_live().astype(np.int32)),
        )
        return window

    def _drafts(self, schedule: Schedule) -> bool:
        """Whether the next window is one of drafts; those after it are then, too."""
        return self._draft_tokens > 0 and not schedule.waiting and schedule.batch <= DRAFT_ROWS

    def _draft(
        self,
        programs: Programs,
        schedule: Schedule,
        replies: Replies,
        samples: Samples,
        prompts: list[list[int]],
    ) -> Window:
        texts = replies.texts(
            schedule, samples, prompts, programs.text_capacity, programs.text_room
        )
        rows = replies.device_rows(schedule, samples)
        inputs = jax.tree.map(self._put, (rows, texts))
        self._cache, window = programs.draft(self._weights, self._cache, *inputs)
        return window

    def _prefill(
        self, programs: Programs, prefills: list[Prefill], prompts: list[list[int]]
    ) -> None:
        """Run the prefills, several to a call; the devices work on theirs at the same time."""
        own = [prompts[one.prompt][one.shared : -1] for one in prefills]
        of = dict(zip(prefills, own))
        lengths = [len(tokens) for tokens in own]
        for call in prefill_calls(prefills, lengths, self._devices):
            bucket = prompt_bucket(max(len(of[one]) for queue in call for one in queue))
            size = prompts_per_prefill(bucket)
            tokens = np.zeros((self._devices, size, bucket), np.int32)
            # [what, devices, prompts]: rows, starts, sources, source_starts, shared.
            places = np.zeros((5, self._devices, size), np.int32)
            for device, queue in enumerate(call):
                for place, one in enumerate(queue):
                    tokens[device, place, : len(of[one])] = of[one]
                    places[:, device, place] = (
                        *(one.row, one.start, one.source, one.source_start, one.shared),
                    )
            count = np.array([len(queue) for queue in call], np.int32)
            arrays = (tokens.reshape(-1, bucket), *places.reshape(5, -1), count)
            self._cache = programs.prefill(self._weights, self._cache, *map(self._put, arrays))

    def _copy(self, programs: Programs, copies: list[Copy]) -> None:
        if not copies:
            return
        # [what, devices, copies]: sources, targets, turns.
        plan = np.zeros((3, self._devices, self._rows), np.int32)
        count = np.zeros(self._devices, np.int32)
        for copy in copies:
            plan[:, copy.device, count[copy.device]] = copy.source, copy.target, copy.turn
            count[copy.device] += 1
        sources, targets, turns = (self._put(array.ravel()) for array in plan)
        self._cache = programs.copy_rows(self._cache, sources, targets, turns, self._put(count))

    def _put(self, array: np.ndarray) -> jax.Array:
        return jax.device_put(array, NamedSharding(self._mesh, P("rows")))

    # ---- between windows -----------------------------------------------------------------------

    def _harvest(
        self,
        on_device: Window,
        schedule: Schedule,
        replies: Replies,
        samples: Samples,
        statistics: RolloutStatistics,
        drafted: bool,
    ) -> list[Rollout]:
        """Wait for a window; keep its tokens, and return the replies that it finished."""
        window: Any = jax.device_get(on_device)
        batch = (self._devices, schedule.batch)
        produced, live = window.produced.reshape(batch), window.live.reshape(batch)
        before = replies.produced[:, : schedule.batch]
        if drafted:
            statistics.count_drafts(window, before)
        else:
            tile = self._programs.tile_read(schedule.batch)
            statistics.count_window(schedule, window, before, tile)
        replies.keep(window, produced)
        done = (schedule.occupant[:, : schedule.batch] != FREE) & ~live
        finished = []
        for device, row in np.argwhere(done).tolist():
            sample = int(schedule.occupant[device, row])
            prompt = int(samples.prompt[sample])
            tokens, log_probs, sampled_log_probs = replies.take(device, row, prompt)
            finished.append(
                Rollout(
                    prompt_index=prompt,
                    sample_index=int(samples.number[sample]),
                    tokens=tokens,
                    log_probs=log_probs,
                    sampled_log_probs=sampled_log_probs,
                    finished=int(tokens[-1]) in self._policy.stop_token_ids,
                )
            )
        schedule.advance(window.steps, live)
        return finished


def rollout_meshes(mesh: Mesh | None, process: int | None = None) -> tuple[Mesh, Mesh]:
    """The devices of all hosts and those of one process (default: this one), as ("rows", "tensor").

    A process may have rows anywhere in the mesh: neighbours in a slice are often of other hosts.
    """
    if mesh is None:
        local = Mesh(np.array(jax.local_devices())[:, None], ("rows", "tensor"))
        return local, local
    tensor = mesh.shape["tensor"]
    rows = mesh.devices.reshape(-1, tensor)
    process = jax.process_index() if process is None else process
    own = (owners_of_rows(mesh.devices, tensor) == process).all(axis=1)
    return Mesh(rows, ("rows", "tensor")), Mesh(rows[own], ("rows", "tensor"))


def _shardings(specs: Any, mesh: Mesh) -> Any:
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
