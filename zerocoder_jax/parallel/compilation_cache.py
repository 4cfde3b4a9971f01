"""Compiled programs kept on disk: a run that is resumed starts in seconds, not in minutes.

JAX's persistent compilation cache, in the user's cache directory, unless the environment says
otherwise: ``ZEROCODER_COMPILATION_CACHE=off`` or ``=DIRECTORY``, or JAX's own
``JAX_COMPILATION_CACHE_DIR``.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax

# Programs that compile faster are not worth a file.
_MIN_SECONDS = 0.2
# The ones used longest ago are removed beyond this.
_MAX_BYTES = 10 << 30


def keep_compiled_programs(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Turn the cache on; called before anything is compiled.

    Returns:
        Its directory; None where it is off, cannot be written, or was chosen by JAX's own variable.
    """
    asked = environment.get("ZEROCODER_COMPILATION_CACHE", "")
    if asked == "off" or environment.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(asked or Path(home) / "zerocoder_jax" / "compiled") / _this_machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    return folder


def _this_machine() -> str:
    """Programs for CPUs use the instructions of the one they were compiled on, and home
    directories are shared by many."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]
