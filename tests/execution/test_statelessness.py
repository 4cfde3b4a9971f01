"""Programs whose tests may share a process provably keep nothing; the proof is on the safe side."""

import ast
import contextlib
import json
import types
import warnings
from pathlib import Path

import pytest
from attacks import CARRIERS, FORGERIES
from hypothesis import given, settings
from hypothesis import strategies as st
from observing import RIGHT

from zerocoder_jax.execution.worker.statelessness import is_data, keeps_no_state

PROVEN = [
    RIGHT,
    "import math\ndef f(x):\n    return math.sqrt(x)",
    "from collections import Counter\ndef f(x):\n    return Counter(x).most_common(1)",
    "def g(n, a=1):\n    return n + a\ndef f(x):\n    y = [x]\n    y.append(g(x))\n    return y",
    "import re\ndef f(x):\n    return re.findall(r'a+', x)",
    "MOD = 10 ** 9 + 7\ndef f(x):\n    def h(y, seen=[]):\n        return y\n    return h(x) % MOD",
    "def f(x):\n    n = 0\n    def a():\n        nonlocal n\n        n += x\n    a()\n    return n",
    "def f(x):\n    return x\nif __name__ == '__main__':\n    print(f(input()))",
    "from typing import List\ndef f(x: List[int]) -> int:\n    return sorted(x, key=lambda y: -y)",
]

NOT_PROVEN = [
    "import random\ndef f(x):\n    return random.random()",
    "import sys\ndef f(x):\n    sys.maxsize = 3",
    "import sys\ndef f(x):\n    sys.setrecursionlimit(9)",
    "import math as random\nimport random\ndef f(x):\n    return 1",
    "def f(x):\n    f.__dict__['a'] = 1",
    "def f(x):\n    f.__defaults__ = (1,)",
    "def f(x):\n    globals()['a'] = 1",
    "def f(x):\n    setattr(f, 'a', 1)",
    "def f(x):\n    print.__self__.len = 3",
    "def f(x):\n    return open('/tmp/a', 'w')",
    "def f(x):\n    exec('a = 1')",
    "from math import *\ndef f(x):\n    return 1",
    "from copy import dispatch_table\ndef f(x):\n    dispatch_table[x] = 1",
    "import copy\ndef f(x):\n    copy.dispatch_table[x] = 1",
    "import collections\ndef f(x):\n    collections.abc.Sized.register(x)",
    "import operator\ndef f(x):\n    return operator.attrgetter('__dict__')(f)",
    "import functools\n@functools.lru_cache\ndef f(x):\n    return x",
    "seen = {}\ndef f(x):\n    return x",
    "seen = list('ab')\ndef f(x):\n    return x",
    "[seen := []]\ndef f(x):\n    seen.append(x)",
    "for i in [[]]:\n    pass\ndef f(x):\n    i.append(x)",
    "f = lambda x, seen=[]: seen.append(x)",
    "x: list = []\ndef f(y):\n    x.append(y)",
    "with a as b:\n    pass",
    "def f(x):\n    import os\n    os.environ['a'] = 'b'",
    "def f(x):\n    import math\n    math.pi = 3",
    "async def f(x):\n    return x",
    "def f(x):\n    (lambda: 0).__globals__['a'] = 1",
    "def f(x):\n    try:\n        x()\n    except ValueError as e:\n        e.__traceback__",
    "def f(x):\n    type(x).a = 1",
    "def f(x):\n    (y for y in x).gi_frame.f_globals['a'] = 1",
    "import os\ndef f(x):\n    os.mkdir('/tmp/a')",
    "def f(x):\n    __builtins__['len'] = 3",
    "def f(x):\n    match x:\n        case 1:\n            return 2",
]


@pytest.mark.parametrize("source", PROVEN)
def test_functions_over_plain_data_are_proven(source: str) -> None:
    assert keeps_no_state(ast.parse(source))


@pytest.mark.parametrize("source", [*NOT_PROVEN, *CARRIERS.values()])
def test_what_could_keep_state_is_not_proven(source: str) -> None:
    assert not keeps_no_state(ast.parse(source))


def test_no_attack_that_touches_the_interpreter_is_proven() -> None:
    words = ("import os", "import sys", "ctypes", "gc", "builtins", "signal", "threading")
    for name, source in FORGERIES.items():
        if any(word in source for word in words):
            assert not keeps_no_state(ast.parse(source)), name


def test_nearly_all_references_are_proven(shared_data: Path) -> None:
    lines = (shared_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown escapes in their strings
        trees = [ast.parse(json.loads(line)["code"]) for line in lines]
    proven = [keeps_no_state(tree) for tree in trees]
    assert sum(proven) > 0.95 * len(proven)


@pytest.mark.parametrize("source", ["[1, (2, {3: 'a'})]", "-1", "{1, 2}", "2 ** 3", "None"])
def test_literals_are_data(source: str) -> None:
    assert is_data(ast.parse(source, mode="eval").body)


@pytest.mark.parametrize("source", ["x", "f(1)", "[x]", "{**x}", "[i for i in 'a']", "(y := [])"])
def test_names_and_calls_are_not_data(source: str) -> None:
    assert not is_data(ast.parse(source, mode="eval").body)


_STATEMENTS = st.sampled_from(
    [
        "items.append(x)", "cache[x] = 1", "f.n = x", "global n\n    n = x", "x.sort()", "n = x",
        "helper(x)", "math.pi = x", "seen.append(x)", "del cache[x]", "n += 1",
        "CONSTANT.append(x)",
        "helper.calls = 1", "next(numbers)", "Counter.x = 1", "x[0] = 1", "numbers.send(x)",
    ]
)  # fmt: skip
_TOPS = st.sampled_from(
    [
        "import math", "from collections import Counter", "cache = {}", "CONSTANT = (1, 2)",
        "def helper(x, seen=[]):\n    seen.append(x)", "def helper(x):\n    return [x]",
        "numbers = iter([1, 2])", "items = []", "n = 0", "seen = ()",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_TOPS, max_size=4), st.lists(_STATEMENTS, min_size=1, max_size=3))
def test_a_proven_program_gives_the_same_answers_in_any_order(
    tops: list[str], body: list[str]
) -> None:
    """What is proven is run here: its module is the same after the calls as before them."""
    source = "\n".join(tops) + "\ndef f(x):\n    " + "\n    ".join(body) + "\n    return x\n"
    try:
        tree = ast.parse(source)
        code = compile(source, "program", "exec")
    except SyntaxError:
        return
    if not keeps_no_state(tree):
        return
    namespace: dict[str, object] = {}
    exec(code, namespace)

    def state() -> str:
        visible = {name: value for name, value in namespace.items() if name != "__builtins__"}
        functions = [v for v in visible.values() if isinstance(v, types.FunctionType)]
        return repr((visible, [(f.__defaults__, f.__dict__) for f in functions]))

    before = state()
    for argument in ([3, 1], 2, "a"):
        with contextlib.suppress(Exception):
            namespace["f"](argument)  # type: ignore[operator]
    assert state() == before
