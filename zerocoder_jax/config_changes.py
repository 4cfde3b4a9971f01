"""Which fields of a config may change while a run is continued, and which have changed.

Every field is *free* (it says where and how a run computes, what it measures and keeps, or names
files whose content is compared by itself), *changeable* (it changes what is learned from here on:
``--accept-changes`` says that this is meant, and the run records it) or *fixed* (the state of the
run has no meaning with another value).
"""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

FREE, CHANGEABLE, FIXED = "free", "changeable", "fixed"

# The first pattern that matches a field decides.
CLASSES: tuple[tuple[str, str], ...] = (
    ("seed", FIXED),
    ("method", FIXED),
    ("policy.lora.rank", FIXED),
    ("policy.lora.targets", FIXED),
    ("optimizer.name", FIXED),
    ("optimizer.first_moment_dtype", FIXED),
    # A learning rate that changes has a counter in the optimizer's state.
    ("optimizer.schedule", FIXED),
    ("optimizer.warmup_steps", FIXED),
    ("steps", FREE),
    # Digests of the problems and of the initial weights are compared instead.
    ("problems.source", FREE),
    ("problems.split", FREE),
    ("problems.limit", FREE),
    ("problems.skip_malformed", FREE),
    ("prefilter.*", FREE),
    ("policy.source", FREE),
    ("policy.attention", FREE),
    ("rollout.rows", FREE),
    ("rollout.window", FREE),
    ("execution.backend", FREE),
    ("execution.workers", FREE),
    ("execution.min_isolation", FREE),
    ("mesh.*", FREE),
    ("distributed.*", FREE),
    ("checkpoint.*", FREE),
    ("logging.*", FREE),
    ("evaluation.*", FREE),
    ("training.*", FREE),
    ("health.*", FREE),
    ("problems.*", CHANGEABLE),
    ("prompt.*", CHANGEABLE),
    ("policy.*", CHANGEABLE),
    ("rollout.*", CHANGEABLE),
    ("execution.*", CHANGEABLE),
    ("mutation.*", CHANGEABLE),
    ("selector.*", CHANGEABLE),
    ("supervision", CHANGEABLE),
    ("reward.*", CHANGEABLE),
    ("grpo.*", CHANGEABLE),
    ("optimizer.*", CHANGEABLE),
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A field whose value is another one now.

    Attributes:
        then, now: the values; None where this version has no such field any more.
        kind: ``FREE``, ``CHANGEABLE`` or ``FIXED``.
    """

    field: str
    then: Any
    now: Any
    kind: str

    def __str__(self) -> str:
        return f"config.{self.field}: {self.then!r} then, {self.now!r} now"


def class_of(field: str) -> str:
    """``FREE``, ``CHANGEABLE`` or ``FIXED``; a field that nothing declares is changeable."""
    for pattern, kind in CLASSES:
        if fnmatch.fnmatchcase(field, pattern):
            return kind
    return CHANGEABLE


def changes(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[Change]:
    """The fields that differ, by name. One that the saved config lacks, because a later version
    has added it, had the default of ``configs/base.py``."""
    then, now = dict(_leaves(with_defaults(saved))), dict(_leaves(current))
    return [
        Change(name, then.get(name), now.get(name), class_of(name))
        for name in sorted(then.keys() | now.keys())
        if _plain(then.get(name)) != _plain(now.get(name))
    ]


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A config as it was saved, with the defaults of the fields that it lacks."""
    try:
        from configs.base import get_config
    except ModuleNotFoundError:  # a program that has the package without the repository's configs
        return dict(saved)
    return _completed(saved, get_config().to_dict())


def _completed(saved: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    complete = {**defaults, **saved}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(saved.get(name), Mapping):
            complete[name] = _completed(saved[name], default)
    return complete


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _plain(value: Any) -> Any:
    """JSON has no tuples."""
    return list(value) if isinstance(value, tuple) else value
