"""On a cluster of two nodes: the same interface, the same results, a node that dies."""

import importlib.util
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from observing import RIGHT, SQUARE, WRONG

from zerocoder_jax.errors import UserError
from zerocoder_jax.execution import ExecutionPool, RayPool, Status, open_pool
from zerocoder_jax.problems import AssertTest, CallTest

P, F = Status.PASSED, Status.FAILED
FIELDS = dict(
    backend="ray", workers=1, seconds=2.0, memory_mb=256, output_kb=64, processes=16,
    min_isolation="rlimits", packages=(),
)  # fmt: skip
TESTS = [AssertTest("assert f(3) == 10"), None, CallTest((5,), 26), AssertTest("assert f(1) == 3")]

HAS_RAY = importlib.util.find_spec("ray") is not None
skipped_without_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed (extra: ray)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, each with processes of its own."""
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20},
    )
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.ray
@skipped_without_ray
def test_two_nodes_give_what_one_pool_gives(cluster: Any, pool: ExecutionPool) -> None:
    items = [
        (SQUARE, [f"{RIGHT} + {index % 3}", WRONG, None, "def f(x):\n    1 / 0"], TESTS)
        for index in range(12)
    ]
    expected = dict(pool.passing_matrices(items))
    with open_pool(SimpleNamespace(**FIELDS)) as both:
        assert isinstance(both, RayPool)
        assert both.workers == 2
        assert both.isolation == pool.isolation
        matrices = dict(both.passing_matrices(items))
        assert matrices.keys() == expected.keys()
        for index, matrix in matrices.items():
            np.testing.assert_array_equal(matrix, expected[index])
        here = pool.submit_mutation(SQUARE, RIGHT, TESTS, limit=3, seed=4).result()
        there = both.submit_mutation(SQUARE, RIGHT, TESTS, limit=3, seed=4).result()
        assert here.mutants == there.mutants
        np.testing.assert_array_equal(here.killed, there.killed)
        assert both.mutants(RIGHT, "f") == pool.mutants(RIGHT, "f")
        assert both.statistics["runs"] > 0
    with pytest.raises(RuntimeError, match="closed"):
        both.submit_matrix(SQUARE, [RIGHT], TESTS)


@pytest.mark.ray
@skipped_without_ray
def test_the_work_of_a_node_that_dies_is_done_by_the_other(cluster: Any) -> None:
    import ray

    slow = "import time\ndef f(x):\n    time.sleep(0.3)\n    return x * x + 1"
    with open_pool(SimpleNamespace(**FIELDS)) as both:
        assert isinstance(both, RayPool)
        futures = [
            both.submit_matrix(SQUARE, [f"{slow}\n# {index}"], TESTS[:1]) for index in range(8)
        ]
        time.sleep(0.2)
        ray.kill(both._actors[1])
        assert all(future.result(timeout=60).tolist() == [[P]] for future in futures)
        assert both.statistics["retried"] > 0


@pytest.mark.ray
@skipped_without_ray
def test_a_node_with_too_little_isolation_is_named(cluster: Any) -> None:
    with pytest.raises(UserError, match=r"node .*min_isolation is 'total'"):
        open_pool(SimpleNamespace(**{**FIELDS, "min_isolation": "total"}))


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"zerocoder_jax\[ray\]"):
        open_pool(SimpleNamespace(**FIELDS))
