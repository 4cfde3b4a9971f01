"""The compiled half of the update: four pure, jitted programs over sharded pytrees.

``accumulate`` adds one micro-batch's gradient to a sum, ``apply`` turns the sum into new weights,
``score`` gives log-probabilities without a gradient (of the reference, and of the policy before a
step of several updates), ``zeros`` starts a sum. ``accumulate`` and ``score`` are compiled once per
padded length. The host decides how many micro-batches there are: a scan over them would compile a
program for each number, and the donated sum lives in place either way.

``PolicyUpdate`` runs these programs and ``launch/plan.py`` compiles them for machines that are not
here, so everything they take can be described without being allocated.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import (
    BATCH_AXES,
    LOGICAL_RULES,
    batch_shards,
    check_divisible,
    shardings,
)
from zerocoder_jax.policy import (
    ActivationSharding,
    PolicyConfig,
    abstract_params,
    decoder_graphdef,
    forward,
    logical_axes,
)
from zerocoder_jax.policy.attention import AttentionName
from zerocoder_jax.policy.log_probs import token_log_probs
from zerocoder_jax.policy.lora import abstract_lora, lora_logical_axes, lora_settings
from zerocoder_jax.policy.path_attention import take_nodes
from zerocoder_jax.training.batches import (
    BatchShapes,
    MicroBatch,
    TrainingSequence,
    micro_batches,
)
from zerocoder_jax.training.grpo import grpo_loss
from zerocoder_jax.training.optimizer import make_optimizer, optimizer_shardings
from zerocoder_jax.training.prefix_batches import (
    PrefixBatch,
    PrefixShapes,
    packed,
    prefix_batches,
)
from zerocoder_jax.training.problem_order import calibration_problems, drawn_problems

# Every distinct prefix once, or a row for every sequence (``training.share_prefixes``).
Batch = MicroBatch | PrefixBatch

# Query slots of an attention row where the kernel does not want whole sequences.
QUERY_SLOTS = 64
# Key slots of an attention row are halved down to this.
SHORTEST_KEYS = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What an update changes and a checkpoint keeps.

    Attributes:
        params: what is trained, float32: all weights, or the low-rank adapters.
        optimizer_state: of optax.
        step: int32, optimizer steps taken.
    """

    params: Any
    optimizer_state: Any
    step: Any


