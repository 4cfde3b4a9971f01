"""The policy update: sequences with advantages in, new weights and metrics out.

The host's half: it cuts sequences into micro-batches, places them on the mesh, and runs the
programs of ``update_programs``. However the sequences are cut and wherever they lie, the result is
the same up to rounding: every sum is normalised by the counts of the whole batch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from zerocoder_jax.parallel.hosts import exchange
from zerocoder_jax.parallel.program_table import ProgramTable
from zerocoder_jax.policy import Policy
from zerocoder_jax.policy.lora import init_lora, merge_lora
from zerocoder_jax.training.batches import TrainingSequence, minibatches
from zerocoder_jax.training.update_programs import (
    Batch,
    TrainState,
    UpdatePrograms,
    updates_per_step,
)

__all__ = ["PolicyUpdate", "TrainState", "TrainingSequence"]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """One update: sums over the tokens that had a gradient, and the tokens of its minibatch."""

    sums: dict[str, Any]
    tokens: float
    gradient_norm: float
    applied: bool


class PolicyUpdate:
    """GRPO updates of one policy on one mesh.

    Args:
        policy: as loaded: its weights are the reference that KL is measured against.
        config: of the run; reads ``grpo``, ``optimizer``, ``training``, ``policy``, ``rollout``,
            and what bounds the number of sequences in a step.
        mesh: of ``make_mesh``.
    """

    def __init__(self, policy: Policy, config: Any, mesh: Mesh):
        self.programs = UpdatePrograms(policy.config, config, mesh)
        self._table = ProgramTable(self.programs.lower)
        self._config = config
        lora = self.programs.lora
        self._merge = jax.jit(
            lambda weights, adapters: merge_lora(
                jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights),
                adapters,
                lora.scale if lora else 1.0,
            ),
            out_shardings=self.programs.weights_shardings,
        )
        self._policy_config = policy.config
        # The initial weights: KL's reference and, with adapters, what they are added to.
        self._frozen = None
        if self.programs.has_frozen:
            self._frozen = _copy(
                policy.params, config.policy.reference_dtype, self.programs.weights_shardings
            )

    def init(self, params: Any) -> TrainState:
        """The state before the first update. It owns ``params`` from here on: the first update
        writes the new weights into their memory, so nothing else may use them afterwards. Where
        adapters are trained, they start at nothing and ``params`` are not kept."""
        programs = self.programs
        if programs.lora:
            key = jax.random.key(self._config.seed)
            params = init_lora(self._policy_config, programs.lora, key)
        params = jax.tree.map(
            lambda leaf, sharding: jax.device_put(leaf.astype(jnp.float32), sharding),
            params,
            programs.state_shardings.params,
        )
        make = jax.jit(
            programs.optimizer.init, out_shardings=programs.state_shardings.optimizer_state
        )
        return TrainState(
            params=params,
            optimizer_state=make(params),
            step=jax.device_put(jnp.zeros((), jnp.int32), programs.whole),
        )

    def warm_up(self, shortest: int, longest: int) -> None:
        """Compile every program that a step can need, side by side.

        Without it, programs are compiled when they are first needed; which padded lengths that are
        depends on what is sampled, so a later step may still meet a new one.

        Args:
            shortest, longest: tokens of a sequence, prompt and response together.
        """
        shapes, kinds = self.programs.shapes, ["accumulate"]
        if self.programs.wants_reference:
            kinds.append("score_reference")
        if updates_per_step(self._config) > 1:
            kinds.append("score_policy")
        sizes = self.programs.sizes
        if self.programs.prefix_shapes is None:
            least, most = shapes.length(shortest), shapes.length(longest)
            sizes = tuple(length for length in sizes if least <= length <= most)
        # The dearest first, so that none of them is left for the end.
        by_size = [(kind, size) for size in reversed(sizes) for kind in kinds]
        self._table.compile([*by_size, ("apply", 0), ("zeros", 0)])

    def weights_and_adapters(self, state: TrainState) -> tuple[Any, Any]:
        """The policy as the rollout loads it: all weights and None, or the frozen weights and what
        is trained beside them. Nothing is copied."""
        if self.programs.lora is None:
            return state.params, None
        return self._frozen, state.params

    def merged_params(self, state: TrainState) -> Any:
        """The policy as one tree of float32 weights, for exports: adapters are merged into a copy.

        In bfloat16 what they add to a weight would often be less than its last digit, and be lost.
        """
        if self.programs.lora is None:
            return state.params
        return self._merge(self._frozen, state.params)

    def __call__(
        self, state: TrainState, sequences: Sequence[TrainingSequence]
    ) -> tuple[TrainState, dict[str, float]]:
        """Train on a step's sequences; ``state`` is donated.

        Args:
            state: of ``init``, of a former call or restored.
            sequences: this host's; those of all hosts are trained on together. None at all makes
                no update.

        Returns:
            The new state and ``policy/...`` metrics: means over response tokens, and the loss.
        """
        before = len(self._table)
        sequences = [one for share in exchange(list(sequences)) for one in share]
        updates: list[_Measured] = []
        if sequences:
            sequences = self._with_fixed_log_probs(state, sequences)
            step = int(state.step)
            for epoch in range(self._config.grpo.epochs):
                seed = (self._config.seed, step, epoch)
                for part in minibatches(sequences, self._config.grpo.minibatches, seed):
                    state, measured = self._one_update(state, part)
                    updates.append(measured)
        return state, _metrics(updates) | {
            "policy/tokens": float(sum(one.length for one in sequences)),
            "policy/recompilations": float(len(self._table) - before),
        }

    def _one_update(
        self, state: TrainState, sequences: Sequence[TrainingSequence]
    ) -> tuple[TrainState, _Measured]:
        totals = {
            "tokens": np.float32(sum(len(one.response) for one in sequences)),
            "sequences": np.float32(len(sequences)),
        }
        base = self._frozen if self.programs.lora else None
        gradients, sums = self._table["zeros", 0]()
        for _, batch in self.programs.batches(self._contributing(sequences)):
            accumulate = self._table["accumulate", batch.tokens.shape[1]]
            gradients, sums = accumulate(
                state.params, base, gradients, sums, self._placed(batch), totals
            )
        state, norm, applied = self._table["apply", 0](state, gradients)
        del gradients
        measured = jax.device_get(sums)
        return state, _Measured(measured, float(totals["tokens"]), float(norm), bool(applied))

    def _contributing(self, sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
        """Without advantage, KL and entropy bonus a sequence has no gradient: it is skipped."""
        grpo = self._config.grpo
        if grpo.kl_coefficient or grpo.entropy_coefficient:
            return list(sequences)
        return [one for one in sequences if one.advantage != 0]

    def _with_fixed_log_probs(
        self, state: TrainState, sequences: Sequence[TrainingSequence]
    ) -> list[TrainingSequence]:
        """Add the log-probs that stay as they are while the step's updates change the policy."""
        fixed: dict[str, Any] = {}
        if self.programs.wants_reference:
            fixed["reference_log_probs"] = self._log_probs(
                "score_reference", self._frozen, None, sequences
            )
        if updates_per_step(self._config) > 1:
            weights, adapters = self.weights_and_adapters(state)
            fixed["old_log_probs"] = self._log_probs("score_policy", weights, adapters, sequences)
        return [
            dataclasses.replace(one, **{name: values[i] for name, values in fixed.items()})
            for i, one in enumerate(sequences)
        ]

    def _log_probs(
        self, program: str, weights: Any, adapters: Any, sequences: Sequence[TrainingSequence]
    ) -> list[np.ndarray]:
        """Each response's log-probs, float32 [r], by the training graph."""
        scored = []
        for indices, batch in self.programs.batches(sequences):
            score = self._table[program, batch.tokens.shape[1]]
            values = score(weights, adapters, self._placed(batch))
            scored.append((indices, batch.response, values))
        result: list[np.ndarray] = [np.empty(0, np.float32)] * len(sequences)
        for indices, response, values in scored:
            for index, real, row in zip(indices, response, np.asarray(values)):
                if index is not None:
                    result[index] = row[real]
        return result

    def _placed(self, batch: Batch) -> Batch:
        """The batch on the mesh; every host holds all of it and gives its devices their rows."""

        def place(array: np.ndarray) -> jax.Array:
            sharding = self.programs.batch_sharding(np.ndim(array))
            return jax.make_array_from_callback(array.shape, sharding, lambda at: array[at])

        return jax.tree.map(place, batch)


