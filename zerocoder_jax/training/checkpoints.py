"""Checkpoints: the train state and everything else a run needs to go on as if never interrupted.

The one file that knows orbax. A checkpoint is written in the background into a folder of its own
and appears under its final name only when it is whole, so a reader never finds half of one. Random
numbers need no state: each is folded from the seed and the step (see ``configs/base.py``), so the
step and the config, which are kept, fix all that follow, and the data cursor with them.
"""

import fnmatch
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.hosts import HostLost

# A run may go on with other values of these: they say where and how it computes, what it measures
# and keeps, and change its results by rounding at most.
FREE_FIELDS = (
    "mesh.*",
    "distributed.*",
    "checkpoint.*",
    "logging.*",
    "evaluation.*",
    "training.*",
    "policy.attention",
    "rollout.rows",
    "rollout.window",
    "execution.backend",
    "execution.workers",
    "execution.min_isolation",
)

SCORES = ("pass_at_1", "test_accuracy", "mutation_score")


class Checkpoints:
    """The checkpoints in one directory: the newest ``config.checkpoint.keep``, and the best one.

    Args:
        directory: created where it does not exist.
        config: of the run; a checkpoint that was made by another one is refused.
        read_only: leave the directory as it is: nothing is created, and what a run may be writing
            there at this moment is not taken for the remains of a killed one and removed.
    """

    def __init__(self, directory: str | Path, config: Any, *, read_only: bool = False):
        logging.getLogger("absl").addFilter(_no_advice)
        self._config = json.loads(json.dumps(config.to_dict()))
        policies = checkpoint_managers
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            options=ocp.CheckpointManagerOptions(
                # Not orbax's own read_only, which warns on stderr of having been asked for.
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(config.checkpoint.keep),
                        policies.BestN(
                            get_metric_fn=lambda metrics: metrics["score"],
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
            ),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(
                    # On CPUs the copies that are written lie beside the state itself, in the same
                    # memory: not many at a time.
                    save_device_host_concurrent_gb=1 if jax.default_backend() == "cpu" else None
                ),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def save(
        self,
        step: int,
        state: Any,
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Begin to save; returns when ``state`` has been copied and may be donated again.

        Args:
            step: training steps finished.
            state: pytree of arrays.
            meta: what else the run needs, as JSON; given back by ``restore``.
            metrics: of this policy; the mean of its evaluation scores decides which is the best
                checkpoint.
        """
        self._manager.wait_until_finished()
        if step in self._manager.all_steps():
            return
        score = evaluation_average(metrics or {})
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state),
                meta=ocp.args.JsonSave({"meta": dict(meta), "config": self._config}),
            ),
            metrics=None if score is None else {"score": score},
        )
        if jax.default_backend() == "cpu":
            # There the state and its copy share one memory: written in the background, the copy
            # would still lie beside the next rollout and update.
            self._manager.wait_until_finished()

    def restore(
        self, target_state: Any, step: int | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The state and meta of a checkpoint; None where there is none.

        Args:
            target_state: arrays or ``ShapeDtypeStruct`` with the shapes, dtypes and shardings
                wanted; the mesh may be another than the one that saved. Arrays are freed before
                the checkpoint is read: two states may not fit.
            step: the newest by default.

        Raises:
            UserError: the checkpoint belongs to another config, or ``step`` does not exist.
        """
        self._manager.wait_until_finished()
        step = self._manager.latest_step() if step is None else step
        if step is None:
            return None
        if step not in self._manager.all_steps():
            raise UserError(
                f"{self._manager.directory}: no checkpoint of step {step}; "
                f"there are {', '.join(map(str, self._manager.all_steps())) or 'none'}"
            )
        meta = self._meta_of_same_config(step)
        target = jax.tree.map(_described_and_freed, target_state)
        placed = ocp.checkpoint_utils.construct_restore_args(target)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore(target, restore_args=placed))
        )
        return restored["state"], meta

    def refuse_other_config(self) -> None:
        """Look at the newest checkpoint, if there is one, without reading its state.

        Raises:
            UserError: it belongs to another config.
        """
        step = self._manager.latest_step()
        if step is not None:
            self._meta_of_same_config(step)

    @property
    def steps(self) -> list[int]:
        """Steps of the whole checkpoints there are, ascending."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Return when the checkpoint being written is whole."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and let go of the directory."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What is being written cannot be finished without the lost host; what is whole stays.
        if not isinstance(error, HostLost):
            self.close()

    def _meta_of_same_config(self, step: int) -> dict[str, Any]:
        """What ``save`` was given as ``meta``; refused where the config was another one."""
        kept = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        differing = differing_fields(kept["meta"]["config"], self._config)
        if differing:
            raise UserError(
                f"{self._manager.directory}: the checkpoint of step {step} belongs to another "
                f"config: {'; '.join(differing)}. Give these fields their former values, or choose "
                "another --workdir"
            )
        return kept["meta"]["meta"]


def _no_advice(record: logging.LogRecord) -> bool:
    """``save`` waits on purpose; orbax would advise against it at every step."""
    return not str(record.msg).startswith("Waiting for previous save")


def evaluation_average(metrics: Mapping[str, float]) -> float | None:
    """The mean of all scores ``evaluation/BENCHMARK/SCORE``; None where nothing was measured."""
    scores = [
        value
        for name, value in metrics.items()
        if name.startswith("evaluation/")
        and name.rsplit("/", 1)[-1] in SCORES
        and math.isfinite(value)
    ]
    return sum(scores) / len(scores) if scores else None


def differing_fields(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """``["grpo.clip_low: 0.2 then, 0.3 now", ...]``, without the fields that may change."""
    then, now = dict(_leaves(saved)), dict(_leaves(current))
    return [
        f"config.{name}: {then.get(name, 'absent')!r} then, {now.get(name, 'absent')!r} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name, "absent") != now.get(name, "absent")
        and not any(fnmatch.fnmatch(name, free) for free in FREE_FIELDS)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _described_and_freed(leaf: Any) -> jax.ShapeDtypeStruct:
    described = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    if isinstance(leaf, jax.Array):
        leaf.delete()
    return described
