"""Code blocks in a model's reply, in the spellings that models write."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

# Up to the fence: indentation, perhaps with the marker of a list.
_FENCE = re.compile(
    r"^([ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*([^\n`]*)$", re.MULTILINE
)
_PYTHON = re.compile(r"(?:i|c)?python[\d.]*|py[\d.]*")
# "```python def f(x):": the first line of the code stands on the fence's line.
_CODE_ON_FENCE = re.compile(r"(?:python|py)\d?\s+((?:def|class|import|from|assert)\s.*)")
# Tags that some models write instead of a fence, and the marks of a quotation.
_TAGS = re.compile(r"^[ \t]*(?:\[PYTHON\]|<code>|<python>)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_END_TAGS = re.compile(
    r"^[ \t]*(?:\[/PYTHON\]|</code>|</python>)[ \t]*$", re.MULTILINE | re.IGNORECASE
)
_QUOTED_FENCE = re.compile(r"^> ?(?:```|~~~)", re.MULTILINE)
_LANGUAGES = frozenset(
    [
        "bash",
        "c",
        "cpp",
        "console",
        "csharp",
        "go",
        "html",
        "java",
        "javascript",
        "js",
        "json",
        "kotlin",
        "markdown",
        "md",
        "output",
        "plaintext",
        "ruby",
        "rust",
        "sh",
        "shell",
        "sql",
        "text",
        "txt",
        "typescript",
        "xml",
        "yaml",
    ]
)
_THOUGHT, _THOUGHT_END = "<think>", "</think>"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      text: what stands between the fences, without the fence's own indentation.
      info: the words after the opening fence.
      closed: whether a closing fence was found; an unclosed block extends to the reply's end.
    """

    text: str
    info: str
    closed: bool

    @property
    def language(self) -> str:
        """The first word of ``info`` in lower case; ``{.python}`` and ``python:main.py`` too."""
        words = re.split(r"[\s:,;={}]+", self.info.lower().lstrip("{. ").removeprefix("language-"))
        return words[0]

    @property
    def marked(self) -> bool:
        """Marked as Python."""
        return _PYTHON.fullmatch(self.language) is not None

    @property
    def python(self) -> bool:
        """Marked as Python, or not marked at all."""
        return not self.language or self.marked


def without_thought(text: str, opened: bool = False) -> str:
    """The reply after its thought (``<think>...</think>``); an unfinished one leaves nothing.

    Args:
      opened: the prompt itself opened the thought, so that the reply begins inside it.
    """
    if _THOUGHT_END in text:
        return text.rpartition(_THOUGHT_END)[2].lstrip("\n")
    return "" if opened or text.lstrip().startswith(_THOUGHT) else text


def with_beginning(beginning: str, reply: str) -> str:
    """A reply joined to the beginning that the prompt wrote for it, where it does not repeat it."""
    said = reply.lstrip()
    first_line, last_line = beginning.split("\n", 1)[0], beginning.rsplit("\n", 1)[-1]
    fences = list(_FENCE.finditer(said))
    if beginning and fences and fences[0].start() == 0:
        repeats = bool(fences[0][3].strip()) or len(fences) % 2 == 0
        return said if repeats else beginning + reply
    if first_line and not first_line.startswith("```") and said.startswith(first_line):
        return said
    if last_line and said.startswith(last_line):
        return beginning.removesuffix(last_line) + said
    return beginning + reply


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of the text, in order.

    >>> [block.text for block in fenced_blocks("a\\n```python\\nx = 1\\n```\\nb\\n```\\ny")]
    ['x = 1\\n', 'y']
    """
    return [piece for piece in split_at_fences(text) if isinstance(piece, Block)]


def split_at_fences(text: str) -> Iterator[str | Block]:
    """The text's pieces in order: fenced blocks, and what stands between them.

    A block ends at a bare fence of the same kind, or where another block of a known language
    begins: models forget to close, and repeat an opening that was begun for them.
    """
    if _TAGS.search(text):
        text = _END_TAGS.sub("```", _TAGS.sub("```python", text))
    if _QUOTED_FENCE.search(text):
        text = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    opening: re.Match[str] | None = None
    start = 0
    for fence in _FENCE.finditer(text):
        info = fence[3].strip()
        if opening is None:
            yield text[start : fence.start()]
            opening = fence
        elif _same_kind(opening, fence) and not info:
            yield _block(text[opening.end() + 1 : fence.start()], opening, True)
            opening = None
        elif _same_kind(opening, fence) and _is_language(info):
            if text[opening.end() : fence.start()].strip():
                yield _block(text[opening.end() + 1 : fence.start()], opening, True)
            opening = fence
        start = fence.end() + 1
    if opening is None:
        yield text[start:]
    else:
        yield _block(text[opening.end() + 1 :], opening, False)


def _same_kind(opening: re.Match[str], fence: re.Match[str]) -> bool:
    # A fence in a docstring inside of the block is indented further.
    deeper = len(fence[1].expandtabs()) - len(opening[1].expandtabs())
    return fence[2][0] == opening[2][0] and len(fence[2]) >= len(opening[2]) and deeper < 4


def _is_language(info: str) -> bool:
    block = Block("", info, True)
    return block.marked or block.language in _LANGUAGES


def _block(text: str, opening: re.Match[str], closed: bool) -> Block:
    info = opening[3].strip()
    if code := _CODE_ON_FENCE.fullmatch(info):
        return Block(f"{code[1]}\n{text}", "python", closed)
    indentation = len(opening[1].expandtabs())
    if indentation:
        text = re.sub(rf"^[ \t]{{1,{indentation}}}", "", text, flags=re.MULTILINE)
    if text.lstrip("\r\n")[:1].isspace():  # `dedent` touches blank lines, which a string may hold
        text = textwrap.dedent(text)
    return Block(text, info, closed)
