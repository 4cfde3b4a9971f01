"""Joins recorded replies with what a person read in them, for the tests of the parsers.

    python tests/data/label_replies.py REPLIES.jsonl ... > labelled.jsonl

prints each reply with what the parsers make of it, as ``label``: ``"accepted"`` with the ``test``
(a text, or input and output) or, for a solution, with its number of lines; or the reason of a
refusal. A person compares every reply with its label, corrects the labels where the parser is
wrong, and mends the parser until tests/problems/test_labelled_replies.py passes.
"""

import json
import sys

from zerocoder_jax.problems import (
    Problem,
    StdioTest,
    begun_reply,
    coder_prompt,
    parse_solution,
    parse_test,
    tester_prompt,
)


def problem_of(record: dict) -> Problem:
    """The problem that a recorded reply answers."""
    kind = "function" if record["entry_point"] else "stdio"
    return Problem(
        record["task_id"],
        record.get("prompt", "p"),
        record["entry_point"],
        kind,
        record.get("starter_code", ""),
    )


def label_of(record: dict) -> dict:
    """What the parsers make of a recorded reply."""
    problem = problem_of(record)
    write = coder_prompt if record["role"] == "coder" else tester_prompt
    begun = begun_reply(write(problem, record["style"]))
    if record["role"] == "coder":
        solution = parse_solution(record["reply"], problem, begun, finished=record["finished"])
        if solution.code is None:
            return {"label": solution.reason}
        return {"label": "accepted", "lines": len(solution.code.splitlines())}
    parsed = parse_test(record["reply"], problem, prefix=begun, finished=record["finished"])
    test = parsed.test
    if test is None:
        return {"label": parsed.reason}
    text = [test.stdin, test.stdout] if isinstance(test, StdioTest) else test.code
    return {"label": "accepted", "test": text}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                print(json.dumps(record | label_of(record)))
