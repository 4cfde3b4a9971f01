"""The offline baseline's tests: one a problem, written by the initial policy, greedily, and fixed.

They lie in ``WORKDIR/offline_tests.jsonl``, one line a problem, so that a resumed run trains
against the very same tests although its policy has moved.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import jax

from zerocoder_jax.atomic_write import write_atomically
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel.hosts import exchange
from zerocoder_jax.problems import AssertTest, CallTest, Problem, StdioTest, Test
from zerocoder_jax.rollout import SamplingSettings
from zerocoder_jax.training.records import test_record
from zerocoder_jax.training.sampling import Sampler

FILE_NAME = "offline_tests.jsonl"


def offline_tests(
    problems: Sequence[Problem],
    load_sampler: Callable[[], Sampler],
    workdir: Path,
    *,
    max_new_tokens: int,
    may_write: bool,
) -> dict[str, list[Test | None]]:
    """Read the fixed tests, or let the policy that is loaded now write those that are missing.

    Args:
      load_sampler: loads the policy into the engine and returns the sampler; called only when a
        test is missing.
      may_write: the policy is still the initial one.

    Returns:
      One test a problem by task id; ``[None]`` where the reply held none.
    """
    path = workdir / FILE_NAME
    # The first host keeps the file; the others write none, and all train against the same tests.
    first_host = jax.process_index() == 0
    tests = exchange(_read(path) if first_host else {})[0]
    missing = [problem for problem in problems if problem.task_id not in tests]
    if missing and not may_write:
        raise UserError(
            f"{path} lacks the test of {missing[0].task_id}: the initial policy wrote these tests"
            " before the first step; bring the file back, or start the run anew"
        )
    if missing:
        greedy = SamplingSettings(
            temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=max_new_tokens
        )
        with path.open("a", encoding="utf-8") if first_host else nullcontext() as file:
            for samples in load_sampler().replies(missing, (0, 1), step=0, settings=greedy):
                test = samples.tests[0].parsed
                tests[samples.problem.task_id] = [test]
                if file is not None:
                    record = {"task_id": samples.problem.task_id, "test": test_record(test)}
                    file.write(json.dumps(record) + "\n")
                    file.flush()
        tests = exchange(tests)[0]
    return tests


def _read(path: Path) -> dict[str, list[Test | None]]:
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    # A killed run may leave half a line at the end; its problem is simply written again.
    whole, _, half = text.rpartition("\n")
    if half:
        write_atomically(path, whole + "\n" if whole else "")
    records = [json.loads(line) for line in whole.splitlines()]
    return {record["task_id"]: [_test(record["test"])] for record in records}


def _test(record: dict | None) -> Test | None:
    match record:
        case None:
            return None
        case {"kind": "assert", "code": code}:
            return AssertTest(code)
        case {"kind": "stdio", "stdin": stdin, "stdout": stdout}:
            return StdioTest(stdin, stdout)
        case {"kind": "call", "arguments": arguments, "expected": expected}:
            return CallTest(tuple(arguments), expected)
    raise ValueError(f"not a test: {record!r}")
