"""What the figures of a page show, as plain data: the template draws them as SVG.

Positions are in the units of the drawing. A square or a point without an answer is hatched or left
out: it is never drawn as a wrong one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import log2
from typing import Final

from rlm.bench import pairs
from rlm.bench.grid import CHARS_PER_TOKEN, Unit, label
from rlm.bench.pairs import Comparison
from rlm.bench.records import VERDICTS, Record
from rlm.bench.report import summary, verdicts
from rlm.bench.report.verdicts import LEFT, RIGHT
from rlm.bench.statistics import wilson

SHADES: Final = 20
"""Steps of the colour scale, from 0 (wrong, worse) over the middle to this one (right, better)."""
_STOPS: Final = ((179, 88, 6), (241, 163, 64), (246, 246, 246), (103, 169, 207), (33, 102, 172))
"""Orange to blue in sRGB: apart for every kind of colour blindness, and in grey by their labels."""

COLOURED: Final = (LEFT, RIGHT, "repl", "rag", "grep", "oracle", "closedbook")
"""Architectures whose colour is the one of their place here, in every page and plot."""

PLOT: Final = (340.0, 190.0)
"""Width and height of a plot within its axes."""
WIDE: Final = 42.0
HIGH: Final = 30.0
"""Of a square."""


Parts = tuple[str, ...]
"""What stands after ``#/list/`` in an address, part by part; ``*`` is any."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which items of a run and task something opens."""

    run: int
    task: str
    unit: Unit

    def to(self, length: int, depth: object = "*", outcome: str = "*", cause: str = "*") -> Parts:
        """Those of a place, an outcome of the pair, a cause of failure."""
        return str(self.run), self.task, self.unit, str(length), str(depth), outcome, cause


