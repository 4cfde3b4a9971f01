"""From source to a code object, and to a key that equal programs share.

Runs in a forked process of a worker: a compiler can be crashed by what it is given.
"""

import ast
import base64
import marshal
import re
import types
from typing import Any

from .statelessness import keeps_no_state

# A program that might look at its own docstrings, line numbers or source is equal to another only
# if its text is.
_INTROSPECTION = re.compile(
    r"__(?!(?:name|main|init|len|str|repr|eq|lt|hash|iter|next|call|getitem)__)\w|\b(?:eval|exec|compile|open|getattr|vars|locals|globals|dir|help|inspect|traceback|"
    r"linecache|tokenize|ast|dis|doctest|pydoc|importlib|sys|gc|ctypes|logging|warnings|"
    r"co_\w+|f_\w+|tb_\w+|attrgetter|methodcaller|stdin|pickle|marshal)\b"
)
_HAS_DOCSTRING = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def compiled(source: str) -> dict[str, Any]:
    """``{"code", "canonical", "stateless"}``, or ``{"error": kind of exception}``.

    ``code`` is the marshalled code object (base64). Two sources get the same ``canonical`` text
    when they differ in nothing but docstrings, comments and layout, and cannot tell.
    ``stateless``: proven to carry nothing from one call to the next.
    """
    try:
        code = compile(source, "solution", "exec", dont_inherit=True)
        packed = base64.b64encode(marshal.dumps(code)).decode()
        tree = ast.parse(source)
        stateless = keeps_no_state(tree)
        canonical = "source " + source
        if not _INTROSPECTION.search(source):
            canonical = "code " + base64.b64encode(_canonical(tree)).decode()
    except MemoryError:
        return {"error": "memory"}
    except Exception:
        return {"error": "error"}
    return {"code": packed, "canonical": canonical, "stateless": stateless}


def _canonical(tree: ast.Module) -> bytes:
    for node in ast.walk(tree):
        if isinstance(node, _HAS_DOCSTRING) and ast.get_docstring(node, clean=False):
            first = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), first))
    code = compile(tree, "solution", "exec", dont_inherit=True)
    # Version 2 of marshal: later ones write references, which depend on reference counts.
    return marshal.dumps(_without_places(code), 2)


def _without_places(code: types.CodeType) -> types.CodeType:
    constants = tuple(
        _without_places(c) if isinstance(c, types.CodeType) else c for c in code.co_consts
    )
    return code.replace(co_consts=constants, co_linetable=b"", co_firstlineno=1, co_filename="")
