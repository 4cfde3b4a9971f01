"""The entry point that a starter code prescribes."""

import re


def entry_point_in(starter_code: str, function: str, reference: str | None = None) -> str:
    """``Solution.f`` where starter code or reference define ``class Solution``, else ``f``."""
    in_class = any(
        re.search(r"^class Solution\b", text or "", re.MULTILINE)
        for text in (starter_code, reference)
    )
    return f"Solution.{function}" if in_class else function
