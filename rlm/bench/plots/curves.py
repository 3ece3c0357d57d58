"""Figures by length: accuracy, seconds, sub-calls, turns.

What was not answered is hatched, left out of every mean, and breaks a line: it is never drawn as a
wrong answer, nor a refusal as a quick one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import nan
from statistics import fmean, median, quantiles
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from rlm.bench import pairs
from rlm.bench.grid import Unit
from rlm.bench.plots import style
from rlm.bench.records import VALID, Record
from rlm.bench.report import summary
from rlm.bench.report.figures import window_in_sight
from rlm.bench.report.verdicts import RIGHT
from rlm.bench.statistics import wilson


@dataclass(frozen=True, slots=True)
class Series:
    """Cells of one architecture of one run, all of one task.

    Attributes:
        architecture: its name.
        colour: number of its colour and marker.
        run: number of the run in the figure, from 0, which is that of its line.
        cells: its records.
    """

    architecture: str
    colour: int
    run: int
    cells: tuple[Record, ...]

    @property
    def look(self) -> dict[str, Any]:
        """Colour, marker and line."""
        number = self.colour
        return {
            "color": style.COLOURS[number],
            "marker": style.MARKERS[number],
            "linestyle": style.line(self.run),
        }

    def at(self, length: int) -> list[Record]:
        """Its cells of one length."""
        return [r for r in self.cells if r.length == length]


@dataclass(frozen=True, slots=True)
class Panel:
    """What the figures of one task have in common.

    Attributes:
        title: the task.
        unit: of the lengths.
        lengths: all that occur, ascending.
        series: of all runs.
        runs: their names.
        width: of the figure, in inches.
    """

    title: str
    unit: Unit
    lengths: tuple[int, ...]
    series: tuple[Series, ...]
    runs: tuple[str, ...]
    width: float

    @property
    def key(self) -> list[tuple[Any, str]]:
        """Architectures by colour and marker and, if there are several, runs by line."""
        colours = {s.architecture: s for s in self.series}
        found = [(Line2D([], [], **{**s.look, "linestyle": "-"}), n) for n, s in colours.items()]
        if len(self.runs) > 1:
            lines = (style.line(number) for number in range(len(self.runs)))
            runs = [Line2D([], [], color=style.DIM, linestyle=line) for line in lines]
            found += zip(runs, self.runs, strict=True)
        return found


FEW: Final = 4
"""Series whose bands can still be told apart."""

Curve = list[float]
"""A value for each length; nan where there is none."""


def accuracy(panel: Panel) -> Figure | None:
    """Share of the answers that are right with its 95 % interval (Wilson), and where windows end.

    An open mark counts answers to a part of a document, cut on purpose. Below, hatched: the share
    of cells without an answer (truncated, timeout, error, crashed).
    """
    unanswered = any(r.verdict not in VALID for s in panel.series for r in s.cells)
    key = [*panel.key, style.band("95 % interval"), *[style.no_answer()] * unanswered]
    figure = style.figure(panel.width, 2.3 + 0.4 * unanswered, key)
    if unanswered:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        _strip(below, panel)
    else:
        above = below = figure.subplots()
    above.set_title(panel.title)
    for series, right in spread(panel):
        _accuracy(above, panel, series, right)
    above.set_ylim(-0.04, 1.04)
    _percent(above, (0, 0.25, 0.5, 0.75, 1))
    above.set_ylabel("right answers (%)")
    above.grid(axis="y")
    figure.align_ylabels()
    style.by_length(below, panel.lengths, panel.unit)
    _windows(above, panel)
    return figure


def latency(panel: Panel) -> Figure | None:
    """Seconds of a cell: median, and 95th percentile (open marks)."""
    mark = Line2D([], [], color=style.DIM, marker="o", markerfacecolor="white", linewidth=0.7)
    figure, axes = _single(panel, [*panel.key, (mark, "95th percentile")])
    seen: Curve = []
    for series, right in spread(panel):
        found = [[r.time.wall for r in measured(series.at(n))] for n in panel.lengths]
        middle, high = _each(found, median), _each(found, summary.p95)
        to = style.shifted(axes, right)
        axes.plot(panel.lengths, middle, transform=to, **series.look)
        faint = {"alpha": 0.65, "linewidth": 0.7, "markerfacecolor": "white"}
        axes.plot(panel.lengths, high, transform=to, **series.look | faint)
        seen += [y for y in (*middle, *high) if y > 0]
    if not seen:
        return None
    axes.set_yscale("log")
    axes.set_ylim(min(seen) / 1.4, max(seen) * 1.4)
    style.few_ticks(axes)
    axes.set_ylabel("seconds a cell")
    return figure


def sub_calls(panel: Panel) -> Figure | None:
    """Calls from inside code cells: mean, 5th to 95th percentile."""
    return _counts(panel, lambda r: r.usage.sub_calls, 0, "sub-calls a cell")


def iterations(panel: Panel) -> Figure | None:
    """Turns of all loops of a cell: mean, 5th to 95th percentile."""
    return _counts(panel, lambda r: r.iterations, 1, "turns a cell")


def _counts(panel: Panel, count: Callable[[Record], int], none: int, what: str) -> Figure | None:
    """Of architectures that loop: the others' would be a line at `none`."""
    loops = tuple(
        s
        for s in panel.series
        if s.architecture == RIGHT or any(count(r) > none for r in measured(s.cells))
    )
    counts = [count(r) for s in loops for r in measured(s.cells)]
    if not counts:
        return None
    few = replace(panel, series=loops)
    figure, axes = _single(few, [*few.key, style.band("5th to 95th percentile")])
    for series, right in spread(few):
        found = [[float(count(r)) for r in measured(series.at(n))] for n in panel.lengths]
        low, high = _each(found, _p5), _each(found, summary.p95)
        _line(axes, few, series, _each(found, fmean), low, high, right)
    top = max(1, *counts)
    axes.set_ylim(-0.03 * top, 1.08 * top)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel(what)
    return figure


