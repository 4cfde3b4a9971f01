"""Objects that cross a dialogue keep their contents, their types and their identity."""

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocoder_jax.execution.worker import values
from zerocoder_jax.execution.worker.objects import Table
from zerocoder_jax.execution.worker.values import Malformed

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-99, 2**70), st.text(max_size=3), st.binary(max_size=3),
    st.floats(allow_nan=False), st.fractions(max_denominator=9), st.dates(),
    st.tuples(st.integers(0, 9), st.text(max_size=2)), st.frozensets(st.integers(0, 9), max_size=3),
)  # fmt: skip
_EMPTY = (list, dict, OrderedDict, lambda: defaultdict(list), deque, lambda: deque(maxlen=3))


def _put(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container.append(value)


@st.composite
def _graphs(draw: st.DrawFn) -> list[Any]:
    """Containers that hold scalars and one another, in tuples too: shared, nested, in circles."""
    nodes = [draw(st.sampled_from(_EMPTY))() for _ in range(draw(st.integers(1, 6)))]
    for key in range(draw(st.integers(0, 14))):
        target, other = (nodes[draw(st.integers(0, len(nodes) - 1))] for _ in range(2))
        value = draw(st.one_of(_SCALARS, st.just(other), st.just((key, other))))
        _put(target, key, value)
    return [*nodes, draw(st.sets(_SCALARS, max_size=3)), Counter(draw(st.text(max_size=4)))]


def _shape(value: Any, seen: dict[int, int]) -> Any:
    """A value without its identities, each of which becomes the place where it was met first."""
    if isinstance(value, tuple):
        return "tuple", [_shape(item, seen) for item in value]
    if not isinstance(value, list | dict | deque | set | bytearray):
        return type(value), value
    if id(value) in seen:
        return "again", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        inner: Any = [(key, _shape(item, seen)) for key, item in value.items()]
    elif isinstance(value, set):
        inner = frozenset(value)
    else:
        inner = [_shape(item, seen) for item in value]
    return type(value), getattr(value, "maxlen", None), inner


def _cross(sender: Table, receiver: Table, body: Any) -> Any:
    return receiver.unpack_message(values.from_json(values.to_json(sender.pack_message(body))))


@given(_graphs())
def test_a_graph_arrives_with_the_same_shape(graph: list[Any]) -> None:
    arrived = _cross(Table(True), Table(False), graph)
    assert _shape(arrived, {}) == _shape(graph, {})


@settings(max_examples=50)
@given(_graphs(), st.data())
def test_both_sides_see_one_object_whichever_changes_it(
    graph: list[Any], data: st.DataObject
) -> None:
    test, candidate = Table(True), Table(False)
    theirs = _cross(test, candidate, graph)
    sides = [(test, candidate, graph, theirs), (candidate, test, theirs, graph)]
    for step in range(data.draw(st.integers(1, 5))):
        sender, receiver, here, there = sides[data.draw(st.integers(0, 1))]
        for container in here[:-2]:
            if data.draw(st.booleans()):
                _put(container, f"new {step}", data.draw(st.one_of(_SCALARS, st.just(here))))
        assert _cross(sender, receiver, here) is there
        assert _shape(there, {}) == _shape(here, {})


def test_what_was_sent_comes_back_as_the_object_that_it_is() -> None:
    test, candidate = Table(True), Table(False)
    rows = [[1], [2]]
    theirs = _cross(test, candidate, ("call", rows))[1]
    assert _cross(candidate, test, theirs[1]) is rows[1]
    assert _cross(candidate, test, {"a": theirs})["a"] is rows


def test_what_the_test_holds_no_longer_is_forgotten_on_both_sides() -> None:
    test, candidate = Table(True), Table(False)
    kept = [0]
    theirs = [_cross(test, candidate, [kept, [number]]) for number in range(50)]
    assert all(one[0] is theirs[0][0] for one in theirs)
    assert len(test._entries) == len(candidate._entries) < 5


def test_a_change_that_was_made_last_is_sent_before_it_is_forgotten() -> None:
    test, candidate = Table(True), Table(False)
    held = []
    theirs = _cross(test, candidate, held)
    held.append(3)
    del held
    _cross(test, candidate, None)
    assert theirs == [3]


@given(st.recursive(
    st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.sampled_from(["ref", "tuple", "sub", "view"]), inner, max_size=1),
    ),
))  # fmt: skip
def test_a_message_that_no_table_wrote_is_malformed_or_data(message: Any) -> None:
    table = Table(True)
    mine: list[Any] = []
    table.pack_message(mine)
    try:
        table.unpack_message(message)
    except Malformed:
        return
    assert type(mine) is list


@pytest.mark.parametrize(
    "message",
    [
        [[], [], [[-5, {"type": "object"}, None]], [], None],  # a number of the other side
        [[], [[1, "m", "C", "object", ["__eq__"], []]], [], [], None],  # no special to forward
        [[], [], [], [[1, "list", None, [{"ref": 9}]]], None],
        [[], [], [], [[1, "dict", None, [[]]]], None],
        [[], [], [], [], {"global": ["builtins", "eval"]}],
        [[], [], [], [], {"sub": [1, {"type": "int"}, "str", "a"]}],
        [[], [], [], [], {"opaque": True, "x": 1}],
    ],
)
def test_what_only_a_forger_sends_is_malformed(message: Any) -> None:
    with pytest.raises(Malformed):
        Table(True).unpack_message(message)
