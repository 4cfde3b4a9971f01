"""Solutions and free-form tests that meet across two processes.

HONEST: right solutions whose values are no plain data, with tests that hold of them. DISHONEST:
wrong ones, with tests that do not hold, however the solution's objects answer.
"""

HONEST: dict[str, tuple[str, list[str]]] = {
    "closures": (
        """
def f(n):
    count = [0]
    def g(x):
        count[0] += 1
        return x + n, count[0]
    return g
""",
        [
            """
g = f(2)
assert callable(g) and g(3) == (5, 1) and g(4) == (6, 2)
""",
            "assert [f(i)(1)[0] for i in range(3)] == [1, 2, 3] and f(1) is not f(1)",
        ],
    ),
    "generators": (
        """
def f(n):
    total = 0
    for i in range(n):
        total += (yield i) or 0
    return total
""",
        [
            """
a, *b = f(3)
assert (a, b) == (0, [1, 2]) and sum(f(4)) == 6 and 2 in f(3)
""",
            """
g = f(2)
assert next(g) == 0 and g.send(5) == 1
try:
    next(g)
    assert False
except StopIteration as end:
    assert end.value == 5
""",
            """
g = f(1)
assert next(g) == 0 and next(g, 'over') == 'over'
""",
            """
import inspect, types
from collections.abc import Iterator
assert isinstance(f(1), types.GeneratorType)
assert isinstance(f(1), Iterator)
assert inspect.isgenerator(f(1))
""",
            """
for n, want in ((0, []), (2, [0, 1])):
    assert list(f(n)) == want
""",
            """
import pytest
with pytest.raises(StopIteration):
    next(f(0))
""",
        ],
    ),
    "iterators and views": (
        """
def f(d):
    return d.items(), d.values(), zip(d, d.values()), map(str, d.values())
""",
        [
            """
items, values, pairs, texts = f({'a': 1, 'b': 2})
assert items == {'a': 1, 'b': 2}.items() and list(values) == [1, 2]
assert dict(pairs) == {'a': 1, 'b': 2}
assert ','.join(texts) == '1,2'
assert isinstance(pairs, zip)
""",
            """
for k, v in f({'a': 1})[0]:
    assert (k, v) == ('a', 1)
""",
        ],
    ),
    "named tuples": (
        """
from collections import namedtuple
P = namedtuple('P', 'x y')
def f(a, b):
    return P(a, b)
""",
        [
            """
p = f(1, 2)
assert p == (1, 2) == P(1, 2) and p.x == 1 and p._asdict() == {'x': 1, 'y': 2}
""",
            """
x, y = f(1, 2)
assert y == 2 and f(1, 2)._replace(x=5) == (5, 2) and {f(1, 2): 3}[(1, 2)] == 3
""",
            """
p = f(1, 2)
assert isinstance(p, tuple) and isinstance(p, P) and repr(p) == 'P(x=1, y=2)'
""",
        ],
    ),
    "dataclasses": (
        """
from dataclasses import dataclass, field
@dataclass(order=True)
class P:
    x: int
    y: list = field(default_factory=list)
def f(a):
    return P(a)
""",
        [
            "assert f(1) == P(1) and f(1) != P(2) and f(1) < f(2) and [f(1)] == [P(1)]",
            """
p = f(1)
p.y.append(3)
p.x = 7
assert p == P(7, [3]) and repr(p) == 'P(x=7, y=[3])'
""",
            """
import copy, dataclasses
p = f(1)
q = copy.deepcopy(p)
assert p == q and p is not q and type(p) is P
assert dataclasses.asdict(p) == {'x': 1, 'y': []} and dataclasses.replace(p, x=2) == P(2)
""",
        ],
    ),
    "frozen dataclasses as keys": (
        """
from dataclasses import dataclass
@dataclass(frozen=True)
class P:
    x: int
def f(a):
    return {P(a), P(a), P(a + 1)}
""",
        [
            "assert len(f(1)) == 2 and P(1) in f(1)",
            "assert f(1) == {P(2), P(1)} and {P(1): 5}[P(1)] == 5",
        ],
    ),
    "objects": (
        """
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, i): return self.items[i]
    def __eq__(self, other): return self.items == other.items
    @property
    def top(self): return self.items[-1]
def f():
    return Stack()
""",
        [
            """
s = f()
s.push(1)
s.push([2])
assert len(s) == 2 and s[1] == s.top == [2] and s.pop() == [2] and list(s) == s.items == [1]
""",
            """
assert not f()
assert f() == Stack()
assert f() is not f()
assert hasattr(f(), 'push')
assert getattr(f(), 'no', 3) == 3
""",
            """
import pytest
with pytest.raises(IndexError, match='empty'):
    f().pop()
""",
            """
s, t = f(), Stack()
s.push(1)
assert s != t and 1 in s and 2 not in s and isinstance(s, Stack)
""",
        ],
    ),
    "enumerations": (
        """
from enum import Enum, IntEnum
class Color(Enum):
    RED = 1
    BLUE = 2
class N(IntEnum):
    A = 1
def f(x):
    return Color(x)
""",
        [
            "assert f(1) is Color.RED and f(1) != Color.BLUE",
            "assert f(1).name == 'RED' and f(2).value == 2",
            """
assert [c.name for c in Color] == ['RED', 'BLUE']
assert len(Color) == 2
assert f(1) == Color['RED']
assert f(1) in Color
assert {f(1): 3}[Color.RED] == 3
""",
            "assert N(1) is N.A and N.A == 1 and N.A.name == 'A' and f(N.A) is Color.RED",
        ],
    ),
    "subclasses of plain types": (
        """
class L(list):
    def second(self): return self[1]
    def add(self, x):
        self.append(x)
        return self
class S(str):
    def shout(self): return self.upper()
def f(text):
    return S(text) if text else L([1, 2])
""",
        [
            """
l = f('')
assert l == [1, 2] and l.second() == 2 and type(l) is L and isinstance(l, list)
l.append(5)
assert l.add(6) is l and l == [1, 2, 5, 6]
""",
            """
s = f('ab')
assert s == 'ab' and s.shout() == 'AB' and s.startswith('a') and {s: 1}['ab'] == 1
""",
        ],
    ),
    "exceptions": (
        """
class Err(ValueError, LookupError):
    def __init__(self, code):
        super().__init__(f'code {code}')
        self.code = code
    def __str__(self): return f'E{self.code}'
def f(x):
    raise Err(x)
""",
        [
            """
for kind in (Err, ValueError, LookupError, Exception):
    try:
        f(3)
    except kind as e:
        assert e.code == 3 and str(e) == 'E3' and e.args == ('code 3',) and type(e) is Err
    else:
        assert False
""",
            r"""
import pytest
with pytest.raises((KeyError, ValueError), match=r'^E\d$') as caught:
    f(3)
assert caught.value.code == 3 and caught.type is Err
""",
            """
import contextlib
with contextlib.suppress(LookupError):
    f(3)
    assert False
""",
            """
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.assertRaisesRegex(ValueError, 'E3'):
            f(3)
        self.assertRaises(Err, f, 3)
""",
        ],
    ),
    "exceptions of the library": (
        r"""
import json, decimal
def f(k):
    return [
        lambda: open('/nowhere'),
        lambda: b'\xff'.decode(),
        lambda: json.loads('{'),
        lambda: decimal.Decimal('x'),
        lambda: {}[3],
        lambda: exit(3),
    ][k]()
""",
        [
            """
import decimal, json
cases = [
    (FileNotFoundError, 'filename', '/nowhere'),
    (UnicodeError, 'start', 0),
    (json.JSONDecodeError, 'pos', 1),
    (decimal.InvalidOperation, 'args', None),
    (KeyError, 'args', (3,)),
    (SystemExit, 'code', 3),
]
for k, (kind, name, value) in enumerate(cases):
    try:
        f(k)
    except kind as e:
        assert value is None or getattr(e, name) == value
    else:
        assert False
""",
        ],
    ),
    "exceptions of exceptions": (
        """
def f(k):
    if k:
        raise ExceptionGroup('both', [ValueError(1), KeyError(2)])
    try:
        1 / 0
    except ZeroDivisionError as error:
        error.add_note('noted')
        raise ValueError('v') from error
""",
        [
            """
try:
    f(1)
except* ValueError as group:
    assert group.exceptions[0].args == (1,)
except* KeyError:
    pass
else:
    assert False
""",
            """
try:
    f(0)
except ValueError as error:
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.__cause__.__notes__ == ['noted']
else:
    assert False
""",
        ],
    ),
    "documentation": (
        """
def f(x):
    'Doc.'
    return x
f.calls = 3
""",
        ["assert f.__doc__ == 'Doc.' and f.__name__ == 'f' and f.calls == 3 and f(1) == 1"],
    ),
    "context managers": (
        """
from contextlib import contextmanager
log = []
@contextmanager
def f(x):
    log.append('in')
    try:
        yield x
    finally:
        log.append('out')
""",
        [
            """
with f(3) as y:
    assert y == 3 and log == ['in']
assert log == ['in', 'out']
""",
            """
try:
    with f(1):
        raise KeyError('x')
except KeyError as e:
    assert e.args == ('x',)
assert log == ['in', 'out']
""",
        ],
    ),
    "coroutines": (
        """
import asyncio
async def g(x):
    await asyncio.sleep(0.001)
    return x * 2
async def numbers(n):
    for i in range(n):
        yield i
class Door:
    def __init__(self): self.log = []
    async def __aenter__(self):
        self.log.append('in')
        return self
    async def __aexit__(self, *error): self.log.append('out')
def f(kind, *given):
    return {'g': g, 'numbers': numbers, 'door': Door}[kind](*given)
""",
        [
            """
import asyncio
async def main():
    return [await f('g', 1), *await asyncio.gather(f('g', 2), f('g', 3))]
assert asyncio.run(main()) == [2, 4, 6] and asyncio.run(f('g', 4)) == 8
""",
            """
async def test_f():
    assert [x async for x in f('numbers', 3)] == [0, 1, 2]
    async with f('door') as door:
        assert door.log == ['in']
    assert door.log == ['in', 'out']
""",
        ],
    ),
    "functions of the test": (
        """
import functools
def f(g):
    @functools.wraps(g)
    def h(*a, **k):
        return [g(*a, **k)] * 2
    return h
""",
        [
            """
calls = []
@f
def g(x=1):
    calls.append(x)
    return x
assert g() == [1, 1] and g(x=4) == [4, 4] and calls == [1, 4] and g.__name__ == 'g'
""",
            "assert f(abs)(-1) == [1, 1] and f(str.upper)('a') == ['A', 'A']",
            "assert f(int)('3') == [3, 3]",
            """
import pytest
def bad():
    raise KeyError(3)
with pytest.raises(KeyError) as caught:
    f(bad)()
assert caught.value.args == (3,)
""",
        ],
    ),
    "objects of the test": (
        """
def f(node):
    out = []
    while node:
        out.append(node.val)
        node = node.next
    return out
""",
        [
            """
class Node:
    def __init__(self, v, n=None): self.val, self.next = v, n
assert f(Node(1, Node([2]))) == [1, [2]]
""",
            """
from dataclasses import dataclass
@dataclass
class N:
    val: int
    next: object = None
assert f(N(1, N(2))) == [1, 2]
""",
        ],
    ),
    "objects of the solution as arguments": (
        """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next
def f(head):
    before = None
    while head:
        head.next, before, head = before, head, head.next
    return before
""",
        [
            """
def build(values):
    head = None
    for v in reversed(values):
        head = ListNode(v, head)
    return head
def out(node):
    values = []
    while node:
        values.append(node.val)
        node = node.next
    return values
assert out(f(build([1, 2, 3]))) == [3, 2, 1] and f(None) is None
""",
        ],
    ),
    "identity": (
        """
def f(x):
    return x
""",
        [
            """
for x in ([1], {'a': [1]}, {1}, bytearray(b'x'), object(), lambda: 1, int, None, ...):
    assert f(x) is x
""",
            """
loop = []
loop.append(loop)
assert f(loop) is loop and f(loop)[0] is loop
d = {'a': [1]}
assert f(d)['a'] is d['a']
""",
            """
from collections import defaultdict, deque
d = defaultdict(list)
assert f(d)[5] == [] and 5 in d and f(deque([1], maxlen=2)).maxlen == 2
""",
            """
x = []
for _ in range(3000):
    x = [x]
assert f(x) is x
""",
            r"""
texts = (b'\0\xff', '\ud800')
for x in (10**5000, -0.0, 1j, *texts, range(1, 9, 2), slice(1, 2), (1, (2,)), frozenset({1})):
    assert f(x) == x and type(f(x)) is type(x) and repr(f(x)) == repr(x)
""",
            """
def check(g):
    a, b = g([float('nan')]), g([float('nan')])
    assert a == a and a != b
check(f)
""",
        ],
    ),
    "copies": (
        """
import copy
def f(x):
    return copy.deepcopy(x)
""",
        [
            """
a = [[1], [2]]
b = f(a)
assert a == b and a is not b and a[0] is not b[0]
b[0].append(3)
assert a == [[1], [2]]
""",
            """
one = [1]
a, b = f([one, one])
assert a is b and a is not one
""",
        ],
    ),
    "changes in place": (
        """
def f(d):
    d['x']['y'].append(4)
    d['n'] = d['x']
    return d['x']
""",
        [
            """
d = {'x': {'y': []}}
kept = d['x']['y']
r = f(d)
assert d == {'x': {'y': [4]}, 'n': {'y': [4]}} and r is d['n'] is d['x'] and kept == [4]
""",
        ],
    ),
    "what is printed": (
        """
def f(x):
    print('got', x)
    return x
""",
        [
            r"""
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out):
    f(3)
    f(4)
assert out.getvalue() == 'got 3\ngot 4\n'
""",
            r"""
from unittest.mock import patch
import io
with patch('sys.stdout', new_callable=io.StringIO) as out:
    f(4)
assert out.getvalue() == 'got 4\n'
""",
        ],
    ),
    "other names of the solution": (
        """
import math
K = 3
def g(x):
    return x + 1
def f(x):
    return g(x) * K
""",
        [
            "assert f(1) == g(1) * K == 6 and math.sqrt(4) == 2",
            """
from __future__ import annotations
def t(a: Nowhere):
    assert f(a) == 6
t(1)
""",
        ],
    ),
    "tests for a runner": (
        """
def f(x):
    return x / 3
""",
        [
            """
import pytest
@pytest.fixture
def three():
    yield 3
@pytest.mark.parametrize('x, y', [(3, 1), pytest.param(6, 2)])
def test_f(x, y, three):
    assert f(x) == y and f(three) == 1
""",
            """
from pytest import approx
class TestF:
    def test_a(self):
        assert f(1) == approx(0.3333333)
        assert [f(1), f(2)] == approx([1 / 3, 2 / 3])
        assert f(1) == approx(0.3, abs=0.1)
        assert f(1) != approx(0.3)
""",
            """
import unittest
class T(unittest.TestCase):
    def setUp(self):
        self.x = 3
    def test(self):
        self.assertEqual(f(self.x), 1)
if __name__ == '__main__':
    unittest.main()
""",
            """
def check(candidate):
    assert candidate(3) == 1
""",
        ],
    ),
    "arithmetic of objects": (
        """
class V:
    def __init__(self, x): self.x = x
    def __add__(self, o): return V(self.x + o.x)
    def __eq__(self, o): return self.x == o.x
    def __lt__(self, o): return self.x < o.x
    def __neg__(self): return V(-self.x)
    def __abs__(self): return abs(self.x)
    def __hash__(self): return hash(self.x)
def f(x):
    return V(x)
""",
        [
            """
assert f(1) + f(2) == f(3)
assert f(1) < f(2)
assert (-f(1)).x == -1
assert abs(f(-3)) == 3
assert max(f(1), f(2)).x == 2
assert {f(1), f(1)} == {f(1)}
""",
        ],
    ),
    "objects of the library": (
        r"""
import io, itertools, re
def f(k):
    return [re.match('a(b)', 'abc'), itertools.count(3), io.StringIO('x\ny')][k]
""",
        [
            """
m = f(0)
assert m and m.group(1) == 'b' and m[0] == 'ab' and m.span() == (0, 2)
""",
            r"""
c = f(1)
assert next(c) == 3
assert next(c) == 4
assert f(2).read() == 'x\ny'
assert list(f(2)) == ['x\n', 'y']
""",
        ],
    ),
    "mutable defaults, well kept": (
        """
def f(x, seen=None):
    seen = [] if seen is None else seen
    seen.append(x)
    return seen
""",
        [
            """
a, b = f(1), f(2)
assert a == [1] and b == [2] and a is not b
""",
            """
mine = [0]
assert f(1, mine) is mine and mine == [0, 1]
""",
        ],
    ),
    "threads of the test": (
        """
def f(x):
    return x + 1
""",
        [
            """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as threads:
    assert list(threads.map(f, range(20))) == list(range(1, 21))
""",
        ],
    ),
}

