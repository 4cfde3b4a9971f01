"""Garbage and mutated attacks: no verdict that was not earned, nothing left, nothing growing.

ZEROCODER_FUZZ_RUNS sets how many programs are run; 10,000 take some minutes.
"""

import os
import random

import pytest
from attacks import CARRIERS, FORGERIES, PROBES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from observing import RIGHT, SQUARE, processes_below, resident_kilobytes, wait_until

from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import AssertTest

RUNS = int(os.environ.get("ZEROCODER_FUZZ_RUNS", "320"))
PER_EXAMPLE = 16
# What would only be slow, in a test that is about everything else.
_LARGE = {"five megabytes", "memory in children"}
_SOURCES = [
    *(source for name, source in FORGERIES.items() if name not in _LARGE),
    *CARRIERS.values(),
    *(
        f"REPOSITORY = '/'\nLIBRARIES = ('/usr',)\n{p}\ndef f(x): return probe()"
        for p in PROBES.values()
    ),
]


def _spoil(source: str, rng: random.Random) -> str:
    """The source with a few lines or characters removed, repeated, or taken from another."""
    lines = source.split("\n")
    other = rng.choice(_SOURCES).split("\n")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines) + 1)
        change = rng.randrange(6)
        if change == 0 and lines:
            del lines[at % len(lines)]
        elif change == 1:
            lines[at:at] = other
        elif change == 2:
            lines.insert(at, rng.choice(other))
        elif change == 3 and lines:
            lines.insert(at, rng.choice(lines))
        elif change == 4 and lines:
            line = lines[at % len(lines)]
            cut = rng.randrange(len(line) + 1)
            lines[at % len(lines)] = line[:cut] + chr(rng.randrange(256)) + line[cut + 1 :]
        elif lines:
            lines[at % len(lines)] = "    " + lines[at % len(lines)]
    return "\n".join(lines)


_PROGRAMS = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300).map(lambda data: data.decode("latin-1")),
    st.builds(
        lambda source, seed: _spoil(source, random.Random(seed)),
        st.sampled_from(_SOURCES),
        st.integers(0, 2**32),
    ),
)


@pytest.fixture(scope="module")
def fuzzed_pool() -> ExecutionPool:  # type: ignore[misc]
    with ExecutionPool(2, Limits(seconds=0.25, memory_mb=128), "rlimits") as pool:
        pool.passing_matrix(
            SQUARE, ["def f(x):\n  while 1: pass"] * 1, [AssertTest("assert f(1) == 1")]
        )
        yield pool


@settings(
    max_examples=max(1, RUNS // PER_EXAMPLE),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(
    st.lists(_PROGRAMS, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE),
    st.integers(2**62, 2**63),
    st.booleans(),
)
def test_no_program_passes_a_test_whose_answer_it_cannot_know(
    fuzzed_pool: ExecutionPool, programs: list[str], secret: int, free_form: bool
) -> None:
    code = f"assert f(3) == {secret}"
    test = AssertTest(f"for _ in range(1):\n    {code}" if free_form else code)
    honest = f"def f(x):\n    return {secret}"
    matrix = fuzzed_pool.passing_matrix(SQUARE, [*programs, honest], [test])
    assert matrix[-1, 0] == Status.PASSED
    assert not (matrix[:-1] == Status.PASSED).any()
    assert not (matrix == Status.UNAVAILABLE).any()


def test_afterwards_nothing_is_left_and_nothing_has_grown(fuzzed_pool: ExecutionPool) -> None:
    judges = fuzzed_pool.worker_pids()
    empty = "import os\ndef f(x):\n    return os.listdir('/tmp'), sorted(os.listdir('.'))"
    assert (
        fuzzed_pool.passing_matrix(SQUARE, [empty], [AssertTest("assert f(0) == ([], [])")])[0, 0]
        == 0
    )
    assert (
        fuzzed_pool.passing_matrix(SQUARE, [RIGHT], [AssertTest("assert f(3) == 10")]) == 0
    ).all()
    for judge in judges:
        assert wait_until(lambda judge=judge: len(processes_below(judge)) == 1, 2)  # type: ignore[misc]
        (runner,) = processes_below(judge)
        assert resident_kilobytes(runner) < 24_000
        assert resident_kilobytes(judge) < 60_000
    assert fuzzed_pool.statistics["restarts"] == 0
