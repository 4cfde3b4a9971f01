"""The entry point that a starter code prescribes."""

import re
from typing import Any

from zerocoder_jax.problems.records import Record


def function_name(record: Record, fields: Any, name: str) -> str | None:
    """The function that decoded ``fields`` name; None where a program reads its input.

    Raises:
      MalformedRecord: the name is no text.
    """
    function = fields.get(name) if isinstance(fields, dict) else None
    if function and not isinstance(function, str):
        raise record.malformed(f"'{name}' must be a text, found {type(function).__name__}")
    return function or None


def entry_point_in(starter_code: str, function: str, reference: str | None = None) -> str:
    """``Solution.f`` where starter code or reference define ``class Solution``, else ``f``."""
    in_class = any(
        re.search(r"^class Solution\b", text or "", re.MULTILINE)
        for text in (starter_code, reference)
    )
    return f"Solution.{function}" if in_class else function
