"""A list whose items are made when they are asked for.

`chunk_text` gives one: the pieces of 100 MB are 100 MB more, and code often looks at five of them.
To code it is a list, and ``type(x)(items)`` makes a true one. ``type(x) is list`` says otherwise,
and what wants nothing but a true list (``heapq.heapify``, ``list.append(x, …)``, ``marshal``)
refuses it with an error; ``list(x)`` is one. ``pprint`` writes it in one line.

The worker imports this, so it imports the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from reprlib import recursive_repr

TYPE_CHECKING = False  # of typing, whose import is a tenth of a worker's start
if TYPE_CHECKING:
    from typing import Any, SupportsIndex


class LazyList(MutableSequence):  # type: ignore[type-arg]
    """`count` items, made by `item` from their index each time; a true list once it is changed.

    A slice is a true list. It cannot be a subclass of list, whose items C code reads from memory:
    ``json.dumps``, ``sorted`` and ``+`` would find none.
    """

    def __new__(cls, *given: Any) -> Any:
        """One of these of a count and a function; of anything else a list, as ``type(x)`` does."""
        return super().__new__(cls) if len(given) == 2 else list(*given)

    def __init__(self, count: int, item: Callable[[int], Any]) -> None:
        self._indices, self._item = range(count), item
        self._list: list[Any] | None = None

    @property
    def __class__(self) -> type:  # for isinstance(x, list)
        return list

    @__class__.setter
    def __class__(self, _value: type) -> None:
        raise TypeError("__class__ of a list cannot be assigned")

    def __len__(self) -> int:
        return len(self._indices if self._list is None else self._list)

    def __getitem__(self, index: Any) -> Any:
        if self._list is not None:
            return self._list[index]
        if isinstance(index, slice):
            return list(map(self._item, self._indices[index]))
        if not hasattr(index, "__index__"):
            raise TypeError(f"list indices must be integers or slices, not {type(index).__name__}")
        try:
            return self._item(self._indices[index])
        except IndexError:
            raise IndexError("list index out of range") from None

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < len(self):  # which may change meanwhile
            yield self[index]
            index += 1

    def _changed(self) -> list[Any]:
        """The items in memory, from now on."""
        if self._list is None:
            self._list = self[:]
        return self._list

    def __setitem__(self, index: Any, value: Any) -> None:
        self._changed()[index] = value

    def __delitem__(self, index: Any) -> None:
        del self._changed()[index]

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """As a list does."""
        self._changed().insert(index, value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        """As a list does."""
        return self._changed().pop(index)

    def remove(self, value: Any) -> None:
        """As a list does."""
        self._changed().remove(value)

    def index(self, value: Any, *bounds: SupportsIndex) -> int:
        """As a list does."""
        place: int = self[:].index(value, *bounds)
        return place

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As a list does."""
        self._changed().sort(key=key, reverse=reverse)

    def reverse(self) -> None:
        """As a list does."""
        self._changed().reverse()

    def extend(self, values: Iterable[Any]) -> None:
        """As a list does."""
        self._changed().extend(_plain(values))  # it may be itself

    def clear(self) -> None:
        """As a list does."""
        self._list = []

    def copy(self) -> list[Any]:
        """As a list does."""
        copied: list[Any] = self[:]
        return copied

    def __add__(self, other: Any) -> Any:
        return self[:] + _plain(other)

    def __radd__(self, other: Any) -> Any:
        return other + self[:]

    def __iadd__(self, values: Iterable[Any]) -> LazyList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        repeated: list[Any] = self[:] * times
        return repeated

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> LazyList:
        true = self._changed()
        true *= times
        return self

    def __eq__(self, other: object) -> Any:
        return self[:].__eq__(_plain(other))

    def __lt__(self, other: Any) -> Any:
        return self[:].__lt__(_plain(other))

    def __le__(self, other: Any) -> Any:
        return self[:].__le__(_plain(other))

    def __gt__(self, other: Any) -> Any:
        return self[:].__gt__(_plain(other))

    def __ge__(self, other: Any) -> Any:
        return self[:].__ge__(_plain(other))

    __hash__ = None  # type: ignore[assignment]

    @recursive_repr("[...]")
    def __repr__(self) -> str:
        return repr(self[:])

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (self[:],)  # for copy and pickle: a true list


LazyList.__name__ = LazyList.__qualname__ = "list"  # what messages and SHOW_VARS call it
LazyList.__module__ = "builtins"


def teach_json() -> None:
    """Let ``json.dumps`` write a `LazyList`, here and in every module that uses it.

    Whatever default the code gives is asked about other values alone.
    """
    encode = json.JSONEncoder.iterencode

    def iterencode(self: json.JSONEncoder, o: Any, _one_shot: bool = False) -> Iterator[str]:
        own, default = vars(self), self.default
        is_given = "default" in own
        own["default"] = lambda each: _plain(each, default)
        try:
            return encode(self, o, _one_shot)  # looks for the default before it returns
        finally:
            if is_given:
                own["default"] = default
            else:
                del own["default"]

    json.JSONEncoder.iterencode = iterencode  # type: ignore[method-assign]


def _plain(value: Any, other: Callable[[Any], Any] = lambda value: value) -> Any:
    """The true list of a `LazyList`, which is itself from its first change on; else `other`'s."""
    if type(value) is not LazyList:
        return other(value)
    return value[:] if value._list is None else value._list
