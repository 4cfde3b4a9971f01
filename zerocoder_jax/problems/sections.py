"""Labelled sections of a text: what follows "Input:" and "Output:", fenced or not.

Testers answer problems of whole programs in this form, and statements give their examples in it.
"""

import re
import textwrap
from dataclasses import dataclass

from zerocoder_jax.problems.fences import Block, split_at_fences

INPUT, OUTPUT, OTHER = "input", "output", "other"

_MARKUP = r"[\s#*_`>=-]*"
_KIND = r"(?:(?:the|my|given|program|test|sample|example|standard|expected|correct|right)\s+)*"
_LABEL = re.compile(
    rf"""{_MARKUP}(?:\d+[.)]\s*)?{_MARKUP}
    (?:
      (?P<input>{_KIND}(?:inputs?|stdin)(?:\s+(?:data|example|case|values?|file|text))?)
    | (?P<output>{_KIND}(?:outputs?|stdout)(?:\s+(?:data|example|case|values?|text))?
      | expected(?:\s+(?:result|answer))?)
    | (?P<other>(?:explanations?|notes?|reason(?:ing)?|constraints?|scoring|subtasks?|hints?
        |input\s+format|output\s+format)(?:\s+of\s.*)?)
    | (?P<boundary>(?:(?:test|sample|example)\s+)*(?:tests?|examples?|samples?|test\s+cases?))
    )
    \s*(?:\#?\d+\b|\([^)]*\))?\s*[*_`=]*-*\s*(?::|\Z)[\s*_-]*(?P<rest>.*)\Z""",
    re.IGNORECASE | re.VERBOSE,
)
# "Input: 3 Output: 4" on one line.
_OUTPUT_ON_THE_LINE = re.compile(r"[\s,;]+\**(?:expected )?output\**:\**\s*", re.IGNORECASE)
_RULE = re.compile(r"\s*[-=_*]{3,}\s*")
_SENTENCE_START = re.compile(
    r"(?:explanation|note|here|this|these|that|the|in|for|since|because|so|we|it|if|as|where|when"
    r"|therefore|thus|there|a|an|first|you|each|both|given|to)\b",
    re.IGNORECASE,
)
_OF_THE_TASK = re.compile(
    r"\b(?:in|out)puts?\b|\bprograms?\b|\bexpected\b|\bexplanation\b|\bshould\b|\bbecause\b"
    r"|\bsolution\b|\breturn(?:s|ed)?\b|\bprint(?:s|ed)?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Section:
    """What stands under a label.

    Attributes:
      label: ``INPUT``, ``OUTPUT``, or ``OTHER`` for a block under neither label.
      text: the content, without fences and common indentation.
      language: the word after the fence, if any.
      open: whether it extends to the text's end, so that more of it may have been meant.
    """

    label: str
    text: str
    language: str = ""
    open: bool = False


def labelled_sections(text: str) -> list[Section]:
    """The sections under the labels of input and output, and the other blocks, in their order."""
    sections: list[Section] = []
    label, lines = OTHER, list[str]()

    def finish(at_end: bool = False) -> None:
        if label != OTHER:
            sections.extend(_of_lines(label, lines, at_end))

    for piece in split_at_fences(text):
        if isinstance(piece, Block) and not _has_labels(piece):
            waiting = label != OTHER and not any(line.strip() for line in lines)
            if not waiting:
                finish()
            of_block = label if waiting else OTHER
            sections.append(Section(of_block, piece.text, piece.language, not piece.closed))
            label, lines = OTHER, []
            continue
        content = piece if isinstance(piece, str) else f"{piece.info}\n{piece.text}"
        for line in content.split("\n"):
            match = _LABEL.match(line)
            if match is None or (match["boundary"] and match["rest"]):
                lines.append(line)
                continue
            finish()
            label = INPUT if match["input"] else OUTPUT if match["output"] else OTHER
            lines = [match["rest"]]
        if isinstance(piece, Block):
            finish(at_end=not piece.closed)
            label, lines = OTHER, []
    finish(at_end=True)
    return sections


def is_explanation(line: str) -> bool:
    """Whether a line is a sentence about the test instead of its data."""
    words = re.findall(r"[A-Za-z']{2,}", line)
    return (
        len(words) >= 4
        and _SENTENCE_START.match(line.strip("*_ `>-")) is not None
        and _OF_THE_TASK.search(line) is not None
    )


def _has_labels(block: Block) -> bool:
    label = _LABEL.match(block.info or block.text.lstrip("\n").split("\n", 1)[0])
    return label is not None and bool(label["input"] or label["output"])


def _of_lines(label: str, lines: list[str], at_end: bool) -> list[Section]:
    """The section of a label without a fence; two where its first line holds the output too."""
    if label == INPUT and (found := _OUTPUT_ON_THE_LINE.search(lines[0])):
        given, expected = lines[0][: found.start()], lines[0][found.end() :]
        return [*_of_lines(INPUT, [given], False), *_of_lines(OUTPUT, [expected, *lines[1:]], True)]
    while lines and (not lines[0].strip() or _RULE.fullmatch(lines[0])):
        lines = lines[1:]
    end = next((n for n in range(1, len(lines)) if _explains(lines, n)), len(lines))
    kept = lines[:end]
    while kept and (not kept[-1].strip() or _RULE.fullmatch(kept[-1])):
        kept.pop()
    content = textwrap.dedent("\n".join(kept)).rstrip()
    if "\n" not in content:
        content = re.sub(r"^(\W*?)(`+)(.*)\2$", r"\3", content.strip())
    return [Section(label, content + "\n" * bool(content), open=at_end and end == len(lines))]


def _explains(lines: list[str], number: int) -> bool:
    """Whether prose begins with this line of an unfenced section, data having come before it."""
    line = lines[number]
    if is_explanation(line):
        return True
    words = re.findall(r"[A-Za-z']{2,}", line)
    sentence = len(words) >= 4 and line.rstrip().endswith((".", ":", "!"))
    return sentence and not lines[number - 1].strip()
