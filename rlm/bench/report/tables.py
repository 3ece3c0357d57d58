"""The tables and bars of a page, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from rlm.bench import pairs
from rlm.bench.evidence import CAUSES, MEANING
from rlm.bench.grid import label
from rlm.bench.records import Record
from rlm.bench.report import summary
from rlm.bench.report.figures import Parts, Query
from rlm.bench.report.payload import Told
from rlm.bench.report.verdicts import LEFT, RIGHT
from rlm.bench.statistics import wilson


@dataclass(frozen=True, slots=True)
class Bar:
    """What pairs came to at one length: (name, count, start, width, query), widths of 1."""

    where: str
    pairs: int
    pieces: tuple[tuple[str, int, float, float, Parts], ...]


@dataclass(frozen=True, slots=True)
class CauseRow:
    """A cause of failure: its meaning, and (count, query) at each length."""

    name: str
    meaning: str
    counts: tuple[tuple[int, Parts], ...]
    total: int


@dataclass(frozen=True, slots=True)
class Causes:
    """Failures of the loop by length.

    Attributes:
        columns: the lengths.
        rows: causes that occur.
        unknown: failures of which nobody can tell the cause.
        seen: mean share of the gold spans that were seen, of all cells and of those that failed.
    """

    columns: tuple[str, ...]
    rows: tuple[CauseRow, ...]
    unknown: int
    seen: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """A line of the table of costs; figures are median and 95th percentile."""

    where: str
    architecture: str
    correct: str
    interval: str
    tokens: tuple[str, str]
    calls: tuple[str, str]
    seconds: tuple[str, str]
    others: str


def bars(cells: Sequence[Record], query: Query) -> tuple[Bar, ...]:
    """What the pairs of a task came to, length by length."""
    found = []
    for c in pairs.between_architectures(cells, LEFT, RIGHT):
        if not c.pairs:
            continue
        both = c.left_side.correct - c.losses
        counts = {
            "both": both,
            "right": c.wins,
            "left": c.losses,
            "neither": c.pairs - both - c.wins - c.losses,
        }
        pieces, start = [], 0.0
        for name, count in counts.items():
            width = count / c.pairs
            pieces.append((name, count, start, width, query.to(c.length, outcome=name)))
            start += width
        found.append(Bar(label(c.length), c.pairs, tuple(pieces)))
    return tuple(found)


def causes(told: Sequence[Told], query: Query) -> Causes:
    """Why cells of the loop are not correct, length by length, and how much evidence they saw."""
    lengths = sorted({t.record.length for t in told})
    failed = [t for t in told if t.record.verdict != "correct"]
    rows = []
    for name in CAUSES:
        mine = Counter(t.record.length for t in failed if t.cause == name)
        if mine:
            counts = tuple((mine[n], query.to(n, cause=name)) for n in lengths)
            rows.append(CauseRow(name, MEANING[name], counts, mine.total()))
    return Causes(
        columns=tuple(label(n) for n in lengths),
        rows=tuple(rows),
        unknown=sum(t.cause is None for t in failed),
        seen=tuple(
            (
                _seen(t for t in told if t.record.length == n),
                _seen(t for t in failed if t.record.length == n),
            )
            for n in lengths
        ),
    )


def _seen(told: Iterable[Told]) -> str:
    shares = [t.share for t in told if t.share is not None]
    return f"{fmean(shares):.0%} of {len(shares)}" if shares else "-"


def costs(cells: Sequence[Record]) -> tuple[Cost, ...]:
    """What the cells of a task took: the figures of `rlm.bench.report.summary`, and calls."""
    found = []
    for (_, unit, length, name), group in summary.groups(cells):
        counts = Counter(r.verdict for r in group)
        low, high = wilson(counts["correct"], len(group))
        unread = summary.is_unread(counts)
        timed = summary.timed(group)
        found.append(
            Cost(
                where=label(length) + ("" if unit == "tokens" else " chars"),
                architecture=name,
                correct="-" if unread else f"{counts['correct']}/{len(group)}",
                interval="-" if unread else f"[{low:.2f}, {high:.2f}]",
                tokens=_spread([float(r.usage.total) for r in timed], summary.count),
                calls=_spread([float(r.usage.calls) for r in timed], "{:.0f}".format),
                seconds=_spread([r.time.wall for r in timed], summary.short),
                others=summary.others(group),
            )
        )
    return tuple(found)


def _spread(values: Sequence[float], told: Callable[[float], str]) -> tuple[str, str]:
    return (told(median(values)), told(summary.p95(values))) if values else ("-", "-")
