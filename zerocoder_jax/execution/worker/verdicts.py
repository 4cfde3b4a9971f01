"""From what a run reported, and how it ended, to a status: where expected values are compared."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import values
from .evaluation import evaluate
from .plans import Plan, as_json
from .runner import KILLED, OUT_OF_MEMORY, OUT_OF_TIME, SIGNALED

# The numbers of zerocoder_jax.execution.Status; a test holds the two together.
PASSED, FAILED, ERROR, TIMEOUT, MEMORY, OUTPUT, CRASHED, FORBIDDEN = range(8)
UNAVAILABLE = 9

# What a run says of an exception; see run.kind_of_exception.
_OF_KIND = {
    "assertion": FAILED,
    "error": ERROR,
    "memory": MEMORY,
    "output": OUTPUT,
    "forbidden": FORBIDDEN,
}
_OF_SIGNAL = {31: FORBIDDEN, 24: TIMEOUT, 25: OUTPUT}  # SIGSYS, SIGXCPU, SIGXFSZ
# Numbers as programs print them; ``Decimal`` would also read ``1_000`` and digits of any script.
_DECIMAL = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d{1,9})?|inf(inity)?)", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Outcome:
    """What the runner says of one run, and what the run itself wrote."""

    how: int
    code: int
    seconds: float
    output: bytes
    report: bytes


def same_output(
    actual: str, expected: str, tolerance: float = 0.0, by_tokens: bool = False
) -> bool:
    """Whether two texts are equal line by line, or token by token as decimals.

    Args:
      tolerance: absolute or relative error that is allowed where the expected token is written with
        a point or an exponent.
      by_tokens: compare all words, wherever their lines end and whatever their case is.
    """
    if by_tokens:
        return _same_tokens(actual.lower(), expected.lower(), tolerance, words=True)
    actual_lines = [line.strip() for line in actual.strip().split("\n")]
    expected_lines = [line.strip() for line in expected.strip().split("\n")]
    if len(actual_lines) != len(expected_lines):
        return False
    return all(
        a == e or _same_tokens(a, e, tolerance) for a, e in zip(actual_lines, expected_lines)
    )


def _same_tokens(actual: str, expected: str, tolerance: float, words: bool = False) -> bool:
    """``words``: tokens need not be numbers, in which case they must be equal."""
    actual_tokens, expected_tokens = actual.split(), expected.split()
    if len(actual_tokens) != len(expected_tokens):
        return False
    if not words and not all(map(_DECIMAL.fullmatch, actual_tokens + expected_tokens)):
        return False
    return all(
        a == e or _same_number(a, e, tolerance) for a, e in zip(actual_tokens, expected_tokens)
    )


def _same_number(actual: str, expected: str, tolerance: float) -> bool:
    if not _DECIMAL.fullmatch(actual) or not _DECIMAL.fullmatch(expected):
        return False
    if Decimal(actual) == Decimal(expected):
        return True
    if not tolerance or not set(expected.lower()) & {".", "e"}:
        return False
    a, e = float(actual), float(expected)
    return math.isfinite(a) and math.isfinite(e) and abs(a - e) <= tolerance * max(1.0, abs(e))


def judge(plan: Plan, outcome: Outcome, token: str, output_bytes: int) -> int:
    """The status of one test alone in its run."""
    ended = ending(outcome, output_bytes)
    if plan.kind == "stdio":
        if ended is None and outcome.code == 0:
            text = outcome.output.decode("utf-8", "replace")
            same = same_output(text, plan.expected, plan.tolerance, plan.by_tokens)
            return PASSED if same else FAILED
        return ended if ended is not None else _reported_error(outcome.report, token)
    lines = marked_lines(outcome.report, token)
    if lines is None:
        return FORBIDDEN if ended is None else ended
    if plan.kind == "values":
        if any(not line.startswith(b"0") for line in lines if line != b"."):
            return FORBIDDEN
        return judge_values(plan, lines, ended)
    if ended is not None:
        return ended
    if len(lines) != 1:
        return ERROR  # it ended without a word: os._exit, or another program in its place
    said = lines[0]
    if said == b"." and outcome.code == 0:
        return PASSED
    return _OF_KIND.get(said[1:].decode("ascii", "replace"), ERROR)


def judge_shared(
    plans: list[Plan], outcome: Outcome, token: str, output_bytes: int
) -> list[int | None]:
    """Statuses of tests that shared a run; None for one that has to be run alone.

    Only a test whose course was the same as it would have been alone is judged: one that came to
    its end before anything ended the run.
    """
    nothing: list[int | None] = [None] * len(plans)
    lines = marked_lines(outcome.report, token)
    if not lines or ending(outcome, output_bytes) == OUTPUT:
        return nothing
    by_test: dict[int, list[bytes]] = {}
    complete = len(plans) if lines[-1] == b"." else -1
    for line in lines:
        number = line.partition(b"=")[0].partition(b"!")[0]
        if number.isdigit():
            by_test.setdefault(int(number), []).append(line)
    if complete < 0:
        complete = max(by_test, default=0)  # the last one that was begun is not known to have ended
    statuses: list[int | None] = []
    for index, plan in enumerate(plans):
        said = by_test.get(index, [])
        limited = any(line.endswith((b"!memory", b"!output", b"!forbidden")) for line in said)
        if index >= complete or limited:
            statuses.append(None)
        else:
            statuses.append(judge_values(plan, [*said, b"."], None))
    return statuses


def marked_lines(report: bytes, token: str) -> list[bytes] | None:
    """A report's lines without the run's token; None where not every line carries it."""
    mark = token.encode()
    lines = report.split(b"\n")
    if lines.pop() != b"" or not all(line.startswith(mark) for line in lines):
        return None
    return [line[len(mark) :] for line in lines]


def ending(outcome: Outcome, output_bytes: int) -> int | None:
    """The status that the way of ending implies, None for a process that ended by itself."""
    if len(outcome.output) >= output_bytes or len(outcome.report) >= output_bytes:
        return OUTPUT
    if outcome.how == OUT_OF_TIME:
        return TIMEOUT
    if outcome.how == OUT_OF_MEMORY:
        return MEMORY
    if outcome.how == KILLED:
        return UNAVAILABLE
    if outcome.how == SIGNALED:
        return _OF_SIGNAL.get(outcome.code, CRASHED)
    return None


def _reported_error(report: bytes, token: str) -> int:
    first = report.partition(b"\n")[0].decode("ascii", "replace")
    return _OF_KIND.get(first.removeprefix(token + "!"), ERROR)


class _Missing(Exception):
    """The value that a judgement needs was never reported."""


class _Values(dict[int, Any]):
    """The reported values; what is missing says why."""

    def __missing__(self, index: int) -> Any:
        raise _Missing


def judge_values(plan: Plan, lines: list[bytes], ended: int | None) -> int:
    """Judges assert by assert, in their order, as far as there are values."""
    reported = _Values()
    after = ERROR if ended is None else ended  # what stands where the values stop
    for line in lines:
        _, is_value, value = line.partition(b"=")
        if is_value:
            try:
                reported[len(reported)] = values.loads(value)
            except values.Malformed:
                return ERROR
        elif line != b".":
            kind = line.partition(b"!")[2].decode("ascii", "replace")
            after = _OF_KIND.get(kind, ERROR)
            break
    try:
        if plan.split is None:
            if not any(as_json(reported[0]) == right for right in plan.expected):
                return FAILED
        else:
            for judgement in plan.split.judgements:
                if not evaluate(judgement.expression, reported):
                    return FAILED
    except _Missing:
        return after
    except Exception:
        return ERROR
    # Every value is right; a process that did not come to its end has not passed all the same.
    if ended is not None:
        return ended
    return PASSED if lines[-1:] == [b"."] else ERROR
