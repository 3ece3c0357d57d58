"""The task families, by name."""

from __future__ import annotations

import difflib

from rlm.bench.tasks import niah_queries, niah_values
from rlm.bench.tasks.aggregate import Aggregation
from rlm.bench.tasks.base import Item, Scores, Span, Split, Task
from rlm.bench.tasks.long_doc_hops import LongDocHops
from rlm.bench.tasks.long_doc_qa import LongDocQA
from rlm.bench.tasks.needles import NumberList
from rlm.bench.tasks.niah import Niah
from rlm.bench.tasks.niah_keys import NiahKeys
from rlm.bench.tasks.niah_semantic import NiahSemantic
from rlm.bench.tasks.pairs import Pairs
from rlm.bench.tasks.trace import Trace
from rlm.errors import UsageError

__all__ = ["Item", "Scores", "Span", "Split", "Task", "by_name_alone", "get", "names", "register"]

_TASKS: dict[str, Task] = {}
_BY_NAME_ALONE: set[str] = set()


def register(task: Task, *, by_name_alone: bool = False) -> None:
    """Make `task` known by its name; a task of the same name is replaced.

    Args:
        task: any.
        by_name_alone: run its cells only where a command line has its name.
    """
    _TASKS[task.name] = task
    (_BY_NAME_ALONE.add if by_name_alone else _BY_NAME_ALONE.discard)(task.name)


def by_name_alone(name: str) -> bool:
    """Whether the cells of a task run only where a command line has its name."""
    return name in _BY_NAME_ALONE


def names() -> tuple[str, ...]:
    """Names of all known tasks, in the order of their registration."""
    return tuple(_TASKS)


def get(name: str) -> Task:
    """The task called `name`.

    Raises:
        UsageError: there is none; the message lists what exists.
    """
    if name not in _TASKS:
        near = difflib.get_close_matches(name, _TASKS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UsageError(f"unknown task {name!r}{hint}; there are: {', '.join(_TASKS)}")
    return _TASKS[name]


register(Niah())
register(LongDocQA())
for _family in (
    NiahKeys(),
    NumberList(niah_values.NAME, niah_values.draw),
    NumberList(niah_queries.NAME, niah_queries.draw),
    NiahSemantic(),
    LongDocHops(),
    Aggregation("aggregate", visible=False),
    Aggregation("aggregate_visible", visible=True),
    Pairs(),
    Trace(),
):
    register(_family, by_name_alone=True)
