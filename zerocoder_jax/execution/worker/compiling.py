"""From source to a code object, and to a key that equal programs share.

Runs in a forked process of a worker: a compiler can be crashed by what it is given.
"""

import ast
import base64
import marshal
import types
from typing import Any

from .layout import ignores_layout, without_docstrings
from .statelessness import keeps_no_state


def compiled(source: str) -> dict[str, Any]:
    """``{"code", "canonical", "stateless"}``, or ``{"error": kind of exception}``.

    ``code`` is the marshalled code object (base64). Two sources get the same ``canonical`` text
    when they differ in nothing but docstrings, comments and layout, and cannot tell.
    ``stateless``: proven to carry nothing from one call to the next.
    """
    source = source.removeprefix(
        "\ufeff"
    )  # a byte order mark, which an interpreter skips in a file
    try:
        code = compile(source, "solution", "exec", dont_inherit=True)
        packed = base64.b64encode(marshal.dumps(code)).decode()
        tree = ast.parse(source)
        stateless = keeps_no_state(tree)
        canonical = "source " + source
        if ignores_layout(tree):
            canonical = "code " + base64.b64encode(_canonical(tree)).decode()
    except MemoryError:
        return {"error": "memory"}
    except Exception:
        return {"error": "error"}
    return {"code": packed, "canonical": canonical, "stateless": stateless}


def _canonical(tree: ast.Module) -> bytes:
    code = compile(without_docstrings(tree), "solution", "exec", dont_inherit=True)
    # Version 2 of marshal: later ones write references, which depend on reference counts.
    return marshal.dumps(_without_places(code), 2)


def _without_places(code: types.CodeType) -> types.CodeType:
    constants = tuple(
        _without_places(c) if isinstance(c, types.CodeType) else c for c in code.co_consts
    )
    return code.replace(co_consts=constants, co_linetable=b"", co_firstlineno=1, co_filename="")
