"""From source to a code object, and to a key that equal programs share.

Runs in a forked process of a worker: a compiler can be crashed by what it is given.
"""

import ast
import base64
import hashlib
import marshal
from typing import Any

from .statelessness import keeps_no_state


def compiled(source: str) -> dict[str, Any]:
    """``{"code", "key", "stateless"}``, or ``{"error": kind of exception}``.

    ``code`` is the marshalled code object (base64). Two sources get the same ``key`` when Python
    makes the same of them: docstrings and line numbers are part of it, other comments are not.
    ``stateless``: proven to carry nothing from one call to the next.
    """
    source = source.removeprefix("\ufeff")  # as from a file
    try:
        code = compile(source, "solution", "exec", dont_inherit=True)
        packed = base64.b64encode(marshal.dumps(code)).decode()
        # Version 2 of marshal: later ones write references, which depend on reference counts.
        key = hashlib.sha256(marshal.dumps(code, 2)).hexdigest()
        stateless = keeps_no_state(ast.parse(source))
    except MemoryError:
        return {"error": "memory"}
    except Exception:
        return {"error": "error"}
    return {"code": packed, "key": key, "stateless": stateless}
