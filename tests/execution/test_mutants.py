"""Mutants by mutmut: which there are, what kills them, and the interface this relies on."""

import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest
from observing import SQUARE

from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import AssertTest, CallTest, Problem

P, F, N = Status.PASSED, Status.FAILED, Status.NOT_RUN

SIGN = '''import math
LIMIT = 10

def sign(x):
    """Says which side of zero x lies on."""
    if x > 0:
        return 1
    return -1 if x < 0 else 0

class Helper:
    def twice(self, x):
        return x * 2
'''


def test_mutmut_is_the_version_whose_interface_we_use() -> None:
    assert importlib.metadata.version("mutmut") == "3.8.1", (
        "mutmut moved: read zerocoder_jax/execution/mutant_maker.py against its new file_mutation, "
        "then change this version and the pin in setup.cfg"
    )


def test_functions_and_methods_are_mutated_and_module_level_is_not(pool: ExecutionPool) -> None:
    mutants = pool.mutants(SIGN, "sign")
    assert len(mutants) == len(set(mutants)) > 5
    assert all("LIMIT = 10" in mutant for mutant in mutants)
    assert any("x * 3" in mutant for mutant in mutants)
    assert any("x >= 0" in mutant for mutant in mutants)
    assert SIGN not in mutants


def test_whole_programs_are_mutated_at_module_level(pool: ExecutionPool) -> None:
    assert any("* 3" in mutant for mutant in pool.mutants("print(int(input()) * 2)\n", None))


def test_mutants_that_compile_to_the_original_are_dropped(pool: ExecutionPool) -> None:
    # mutmut changes the text of the docstring; the program is the same.
    assert pool.mutants('def f():\n    """Words."""\n    return None\n', "f") == []


def test_a_cap_draws_the_same_mutants_for_the_same_seed(pool: ExecutionPool) -> None:
    every = pool.mutants(SIGN, "sign")
    drawn = [pool.mutants(SIGN, "sign", limit=3, seed=seed) for seed in range(8)]
    assert all(len(mutants) == 3 and set(mutants) <= set(every) for mutants in drawn)
    assert drawn[5] == pool.mutants(SIGN, "sign", limit=3, seed=5)
    assert len({tuple(mutants) for mutants in drawn}) > 1


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def f(:",
        "\x00",
        "x = " + "[" * 10_000 + "]" * 10_000,
        "a" * 200_000,
        "# comment",
        "\udc80",
    ],
)
def test_what_cannot_be_mutated_has_no_mutants(source: str, pool: ExecutionPool) -> None:
    assert pool.mutants(source, "f") == []


def test_a_pragma_does_not_hide_a_solution_from_mutation(pool: ExecutionPool) -> None:
    hidden = "def f(x):  # pragma: no mutate block\n    return x + 1  # pragma: no mutate\n"
    assert len(pool.mutants(hidden, "f")) >= 2


def test_killed_means_passing_on_the_original_and_not_on_the_mutant(pool: ExecutionPool) -> None:
    problem = Problem("test/sign", "", "sign", "function")
    tests = [
        AssertTest("assert sign(5) == 1"),
        AssertTest("assert sign(5) == 2"),
        None,
        AssertTest("assert sign(1) == 1 and True"),
        AssertTest("assert sign(5) == 1"),
    ]
    result = pool.submit_mutation(problem, SIGN, tests).result()
    assert result.original.tolist() == [P, F, Status.UNPARSABLE, P, P]
    assert result.statuses.shape == (len(result.mutants), 5) == result.killed.shape
    assert (result.statuses[:, [1, 2]] == N).all()
    assert not result.killed[:, [1, 2]].any() and not result.valid[:, [1, 2]].any()
    np.testing.assert_array_equal(result.statuses[:, 0], result.statuses[:, 4])
    # sign(1) tells x > 1 apart from x > 0, sign(5) does not.
    (boundary,) = (i for i, mutant in enumerate(result.mutants) if "x > 1" in mutant)
    assert not result.killed[boundary, 0] and result.killed[boundary, 3]
    plain = [pool.passing_matrix(problem, [m], [tests[0], tests[3]])[0] for m in result.mutants]
    np.testing.assert_array_equal(result.statuses[:, [0, 3]] == P, np.array(plain) == P)


def test_an_endless_mutant_is_killed_long_before_the_time_limit() -> None:
    countdown = "def f(x):\n    while x > 0:\n        x -= 1\n    return x\n"
    with ExecutionPool(2, Limits(seconds=20.0), "rlimits") as pool:
        result = pool.submit_mutation(SQUARE, countdown, [CallTest((3,), 0)]).result(timeout=60)
    assert (result.statuses == Status.TIMEOUT).any()
    assert result.killed[result.statuses == Status.TIMEOUT].all()


def test_an_original_that_does_not_compile_has_no_mutants(pool: ExecutionPool) -> None:
    result = pool.submit_mutation(SQUARE, "def f(", [CallTest((3,), 0)]).result()
    assert result.mutants == [] and result.original.tolist() == [Status.ERROR]
    assert result.killed.shape == (0, 1)


def test_the_maker_needs_no_configuration_where_it_runs(tmp_path: os.PathLike[str]) -> None:
    """mutmut itself reads the working directory and fails where it finds nothing to mutate."""
    code = (
        "from zerocoder_jax.execution import mutant_maker as maker\n"
        "maker.configure_mutmut()\n"
        "print(len(maker.mutants_of('def f(x):\\n    return x + 1\\n', False)))\n"
        "import sys; print('textual' in sys.modules, 'pytest' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert made.stdout.split() == ["2", "False", "False"], made.stderr


def test_the_worker_never_imports_mutmut_jax_or_numpy(pool: ExecutionPool) -> None:
    solution = (
        "import sys\nNAMES = ('mutmut', 'jax', 'numpy', 'libcst')\ndef f():\n"
        "    return [m for m in sys.modules if m.split('.')[0] in NAMES]"
    )
    assert pool.passing_matrix(SQUARE, [solution], [AssertTest("assert f() == []")])[0, 0] == P
