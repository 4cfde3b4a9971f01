"""From a Tester's reply to a test of a whole program: an input and the output expected for it.

Read by label, fenced or not, in either order; without labels, the reply's first two blocks. Of
several pairs the first one counts that is data: a program or an explanation in the place of an
input or an output is none, and neither is a pair that the limit of tokens cut off.
"""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from zerocoder_jax.problems.problem import StdioTest
from zerocoder_jax.problems.sections import (
    INPUT,
    OTHER,
    OUTPUT,
    Section,
    is_explanation,
    labelled_sections,
)

LONGEST_TEST = 10_000

_PROGRAM = re.compile(
    r"""^\s*(?:
        def\s\w+\( | class\s\w+[(:] | import\s[\w., ]+$ | import\s\w+\sas\s | from\s\w+\simport\s
        | (?:for|while|if|elif|with)\s.*:\s*$ | (?:try|else):\s*$ | print\( | return\b | assert\s
        | \#include\b | (?:public|private)\s(?:static|class)\b | int\smain\( | using\snamespace\s
        | (["']).*\1\s*\*\s*\d+\s*$
    ) | \binput\(\) | \bsys\.stdin\b | \bstd::""",
    re.MULTILINE | re.VERBOSE,
)
# "1 2 3 ... 100": whoever wrote it meant more than what stands there.
_ABBREVIATED = re.compile(r"(?:^|[\s,])(?:\.\.\.|…)(?:[\s,]|$)", re.MULTILINE)


def stdio_test(text: str, finished: bool = True) -> StdioTest | str:
    """The test in a reply without its thought, or the reason why there is none.

    Args:
      finished: False where the reply was cut at the limit of new tokens.
    """
    reasons = []
    for given, expected in _pairs(text):
        reason = _refusal(given, expected, finished)
        if not reason:
            return StdioTest(given.text, expected.text)
        reasons.append(reason)
    if reasons:
        return reasons[0]
    return "no_code" if finished else "cut_off"


def _pairs(text: str) -> Iterator[tuple[Section, Section]]:
    """Neighbors under different labels, as (input, output)."""
    sections = labelled_sections(text)
    for source in [text, *(section.text for section in sections if section.label == OTHER)]:
        match _json(source):
            case {"input": str(given), "output": str(expected)}:
                yield Section(INPUT, given), Section(OUTPUT, expected)
    labels = {section.label for section in sections} - {OTHER}
    if len(labels) < 2:  # what has no label is then what is missing
        data = [s for s in sections if s.label != OTHER or not _is_program(s.text)]
        for first, second in itertools.pairwise(data):
            if first.label != OUTPUT and second.label != INPUT:
                yield first, second
                return
        return
    waiting: Section | None = None
    for section in sections:
        if section.label == OTHER:
            continue
        if waiting is not None and waiting.label != section.label:
            yield (waiting, section) if waiting.label == INPUT else (section, waiting)
            waiting = None
        else:
            waiting = section


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _refusal(given: Section, expected: Section, finished: bool) -> str:
    if not finished and (given.open or expected.open):
        return "cut_off"
    if not expected.text.strip():
        return "no_assert"
    if len(given.text) + len(expected.text) > LONGEST_TEST:
        return "too_long"
    for text in (given.text, expected.text):
        explains = any(map(is_explanation, text.splitlines()))
        if explains or _is_program(text) or _ABBREVIATED.search(text):
            return "not_data"
    return ""


def _is_program(text: str) -> bool:
    return _PROGRAM.search(text) is not None
