"""Two runs side by side: what became better, what worse, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from rlm.bench.gates import Change, changes, unpaired
from rlm.bench.grid import label
from rlm.bench.pairs import Comparison
from rlm.bench.report import summary
from rlm.bench.statistics import Estimate
from rlm.visible import line

_STYLES: Final = {"better": "green", "worse": "red", "none": "", "too few": "dim"}
_MEANING: Final = """\
points: the difference with its 95 % interval; what is not correct counts 0
w:l: pairs won and lost, which only the later or only the earlier run got right
p: exact McNemar test over documents, adjusted for all lines together (Holm)
none: no change seen, p is 0.05 or more; that does not prove there is none
too few: so few documents cannot show a change, whatever had come out"""


def render(comparisons: Sequence[Comparison], *, width: int, color: bool) -> str:
    """A table of what changed between two runs, and below it what it leaves out.

    Args:
        comparisons: of `rlm.bench.pairs.between_runs`.
        width: columns of the terminal.
        color: use its colours.
    """
    shown = changes(comparisons)
    lines = [f"compared: {_runs(comparisons[0])}"] if comparisons else []
    if shown:
        lines += [summary.render(_table(shown), width=width, color=color), _MEANING]
    else:
        lines.append("no cell of one run has a partner in the other: nothing is compared")
    lines += notes([c for c, _ in shown])
    lines.append(unpaired(comparisons))
    return "\n".join(filter(None, lines))


def notes(comparisons: Sequence[Comparison]) -> list[str]:
    """How many answers are to a part of the document, and what holds of those to the whole."""
    told = [_cut(c) for c in comparisons if c.left_side.cut or c.right_side.cut]
    return told + [_of_valid(c) for c in comparisons if c.valid.pairs < c.pairs]


def place(comparison: Comparison) -> tuple[str, str, str]:
    """Task, length and architecture as they are written in tables, fit to be shown."""
    unit = "" if comparison.unit == "tokens" else " chars"
    length = label(comparison.length) + unit
    return line(comparison.task), length, line(comparison.architecture)


def points(difference: Estimate) -> str:
    """A difference in percentage points, such as ``+12 [-3, +27]``."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"


def _table(shown: Sequence[tuple[Comparison, Change]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "length", "arch"):
        table.add_column(name, no_wrap=True)
    for name in ("before", "after", "points", "w:l", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("change", no_wrap=True)
    for c, change in shown:
        table.add_row(
            *place(c),
            f"{c.left_side.correct}/{c.pairs}",
            f"{c.right_side.correct}/{c.pairs}",
            Text(points(c.difference)),
            f"{c.wins}:{c.losses}",
            "<0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}",
            Text(change, style=_STYLES[change]),
        )
    return table


def _runs(comparison: Comparison) -> str:
    return f"{line(comparison.left)} → {line(comparison.right)}"


def _cut(comparison: Comparison) -> str:
    """How many answers are to a document that was cut on purpose, in either run."""
    c = comparison
    sides = ((line(c.left), c.left_side), (line(c.right), c.right_side))
    told = (
        f"{side.cut} of {c.pairs} in {run}{f' ({side.lost} without evidence)' * (side.lost > 0)}"
        for run, side in sides
        if side.cut
    )
    return f"{' '.join(place(c))}: documents cut on purpose: {', '.join(told)}"


def _of_valid(comparison: Comparison) -> str:
    """The other estimand, where some pair has a side without an answer, or with one to a part."""
    valid, name = comparison.valid, " ".join(place(comparison))
    whole = " to the whole document" * bool(comparison.left_side.cut or comparison.right_side.cut)
    if valid.difference is None:
        return f"{name}: no pair has an answer{whole} on both sides"
    return (
        f"{name}: of the {valid.pairs} pairs with an answer{whole} on both sides: "
        f"{points(valid.difference)} points"
    )
