"""Mutants by mutmut: which there are, what kills them, and the interface this relies on."""

import ast
import importlib.metadata
import os
import subprocess
import sys
from typing import cast

import libcst
import numpy as np
import pytest
from mutmut import configuration
from mutmut.mutation.file_mutation import create_mutations, deep_replace
from observing import SQUARE

from zerocoder_jax.execution import ExecutionPool, Limits, Status, mutant_maker
from zerocoder_jax.execution.mutant_maker import mutants_of
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


def mutants_by_mutmut_itself(source: str) -> set[str]:
    """Every mutant that mutmut finds in functions and methods, in its own way of making them."""
    config = configuration.Config.__new__(configuration.Config)
    config.do_not_mutate_patterns, config.type_check_command = [], []
    configuration._config = config
    module, mutations, *_ = create_mutations("solution.py", source)
    changed = [
        deep_replace(module, mutation.original_node, mutation.mutated_node)
        for mutation in mutations
        if mutation.contained_by_top_level_function is not None
    ]
    return {cast(libcst.Module, tree).code for tree in changed}


PLAIN = [
    SIGN,
    "def f(x):\n\tif x:\n\t\treturn 3\n\treturn '''a\nb''' + 'é'\n",
    "def f(x): a = 1; b = x[1:2]; return a + b\n",
    "def f(x):\r\n    return 1 if x else -2\r\n",
    "def f(x, *y, z=1):\n    match x:\n        case 1:\n            return f(x, z=2)\n    return",
]


@pytest.mark.parametrize("source", PLAIN)
def test_the_mutants_are_those_that_mutmut_makes(source: str) -> None:
    ours, by_mutmut = mutants_of(source, False, None, 0), mutants_by_mutmut_itself(source)
    assert len(ours) > 1 and set(ours) <= by_mutmut
    assert sorted(map(program, ours)) == sorted(set(map(program, by_mutmut)))


def program(source: str) -> str:
    return ast.dump(ast.parse(source))


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("size", [9, 25, 60])
def test_a_source_in_pieces_has_mutants_of_the_whole(
    source: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the heads of long statements are left out, and texts between other texts."""
    whole = mutants_of(source, False, None, 0)
    monkeypatch.setattr(mutant_maker, "_PIECE_BYTES", size)
    pieces = mutants_of(source, False, None, 0)
    assert len(pieces) > 1 and set(map(program, pieces)) <= set(map(program, whole))


def test_mutants_that_differ_from_the_original_in_a_docstring_are_dropped(
    pool: ExecutionPool,
) -> None:
    source = 'class C:\n    "Words."\n    def f(self):\n        "More."\n        return "text"\n'
    by_mutmut = mutants_by_mutmut_itself(source)
    assert sum('return "text"' in mutant for mutant in by_mutmut) == 6  # those of docstrings
    ours = pool.mutants(source, "C.f")
    assert set(ours) == {mutant for mutant in by_mutmut if 'return "text"' not in mutant}
    assert len(ours) == 2


def test_mutants_that_differ_in_layout_alone_are_made_once() -> None:
    source = "def f(x):\n    return g(x, x)\n"
    by_mutmut = mutants_by_mutmut_itself(source)
    assert {"def f(x):\n    return g(x)\n", "def f(x):\n    return g(x, )\n"} <= by_mutmut
    assert sum("g(x" in mutant for mutant in mutants_of(source, False, None, 0)) == 2


@pytest.mark.parametrize(
    ("source", "entry_point", "changed"),
    [
        ("@functools.cache\ndef f(x):\n    return x + 1\n", "f", "    return x + 2"),
        (
            "def f(x):\n    @d(1)\n    def g(y):\n        return y * 2\n",
            "f",
            "        return y * 3",
        ),
        ("f = lambda x: x + 1\n", "f", "f = lambda x: x + 2"),
        ("f, g = (lambda x: x + 1), 0\n", "f", "f, g = (lambda x: x + 2), 0"),
        (
            "class S:\n    @staticmethod\n    def f(x):\n        return 1\n",
            "S.f",
            "        return 2",
        ),
        ("class S:\n    class T:\n        def g(x):\n            return 1\n", "S.f", " return 2"),
        ("try:\n    def f(x):\n        return 1\nexcept E:\n    pass\n", "f", "        return 2"),
        ("if True:\n    async def f(x):\n        return 1\n", "f", "        return 2"),
    ],
)
def test_an_entry_point_is_mutated_however_it_is_defined(
    source: str, entry_point: str, changed: str, pool: ExecutionPool
) -> None:
    assert any(changed in mutant for mutant in pool.mutants(source, entry_point))


def test_decorators_annotations_and_module_level_stay_as_they_are(pool: ExecutionPool) -> None:
    source = "N = 1\n@d(2)\ndef f(x: 'int' = N) -> 'int':\n    return x + 5\n"
    assert {mutant.splitlines()[3] for mutant in pool.mutants(source, "f")} == {
        "    return x - 5",
        "    return x + 6",
    }


DEGENERATE = {
    "a long comment": "def f(x):\n    return x + 1\n" + "#" * 90_000,
    "a long comment inside": "def f(x):\n    #" + "#" * 90_000 + "\n    return x + 1\n",
    "a long sum": "def f(x):\n    return " + "+".join(["x"] * 900) + "\n",
    "many signs": "def f(x):\n    return " + "-" * 900 + "x\n",
    "a long list": f"def f(x):\n    return {list(range(2000))}[x]\n",
    "many statements": "def f(x):\n" + "".join(f"    a{i} = x + {i}\n" for i in range(500)),
    "many functions": "".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(500)),
    "a long text": "def f(x):\n    y = '" + "a" * 90_000 + "'\n    return x + 1\n",
}


@pytest.mark.parametrize("source", DEGENERATE.values(), ids=DEGENERATE)
def test_a_degenerate_source_has_mutants(source: str, pool: ExecutionPool) -> None:
    """The pool ends a maker that takes 20 seconds, and then there are none."""
    mutants = pool.mutants(source, "f", limit=5)
    assert 1 <= len(mutants) <= 5
    assert all(mutant != source and ast.parse(mutant) for mutant in mutants)


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
        "print(len(maker.mutants_of('def f(x):\\n    return x + 1\\n', False, None, 0)))\n"
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
