"""`LazyList` behaves as the list of the same items, in all that code does with one."""

from __future__ import annotations

import copy  # noqa: F401  (what the codes below use)
import dataclasses
import heapq
import itertools
import json
import pickle  # noqa: F401
import pprint
import random  # noqa: F401
from collections.abc import MutableSequence, Sequence  # noqa: F401
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rlm.sandbox.lazylist import LazyList, teach_json


def lazy(count: int = 4) -> Any:
    return LazyList(count, "item {}".format)


def true(count: int = 4) -> list[str]:
    return [f"item {index}" for index in range(count)]


READS = (
    "x[0]", "x[-1]", "x[True]", "x[1:3]", "x[::-2]", "x[:5]", "x[9:]", "len(x)", "bool(x)",
    "list(x)", "tuple(x)", "[*x]", "x + ['a']", "['a'] + x", "x + x", "x * 2", "2 * x", "x == x",
    "x == ['a']", "['a'] == x", "x != list(x)", "list(x) == x", "x < ['z']", "['a'] < x", "x <= x",
    "x > ['a']", "x >= list(x)", "sorted(x, reverse=True)", "', '.join(x)", "json.dumps(x)",
    "json.dumps({'a': [x]}, indent=1)", "str(x)", "repr([x])", "f'{x}'", "'%s' % (x,)",
    "isinstance(x, list)", "isinstance(x, (str, list))", "isinstance(x, Sequence)",
    "isinstance(x, MutableSequence)", "isinstance(x, tuple)", "x.__class__", "type(x).__name__",
    "'item 2' in x", "'nothing' in x", "x.index('item 2')", "x.index('item 2', 1, 3)",
    "x.count('item 2')", "x.copy()", "list(reversed(x))", "list(enumerate(x))", "max(x)",
    "list(zip(x, x))", "list(map(len, x))", "sum(map(len, x))", "set(x)", "dict.fromkeys(x)",
    "[y for y in x]", "list(itertools.chain(x, x))", "list(itertools.islice(x, 2))",
    "random.Random(1).sample(x, 2)", "random.Random(1).choice(x)", "copy.copy(x)",
    "copy.deepcopy(x)", "type(copy.copy(x))", "pickle.loads(pickle.dumps(x))", "first(x)",
    "[].__add__(list(x))", "type(x[:2])", "type(x + [])", "[*range(2)][0:1] + x",
    "json.dumps(x, default=str)", "json.dumps({'a': x, 'b': {1}}, default=list)",
    "json.dumps([x, {1}], cls=Writer)", "json.dumps([x, {1}], cls=Writer, indent=2)",
    "''.join(Writer().iterencode([x, {1}]))", "json.dumps([x], default=lambda y: y.__dict__)",
    "type(x)('ab')", "type(x)()", "type(x)(x)", "type(type(x)(x)) is list", "x.__class__('ab')",
    "dataclasses.asdict(Holder(x))", "dataclasses.astuple(Holder(x))", "Holder(x)",
    "type(dataclasses.asdict(Holder(x))['held']) is list",
)  # fmt: skip
ERRORS = (
    "x[4]", "x[-5]", "x['a']", "x[1.0]", "x.index('a')", "x.remove('a')", "hash(x)", "x + 'a'",
    "x + ('a',)", "('a',) + x", "x.nothing", "x()", "LAZY().pop()", "x.pop(9)", "x.sort(key=3)",
    "x < 3", "{x: 1}", "x[0:1:0]",
)  # fmt: skip
CHANGES = (
    "x.append('a')", "x.extend(x)", "x.extend('ab')", "x.insert(1, 'a')", "x.pop()", "x.pop(0)",
    "x.remove('item 1')", "x.clear()", "x.reverse()", "x.sort(key=len, reverse=True)",
    "x.__setitem__(0, 'a')", "x.__setitem__(slice(1, 3), 'abc')", "x.__delitem__(0)",
    "x.__delitem__(slice(0, 2))", "x.__iadd__(['a'])", "x.__iadd__(x)", "x.__imul__(2)",
    "random.Random(1).shuffle(x)", "x.__setitem__(slice(1, 1), x)",
)  # fmt: skip


@dataclasses.dataclass
class Holder:
    held: Any