def _metrics(updates: Sequence[_Measured]) -> dict[str, float]:
    """Means over the tokens of all updates of a step, whose minibatches differ in length."""
    if not updates:
        return {}
    tokens = [one.tokens for one in updates]
    named = {
        "policy/loss": float(np.average([one.sums["loss"] for one in updates], weights=tokens)),
        "policy/gradient_norm": float(np.mean([one.gradient_norm for one in updates])),
        "policy/updates": float(len(updates)),
        "policy/skipped_updates": float(sum(not one.applied for one in updates)),
    }
    sums = {name: sum(float(one.sums[name]) for one in updates) for name in updates[0].sums}
    # Where no sequence had a gradient no token was looked at, and these have no value.
    if sums["tokens"]:
        named["policy/clip_fraction"] = sums["clipped"] / sums["tokens"]
        for name in ("kl", "entropy", "sampling_gap"):
            if name in sums:
                named[f"policy/{name}"] = sums[name] / sums["tokens"]
    return named


def _copy(params: Any, dtype: Any, layout: Any) -> Any:
    """A copy in another precision, never the same buffers: those are going to be overwritten."""
    return jax.jit(
        lambda tree: jax.tree.map(lambda leaf: jnp.array(leaf, dtype, copy=True), tree),
        out_shardings=layout,
    )(params)
