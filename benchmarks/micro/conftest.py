"""One table at the end of the session: what was measured beside the goal it was measured for.

The goals are not asserted: a busy machine would fail them, and would be no news.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Row:
    """One line of the table; all times are medians in milliseconds."""

    goal: float | None
    times: dict[str, float] = field(default_factory=dict)


ROWS = pytest.StashKey[dict[str, Row]]()


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., Any]:
    """``benchmark.pedantic`` that keeps what it measured for the table.

    The group is the row, ``backend`` (or the host itself) the column. Where pytest-benchmark is
    off, as under xdist, the target still runs once, and nothing is kept.
    """
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    column = params.get("backend", "host")

    def measure(
        row: str,
        target: Callable[..., Any],
        *,
        goal: float | None = None,
        parts: int = 1,
        **how: Any,
    ) -> Any:
        """Measure `target`, of which `parts` equal parts make one time; `goal` in milliseconds."""
        benchmark.group = row if parts == 1 else f"{row}, times {parts}"
        result = benchmark.pedantic(target, **how)
        if benchmark.stats is None:
            return result
        median = benchmark.stats.stats.median * 1000 / parts
        info = {"goal_ms": goal, "of_goal": median / goal} if goal else {}
        benchmark.extra_info.update(median_ms=median, parts=parts, **info)
        rows = request.config.stash.setdefault(ROWS, {})
        rows.setdefault(row, Row(goal)).times[column] = median
        return result

    return measure


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Rows are what was measured, columns are backends."""
    rows = terminalreporter.config.stash.get(ROWS, {})
    if not rows:
        return
    columns = list(dict.fromkeys(column for row in rows.values() for column in row.times))
    width = max(map(len, rows)) + 1
    terminalreporter.section("medians in ms (! is above its goal)")
    head = "".join(f"{column:>10}" for column in (*columns, "goal"))
    terminalreporter.write_line(f"{'':{width}}{head}")
    for name, row in rows.items():
        cells = [_cell(row.times.get(column), row.goal) for column in columns]
        terminalreporter.write_line(f"{name:{width}}{''.join(cells)}{_cell(row.goal)}")


def _cell(time: float | None, goal: float | None = None) -> str:
    """Ten characters wide, the last one for the mark."""
    if time is None:
        return " " * 10
    text = f"{time:.0f}" if time >= 100 else f"{time:.3g}"
    return f"{text:>9}" + ("!" if goal is not None and time > goal else " ")
