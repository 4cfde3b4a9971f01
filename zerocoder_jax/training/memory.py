"""How much memory a run takes, and giving it back where the devices are the host itself."""

import ctypes
import functools
import resource
import sys
from collections.abc import Callable

import jax


def memory_metrics() -> dict[str, float]:
    """The largest memory so far, in GB: of this process, and of its fullest accelerator."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in units of 1024 bytes, macOS in bytes.
    peaks = {"memory/peak_gb": largest * (1 if sys.platform == "darwin" else 1024) / 1e9}
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    if on_devices := [one["peak_bytes_in_use"] for one in statistics if "peak_bytes_in_use" in one]:
        peaks["memory/device_peak_gb"] = max(on_devices) / 1e9
    return peaks


def return_freed_memory() -> None:
    """Hand freed memory back to the system.

    The C library keeps freed blocks of up to 32 MB for itself, in a pool for each thread. A rollout
    and a checkpoint leave gigabytes there, which the next phase cannot use: on a CPU they lie
    beside its own. Does nothing on accelerators, and where the C library has no such call.
    """
    if jax.default_backend() == "cpu":
        _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # only glibc has it
        return lambda padding: None