class Writer(json.JSONEncoder):
    """Has a default of its own, and counts how often it is asked."""

    def default(self, o: Any) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        return sorted(o) if isinstance(o, set) else repr(o)


def first(x: Any) -> Any:
    match x:
        case [one, *rest]:
            return one, rest
    return None


def value(code: str, x: Any) -> Any:
    here = {"x": x, "LAZY": lambda: LazyList(0, str) if type(x) is LazyList else []}
    return eval(code, globals() | here)


@pytest.fixture(autouse=True)
def json_that_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json.JSONEncoder, "iterencode", json.JSONEncoder.iterencode)
    teach_json()


@pytest.mark.parametrize("code", READS)
def test_reading(code: str) -> None:
    found = value(code, lazy())
    assert found == value(code, true())
    assert type(found) is type(value(code, true()))


@pytest.mark.parametrize("code", ERRORS)
def test_errors(code: str) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011
        value(code, true())
    with pytest.raises(type(expected.value)) as found:
        value(code, lazy())
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("code", CHANGES)
def test_changes(code: str) -> None:
    x, expected = lazy(), true()
    found, given_back = value(code, x), value(code, expected)
    assert x[:] == expected
    assert list(found) == given_back if isinstance(given_back, list) else found == given_back
    assert type(x) is LazyList


def test_json_still_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        json.dumps(object())
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        json.dumps([lazy(), object()], indent=1)


def test_an_encoder_is_left_as_it_was() -> None:
    encoder = json.JSONEncoder(default=str)
    before = dict(vars(encoder))
    assert encoder.encode([lazy(), 1j]) == json.dumps([true(), "1j"])
    assert vars(encoder) == before
    writer = Writer()
    assert writer.encode([lazy(), {1}, {2}]) == json.dumps([true(), [1], [2]])
    assert vars(writer) == {**vars(Writer()), "asked": 2}


def test_what_it_is_not() -> None:
    """Told in docs/sandbox.md."""
    assert type(lazy()) is not list
    with pytest.raises(TypeError, match=r"must be (a )?list"):
        heapq.heapify(lazy())
    with pytest.raises(TypeError, match="'append' for 'list'"):
        list.append(lazy(), "a")
    assert "\n" in pprint.pformat(true(20))
    assert "\n" not in pprint.pformat(lazy(20))
    with pytest.raises(TypeError, match="cannot be assigned"):
        lazy().__class__ = tuple


def test_only_what_is_asked_for_is_made() -> None:
    made: list[int] = []

    def item(index: int) -> int:
        made.append(index)
        return index

    x = LazyList(10**9, item)
    assert (len(x), x[:3], x[-1], bool(x), 4 in itertools.islice(x, 6)) == (
        *(10**9, [0, 1, 2], 10**9 - 1, True, True),
    )
    assert made == [0, 1, 2, 10**9 - 1, 0, 1, 2, 3, 4]


def test_what_is_added_while_it_is_read_is_read_too() -> None:
    x = lazy(2)
    assert [x.append("more") or each for each in x if len(x) < 5][-1] == "more"


@pytest.mark.parametrize("code", ["repr(x)", "str(x)", "[repr(y) for y in x]"])
def test_one_that_holds_itself_can_be_shown(code: str) -> None:
    x, expected = lazy(), true()
    x.append(x)
    expected.append(expected)  # type: ignore[arg-type]
    assert value(code, x) == value(code, expected)
    with pytest.raises(ValueError, match="Circular reference"):
        json.dumps(x)


class Twins(RuleBasedStateMachine):
    """A `LazyList` and the list that it stands for, changed alike."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy, self.true = lazy(6), true(6)

    @rule(code=st.sampled_from([*CHANGES, *READS]))
    def act(self, code: str) -> None:
        if len(self.true) < 100:
            assert self.outcome(code, self.lazy) == self.outcome(code, self.true)

    @staticmethod
    def outcome(code: str, x: Any) -> str:
        try:
            return repr(value(code, x))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    @invariant()
    def are_equal(self) -> None:
        assert list(self.lazy) == self.true
        assert len(self.lazy) == len(self.true)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=20, stateful_step_count=15)


@given(st.integers(0, 9), st.slices(9))
def test_slices(count: int, part: slice) -> None:
    assert lazy(count)[part] == true(count)[part]
