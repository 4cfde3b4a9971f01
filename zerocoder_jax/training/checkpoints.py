"""Checkpoints: the train state and everything else a run needs to continue as if never interrupted.

The one file that knows orbax. A checkpoint is written in the background into a folder of its own
and appears under its final name only when it is whole, checksums included, so a reader never finds
half of one and a damaged one is noticed. Random numbers need no state: each is folded from the seed
and the step (see ``configs/base.py``), so the step and the config, which are kept, fix all that
follow, and the data cursor with them.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_args

from zerocoder_jax import storage
from zerocoder_jax.command_line import versions
from zerocoder_jax.config_changes import CHANGEABLE, FIXED, Change, changes
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.hosts import HostLost, decided_by_first_host
from zerocoder_jax.training.checksums import Damaged, verify, write_checksums

SCORES = ("pass_at_1", "test_accuracy", "mutation_score")
BEST = "best"
# Saves in a row that may fail before the run stops: each one is tried with a newer state.
_MAY_FAIL = 3
# On CPUs the state and the copy that is written share one memory; a larger copy is not left beside
# the next step.
_BESIDE_THE_NEXT_STEP = 1 << 30
_REMOVING, _DAMAGED, _UNFINISHED = ".removing", ".damaged", ".orbax-checkpoint-tmp"


class _Sealed(ocp.CompositeCheckpointHandler):
    """Writes the checksums before the checkpoint gets its final name."""

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        write_checksums(Path(directory))


@checkpoint_args.register_with_handler(_Sealed, for_save=True, for_restore=True)
class _Parts(ocp.args.Composite):
    """``state`` and ``meta`` of a checkpoint."""


class Checkpoints:
    """The checkpoints in one directory: the newest ``config.checkpoint.keep``, and the best one.

    Args:
        directory: created where it does not exist.
        config: of the run; a checkpoint that was made by another one is refused.
        read_only: leave the directory as it is: nothing is created, and what a run may be writing
            there at this moment is not taken for the remains of a killed one and removed.
        accept_changes: changeable fields may have changed (``--accept-changes``).

    Attributes:
        changed: the fields whose values differ from those of the checkpoint that was restored.
    """

    def __init__(
        self,
        directory: str | Path,
        config: Any,
        *,
        read_only: bool = False,
        accept_changes: bool = False,
    ):
        for logger in ("absl", "asyncio"):
            logging.getLogger(logger).addFilter(_said_in_one_line_instead)
        self._directory = Path(directory).absolute()
        self._config = json.loads(json.dumps(config.to_dict()))
        self._keep = config.checkpoint.keep
        self._read_only = read_only
        self._accept_changes = accept_changes
        self._writer: ocp.AsyncCheckpointer | None = None
        self._being_written: int | None = None
        self._failures = 0
        self._last_failure: tuple[int | None, str] = (None, "")
        self.changed: list[Change] = []
        if not read_only:
            decided_by_first_host(self._prepare)

    # ---- saving ----------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        state: Any,
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        finish: bool = False,
    ) -> float | None:
        """Begin to save; returns when ``state`` has been copied and may be donated again.

        Args:
            step: training steps finished.
            state: pytree of arrays.
            meta: what else the run needs, as JSON; given back by ``restore``.
            metrics: of this policy; the mean of its evaluation scores decides which is the best
                checkpoint.
            finish: return only when the checkpoint is whole: nothing comes after it.

        Returns:
            The mean of the evaluation scores; None where nothing was evaluated.

        Raises:
            StorageFailed: several saves in a row failed.
        """
        self.wait()
        score = evaluation_average(metrics or {})
        if self._is_there(step):
            return score
        about = {
            "meta": dict(meta),
            "config": self._config,
            "score": score,
            "time": storage.now(),
            **versions(),
        }
        copied_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        beside = jax.default_backend() != "cpu" or copied_bytes <= _BESIDE_THE_NEXT_STEP
        self._begin(step, state, about)
        if finish or not beside:
            self.wait()
        for seconds in storage.WAITS if finish else ():
            if self._is_there(step):
                break
            time.sleep(seconds)
            self._begin(step, state, about)
            self.wait()
        if finish and not self._is_there(step):
            raise storage.StorageFailed(self._failed_message())
        return score

    def wait(self) -> None:
        """Return when the checkpoint being written is whole, or has failed.

        Raises:
            StorageFailed: several saves in a row failed.
        """
        if self._writer is None or self._being_written is None:
            return
        try:
            self._writer.wait_until_finished()
        except Exception as error:  # tensorstore's are no OSError
            self._failed(error)
        else:
            self._failures = 0
            decided_by_first_host(self._remove_old)
        self._being_written = None

    def _begin(self, step: int, state: Any, about: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = ocp.AsyncCheckpointer(_handler())
        self._being_written = step
        parts = _Parts(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(about))
        try:
            self._writer.save(self._path(step), args=parts)
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Warn; a writer that has failed is not used again, and gives its room on the disk back."""
        if jax.process_index() == 0:
            left = self._directory / f"{self._being_written}{_UNFINISHED}"
            shutil.rmtree(left, ignore_errors=True)
        self._failures += 1
        self._last_failure = (self._being_written, storage.reason(error))
        self._writer, self._being_written = None, None
        if self._failures >= _MAY_FAIL:
            raise storage.StorageFailed(self._failed_message()) from error
        storage.warn(f"{self._failed_message()}; the next save is tried with a newer state")

    def _failed_message(self) -> str:
        step, why = self._last_failure
        return (
            f"{self._directory}: the checkpoint of step {step} could not be written ({why}); "
            "the ones before are whole"
        )

    # ---- restoring -------------------------------------------------------------------------------

    def restore(
        self, target_state: Any, step: int | str | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The state and meta of a checkpoint; None where there is none.

        Args:
            target_state: arrays or ``ShapeDtypeStruct`` with the shapes, dtypes and shardings
                wanted; the mesh may be another than the one that saved. Arrays are freed before
                the checkpoint is read: two states may not fit.
            step: the newest whole one by default; ``BEST``: the one with the best evaluation.

        Raises:
            UserError: the checkpoint belongs to another config, ``step`` does not exist or is
                damaged, or all of them are damaged.
        """
        return self._restore(target_state, step)

    def restore_params(
        self, target_params: Any, step: int | str | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """Like ``restore``, of the trained parameters alone: nothing else is read or allocated."""
        restored = self._restore({"params": target_params}, step, partial=True)
        return restored and (restored[0]["params"], restored[1])

    def _restore(
        self, target: Any, step: int | str | None, *, partial: bool = False
    ) -> tuple[Any, dict[str, Any]] | None:
        self.wait()
        described = jax.tree.map(_described, target)
        for _ in range(_MAY_FAIL):
            chosen = decided_by_first_host(lambda: self._choose(step))
            if chosen is None:
                return None
            about = self._about(chosen)
            self._refuse_other_config(chosen, about)
            for leaf in jax.tree.leaves(target):
                if isinstance(leaf, jax.Array) and not leaf.is_deleted():
                    leaf.delete()
            placed = ocp.checkpoint_utils.construct_restore_args(described)
            parts = ocp.args.PyTreeRestore(described, restore_args=placed, partial_restore=partial)
            try:
                state = ocp.PyTreeCheckpointHandler().restore(
                    self._path(chosen) / "state", args=parts
                )
            except Exception:
                if self._path(chosen).is_dir():
                    raise
                continue  # the run that writes here has a newer one by now, and removed this one
            return state, about["meta"]
        raise UserError(f"{self._directory}: every checkpoint was replaced while it was read")

    def _choose(self, step: int | str | None) -> int | None:
        """The checkpoint to read: the one asked for, or the newest that is not damaged."""
        if step is not None:
            return self._verified(self._asked_for(step))
        damaged = []
        for candidate in reversed(self.steps):
            try:
                verify(self._path(candidate))
            except Damaged as problem:
                if not self._path(candidate).is_dir():
                    return self._choose(step)  # replaced by a newer one meanwhile
                damaged.append(candidate)
                storage.warn(
                    f"the checkpoint of step {candidate} in {self._directory} is damaged "
                    f"({problem}): falling back to the one before"
                )
            else:
                self._put_aside(damaged)
                return candidate
        if damaged:
            raise UserError(
                f"{self._directory}: every checkpoint is damaged (steps "
                f"{', '.join(map(str, damaged))}): restore one from a copy, or start the run anew "
                "in another --workdir"
            )
        return None

    def _asked_for(self, step: int | str) -> int:
        if step == BEST:
            if (best := self.best_step) is None:
                raise UserError(
                    f"{self._directory}: no checkpoint was evaluated, so none is the best; there "
                    f"are {_listed(self.steps)}"
                )
            return best
        if step not in self.steps:
            raise UserError(
                f"{self._directory}: no checkpoint of step {step}; there are {_listed(self.steps)}"
            )
        return int(step)

    def _verified(self, step: int) -> int:
        try:
            verify(self._path(step))
        except Damaged as problem:
            self._asked_for(step)  # it may have been removed meanwhile
            others = [other for other in self.steps if other != step]
            raise UserError(
                f"the checkpoint of step {step} in {self._directory} is damaged ({problem}); "
                f"others are {_listed(others)}"
            ) from problem
        return step

    def refuse_other_config(self, step: int | str | None = None) -> None:
        """Look at a checkpoint, if there is one, without reading its state.

        Raises:
            UserError: it belongs to another config.
        """
        candidates = reversed(self.steps) if step is None else [self._asked_for(step)]
        for candidate in candidates:
            try:
                verify(self._path(candidate), "meta")
                about = self._about(candidate)
            except (Damaged, OSError):
                continue  # restore says so
            self._refuse_other_config(candidate, about)
            return

    def _refuse_other_config(self, step: int, about: Mapping[str, Any]) -> None:
        self.changed = changes(about["config"], self._config)
        named = "; ".join(str(one) for one in self.changed if one.kind == FIXED)
        if named:
            raise UserError(
                f"{self._directory}: the checkpoint of step {step} belongs to another config: "
                f"{named}. Give these fields their former values, or choose another --workdir"
            )
        named = "; ".join(str(one) for one in self.changed if one.kind == CHANGEABLE)
        if named and not self._accept_changes:
            raise UserError(
                f"{self._directory}: the checkpoint of step {step} belongs to another config: "
                f"{named}. Give these fields their former values, say --accept-changes to continue "
                "with the new ones, or choose another --workdir"
            )

    # ---- the directory ---------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, ascending."""
        try:
            return sorted(int(p.name) for p in self._directory.iterdir() if p.name.isdecimal())
        except OSError:
            return []

    @property
    def best_step(self) -> int | None:
        """The step with the best mean of evaluation scores; None where none was evaluated."""
        scores = {step: score for step in self.steps if (score := self._score(step)) is not None}
        return max(scores, key=lambda step: (scores[step], step)) if scores else None

    def set_aside_after(self, step: int, folder: Path) -> None:
        """Move the checkpoints of later steps into ``folder``."""
        for later in self.steps:
            if later > step:
                folder.mkdir(parents=True, exist_ok=True)
                self._path(later).rename(folder / str(later))

    def close(self) -> None:
        """Finish writing."""
        self.wait()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What is being written cannot be finished without the lost host; what is whole stays.
        if not isinstance(error, HostLost):
            self.close()

    def _is_there(self, step: int) -> bool:
        """The same answer on every host: a shared disk may show them different moments."""
        return decided_by_first_host(lambda: step in self.steps)

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _about(self, step: int) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self._path(step) / "meta" / "metadata").read_bytes())
        return about

    def _score(self, step: int) -> float | None:
        try:
            return self._about(step).get("score")
        except (OSError, ValueError):
            return None

    def _prepare(self) -> None:
        """Make the directory, and remove what a killed run left half-written or half-removed."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self._directory} cannot be written: {error.strerror}") from error
        for path in self._directory.iterdir():
            if _UNFINISHED in path.name or path.name.endswith(_REMOVING):
                shutil.rmtree(path, ignore_errors=True)

    def _remove_old(self) -> None:
        """Keep the newest, and the best. A reader finds a whole checkpoint or none of that name."""
        kept = {*self.steps[-self._keep :], self.best_step}
        for step in self.steps:
            if step not in kept:
                try:
                    going = self._path(step).rename(self._directory / f"{step}{_REMOVING}")
                    shutil.rmtree(going)
                except OSError as error:
                    storage.warn(f"{self._path(step)} not removed: {storage.reason(error)}")

    def _put_aside(self, damaged: Iterable[int]) -> None:
        """Free the names of damaged checkpoints for the steps that are made again."""
        for step in () if self._read_only else damaged:
            path = self._directory / f"{step}{_DAMAGED}"
            shutil.rmtree(path, ignore_errors=True)
            self._path(step).rename(path)


def _handler() -> _Sealed:
    return _Sealed(
        state=ocp.PyTreeCheckpointHandler(
            # On CPUs the copies that are written lie beside the state itself, in the same memory:
            # not many at a time.
            save_device_host_concurrent_gb=1 if jax.default_backend() == "cpu" else None
        ),
        meta=ocp.JsonCheckpointHandler(),
    )


def _said_in_one_line_instead(record: logging.LogRecord) -> bool:
    """``save`` waits on purpose; what orbax logs with a traceback it raises as well."""
    with_traceback = record.exc_info and "orbax" in record.pathname + record.getMessage()
    return not with_traceback and "Waiting for previous save" not in str(record.msg)


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


def _described(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _listed(steps: Iterable[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
