"""What solutions and tests can import is known before they run."""

import pytest

from zerocoder_jax.execution import ExecutionPool, missing_packages


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import math, numpy as np", ["numpy"]),
        ("from scipy.stats import norm\nimport sortedcontainers", ["scipy", "sortedcontainers"]),
        ("def f():\n    import numpy", ["numpy"]),
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None", []),
        ("\ufefffrom __future__ import annotations\nimport zoneinfo", []),
        ("from . import sibling", []),
        ("import pytest", ["pytest"]),
        ("not Python at all", []),
    ],
)
def test_what_is_not_there_is_named(source: str, missing: list[str]) -> None:
    assert missing_packages(source) == missing
    assert missing_packages(source, packages=("numpy", "scipy", "sortedcontainers", "pytest")) == []


def test_tests_find_stand_ins_too() -> None:
    assert missing_packages("import pytest, numpy", is_test=True) == ["numpy"]


def test_a_pool_knows_what_it_offers() -> None:
    with ExecutionPool(1, min_isolation="rlimits", packages=("numpy",)) as pool:
        assert missing_packages("import numpy", pool.packages) == []
