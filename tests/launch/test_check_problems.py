"""The command that runs references against their own tests."""

import json
import subprocess
import sys

import pytest

DOUBLE = {
    "task_id": "double",
    "prompt": "Return twice the number.",
    "entry_point": "double",
    "reference_solution": "def double(n):\n    return 2 * n",
    "reference_tests": ["assert double(4) == 8", {"arguments": [3], "expected": 6}],
}
WRONG = DOUBLE | {"task_id": "wrong", "reference_solution": "def double(n):\n    return n + 4"}
ECHO = {
    "task_id": "echo",
    "prompt": "Print the input.",
    "reference_solution": "print(input())",
    "reference_tests": [{"stdin": "a\n", "stdout": "a\n"}],
}


def check(repository, *arguments):
    return subprocess.run(
        [sys.executable, str(repository / "launch" / "check_problems.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=repository,
    )


@pytest.fixture
def source(tmp_path):
    def write(*records):
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return f"jsonl:{path}"

    return write


def test_references_that_fail_their_own_tests_are_listed(repository, source):
    bare = {"task_id": "bare", "prompt": "p"}
    done = check(repository, source(DOUBLE, WRONG, ECHO, bare), "--config.execution.workers=1")
    assert done.stdout.splitlines() == [
        "| problem | reference solution against reference tests |",
        "|---|---|",
        "| wrong | 1 failed, 1 passed |",
        "| bare | no reference_solution and no reference_tests |",
        "4 problems: 2 references pass all of their tests, 1 do not, 1 have no reference solution"
        " or no reference tests",
    ]
    assert done.returncode == 1


def test_right_labels_end_well_and_a_mistake_in_one_line(repository, source):
    done = check(repository, source(DOUBLE), "--all", "--config.execution.workers=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| double | 2 passed |" in done.stdout
    done = check(repository, source(DOUBLE | {"reference_tests": ["double(1) == 2"]}))
    assert done.returncode == 2
    assert "line 1: a test without an assert passes every solution" in done.stderr
    assert len(done.stderr.splitlines()) == 1
