"""What a run would do and cost, before it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from rlm import architectures
from rlm.bench.grid import CHARS_PER_TOKEN, Cell, label
from rlm.bench.report.summary import render
from rlm.overflow import Overflow

ROUND_TOKENS: Final = 4_000
"""Prompt tokens of a cell that reads piece by piece: some turns and sub-calls, at any length."""
OVERHEAD_TOKENS: Final = 100
"""System prompt and question around a document that is in the prompt."""
READ_SECONDS: Final = 0.6
CODE_SECONDS: Final = 1.2
"""Seconds of a cell on the embedded model, on one contended core."""


def plan(
    cells: Sequence[Cell],
    *,
    spec: str,
    window: int | None,
    overflow: Overflow = "refuse",
    width: int,
    color: bool,
) -> str:
    """A table of the cells by task, length and architecture, with rough costs.

    Args:
        cells: that would run.
        spec: of the model; time is predicted for the embedded one only.
        window: in tokens, if one was asked for; a prompt larger than it costs nothing.
        overflow: unless it is ``refuse``, a document that does not fit is cut to the window.
        width: columns of the terminal.
        color: use its colours.
    """
    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "length", "arch"):
        table.add_column(name, no_wrap=True)
    for name in ("cells", "prompt tokens", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    timed = spec.startswith("embedded")
    window = window or (4096 if timed else None)
    tokens_all, seconds_all = 0, 0.0
    groups = Counter((c.task, c.unit, c.length, c.architecture) for c in cells)
    for (task, unit, length, architecture), count in groups.items():
        tokens = length if unit == "tokens" else length // CHARS_PER_TOKEN
        tokens, seconds = cost(architecture, tokens, window, overflow)
        tokens_all, seconds_all = tokens_all + count * tokens, seconds_all + count * seconds
        where = label(length) + ("" if unit == "tokens" else " chars")
        time = duration(count * seconds) if timed else "-"
        table.add_row(task, where, architecture, str(count), f"{count * tokens:,}", time)
    total = f"{len(cells)} cells on {spec}, about {tokens_all:,} prompt tokens"
    if timed:
        total += f" and {duration(seconds_all)} on one core"
    return f"{render(table, width=width, color=color)}\n{total}"


def cost(
    architecture: str, tokens: int, window: int | None, overflow: Overflow
) -> tuple[int, float]:
    """Prompt tokens and seconds, on the embedded model, of one cell.

    Args:
        architecture: its name.
        tokens: of the document.
        window: in tokens, if it is known.
        overflow: what becomes of a document that does not fit.
    """
    way = architectures.get(architecture)
    if way.runs_code:
        return ROUND_TOKENS, CODE_SECONDS
    if not way.calls:
        return 0, 0.0
    if way.reads is not None:
        tokens = min(tokens, way.reads // CHARS_PER_TOKEN)
    if window is not None and tokens + OVERHEAD_TOKENS > window:
        is_cut = way.overflows and overflow != "refuse"
        return (window, READ_SECONDS) if is_cut else (0, 0.1)
    return tokens + OVERHEAD_TOKENS, READ_SECONDS


def duration(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
