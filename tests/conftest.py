"""What tests of several rooms need: the real weights, the real data, the repository's root.

Real files lie outside the repository. A test that needs one is skipped, with the reason, on a
machine that does not have it and cannot make it.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Many tests compile the same programs, in processes of their own: the second one reads the first
# one's. What counts compilations is not touched by where a compiled program came from.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# The Makefile asks for it: most tests compile many small programs and compute little in them.
WITHOUT_OPTIMIZER = "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ

# The files that take longest, longest first. A process takes whole files in this order, so that
# none is left with a long one when the others have finished.
LONGEST_FIRST = (
    "training/test_experiments.py",
    "training/test_learning.py",
    "training/test_resume.py",
    "training/test_two_hosts.py",
    "training/test_compilation.py",
    "parallel/test_meshes_agree.py",
    "parallel/test_hosts.py",
    "training/test_update.py",
    "training/test_sampling_gap.py",
    "rollout/test_sampling.py",
    "rollout/test_engine.py",
    "rollout/test_attention.py",
    "policy/test_goldens.py",
    "policy/test_parity_of_real_weights.py",
    "rollout/test_compiled_tpu.py",
    "rollout/test_compiled_gpu.py",
    "benchmarks/test_plan.py",
    "training/test_update_compiled.py",
)

SHARED = Path(os.environ.get("ZEROCODER_SHARED", REPOSITORY.parent / "shared"))
MODEL_FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files to the front; the order of all others stays."""
    rank = {REPOSITORY / "tests" / file: place for place, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """XLA's optimizer on for a test that computes much or is about rounding, off for others."""
    on = any(item.get_closest_marker(name) for name in ("optimized", "real_weights"))
    disabled = str(not on).lower()
    if not WITHOUT_OPTIMIZER or os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == disabled:
        return
    # For the processes that a test starts, and for its own.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = disabled
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_disable_most_optimizations", not on)
        # A program that was compiled the other way would be taken for this one's.
        jax.clear_caches()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout that is under test."""
    return REPOSITORY


@contextlib.contextmanager
def _counted_compilations() -> Iterator[list[dict]]:
    # Imported late: the environment above is read when JAX is imported.
    import jax

    compiled: list[dict] = []

    def listen(event: str, _: float, **about: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="session")
def counted_compilations() -> Callable[[], AbstractContextManager[list[dict]]]:
    """``with counted_compilations() as compiled``: all that JAX compiles, whoever asks for it."""
    return _counted_compilations


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems and tokenizers."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set ZEROCODER_SHARED to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Qwen2.5-Coder-0.5B-Instruct as a GGUF file whose published sha256 was checked."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zerocoder" / "models"
    if (cache / MODEL_FILE).is_file():
        return cache / MODEL_FILE
    script = SHARED / "models" / "fetch_qwen2_5_coder_0_5b.sh"
    if not script.is_file():
        pytest.skip(f"no real weights at {cache / MODEL_FILE} and no script to assemble them")
    made = subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=600)
    if made.returncode != 0:
        pytest.skip(f"the real weights could not be assembled: {made.stderr.strip()[-300:]}")
    return Path(made.stdout.strip().splitlines()[-1])
