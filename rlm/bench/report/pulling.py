"""How a pull is shown: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from rlm.clients.pulling import Pulling


def show(steps: Iterable[Pulling], console: Console) -> None:
    """Show each step as it comes, to the last.

    Args:
        steps: of `rlm.clients.pulling.pull`.
        console: where to.
    """
    if console.is_terminal:
        _bars(steps, console)
    else:
        _lines(steps, console)


def _bars(steps: Iterable[Pulling], console: Console) -> None:
    """A bar for each part, a line for what has no size."""
    told: set[str] = set()
    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console) as progress:
        for step in steps:
            if step.total:
                if step.status not in bars:
                    bars[step.status] = progress.add_task(step.status, total=step.total)
                progress.update(bars[step.status], completed=step.completed)
            elif step.status not in told:
                told.add(step.status)
                progress.console.out(step.status, highlight=False)


def _lines(steps: Iterable[Pulling], console: Console) -> None:
    """A line for each new step, and for each quarter of a part."""
    told: set[tuple[str, int]] = set()
    for step in steps:
        quarter = 4 * step.completed // step.total if step.total else 0
        if (step.status, quarter) not in told:
            told.add((step.status, quarter))
            size = f": {decimal(step.completed)} of {decimal(step.total)}" if step.total else ""
            console.out(step.status + size, highlight=False)
