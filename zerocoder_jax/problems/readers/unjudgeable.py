"""Problems that one published output cannot judge, told by their statement.

Contests judge some problems by a program of their own, a checker: any of several answers is right,
or the judge answers the program's questions. Data sets publish one output for each input all the
same, and a right program that prints another answer would be judged wrong. Such a problem is passed
over where its statement says so in the words that contests use.
"""

import re

_MANY = r"(?:multiple|several|many|various|more than one|different)"
_ANSWERS = (
    r"(?:answers?|solutions?|ways?|variants?|sequences?|pairs?|strings?|arrays?|paths?|optimal"
    r"|permutations?|triples?|plans?|possibilities|options|such|of them|correct|possible|valid)"
)
_PRINT = r"(?:print|output|write|report|return|display|find|show|give|construct|choose)"
_PATTERNS = (
    # If there are multiple answers, print any (of them).
    rf"\b{_MANY}\b[^.;]{{0,60}}\b{_ANSWERS}\b[^.]{{0,60}}\bany\b",
    # You may print any of them. Print any such sequence. Output any.
    rf"\b{_PRINT}\b(?:(?!\bif\b)[^.;]){{0,30}}\bany (?:one )?(?:of (?:them|these|those)|such|valid"
    r"|correct|possible|suitable|appropriate|optimal|answer|solution)\b",
    rf"\b{_PRINT}\b (?:out )?any\s*(?:[.;,)]|$)",
    # Any of them will be accepted.
    r"\b(?:any|all)\b[^.;]{0,40}\b(?:is|are|will be|would be) (?:also )?"
    r"(?:accepted|acceptable|considered correct|allowed as an answer)\b",
    # Print them in any order.
    rf"\b{_PRINT}\b[^.;]{{0,80}}\bin (?:any|an arbitrary|arbitrary) order\b",
)
_SEVERAL_ANSWERS = re.compile("|".join(_PATTERNS), re.IGNORECASE)
_INTERACTIVE = re.compile(
    r"\binteractive (?:problem|task)\b|\bfflush\s*\(|\bflush (?:your|the) output\b|\binteractor\b",
    re.IGNORECASE,
)
_TOLERANCE = re.compile(
    r"(?:absolute|relative)[^.]{0,60}error[^.]{0,80}?"
    r"(?:10\s*\^?\s*\{?\s*[-\u2212\u2013]\s*(\d{1,2})\}?|1e-0?(\d{1,2})|0\.(0{0,11}1)\b)",
    re.IGNORECASE,
)


def is_unjudgeable(statement: str) -> bool:
    """Whether several outputs are right for an input, or a judge has to answer the program."""
    text = re.sub(r"\s+", " ", statement)
    return bool(_SEVERAL_ANSWERS.search(text) or _INTERACTIVE.search(text))


def stated_tolerance(statement: str) -> float:
    """The absolute or relative error that a statement allows; 0 where it allows none."""
    found = _TOLERANCE.search(re.sub(r"\s+", " ", statement))
    if found is None:
        return 0.0
    power, exponent, decimals = found.groups()
    digits = int(power or exponent) if power or exponent else len(decimals)
    return 10.0**-digits
