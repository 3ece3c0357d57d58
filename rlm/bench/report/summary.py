"""The table at the end of a run: tasks, lengths, architectures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from io import StringIO
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm.bench.grid import label
from rlm.bench.records import FAILED, VERDICTS, Record
from rlm.bench.statistics import wilson

Group = tuple[str, str, int, str]


def summary(records: Sequence[Record], *, width: int, color: bool) -> str:
    """The table as text, and below it what the cells spent outside the model.

    Args:
        records: the cells of the table.
        width: columns of the terminal.
        color: use its colours.
    """
    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "length", "arch"):
        table.add_column(name, no_wrap=True)
    for name in ("correct", "95 % interval", "seconds", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("other verdicts")
    for (task, unit, length, architecture), cells in _groups(records):
        where = label(length) + ("" if unit == "tokens" else " chars")
        table.add_row(task, where, architecture, *_figures(cells))
    lines = [render(table, width=width, color=color)]
    if unread := _unread(records):
        lines.append(unread)
    share = outside_model(records)
    if share is not None:
        lines.append(f"time outside the model, median over rlm cells: {share:.0%}")
    return "\n".join(lines)


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


def _groups(records: Sequence[Record]) -> list[tuple[Group, list[Record]]]:
    """Cells by task and length, architectures in the order in which they first occur."""
    order: dict[str, int] = {}
    groups: defaultdict[Group, list[Record]] = defaultdict(list)
    for r in records:
        order.setdefault(r.task, len(order))
        groups[r.task, r.unit, r.length, r.architecture].append(r)
    first = {name: i for i, name in enumerate(dict.fromkeys(r.architecture for r in records))}
    return sorted(groups.items(), key=lambda g: (order[g[0][0]], g[0][1], g[0][2], first[g[0][3]]))


def _figures(cells: Sequence[Record]) -> list[str | Text]:
    """Columns after the names. What was not measured is listed, and counts for nothing else."""
    counts = Counter(r.verdict for r in cells)
    measured = [r for r in cells if r.verdict not in FAILED]
    low, high = wilson(counts["correct"], len(measured))
    share = Text(f"{counts['correct']}/{len(measured)}", style=_style(low, high))
    interval = f"[{low:.2f}, {high:.2f}]"
    if measured and counts["truncated"] == len(measured):
        share, interval = Text("-"), "-"  # nothing was read, so nothing was got wrong
    # A time limit that no answer came before is no measure of speed.
    told = [r for r in measured if r.verdict != "timeout" or r.usage.calls]
    tokens = [r.usage.prompt_tokens + r.usage.completion_tokens for r in told]
    others = [v for v in VERDICTS if counts[v] and v not in ("correct", "wrong")]
    return [
        share,
        Text(interval),
        f"{median(r.time.wall for r in told):.2f}" if told else "-",
        f"{median(tokens):,.0f}" if tokens else "-",
        ", ".join(f"{counts[v]} {v}" for v in others),
    ]


def _style(low: float, high: float) -> str:
    return "green" if low > 0.5 else "red" if high < 0.5 else ""


def _unread(records: Iterable[Record]) -> str:
    """What ``truncated`` means in this table, and the windows that did not suffice."""
    cut = [r.model.window for r in records if r.verdict == "truncated"]
    if not cut:
        return ""
    sizes = ", ".join(str(w) for w in sorted({w for w in cut if w}))
    window = f"window of {sizes} tokens" if sizes else "model's window"
    return f"truncated: could not be read, the prompt does not fit the {window}"
