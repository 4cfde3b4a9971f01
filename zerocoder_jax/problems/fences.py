"""Code blocks in a model's reply."""

import re
from dataclasses import dataclass

_PYTHON = frozenset({"python", "python3", "py", "py3", "python2"})
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\n`]*)$", re.MULTILINE)
_THOUGHT_END = "</think>"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      text: what stands between the fences.
      language: the word after the opening fence, in lower case.
      closed: whether a closing fence was found; an unclosed block goes on to the reply's end.
    """

    text: str
    language: str
    closed: bool

    @property
    def python(self) -> bool:
        """Marked as Python, or not marked at all."""
        return not self.language or self.language in _PYTHON


def without_thought(text: str) -> str:
    """The reply after its thought (Qwen3's ``<think>...</think>``); an unfinished one is empty."""
    if _THOUGHT_END in text:
        return text.rpartition(_THOUGHT_END)[2]
    return text.partition("<think>")[0]


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of the text, in order. A block ends at a bare fence of the same kind.

    >>> [block.text for block in fenced_blocks("a\\n```python\\nx = 1\\n```\\nb\\n```\\ny")]
    ['x = 1\\n', 'y']
    """
    blocks = []
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif fence[1] == opening[1] and not fence[2].strip():
            blocks.append(_block(text[opening.end() + 1 : fence.start()], opening, True))
            opening = None
    if opening is not None:
        blocks.append(_block(text[opening.end() + 1 :], opening, False))
    return blocks


def _block(text: str, opening: re.Match[str], closed: bool) -> Block:
    words = opening[2].lower().split()
    return Block(text, words[0] if words else "", closed)
