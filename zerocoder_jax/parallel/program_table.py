"""Compiled programs by name and size: each is compiled once, ahead of its use where that is wanted.

A jitted function compiles whenever it meets new shapes, unseen. The programs of a table take the
shapes they were compiled for and refuse all others, so how many there are, and what they cost, is
known.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# What it does and the size it does it for, for example ("prefill", 256).
Name = tuple[str, int]


class ProgramTable:
    """Programs that are compiled when they are first asked for, or before.

    Args:
        lower: gives a program before its compilation (``jax.stages.Lowered``); called from several
            threads.

    Attributes:
        seconds: spent on compiling so far.
    """

    def __init__(self, lower: Callable[[str, int], Any]):
        self.seconds = 0.0
        self._lower = lower
        self._compiled: dict[Name, Any] = {}

    def __len__(self) -> int:
        return len(self._compiled)

    def __getitem__(self, name: Name) -> Any:
        if name not in self._compiled:
            began = time.perf_counter()
            self._compiled[name] = self._compile(name)
            self.seconds += time.perf_counter() - began
        return self._compiled[name]

    def compile(self, names: Iterable[Name]) -> None:
        """Compile those that are missing, side by side."""
        missing = [name for name in dict.fromkeys(names) if name not in self._compiled]
        began = time.perf_counter()
        threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        try:
            compiled = list(threads.map(self._compile, missing))
        finally:
            # Whoever is interrupted does not wait for a compiler.
            threads.shutdown(wait=False, cancel_futures=True)
        self._compiled.update(zip(missing, compiled))
        self.seconds += time.perf_counter() - began

    def _compile(self, name: Name) -> Any:
        return self._lower(*name).compile()