def _accuracy(axes: Axes, panel: Panel, series: Series, right: float) -> None:
    scored = [[r for r in series.at(n) if r.verdict in VALID] for n in panel.lengths]
    hits = [sum(r.verdict == "correct" for r in cells) for cells in scored]
    share = [k / len(cells) if cells else nan for k, cells in zip(hits, scored, strict=True)]
    ends = [
        wilson(k, len(cells)) if cells else (nan, nan)
        for k, cells in zip(hits, scored, strict=True)
    ]
    _line(axes, panel, series, share, [a for a, _ in ends], [b for _, b in ends], right)
    part = [
        y if any(map(pairs.is_cut_answer, cells)) else nan
        for y, cells in zip(share, scored, strict=True)
    ]
    if any(y >= 0 for y in part):
        hollow = {"markerfacecolor": "white", "linestyle": "none"}
        to = style.shifted(axes, right)
        axes.plot(panel.lengths, part, transform=to, zorder=3, **series.look | hollow)


def _strip(axes: Axes, panel: Panel) -> None:
    """Share of cells without an answer: bars side by side at each length, in the same order."""
    nearest = min((b / a for a, b in pairwise(panel.lengths)), default=2.0)
    room = min(nearest, 2.0) ** 0.7
    step = room ** (1 / len(panel.series))
    for number, series in enumerate(panel.series):
        lefts = [n * room**-0.5 * step**number for n in panel.lengths]
        axes.bar(
            lefts,
            [_unanswered(series.at(n)) for n in panel.lengths],
            width=[left * (step - 1) for left in lefts],
            align="edge",
            **{**style.HATCHED, "edgecolor": style.COLOURS[series.colour], "linewidth": 0.4},
        )
    axes.set_ylim(0, 1.05)
    _percent(axes, (0, 1))
    axes.set_ylabel("no answer\n(%)", fontsize=7)


def _unanswered(cells: Sequence[Record]) -> float:
    return sum(r.verdict not in VALID for r in cells) / len(cells) if cells else 0.0


def _windows(axes: Axes, panel: Panel) -> None:
    """A line where each run's window ends, if that is in sight."""
    cells = [[r for s in panel.series if s.run == run for r in s.cells] for run in _runs(panel)]
    found = [window_in_sight(own, panel.lengths) for own in cells]
    for place, name in sorted({at for at in found if at}):
        axes.axvline(place, color=style.DIM, linewidth=0.8, linestyle=(0, (5, 3)), zorder=0)
        axes.annotate(
            name,
            (place, 0.5),
            xycoords=("data", "axes fraction"),
            xytext=(3.5, 0),
            textcoords="offset points",
            rotation=90,
            va="center",
            fontsize=6.5,
            color=style.DIM,
            path_effects=[withStroke(linewidth=1.8, foreground="white")],
        )


def _runs(panel: Panel) -> list[int]:
    return sorted({s.run for s in panel.series})


def measured(cells: Sequence[Record]) -> list[Record]:
    """Cells that tell how long an answer takes: a prompt that did not fit does not."""
    return [r for r in summary.timed(cells) if r.verdict != "truncated"]


def _each(found: Sequence[Sequence[float]], figure: Callable[[Sequence[float]], float]) -> Curve:
    return [figure(values) if values else nan for values in found]


def _p5(values: Sequence[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[0] if values[1:] else values[0]


def _line(
    axes: Axes,
    panel: Panel,
    series: Series,
    middle: Curve,
    low: Curve,
    high: Curve,
    right: float,
) -> None:
    """A line with its intervals as bars, and as a band where few would lie over each other."""
    to, colour = style.shifted(axes, right), style.COLOURS[series.colour]
    if len(panel.series) <= FEW:
        axes.fill_between(panel.lengths, low, high, color=colour, alpha=0.13, lw=0, transform=to)
    reach = [
        [max(0.0, m - a) for m, a in zip(middle, low, strict=True)],
        [max(0.0, b - m) for m, b in zip(middle, high, strict=True)],
    ]
    thin: dict[str, Any] = {"ecolor": colour, "elinewidth": 0.7, "alpha": 0.7, "transform": to}
    axes.errorbar(panel.lengths, middle, reach, fmt="none", **thin)
    axes.plot(panel.lengths, middle, transform=to, **series.look)


def spread(panel: Panel) -> Iterator[tuple[Series, float]]:
    """Each series with the points by which its marks are moved, so that none hides another."""
    middle = (len(panel.series) - 1) / 2
    for number, series in enumerate(panel.series):
        yield series, (number - middle) * style.APART


def _single(panel: Panel, key: Sequence[tuple[Any, str]]) -> tuple[Figure, Axes]:
    figure = style.figure(panel.width, 2.1, key)
    axes = figure.subplots()
    axes.set_title(panel.title)
    axes.grid(axis="y")
    style.by_length(axes, panel.lengths, panel.unit)
    return figure, axes


def _percent(axes: Axes, shares: Sequence[float]) -> None:
    axes.set_yticks(shares, [f"{100 * share:.0f}" for share in shares])