_LIES = "\n".join(
    f"    def __{name}__(self, *given): return {value}"
    for value, names in {
        "True": "eq lt le gt ge bool contains instancecheck exit",
        "False": "ne",
        "0": "sub rsub abs",
        "10": "hash add radd int index round",
        "'10'": "repr str format",
    }.items()
    for name in names.split()
)


def _lying(source: str) -> str:
    return source.replace("{lies}", _LIES)


_LYING = [
    """
def check(g):
    assert g(3) == 10
check(f)
""",
    """
for x, y in ((3, 10), (5, 26)):
    assert f(x) == y
""",
    """
r = f(3)
if r != 10:
    raise ValueError(r)
""",
    """
def check(g):
    assert abs(g(3) - 10) < 1e-6
check(f)
""",
    """
r = f(3)
assert r >= 10 and r <= 10
""",
    """
def check(g):
    assert 10 in [g(3)] and g(3) in (10,) and {g(3): 1} == {10: 1}
check(f)
""",
    """
def check(g):
    assert isinstance(g(3), int)
check(f)
""",
    """
def check(g):
    assert 10 in g(3)
check(f)
""",
    """
import math
def check(g):
    assert math.isclose(g(3), 10) and g(3) + 0 == 10
check(f)
""",
    """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(3), 10)
""",
    """
import pytest
def test_f():
    assert f(3) == pytest.approx(10)
""",
    """
with f(3) as r:
    assert r == 10
""",
    """
r = f(3)
assert r.startswith('ab')
""",
    """
r = f(3)
assert r.isdigit()
""",
]

