"""The table at the end of a run: tasks, lengths, architectures."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from io import StringIO
from statistics import median, quantiles
from textwrap import fill
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm.bench.grid import label
from rlm.bench.pairs import is_cut_answer, is_lost
from rlm.bench.records import FAILED, VALID, VERDICTS, Record, Verdict
from rlm.bench.report import verdicts
from rlm.bench.statistics import wilson

Group = tuple[str, str, int, str]

SOLVED: Final = 0.95
"""Share of cells whose answer ``grep`` finds from which on a table says that it solves them."""


def summary(records: Sequence[Record], *, width: int, color: bool) -> str:
    """The table as text, below it what it says of pairs, and what was spent outside the model.

    Args:
        records: the cells of the table.
        width: columns of the terminal.
        color: use its colours.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "length", "arch"):
        table.add_column(name, no_wrap=True)
    for name in ("correct", "interval", "seconds", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("other verdicts")
    solved = _solved(records)
    for (task, unit, length, architecture), cells in groups(records):
        where = label(length) + ("" if unit == "tokens" else " chars")
        mark = " *" if (task, unit, length) in solved else ""
        table.add_row(task, where + mark, architecture, *_figures(cells))
    legend = ["correct: of all cells, with its 95 % interval; seconds, tokens: median/p95"]
    if solved:
        legend.append("*: grep, a regular expression without a model, finds these answers")
    if unread := _unread(records):
        legend.append(unread)
    if told := cut(records):
        legend.append(told)
    said = ["", *found] if (found := verdicts.lines(records)) else []
    share = outside_model(records)
    if share is not None:
        said.append(f"time outside the model, median over rlm cells: {share:.0%}")
    lines = [_wrapped(line, width) for line in (*legend, *said)]
    return "\n".join([render(table, width=width, color=color), *lines])


def outside_model(records: Iterable[Record], architecture: str = "rlm") -> float | None:
    """Median share of a cell's wall time that was not spent in calls of the model.

    Cells that were not measured, and those of which no call was answered, say nothing of it.
    Calls of one batch that run at once count together, so the share may be underestimated there.
    """
    shares = [
        max(0.0, 1 - r.time.model / r.time.wall)
        for r in records
        if r.architecture == architecture and r.verdict not in FAILED
        if r.usage.calls and r.time.wall > 0
    ]
    return median(shares) if shares else None


def render(table: Table, *, width: int, color: bool) -> str:
    """A table as text without a final newline."""
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, legacy_windows=False
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _wrapped(line: str, width: int) -> str:
    """A sentence over several lines; ``n = 9`` stays together."""
    tied = re.sub(" ([=<]) ", "\u00a0\\1\u00a0", line)
    return fill(tied, max(width, 20), subsequent_indent="    ").replace("\u00a0", " ")


def groups(records: Sequence[Record]) -> list[tuple[Group, list[Record]]]:
    """Cells by task and length, architectures in the order in which they first occur."""
    order: dict[str, int] = {}
    groups: defaultdict[Group, list[Record]] = defaultdict(list)
    for r in records:
        order.setdefault(r.task, len(order))
        groups[r.task, r.unit, r.length, r.architecture].append(r)
    first = {name: i for i, name in enumerate(dict.fromkeys(r.architecture for r in records))}
    return sorted(groups.items(), key=lambda g: (order[g[0][0]], g[0][1], g[0][2], first[g[0][3]]))


def _solved(records: Iterable[Record]) -> set[tuple[str, str, int]]:
    """Tasks and lengths whose cells ``grep`` answers all, or nearly."""
    found: defaultdict[tuple[str, str, int], list[bool]] = defaultdict(list)
    for r in records:
        if r.grep is not None:
            found[r.task, r.unit, r.length].append(r.grep)
    return {place for place, right in found.items() if sum(right) >= SOLVED * len(right)}


def _figures(cells: Sequence[Record]) -> list[str | Text]:
    """Columns after the names. What is not correct counts 0, of whatever verdict it is."""
    counts = Counter(r.verdict for r in cells)
    low, high = wilson(counts["correct"], len(cells))
    share = Text(f"{counts['correct']}/{len(cells)}", style=_style(low, high))
    interval = f"[{low:.2f}, {high:.2f}]"
    if is_unread(counts):
        share, interval = Text("-"), "-"
    told = timed(cells)
    seconds = [r.time.wall for r in told]
    tokens = [float(r.usage.total) for r in told]
    return [
        share,
        Text(interval),
        f"{short(median(seconds))}/{short(p95(seconds))}" if told else "-",
        f"{count(median(tokens))}/{count(p95(tokens))}" if told else "-",
        others(cells),
    ]


def is_unread(counts: Counter[Verdict]) -> bool:
    """Whether nothing was read by these cells, so that nothing was got wrong."""
    return counts["truncated"] + sum(counts[v] for v in FAILED) == counts.total()


def timed(cells: Iterable[Record]) -> list[Record]:
    """Cells that were measured; a time limit that no answer came before is no measure of speed."""
    told = [r for r in cells if r.verdict not in FAILED]
    return [r for r in told if r.verdict != "timeout" or r.usage.calls]


def others(cells: Sequence[Record]) -> str:
    """What is no answer to the whole document, and the share correct of what is one."""
    told, valid = invalid(cells), [r.verdict for r in cells if r.is_valid]
    share = f"{valid.count('correct')}/{len(valid)} of valid"
    return f"{told}; {share}" if told and valid else told


def invalid(cells: Sequence[Record], *, cut: str = "cut") -> str:
    """What is no answer to the whole document: ``2 truncated, 1 error``.

    `cut` is what an answer to a part is called: ``3 cut (2 lost)``.
    """
    counts = Counter(r.verdict for r in cells)
    told = [f"{counts[v]} {v}" for v in VERDICTS if counts[v] and v not in VALID]
    if parts := [r for r in cells if is_cut_answer(r)]:
        lost = sum(map(is_lost, parts))
        told.append(f"{len(parts)} {cut}" + (f" ({lost} lost)" if lost else ""))
    return ", ".join(told)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile, between neighbours where it falls between two."""
    return quantiles(values, n=20, method="inclusive")[-1] if values[1:] else values[0]


def short(seconds: float) -> str:
    """Seconds in three digits or so."""
    digits = 2 if seconds < 10 else 1 if seconds < 100 else 0
    return f"{seconds:.{digits}f}"


def count(tokens: float) -> str:
    """Tokens; from 10,000 on in thousands."""
    return f"{tokens:.0f}" if tokens < 10_000 else f"{tokens / 1000:.0f}k"


def _style(low: float, high: float) -> str:
    return "green" if low > 0.5 else "red" if high < 0.5 else ""


def cut(records: Iterable[Record]) -> str:
    """What ``cut`` and ``lost`` mean of these cells; empty if none was cut."""
    found = [r for r in records if is_cut_answer(r)]
    if not found:
        return ""
    methods = ", ".join(sorted({r.cut.method for r in found if r.cut}))
    told = (
        f"cut: answers to a part of the document, the rest was left out by --rlm-overflow {methods}"
    )
    lost = "; lost: what was left out held evidence" if any(map(is_lost, found)) else ""
    return f"{told}{lost}"


def _unread(records: Iterable[Record]) -> str:
    """What ``truncated`` means in this table, and the windows that did not suffice."""
    cut = [r.model.window for r in records if r.verdict == "truncated"]
    if not cut:
        return ""
    sizes = ", ".join(str(w) for w in sorted({w for w in cut if w}))
    window = f"window of {sizes} tokens" if sizes else "model's window"
    return f"truncated: could not be read, the prompt does not fit the {window}"
