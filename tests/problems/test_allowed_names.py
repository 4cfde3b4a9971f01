"""What a sampled test may name: values and how to make them, nothing of the interpreter."""

import ast
import importlib
import random
import sys
import types

import pytest

from zerocoder_jax.problems import Problem, parse_test
from zerocoder_jax.problems.allowed_names import ALLOWED_MODULES, allowed_members, refusal

DOUBLE = Problem("t", "p", "double", "function")


def reason_of(code: str) -> str:
    return refusal(ast.parse(code).body)


def module_chains() -> list[str]:
    """Every way from an allowed module of the standard library to another module."""
    chains = []
    for name in sorted(ALLOWED_MODULES - {"numpy", "pytest", "sys", "__future__"}):
        module = importlib.import_module(name)
        for member, value in vars(module).items():
            if isinstance(value, types.ModuleType) and f"{name}.{member}" != "collections.abc":
                chains.append(f"{name}.{member}")
    return chains


def test_there_are_ways_from_module_to_module_to_be_refused() -> None:
    assert {"random._os", "enum.sys", "json.codecs", "statistics.sys"} <= set(module_chains())


@pytest.mark.parametrize("chain", module_chains())
def test_no_module_is_reached_through_another(chain: str) -> None:
    module, _, member = chain.partition(".")
    for code in (
        f"import {module}\nassert double(4) == 8 and {chain}",
        f"assert double(4) == 8 and {chain}.x",
        f"import {module} as m\nassert double(4) == 8 and m.{member}",
        f"from {module} import {member} as m\nassert double(4) == 8 and m",
        f"import {module}\nm = {module}\nassert double(4) == 8 and m.{member}",
        f"import {module}\nassert double(4) == 8 and [{module}][0].{member}",
        f"assert double(4) == 8 and (lambda {module}: 1)(0) and {chain}",
    ):
        assert reason_of(code), code
        assert parse_test(f"```python\n{code}\n```", DOUBLE).test is None


@pytest.mark.parametrize("module", sorted(ALLOWED_MODULES - {"numpy", "pytest", "sys"}))
def test_no_allowed_member_is_a_module_or_private(module: str) -> None:
    members = allowed_members(module)
    assert members
    for member in members:
        assert not member.startswith("_")
        assert not isinstance(getattr(importlib.import_module(module), member), types.ModuleType)


@pytest.mark.parametrize(
    "code",
    [
        "assert double(4) and (n for n in [1]).gi_frame.f_back",
        "g = (n for n in [1])\nassert double(4) and g.gi_code",
        "match [n for n in [1]]:\n    case list(__class__=kind):\n        pass\nassert double(4)",
        "assert double(4) and '{0.__class__}'.format(double)",
        "text = '{0.__class__}'\nassert double(4) and text.format(double)",
        "assert double(4) and str.format('{0.__class__}', double)",
        "assert double(4) and '{0[x]}'.format_map(double)",
        "import string\nassert double(4) and string.Formatter().format('{0.__class__}', double)",
        "import operator\nassert double(4) and operator.attrgetter('x')(double)",
        "from operator import *\nassert double(4) and attrgetter('x')(double)",
        "import typing\nassert double(4) and typing.get_type_hints(double)",
        "assert double(4) and __builtins__",
        "assert double(4) and __build_class__",
        "assert double(4) and int.mro()",
        "import collections\nx = collections.abc\nassert double(4) and x.sys",
        "from sys import modules\nassert double(4) and modules",
        "import sys as s\nassert double(4) and s._getframe()",
        "import json\njson.loads = print\nassert double(4)",
    ],
)
def test_ways_into_the_interpreter_are_inspection(code: str) -> None:
    assert reason_of(code) in ("inspection", "inspection_import")


@pytest.mark.parametrize(
    "code",
    [
        "import time\nassert double(4) and time.time() > 0",
        "assert double(4) and time.time() > 0",
        "from time import perf_counter as clock\nassert double(4) and clock()",
        "import datetime\nassert double(4) and datetime.datetime.now()",
        "from datetime import date as day\nassert double(4) and day.today()",
        "import random\nrandom.seed()\nassert double(random.random())",
        "import random\nrandom.seed(None)\nassert double(random.random())",
        "from random import seed, random\nseed()\nassert double(random())",
        "import random\nassert double(random.Random().random())",
        "import random\nassert double(random.SystemRandom().random())",
        "import uuid\nassert double(uuid.uuid4().int)",
        "import secrets\nassert double(secrets.randbelow(9))",
        "assert double(4) == 8 and id(double) % 64 < 32",
        "assert double(4) == 8 and hash(object()) % 64 < 32",
    ],
)
def test_what_differs_from_run_to_run_is_refused(code: str) -> None:
    assert reason_of(code) == "nondeterministic"


@pytest.mark.parametrize(
    "code",
    [
        "import math\nassert double(math.pi) == 2 * math.pi",
        "import collections.abc\nassert isinstance(double([1]), collections.abc.Sized)",
        "from collections import abc\nassert isinstance(double([1]), abc.Sized)",
        "from collections import Counter, deque\nassert double(Counter('a')) == deque([1])",
        "from typing import *\nx: List[int] = [1]\nassert double(x) == [1, 1]",
        "from math import *\nassert double(sqrt(4)) == 4",
        "import random\nrandom.seed(0)\nassert double(random.randint(1, 9)) > 1",
        "import random\nnumbers = random.sample(range(9), 3)\nassert double(numbers)",
        "import datetime\nassert double(datetime.date(2024, 2, 29)).year == 2024",
        "from datetime import datetime\nassert double(datetime(2024, 2, 29)).year == 2024",
        "import numpy as np\nassert np.allclose(double(np.array([1])), np.linalg.norm([2]))",
        "import sys\nassert double(sys.maxsize) > sys.float_info.max",
        "import pytest\nassert double(0.5) == pytest.approx(1.0)",
        "string = 'abc'\nassert double(string.upper()) == 'ABCABC'",
        "assert [copy.append(1) for copy in [double([])]] == [None]",
        "assert double('{:.2f} {x}'.format(1.0, x=2))",
        "assert double(f'{1.0:.2f}')",
        "import re, json, itertools\nassert re.match('8', json.dumps(double(4)))",
    ],
)
def test_values_may_be_made_with_the_public_members_of_allowed_modules(code: str) -> None:
    assert reason_of(code) == ""


def test_a_module_that_a_model_names_is_never_imported() -> None:
    before = set(sys.modules)
    assert reason_of("x.y\nimport antigravity as x\nfrom this import *").startswith("inspection")
    assert set(sys.modules) == before


def test_judging_a_test_leaves_random_as_it_was() -> None:
    state = random.getstate()
    assert reason_of("import random\nrandom.seed(7)\nassert double(random.random())") == ""
    assert random.getstate() == state