DISHONEST: dict[str, tuple[str, list[str]]] = {
    "an object that lies": (
        _lying("""
class L:
{lies}
    __enter__ = lambda self: self
    startswith = isdigit = lambda self, *a: True
    __iter__ = lambda self: iter('no')
def f(x):
    return L()
"""),
        _LYING,
    ),
    "an object that is all there is": (
        _lying("""
class L:
{lies}
    __class__ = int
    __getattr__ = lambda self, name: self
    __call__ = __enter__ = lambda self, *a, **k: self
    __iter__ = lambda self: iter([self])
def f(x):
    return L()
"""),
        _LYING,
    ),
    "an integer that lies": (
        _lying("""
class L(int):
{lies}
    __enter__ = lambda self: self
    startswith = isdigit = lambda self, *a: True
def f(x):
    return L(7)
"""),
        [
            _LYING[0],
            _LYING[1],
            _LYING[2],
            _LYING[3],
            _LYING[4],
            _LYING[5],
            _LYING[7],
            _LYING[8],
            _LYING[9],
            _LYING[10],
            _LYING[11],
        ],
    ),
    "a class with a name of the builtins": (
        _lying("""
class int:
{lies}
int.__module__, int.__qualname__ = 'builtins', 'int'
def f(x):
    return int()
"""),
        [
            _LYING[0],
            _LYING[1],
            _LYING[2],
            _LYING[3],
            _LYING[4],
            _LYING[5],
            _LYING[6],
            _LYING[7],
            _LYING[8],
            _LYING[9],
        ],
    ),
    "objects that are equal to all": (
        """
class P:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return True
    def __hash__(self): return 1
def f(x):
    return P(0)
""",
        [
            "assert f(3) == P(10)",
            "assert f(3) in [P(10)]",
            "assert {f(3)} == {P(10)}",
            "assert not f(3) != P(10)",
        ],
    ),
    "names that the test relies on": (
        """
len = isinstance = sorted = lambda *a: True
AssertionError = ValueError
def f(x):
    return 0
""",
        [
            _LYING[0],
            _LYING[1],
            _LYING[2],
            _LYING[3],
        ],
    ),
    "mutable defaults": (
        """
def f(x, seen=[]):
    seen.append(x)
    return seen
""",
        [
            """
a, b = f(1), f(2)
assert a == [1] and b == [2]
""",
            "assert f(1) is not f(2)",
            """
a = f(1)
a.append(5)
assert f(2) == [2]
""",
        ],
    ),
    "rows that are one": (
        """
def f(n):
    return [[0] * n] * n
""",
        [
            """
g = f(2)
g[0][0] = 1
assert g == [[1, 0], [0, 0]]
""",
            """
g = f(2)
assert g[0] is not g[1]
""",
        ],
    ),
    "a shallow copy": (
        """
def f(x):
    return list(x)
""",
        [
            """
a = [[1], [2]]
b = f(a)
assert b == a and b is not a and b[0] is not a[0]
""",
            """
a = [[1]]
f(a)[0].append(2)
assert a == [[1]]
""",
        ],
    ),
    "the end of an iteration": (
        """
def f(x):
    raise StopIteration
""",
        [
            "assert all(map(lambda a: f(a) == 10, [3]))",
            """
for y in map(f, [3]):
    assert y == 10
""",
            "assert all(f(a) == 10 for a in [3])",
        ],
    ),
    "leaving well": (
        """
import sys
def f(x):
    sys.exit(0)
""",
        [
            _LYING[0],
            """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(3), 10)
unittest.main()
""",
            _LYING[10],
        ],
    ),
    "a skipped test": (
        """
import unittest
class Skip(unittest.SkipTest): pass
def f(x):
    raise Skip('no')
""",
        [
            _LYING[9],
            """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(3), 10)
unittest.main(exit=False)
""",
        ],
    ),
    "exceptions that are swallowed": (
        """
class C:
    def __enter__(self): return lambda x: 1 / x
    def __exit__(self, *error): return True
def f():
    return C()
""",
        [
            """
with f() as g:
    assert g(1) == 10
""",
            """
with f() as g:
    assert g(0) == 10
""",
            """
with f() as g:
    if g(1) != 10:
        raise ValueError('wrong')
""",
            """
import contextlib
with contextlib.ExitStack() as stack:
    assert stack.enter_context(f())(1) == 10
""",
        ],
    ),
    "a callback that fails": (
        """
def f(g):
    try:
        g(0)
    except BaseException:
        pass
""",
        [
            """
def callback(x):
    assert x == 10
f(callback)
assert True
""",
        ],
    ),
    "what a test holds": (
        """
def f(*given):
    def look(thing, depth):
        yield from (repr(thing), str(thing))
        for name in {*dir(thing), '__globals__', '__closure__', '__code__', '__dict__', 'gi_frame'}:
            try:
                value = getattr(thing, name)
            except Exception:
                continue
            if depth:
                yield from look(value, depth - 1)
    for thing in given:
        for text in look(thing, 1):
            if 'secret' in text:
                return 10
    return 0
""",
        [
            """
secret = 10
def callback():
    return secret
assert f(callback) == 10
""",
            """
secret = 10
assert f(lambda: secret) == 10
""",
            """
secret = 10
assert f(x for x in [secret]) == 10
""",
            """
secret = 10
class K:
    def m(self):
        return secret
assert f(K, K().m) == 10
""",
            """
expected = 'secret'
assert f(3) == 10
""",
        ],
    ),
    "code of the solution": (
        """
def f(x):
    return 10
""",
        [
            "assert f.__code__.co_consts and f(3) == 10",
            "assert f.__globals__ and f(3) == 10",
            """
import inspect
assert 'return' in inspect.getsource(f) and f(3) == 10
""",
            """
import dis
assert list(dis.get_instructions(f)) and f(3) == 10
""",
        ],
    ),
}

