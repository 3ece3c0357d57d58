"""What a run of the loop tells while it goes on, to whoever watches it (`rlm.RLM`'s `watch`).

Each event has the `level` of the loop that it belongs to: 1, or one more than that of the loop
whose code opened it. A loop is opened, then its events come, those of loops that its cells open
among them, then it is closed. It is not closed where Ctrl-C breaks the whole run off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlm.trajectory import Call, CallKind, Cell, Turn


@dataclass(frozen=True, slots=True)
class LoopOpened:
    """A loop begins on a context of `chars` characters."""

    level: int
    chars: int
    query: str


@dataclass(frozen=True, slots=True)
class LoopClosed:
    """A loop has ended: with an answer, which may be empty, or with an error as `Type: message`."""

    level: int
    answer: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model is asked, in turn `turn`."""

    level: int
    turn: int
    kind: CallKind


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The model has answered, or the call failed."""

    level: int
    call: Call


@dataclass(frozen=True, slots=True)
class CellBegun:
    """A cell of turn `turn` is about to run."""

    level: int
    turn: int
    code: str


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell of turn `turn` has run."""

    level: int
    turn: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn is over, and what the model will be told is known."""

    level: int
    turn: Turn


Event = LoopOpened | LoopClosed | CallBegun | CallEnded | CellBegun | CellEnded | TurnEnded
Watch = Callable[[Event], None]
"""Is called in the thread in which the event happens: the sub-calls of a batch that run at once
tell of themselves from threads of their own."""


def unwatched(event: Event) -> None:
    """Nobody watches."""
    del event
