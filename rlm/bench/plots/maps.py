"""Heat maps of depth by length: each architecture, and the paired difference.

A square's colour counts answers to whole documents, as in the report; the part of it that is
hatched is the share of cells without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from rlm.bench import pairs
from rlm.bench.grid import label
from rlm.bench.plots import style
from rlm.bench.records import Record
from rlm.bench.report import figures
from rlm.bench.report.verdicts import LEFT, RIGHT

ROW: Final = 0.21
"""Inches of a row of squares."""


@dataclass(frozen=True, slots=True)
class Square:
    """What stands in a square.

    Attributes:
        value: 0 (wrong, worse) to 1 (right, better); nan where nothing was answered.
        text: to be written there.
        hatched: share without an answer, 0 to 1.
    """

    value: float
    text: str
    hatched: float


Place = tuple[int, int | None]
Squares = dict[Place, Square]


def heat_maps(title: str, cells: Sequence[Record], width: float) -> Figure:
    """One panel for each architecture of a run; the difference after the two that are paired.

    Args:
        title: above all of them.
        cells: of one run, task and unit.
        width: in inches.
    """
    at: defaultdict[Place, list[Record]] = defaultdict(list)
    for r in cells:
        at[r.length, r.depth].append(r)
    names = figures.ordered(r.architecture for r in cells)
    panels = [(name, _squares(at, partial(_share, name=name))) for name in names]
    if LEFT in names and RIGHT in names:
        panels.insert(2, (f"{RIGHT} minus {LEFT} (points)", _squares(at, _difference)))
    lengths = sorted({r.length for r in cells})
    depths = sorted({r.depth for r in cells}, key=lambda depth: -1 if depth is None else depth)
    across = min(len(panels), 3 if width > 5 else 1)
    down = -(-len(panels) // across)
    handle, name = style.no_answer()
    hatched = any(s.hatched for _, squares in panels for s in squares.values())
    key = [(handle, f"{name} (share of the square)")] * hatched
    figure = style.figure(width, down * (len(depths) * ROW + 0.5) + 0.25, key, where="lower left")
    grid = figure.subplots(down, across, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    for axes, (name, squares) in zip(grid.flat, panels, strict=False):
        _draw(axes, name, squares, lengths, depths, width / across)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    return figure


def _squares(
    at: dict[Place, list[Record]], make: Callable[[Sequence[Record]], Square | None]
) -> Squares:
    made = {place: make(own) for place, own in at.items()}
    return {place: square for place, square in made.items() if square is not None}


def _share(cells: Sequence[Record], name: str) -> Square | None:
    """Right answers among the answers of one architecture."""
    own = [r for r in cells if r.architecture == name]
    answers = [r.verdict == "correct" for r in own if r.is_valid]
    if not own:
        return None
    if not answers:
        return Square(nan, "", 1.0)
    share = sum(answers) / len(answers)
    return Square(share, f"{sum(answers)}/{len(answers)}", 1 - len(answers) / len(own))


def _difference(cells: Sequence[Record]) -> Square | None:
    """Over the pairs with two answers, in points; a difference of 0 is the middle of the scale."""
    found = pairs.between_architectures(cells, LEFT, RIGHT)
    if not found or not found[0].pairs:
        return None
    valid = found[0].valid
    if valid.difference is None:
        return Square(nan, "", 1.0)
    points = round(100 * valid.difference.value)
    text = f"{points:+d}" if points else "0"
    return Square((valid.difference.value + 1) / 2, text, 1 - valid.pairs / found[0].pairs)


def _draw(
    axes: Axes,
    name: str,
    squares: Squares,
    lengths: Sequence[int],
    depths: Sequence[int | None],
    inches: float,
) -> None:
    axes.set_title(name, fontsize=7.5)
    values = [[squares[n, d].value if (n, d) in squares else nan for n in lengths] for d in depths]
    axes.pcolormesh(
        np.arange(len(lengths) + 1),
        np.arange(len(depths) + 1),
        np.ma.masked_invalid(np.array(values)),
        cmap=style.colour_map(),
        vmin=-0.5 / figures.SHADES,
        vmax=1 + 0.5 / figures.SHADES,
    )
    size = min(7.0, 72 * (inches - 0.6) / len(lengths) / 0.65 / _longest(squares))
    for (length, depth), square in squares.items():
        _mark(axes, square, lengths.index(length), depths.index(depth), size)
    axes.hlines(range(len(depths) + 1), 0, len(lengths), "white", linewidth=1.2)
    axes.vlines(range(len(lengths) + 1), 0, len(depths), "white", linewidth=1.2)
    axes.set_xlim(0, len(lengths))
    axes.set_ylim(len(depths), 0)
    axes.set_xticks(np.arange(len(lengths)) + 0.5, [label(n) for n in lengths])
    axes.set_yticks(
        np.arange(len(depths)) + 0.5, ["all" if d is None else f"{d} %" for d in depths]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _longest(squares: Squares) -> int:
    return max((len(s.text) for s in squares.values()), default=0) or 1


def _mark(axes: Axes, square: Square, x: int, y: int, size: float) -> None:
    """The hatched part of a square, from below, and its text."""
    if square.hatched:
        low = y + 1 - square.hatched
        axes.add_patch(Rectangle((x, low), 1, square.hatched, **style.HATCHED))
    if square.text:
        fill, ink = figures.palette()[round(figures.SHADES * square.value)]
        free = 1 - square.hatched
        fits = free >= 0.4
        axes.text(
            x + 0.5,
            y + free / 2 if fits else y + 0.5,
            square.text,
            ha="center",
            va="center_baseline",
            fontsize=min(size, 72 * ROW * free) if fits else size,
            color=ink,
            path_effects=[] if fits else [withStroke(linewidth=1.6, foreground=fill)],
        )