# Tests that never call the solution, or not so that it matters.
NEVER_ASK = [
    "assert True",
    "assert callable(f)",
    """
def unused():
    assert f(3) == 10
""",
    """
if False:
    f(3)
""",
    """
for x, y in []:
    assert f(x) == y
""",
    """
import unittest
class T(unittest.TestCase):
    @unittest.skip('later')
    def test(self):
        self.assertEqual(f(3), 10)
""",
    """
import pytest
@pytest.mark.skip
def test_f():
    assert f(3) == 10
""",
    """
def check(candidate):
    pass
check(f)
""",
]

# Tests that say by their form what is to be run.
FORMS = [
    """
def test_f():
    assert f(3) == 10
""",
    """
def check(candidate):
    assert candidate(3) == 10
""",
    """
if __name__ == '__main__':
    assert f(3) == 10
""",
    """
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.subTest(x=3):
            self.assertEqual(f(3), 10)
""",
    """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(3), 10)
unittest.main(exit=False)
""",
    """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(3), 10)
unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))
""",
    """
class TestF:
    def test_f(self):
        assert f(3) == 10
""",
    """
def test_one():
    assert f(0) in (0, 1)
def test_two():
    assert f(3) == 10
""",
    """
async def test_f():
    assert f(3) == 10
""",
]
