"""Modules that are loaded before the first run, and the state they are left in."""

import _sitebuiltins
import builtins
import gc
import importlib
import os
import sys

# What solutions commonly import: loaded once here, so that a run pays nothing for it. Every
# megabyte here makes every fork slower, so what is rare and large (dataclasses) is not here.
PRELOADED = (
    *("array", "bisect", "cmath", "collections", "collections.abc", "copy", "datetime"),
    *("decimal", "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math"),
    *("numbers", "operator", "random", "re", "statistics", "string", "sys", "time", "types"),
    "typing",
)


def preload(packages: dict[str, str]) -> None:
    """Imports what runs are likely to import, and makes the interpreter's state reproducible."""
    register = os.register_at_fork
    # random seeds itself anew after a fork; a verdict must not depend on when it was made.
    os.register_at_fork = lambda **hooks: None  # type: ignore[assignment]
    try:
        for name in PRELOADED:
            importlib.import_module(name)
    finally:
        os.register_at_fork = register
    sys.modules["random"].seed(0)
    for name, directory in packages.items():
        sys.path.append(os.path.dirname(directory))
        importlib.import_module(name)
        if name == "numpy":
            importlib.import_module("numpy.random").seed(0)
    for name in ("exit", "quit"):  # site makes them, and is not loaded
        setattr(builtins, name, _sitebuiltins.Quitter(name, "the end of input"))


def freeze() -> None:
    """Keeps the collector of every run off the pages that it shares with this process."""
    gc.collect()
    gc.disable()
    gc.freeze()
