"""Pools that the execution tests share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, Limits

sys.path.insert(0, str(Path(__file__).parent))  # attacks.py and observing.py, beside the tests


@pytest.fixture(scope="session")
def strict_pool() -> Iterator[ExecutionPool]:
    """Full isolation and small limits, so that attacks that run into them do it quickly."""
    try:
        pool = ExecutionPool(workers=2, limits=Limits(seconds=0.6, memory_mb=256))
    except UserError as error:
        pytest.skip(f"this host forbids full isolation: {error}")
    with pool:
        yield pool


@pytest.fixture(scope="session")
def pool() -> Iterator[ExecutionPool]:
    """The default limits at the strongest level that this host allows."""
    with ExecutionPool(workers=2, min_isolation="rlimits") as pool:
        yield pool
