"""Which modules solutions and tests find in the sandbox, and which they do not."""

import ast
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from zerocoder_jax.errors import UserError

# What a test can import though no package of that name is offered: ``worker/pytest_stand_in.py``.
STAND_INS = ("pytest",)


def check_packages(packages: Any) -> None:
    """Refuse ``execution.packages`` that is not a sequence of installed packages' names.

    Raises:
      UserError: says which entry is wrong.
    """
    if isinstance(packages, str):
        raise UserError(
            f"execution.packages is {packages!r}; it must be a sequence, such as ({packages!r},)"
        )
    for name in packages:
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"execution.packages has {name!r}; it takes names such as 'numpy'")
        package_directory(name)


def package_directory(name: str) -> str:
    """Where an installed package is.

    Raises:
      UserError: there is none of this name.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"execution: there is no installed package {name!r} for solutions to use")
    return str(next(iter(spec.submodule_search_locations)))


def missing_packages(source: str, packages: Sequence[str] = (), is_test: bool = False) -> list[str]:
    """Names of packages that a source imports and the sandbox does not have, sorted.

    An import below ``try`` does not count: the source says what it does without the package.

    Args:
      source: of a solution or a test; one that is no Python imports nothing.
      packages: what the pool offers besides the standard library (``execution.packages``).
      is_test: tests find stand-ins too (``STAND_INS``).
    """
    try:
        tree = ast.parse(source.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    offered = {*sys.stdlib_module_names, *packages, *(STAND_INS if is_test else ())}
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Try) and node.handlers:
            pending += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        pending += ast.iter_child_nodes(node)
    return sorted(found - offered)
