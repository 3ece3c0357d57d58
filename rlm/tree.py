"""The tree of a run, drawn for a terminal: each loop, and below it those that its cells opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlm.messages import Usage
from rlm.trajectory import ChildRun, Trajectory
from rlm.visible import short, visible

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

CHARS = 100
"""Characters shown of a query or an answer."""


def draw(done: Trajectory, *, chars: int, query: str, answer: str, ended: str) -> Tree:
    """The tree of a run.

    Args:
        done: what happened in it.
        chars: length of the document.
        query: that was asked about it.
        answer: that was found; empty if none.
        ended: how, such as ``ended by final``.

    Returns:
        For each loop its depth, the length of its context, its query, what it did by itself
        (without the loops below it), how it ended and its answer.
    """
    from rich.tree import Tree

    head = f"depth 1: {count(chars, 'character')}"
    tree = Tree(_node(head, query, done, _end(answer, ended)))
    _add(tree, done, depth=2)
    return tree


def levels(done: Trajectory) -> Iterator[str]:
    """A line for each level: its loops together."""
    for depth, level in enumerate(done.levels, 1):
        did = _did(level.turns, level.sub_calls, level.usage)
        yield f"level {depth}: {count(level.runs, 'loop')}, {did}"


def count(number: int, noun: str) -> str:
    """Such as ``1 turn`` or ``1,200 turns``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _add(tree: Tree, done: Trajectory, *, depth: int) -> None:
    for child in done.children:
        place = f"depth {depth}, opened by turn {child.turn}, cell {child.cell}"
        head = f"{place}: {count(child.chars, 'character')}"
        node = tree.add(_node(head, child.query, child.trajectory, _child_end(child)))
        _add(node, child.trajectory, depth=depth + 1)


def _node(head: str, query: str, done: Trajectory, end: str) -> Text:
    from rich.text import Text

    own = done.levels[0]
    text = Text(head, style="bold")
    text.append(f"\n{short(query, CHARS)}", style="not bold cyan")
    did = _did(own.turns, own.sub_calls, own.usage)
    text.append(visible(f"\n{did}; {end}"), style="not bold")
    return text


def _did(turns: int, sub_calls: int, usage: Usage) -> str:
    tokens = usage.prompt_tokens + usage.completion_tokens
    return f"{count(turns, 'turn')}, {count(sub_calls, 'sub-call')}, {count(tokens, 'token')}"


def _child_end(child: ChildRun) -> str:
    if child.error:
        return _end("", f"failed: {short(child.error, CHARS)}")
    return _end(child.answer, f"ended by {child.ended_by}")


def _end(answer: str, how: str) -> str:
    found = f"answer: {short(answer, CHARS)}" if answer.strip() else "no answer"
    return f"{how}\n{found}"
