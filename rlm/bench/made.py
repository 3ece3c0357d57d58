"""Which cell of a turn made which call, and opened which loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import TypeVar

from rlm.trajectory import Call, ChildRun, Trajectory, Turn

T = TypeVar("T")

Made = tuple[int, Call | ChildRun]
"""A loop with the number of the cell that opened it, or a sub-call with 0."""


def by_turn(trajectory: Trajectory) -> dict[int, list[Made]]:
    """What the cells of each turn called, in the order of the calls."""
    found: list[tuple[int, int, int, Made]] = [
        (at, 1, call.turn, (0, call))
        for at, call in enumerate(trajectory.calls)
        if call.kind == "sub"
    ]
    found += [(child.call, 0, child.turn, (child.cell, child)) for child in trajectory.children]
    turns: defaultdict[int, list[Made]] = defaultdict(list)
    for _, _, turn, made in sorted(found, key=itemgetter(0, 1)):
        turns[turn].append(made)
    return turns


def dealt(turn: Turn, made: Iterable[tuple[int, T]]) -> list[list[T]]:
    """What each cell of a turn called, and in the last place what belongs to none.

    A loop knows its cell. Sub-calls fill up the calls that the cells counted, in order, and are
    never before the cell of a loop that was opened before them.
    """
    free = [cell.result.calls for cell in turn.cells]
    found: list[list[T]] = [[] for _ in (*free, None)]
    at = 0
    for cell, each in made:
        at = min(cell - 1, len(free)) if cell else at
        while not cell and at < len(free) and free[at] <= 0:
            at += 1
        if at < len(free):
            free[at] -= 1
        found[at].append(each)
    return found
