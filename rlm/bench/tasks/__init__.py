"""The task families, by name."""

from __future__ import annotations

import difflib

from rlm.bench.tasks.aggregate import Aggregation
from rlm.bench.tasks.base import Item, Scores, Span, Split, Task
from rlm.bench.tasks.long_doc_hops import LongDocHops
from rlm.bench.tasks.long_doc_qa import LongDocQA
from rlm.bench.tasks.niah import Niah
from rlm.bench.tasks.niah_keys import NiahKeys
from rlm.bench.tasks.niah_queries import NiahQueries
from rlm.bench.tasks.niah_semantic import NiahSemantic
from rlm.bench.tasks.niah_values import NiahValues
from rlm.bench.tasks.pairs import Pairs
from rlm.bench.tasks.trace import Trace
from rlm.errors import UsageError

__all__ = ["Item", "Scores", "Span", "Split", "Task", "get", "names", "register"]

_TASKS: dict[str, Task] = {}


def register(task: Task) -> None:
    """Make `task` known by its name; a task of the same name is replaced."""
    _TASKS[task.name] = task


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
register(NiahKeys())
register(NiahValues())
register(NiahQueries())
register(NiahSemantic())
register(LongDocHops())
register(Aggregation("aggregate", visible=False))
register(Aggregation("aggregate_visible", visible=True))
register(Pairs())
register(Trace())
