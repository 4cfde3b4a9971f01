"""Programs that run once for several texts provably cannot tell the texts apart."""

import ast
import json
import warnings
from pathlib import Path

import pytest
from attacks import FORGERIES, SELF_KNOWLEDGE, both_texts
from observing import RIGHT
from test_statelessness import PROVEN

from zerocoder_jax.execution.worker.compiling import compiled
from zerocoder_jax.execution.worker.layout import ignores_layout

ORDINARY = [
    *PROVEN,
    "n = int(input())\nfor i in range(n):\n    print(i)",
    "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line)",
    "class A:\n    'x'\n    def __init__(self, n):\n        self._n = n\nclass B(A):\n    pass",
    "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 0",
    "def f(x):\n    return '{} {:.2f}'.format(x, x) + type(x).__name__",
    "from abc import ABC\nclass A(ABC):\n    pass\nclass E(ValueError):\n    pass",
    "def f(x):\n    try:\n        return x[0]\n    except IndexError as e:\n        return str(e)",
]

SUSPICIOUS = [
    "def f(x):\n    return f.__doc__",
    "def f(x):\n    return f._\uff3fdoc_\uff3f",
    "def f(x):\n    return getattr(f, x)",
    "def f(x):\n    return '{0.real}'.format(x)",
    "def f(x):\n    return '{:{0.real}}'.format(x)",
    "def f(x):\n    return x.format(f)",
    "def f(x):\n    return x.format_map(f)",
    "import sys\ndef f(x):\n    return sys._getframe()",
    "import sys\ndef f(x, s=sys):\n    return s",
    "import collections\ndef f(x):\n    return collections._sys",
    "import collections\nc = collections",
    "from os import *",
    "from . import a",
    "from operator import attrgetter",
    "def f(x):\n    return (y for y in x).gi_frame",
    "def f(x):\n    match f:\n        case object(__doc__=d):\n            return d",
    "class A:\n    __match_args__ = ('__doc__',)",
    "class A(metaclass=x):\n    pass",
    "class A(x):\n    pass",
    "class A:\n    pass\ndef f(A):\n    class B(A):\n        pass",
    "@x\nclass A:\n    pass\nclass B(A):\n    pass",
    "class A(type):\n    pass",
    "class A(type(int)):\n    pass",
    "class A:\n    def __init_subclass__(cls):\n        pass",
    "M = type('M', (), {})",
    "class A:\n    'x'\n    y = __doc__",
]


@pytest.mark.parametrize("source", ORDINARY)
def test_ordinary_programs_cannot_tell(source: str) -> None:
    assert ignores_layout(ast.parse(source))


@pytest.mark.parametrize("source", SUSPICIOUS)
def test_what_could_tell_is_not_proven(source: str) -> None:
    assert not ignores_layout(ast.parse(source))


@pytest.mark.parametrize("name", SELF_KNOWLEDGE)
def test_texts_of_a_program_that_knows_its_own_have_keys_of_their_own(name: str) -> None:
    one, other = (compiled(source)["canonical"] for source in both_texts(name))
    assert one != other


def test_docstrings_comments_and_layout_are_no_difference() -> None:
    other = "'module'\n\ndef f( x ) :  # square\n    'doc'\n    return (x*x)+1"
    assert compiled(RIGHT)["canonical"] == compiled(other)["canonical"]
    assert compiled(RIGHT)["canonical"] != compiled(RIGHT.replace("1", "2"))["canonical"]


def test_no_attack_that_touches_the_interpreter_is_proven() -> None:
    words = ("import os", "ctypes", "gc", "builtins", "signal", "threading", "_getframe")
    for name, source in FORGERIES.items():
        if any(word in source for word in words):
            assert not ignores_layout(ast.parse(source)), name


def test_nearly_all_references_are_proven(shared_data: Path) -> None:
    lines = (shared_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown escapes in their strings
        proven = [ignores_layout(ast.parse(json.loads(line)["code"])) for line in lines]
    assert sum(proven) > 0.98 * len(proven)