class UpdatePrograms:
    """The programs of one policy, config and mesh.

    They are jitted here, for whoever wants to call or to look at them; ``PolicyUpdate`` runs what
    ``lower`` gives, compiled.

    Attributes:
        accumulate: ``(params, base, gradients, sums, batch, totals) -> (gradients, sums)``;
            donates gradients and sums. ``base`` is what the adapters ``params`` belong to, and
            None where all weights are trained.
        score: ``(weights, adapters, batch) -> log_probs [B, T]``, whole on every device.
        apply: ``(state, gradients) -> (state, gradient norm, applied)``; donates the state, which
            comes back as it was where the gradients or what they lead to are not finite.
        zeros: ``() -> (gradients, sums)``.
        shapes: of the micro-batches.
        lora: of the adapters; None where all weights are trained.
    """

    def __init__(self, policy_config: PolicyConfig, config: Any, mesh: Mesh):
        check_divisible(policy_config, mesh)
        self.mesh = mesh
        self._compute_dtype = jnp.dtype(config.policy.compute_dtype)
        self.optimizer = make_optimizer(
            config.optimizer, total_updates=config.steps * updates_per_step(config)
        )
        self.wants_reference = config.grpo.kl_coefficient != 0
        self.lora = lora_settings(config.policy.lora)
        self._policy_config = policy_config
        self._config = config
        self.shapes = batch_shapes(config, batch_shards(mesh))
        self.prefix_shapes = None
        if config.training.share_prefixes:
            self.prefix_shapes = prefix_shapes(config, self.shapes, self._attention)
        self._graphdef = decoder_graphdef(policy_config)
        self._sharding = None
        if mesh.size > 1:
            self._sharding = ActivationSharding(mesh, batch=BATCH_AXES, heads=("tensor",))

        self.weights_shardings = shardings(logical_axes(policy_config), mesh, LOGICAL_RULES)
        self.whole = NamedSharding(mesh, PartitionSpec())
        trained = self.weights_shardings
        if self.lora:
            trained = shardings(lora_logical_axes(policy_config, self.lora), mesh, LOGICAL_RULES)
        self.state_shardings = TrainState(
            params=trained,
            optimizer_state=optimizer_shardings(
                self.optimizer, self._abstract_trained(), trained, mesh
            ),
            step=self.whole,
        )
        gradients = (trained, self.whole)
        self.zeros = jax.jit(self._zeros, out_shardings=gradients)
        self.accumulate = jax.jit(
            self._accumulate, donate_argnames=("gradients", "sums"), out_shardings=gradients
        )
        self.score = jax.jit(self._score, out_shardings=self.whole)
        self.apply = jax.jit(
            self._apply,
            donate_argnames="state",
            out_shardings=(self.state_shardings, self.whole, self.whole),
        )

    # ---- descriptions that allocate nothing ----------------------------------------------------

    def abstract_state(self) -> TrainState:
        """The state's shapes, dtypes and shardings."""
        params = self._abstract_trained()
        state = TrainState(
            params=params,
            optimizer_state=jax.eval_shape(self.optimizer.init, params),
            step=jax.ShapeDtypeStruct((), jnp.int32),
        )
        return _described(state, self.state_shardings)

    def abstract_frozen(self) -> Any:
        """The frozen weights' shapes; None where there are none."""
        if not self.has_frozen:
            return None
        params = abstract_params(self._policy_config, self._config.policy.reference_dtype)
        return _described(params, self.weights_shardings)

    @property
    def has_frozen(self) -> bool:
        """Whether the initial weights are kept: as KL's reference, as the adapters' base."""
        return self.wants_reference or self.lora is not None

    def _abstract_trained(self) -> Any:
        if self.lora:
            return abstract_lora(self._policy_config, self.lora)
        return abstract_params(self._policy_config)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the micro-batches, ascending: node slots of a shard, or padded lengths of rows."""
        return self.prefix_shapes.sizes if self.prefix_shapes else self.shapes.lengths

    def batches(
        self, sequences: Sequence[TrainingSequence]
    ) -> Iterator[tuple[list[int | None], Batch]]:
        """Micro-batches, each with the sequence index of every row of its responses."""
        if self.prefix_shapes:
            return prefix_batches(sequences, self.prefix_shapes)
        return micro_batches(sequences, self.shapes)

    def abstract_batch(self, size: int) -> Batch:
        """The micro-batch of one of the ``sizes``."""
        if self.prefix_shapes is None:
            return self._abstract_rows(size)
        empty = packed([[]] * self.prefix_shapes.shards, size, self.prefix_shapes)
        batch = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(
                array.shape, array.dtype, sharding=self.batch_sharding(array.ndim)
            ),
            empty,
        )
        return dataclasses.replace(
            batch,
            old_log_probs=batch.old_log_probs if updates_per_step(self._config) > 1 else None,
            reference_log_probs=batch.reference_log_probs if self.wants_reference else None,
        )

    def _abstract_rows(self, length: int) -> MicroBatch:
        rows = self.shapes.rows(length)

        def per_token(dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, length), dtype, sharding=self.batch_sharding(2))

        numbers, flags, values = per_token(jnp.int32), per_token(jnp.bool_), per_token(jnp.float32)
        return MicroBatch(
            tokens=numbers,
            targets=numbers,
            mask=flags,
            response=flags,
            advantages=jax.ShapeDtypeStruct((rows,), jnp.float32, sharding=self.batch_sharding(1)),
            rollout_log_probs=values,
            old_log_probs=values if updates_per_step(self._config) > 1 else None,
            reference_log_probs=values if self.wants_reference else None,
        )

    def abstract_sums(self) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
        """The gradients' and the metrics' sums."""
        gradients, sums = jax.eval_shape(self._zeros)
        return (
            _described(gradients, self.state_shardings.params),
            _described(sums, {name: self.whole for name in sums}),
        )

    def abstract_totals(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The counts that a loss is normalised by."""
        number = jax.ShapeDtypeStruct((), jnp.float32, sharding=self.whole)
        return {"tokens": number, "sequences": number}

    def lower(self, kind: str, size: int = 0) -> Any:
        """A program before its compilation, for this mesh, which may be of devices not here.

        Args:
            kind: "zeros", "apply", "accumulate"; "score_reference" and "score_policy" are ``score``
                of the initial policy and of the one before a step's updates.
            size: of the micro-batch, for those that take one.
        """
        if kind == "zeros":
            return self.zeros.lower()
        state, frozen = self.abstract_state(), self.abstract_frozen()
        gradients, sums = self.abstract_sums()
        if kind == "apply":
            return self.apply.lower(state, gradients)
        batch = self.abstract_batch(size)
        if kind == "accumulate":
            base = frozen if self.lora else None
            totals = self.abstract_totals()
            return self.accumulate.lower(state.params, base, gradients, sums, batch, totals)
        batch = dataclasses.replace(batch, old_log_probs=None, reference_log_probs=None)
        if kind == "score_reference":
            return self.score.lower(frozen, None, batch)
        weights, adapters = (frozen, state.params) if self.lora else (state.params, None)
        return self.score.lower(weights, adapters, batch)

    def batch_sharding(self, dimensions: int) -> NamedSharding:
        """Rows over the batch axes, everything else whole."""
        if not dimensions:
            return self.whole
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES, *[None] * (dimensions - 1)))

    # ---- the programs --------------------------------------------------------------------------

    def _zeros(self) -> tuple[Any, dict[str, jax.Array]]:
        names = ["loss", "tokens", "sequences", "clipped", "entropy", "sampling_gap"]
        if self.wants_reference:
            names.append("kl")
        return _zeros_like(self._abstract_trained()), {
            name: jnp.zeros((), jnp.float32) for name in names
        }

    def _accumulate(
        self,
        params: Any,
        base: Any,
        gradients: Any,
        sums: dict[str, jax.Array],
        batch: Batch,
        totals: dict[str, jax.Array],
    ) -> tuple[Any, dict[str, jax.Array]]:
        def loss_of(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            weights, adapters = (base, params) if self.lora else (params, None)
            log_probs, entropy = self._log_probs(weights, adapters, batch)
            return grpo_loss(
                log_probs,
                batch.old_log_probs,
                batch.reference_log_probs,
                batch.advantages,
                batch.response,
                entropy,
                batch.rollout_log_probs,
                settings=self._config.grpo,
                total_tokens=totals["tokens"],
                total_sequences=totals["sequences"],
                max_new_tokens=self._config.rollout.max_new_tokens,
                importance_cap=self._config.rollout.importance_cap,
                importance_level=self._config.rollout.importance_level,
            )

        (loss, new_sums), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        with jax.named_scope("accumulate"):
            gradients = jax.tree.map(
                lambda total, new: total + new.astype(jnp.float32), gradients, gradient
            )
            return gradients, jax.tree.map(jnp.add, sums, new_sums | {"loss": loss})

    def _score(self, weights: Any, adapters: Any, batch: Batch) -> jax.Array:
        return self._log_probs(weights, adapters, batch)[0]

    def _log_probs(self, weights: Any, adapters: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Log-probs and entropy, each as ``batch.response``; 0 elsewhere.

        The policy whose gradient is taken is the one that sampled, but for top-p and top-k, whose
        cut has no gradient.
        """
        hidden = self._hidden(weights, adapters, batch)
        if isinstance(batch, MicroBatch):
            return self._token_log_probs(weights, hidden, batch.targets, batch.response)
        predicting = take_nodes(hidden, batch.parents)  # [S, E, D]
        of_edges = self._token_log_probs(weights, predicting, batch.targets, batch.predicted)

        def of_responses(values: jax.Array) -> jax.Array:
            rows = take_nodes(values, batch.edges).reshape(batch.response.shape)
            return jnp.where(batch.response, rows, 0.0)

        log_probs, entropy = of_edges
        return of_responses(log_probs), of_responses(entropy)

    def _token_log_probs(
        self, weights: Any, hidden: jax.Array, targets: jax.Array, wanted: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return token_log_probs(
            weights,
            hidden,
            targets,
            wanted,
            temperature=log_prob_temperature(self._config),
            chunk=self._config.training.log_prob_chunk,
            entropy_gradient=self._config.grpo.entropy_coefficient != 0,
            sharding=self._sharding,
        )

    def _hidden(self, weights: Any, adapters: Any, batch: Batch) -> jax.Array:
        rows, length = batch.tokens.shape
        if isinstance(batch, MicroBatch):
            positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (rows, length))
            mask, attention = batch.mask, self._attention(length)
        else:
            positions, mask, attention = batch.positions, batch.paths, "xla"
        return forward(
            self._graphdef,
            weights,
            batch.tokens,
            positions,
            mask,
            compute_dtype=self._compute_dtype,
            remat=self._config.training.remat,
            attention=attention,
            lora=adapters,
            lora_scale=self.lora.scale if self.lora else 1.0,
            sharding=self._sharding,
        )

    def _apply(self, state: TrainState, gradients: Any) -> tuple[TrainState, jax.Array, jax.Array]:
        """One optimizer step, or none where its gradients or its result are not finite.

        The new weights are computed twice, first for their norm alone: kept until the verdict, they
        would need the memory of a second state. The norm is infinite already for weights whose
        squares overflow, which no forward pass survives.
        """
        with jax.named_scope("optimizer"):
            norm = optax.tree.norm(gradients)
            tried = optax.tree.norm(self._stepped(state, gradients).params)
            applied = jnp.isfinite(norm) & jnp.isfinite(tried)
            return self._stepped_if(applied, state, gradients), norm, applied

    def _stepped_if(self, applied: jax.Array, state: TrainState, gradients: Any) -> TrainState:
        """The state after a step where ``applied`` is true, else as it was; in place either way.

        XLA for GPUs copies what a conditional passes through (137 MB for a state of 137 MB; with
        selected elements 1 MB); XLA for CPUs holds the new state until its elements are selected
        (1,553 MB for a state of 547 MB; with a conditional 343 MB).
        """
        if self.mesh.devices.flat[0].platform == "cpu":
            return jax.lax.cond(applied, self._stepped, lambda old, _: old, state, gradients)
        applied, state, gradients = jax.lax.optimization_barrier((applied, state, gradients))
        new = self._stepped(state, gradients)
        return jax.tree.map(lambda new, old: jnp.where(applied, new, old), new, state)

    def _stepped(self, state: TrainState, gradients: Any) -> TrainState:
        updates, optimizer_state = self.optimizer.update(
            gradients, state.optimizer_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, optimizer_state, state.step + 1)

    def _attention(self, length: int) -> AttentionName:
        return attention_for(
            self._config.policy.attention,
            platform=self.mesh.devices.flat[0].platform,
            compute_dtype=self._compute_dtype,
            head_dim=self._policy_config.head_dim,
            length=length,
        )


def attention_for(
    name: str, *, platform: str, compute_dtype: Any, head_dim: int, length: int
) -> AttentionName:
    """The training pass's attention: ``config.policy.attention`` with "auto" decided.

    Flash attention wherever the device has a kernel for these shapes: cuDNN's takes 16-bit
    numbers and heads of up to 128, splash attention whole blocks of 128 tokens.
    """
    if name in ("xla", "cudnn", "splash"):
        return name  # type: ignore[return-value]
    if name != "auto":
        raise UserError(f"config.policy.attention is {name!r}: choose auto, cudnn, splash or xla")
    half = jnp.dtype(compute_dtype).itemsize == 2
    if platform in ("gpu", "cuda") and half and head_dim <= 128 and head_dim % 8 == 0:
        return "cudnn"
    if platform == "tpu" and length % 128 == 0:
        return "splash"
    return "xla"


def batch_shapes(config: Any, shards: int) -> BatchShapes:
    """The micro-batches that a config allows, checked against what its rollouts can produce."""
    rollout, lengths = config.rollout, tuple(sorted(config.training.length_buckets))
    longest = rollout.max_prompt_tokens + rollout.max_new_tokens
    if not lengths or lengths[-1] < longest:
        raise UserError(
            f"config.training.length_buckets ends at {lengths[-1] if lengths else 0}, but a prompt "
            f"and its response may have {longest} tokens (rollout.max_prompt_tokens + "
            "rollout.max_new_tokens): add that length or lower those"
        )
    problems = drawn_problems(config)
    if config.supervision == "calibration":
        problems += calibration_problems(config)
    return BatchShapes(
        lengths=lengths,
        tokens=config.training.micro_batch_tokens,
        shards=shards,
        sequences=problems * max(rollout.solutions, rollout.tests),
    )


def prefix_shapes(
    config: Any, rows: BatchShapes, attention: Callable[[int], AttentionName]
) -> PrefixShapes:
    """The micro-batches of shared prefixes that hold what ``rows`` holds."""
    implementation = attention(128)
    unit = 128 if implementation == "splash" else 1  # Its kernel takes whole blocks.
    longest = -(-rows.lengths[-1] // unit) * unit
    # Every key length is one more copy of the attention to compile.
    halves = {-(-longest // (2**i * unit)) * unit for i in range(4)}
    lengths = tuple(sorted({half for half in halves if half >= SHORTEST_KEYS} | {longest}))
    share = -(-rows.sequences // rows.shards)
    return PrefixShapes(
        key_lengths=lengths,
        query_slots=QUERY_SLOTS if implementation == "xla" else longest,
        implementation=implementation,
        largest=max(longest, min(rows.tokens, share * longest)),
        shards=rows.shards,
        # Trees are cut by their nodes, so one may have more sequences than another.
        sequences=min(rows.sequences, 2 * share),
        response=config.rollout.max_new_tokens,
    )


def log_prob_temperature(config: Any) -> float:
    """That of sampling; 1 for greedy samples, whose distribution has no gradient."""
    return config.rollout.temperature or 1.0


def updates_per_step(config: Any) -> int:
    """Optimizer steps made of one step's samples."""
    return config.grpo.minibatches * config.grpo.epochs


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), tree)


def _described(tree: Any, layout: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        layout,
    )