@dataclass(frozen=True, slots=True)
class Square:
    """One square: where, what stands in it, what a reader is told of it.

    Attributes:
        x, y: column and row.
        text: such as ``3/3`` or ``+100``.
        tip: a sentence with counts and interval.
        shade: 0 to `SHADES`; ``None`` where nothing was answered.
        hatched: some of it was not answered.
        query: which items it opens.
    """

    x: int
    y: int
    text: str
    tip: str
    shade: int | None
    hatched: bool
    query: Parts


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Depth by length of one architecture, or the difference of two."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    squares: tuple[Square, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy at one length with its interval; y grows downwards.

    `part` tells that some of the answers are to a part of the document, cut on purpose.
    """

    x: float
    y: float
    low: float
    high: float
    tip: str
    part: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy of one architecture; `unread` are places where nothing was answered.

    `colour` is the number of its colour, see `colours`.
    """

    name: str
    colour: int
    points: tuple[Point, ...]
    unread: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Accuracy by length.

    Attributes:
        curves: one for each architecture.
        ticks: where lengths stand, and what they are called.
        window: where the model's window ends, and what it says; ``None`` if it is not in sight.
    """

    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    window: tuple[float, str] | None


def palette() -> list[tuple[str, str]]:
    """Fill of each shade, and black or white to write on it."""
    found = []
    for step in range(SHADES + 1):
        at = step / SHADES * (len(_STOPS) - 1)
        low = min(int(at), len(_STOPS) - 2)
        share = at - low
        rgb = [
            round(a + share * (b - a)) for a, b in zip(_STOPS[low], _STOPS[low + 1], strict=True)
        ]
        light = sum(
            w * (c / 255) ** 2.2 for w, c in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)
        )
        found.append(("#{:02x}{:02x}{:02x}".format(*rgb), "#000" if light > 0.179 else "#fff"))
    return found


def colours(names: Iterable[str]) -> dict[str, int]:
    """Numbers of the colours of architectures: the same for the same name, whatever else is there.

    Those that are not of `COLOURED` take what the others leave free, in the order of `names`.
    """
    unique = list(dict.fromkeys(names))
    found = {name: COLOURED.index(name) for name in unique if name in COLOURED}
    left = [number for number in range(len(COLOURED)) if number not in found.values()]
    others = (name for name in unique if name not in found)
    return found | dict(zip(others, cycle(left or range(len(COLOURED))), strict=False))


def ordered(names: Iterable[str]) -> list[str]:
    """Architectures as pages and plots have them: the two that are paired, then the others."""
    return sorted(dict.fromkeys(names), key=lambda name: (LEFT, RIGHT, name).index(name))


def heat_maps(cells: Sequence[Record], query: Query) -> tuple[HeatMap, ...]:
    """One for each architecture, and the difference after the two that are paired."""
    lengths = sorted({r.length for r in cells})
    depths = sorted({r.depth for r in cells}, key=lambda d: -1 if d is None else d)
    names = ordered(r.architecture for r in cells)
    columns = tuple(label(n) for n in lengths)
    rows = tuple("all" if d is None else f"{d} %" for d in depths)
    at: defaultdict[tuple[int, int | None], list[Record]] = defaultdict(list)
    for r in cells:
        at[r.length, r.depth].append(r)
    places = [(x, y, n, d) for y, d in enumerate(depths) for x, n in enumerate(lengths)]

    def drawn(title: str, make: Callable[[list[Record]], _Face | None]) -> HeatMap:
        squares = []
        for x, y, length, depth in places:
            if face := make(at[length, depth]):
                where = f"{label(length)}, depth {rows[y]}" if depth is not None else label(length)
                told = f"{title}, {where}: {face.tip}"
                to = query.to(length, "none" if depth is None else depth)
                squares.append(Square(x, y, face.text, told, face.shade, face.hatched, to))
        return HeatMap(title, columns, rows, tuple(squares))

    found = [drawn(name, partial(_accuracy, name)) for name in names]
    if LEFT in names and RIGHT in names:
        found.insert(2, drawn(f"{RIGHT} minus {LEFT}", _difference))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Face:
    """What a square shows, wherever it stands."""

    text: str
    tip: str
    shade: int | None
    hatched: bool


def _accuracy(name: str, cells: Iterable[Record]) -> _Face | None:
    """Share of the answers that are right; what is not an answer is told, not counted as wrong."""
    own = [r for r in cells if r.architecture == name]
    if not own:
        return None
    answers = [r.verdict for r in own if r.is_valid]
    others, n = summary.invalid(own, cut="cut on purpose"), len(own)
    if not answers:
        whole = " to a whole document" * any(map(pairs.is_cut_answer, own))
        return _Face("-", f"no answer{whole}: {others}; n = {n}", None, True)
    right, valid = answers.count("correct"), len(answers)
    low, high = wilson(right, valid)
    tip = f"{right} of {valid} answers right [{low:.0%}, {high:.0%}]"
    tip += f"; {others}; n = {n}" if others else f"; n = {n}"
    return _Face(f"{right}/{valid}", tip, round(SHADES * right / valid), bool(others))


def _difference(cells: Sequence[Record]) -> _Face | None:
    """Over all pairs, as the verdict lines have it; shaded by the pairs with two answers."""
    found: tuple[Comparison, ...] = pairs.between_architectures(cells, LEFT, RIGHT)
    if not found or not found[0].pairs:
        return None
    (c,) = found
    tip = f"{verdicts.points(c.difference)}, {c.wins} against {c.losses} discordant, n = {c.pairs}"
    text = f"{round(100 * c.difference.value):+d}".replace("+0", "0")
    cut = c.left_side.cut or c.right_side.cut
    if c.valid.difference is None:
        whole = " to the whole document" * bool(cut)
        return _Face(text, f"{tip}; no pair has an answer{whole} on both sides", None, True)
    if hatched := c.valid.pairs < c.pairs:
        did = "read as a whole" if cut else "answered"
        tip += f"; of the {c.valid.pairs} both {did}: {verdicts.points(c.valid.difference)}"
    shade = round(SHADES * (c.valid.difference.value + 1) / 2)
    return _Face(text, tip, shade, hatched)


def plot(cells: Sequence[Record]) -> Plot:
    """Accuracy of all cells, as in the table; what could not be read is marked on the axis."""
    width, height = PLOT
    lengths = sorted({r.length for r in cells})
    low, high = log2(lengths[0]), log2(lengths[-1])
    margin = 24.0

    def x(length: float) -> float:
        share = (log2(length) - low) / (high - low) if high > low else 0.5
        return margin + share * (width - 2 * margin)

    curves = []
    for name, colour in colours(r.architecture for r in cells).items():
        points, unread = [], []
        for length in lengths:
            here = [r for r in cells if (r.architecture, r.length) == (name, length)]
            counts = Counter(r.verdict for r in here)
            if here and summary.is_unread(counts):
                told = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
                unread.append((x(length), f"{name} {label(length)}: {told}"))
            elif here:
                right, n = counts["correct"], len(here)
                ends = wilson(right, n)
                tip = f"{name} {label(length)}: {right} of {n} [{ends[0]:.0%}, {ends[1]:.0%}]"
                part = any(map(pairs.is_cut_answer, here))
                tip += f"; {summary.invalid(here, cut='cut on purpose')}" * part
                y, bottom, top = (height * (1 - share) for share in (right / n, *ends))
                points.append(Point(x(length), y, bottom, top, tip, part))
        curves.append(Curve(name, colour, tuple(points), tuple(unread)))
    window = window_in_sight(cells, lengths)
    return Plot(
        tuple(curves),
        tuple((x(n), label(n)) for n in lengths),
        window and (x(window[0]), window[1]),
    )


def window_in_sight(cells: Iterable[Record], lengths: Sequence[int]) -> tuple[float, str] | None:
    """The smallest window, in the unit of the lengths, if the lengths are on both sides of it."""
    sizes = [(r.model.window, r.unit) for r in cells if r.model.window]
    if not sizes:
        return None
    tokens, unit = min(sizes)
    length = tokens * (1 if unit == "tokens" else CHARS_PER_TOKEN)
    if not lengths[0] <= length <= lengths[-1]:
        return None
    return length, f"window {tokens:,} tokens"
