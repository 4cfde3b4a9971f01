"""Published references pass their own tests under the default limits; wrong output never does."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zerocoder_jax.execution import ExecutionPool, Limits, Status
from zerocoder_jax.problems import Problem, StdioTest, read_problems

P, F = Status.PASSED, Status.FAILED


def _failing(pool: ExecutionPool, problems: list[Problem]) -> dict[str, list[str]]:
    """What does not pass. MBPP's slowest takes two seconds of a processor that nothing slows down;
    on a busy machine those that run out of time get more."""
    items = [(p, [p.reference_solution], p.reference_tests) for p in problems]
    failing = {
        problems[index].task_id: [Status(status).name for status in matrix[0]]
        for index, matrix in pool.passing_matrices(items)  # none of them is vacuous either
        if (matrix != P).any()
    }
    late = [p for p in problems if "TIMEOUT" in failing.get(p.task_id, ())]
    if late and pool.limits.seconds < 20:
        with ExecutionPool(2, Limits(seconds=20.0), "rlimits") as patient:
            again = _failing(patient, late)
        failing = {name: found for name, found in failing.items() if "TIMEOUT" not in found} | again
    return failing


def test_every_mbpp_reference_passes_its_tests(pool: ExecutionPool, shared_data: Path) -> None:
    problems = list(read_problems(f"mbpp:{shared_data}/mbpp/mbpp.jsonl", split="all"))
    assert len(problems) == 974
    assert _failing(pool, problems) == {}


def test_every_humaneval_reference_passes_its_test(pool: ExecutionPool, shared_data: Path) -> None:
    source = f"humaneval:{shared_data}/humaneval/HumanEval.jsonl.gz"
    problems = list(read_problems(source, split="test"))
    assert len(problems) == 164
    assert _failing(pool, problems) == {}


def _code_contests(shared_data: Path) -> Iterator[tuple[str, list[StdioTest]]]:
    for line in (shared_data / "code_contests" / "sample.jsonl").read_text().splitlines():
        record = json.loads(line)
        cases = json.loads(record["test"])
        yield (
            record["content"],
            [StdioTest(c["input"]["stdin"], c["output"]["stdout"]) for c in cases],
        )


def test_only_the_expected_output_passes_a_contest_problem(
    pool: ExecutionPool, shared_data: Path
) -> None:
    tests_seen = 0
    for number, (statement, tests) in enumerate(_code_contests(shared_data)):
        problem = Problem(f"contest/{number}", statement, None, "stdio")
        tests_seen += len(tests)
        tests = sorted(tests, key=lambda test: len(test.stdout))[-4:]
        outputs = [test.stdout for test in tests]
        programs = [_prints(output) for output in outputs]
        programs += [_prints(output.rstrip() + "\n1") for output in outputs]
        programs += [_prints(output.rstrip()[:-1] + "#") for output in outputs]
        matrix = pool.passing_matrix(problem, programs, tests)
        same = np.array([[a.split() == b.split() for b in outputs] for a in outputs])
        assert (matrix[: len(tests)][same] == P).all(), problem.task_id
        assert np.isin(matrix[: len(tests)][~same], [F, Status.OUTPUT]).all(), problem.task_id
        assert np.isin(matrix[len(tests) :], [F, Status.OUTPUT]).all(), problem.task_id
    assert tests_seen == 2233


def _prints(text: str) -> str:
    packed = base64.b64encode(text.encode()).decode()
    return f"import base64, sys\nsys.stdout.write(base64.b64decode({packed!r}).decode())"


@pytest.mark.parametrize("shortcuts", [True, False])
def test_free_form_references_pass_with_and_without_shortcuts(
    shared_data: Path, shortcuts: bool
) -> None:
    source = f"humaneval:{shared_data}/humaneval/HumanEval.jsonl.gz"
    problems = list(read_problems(source, split="test"))[:20]
    with ExecutionPool(2, min_isolation="rlimits", shortcuts=shortcuts) as pool:
        assert _failing(pool, problems) == {}
