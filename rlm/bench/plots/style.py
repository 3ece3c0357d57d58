"""How all figures look, in one place, and how they become files.

Colours are those of the HTML report on white; an architecture has its own everywhere
(`rlm.bench.report.figures.colours`), and a marker of its own, for who does not see colours. Runs of
one figure are told apart by their lines. Nothing here touches pyplot, a display, or settings that
outlast `applied`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from rlm.bench.grid import label
from rlm.bench.report import figures
from rlm.errors import UsageError

COLOURS: Final = ("#d55e00", "#0072b2", "#007a5a", "#a64f86", "#8a7000", "#3b7fa3", "#555555")
"""By the number that `figures.colours` gives: c0 to c6 of the report's style sheet."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
LINES: Final[Sequence[Any]] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
"""Of the first, second, … run of a figure."""
DIM: Final = "#62676d"
HATCHED: Final[Mapping[str, Any]] = {
    "facecolor": "#eef0f2",
    "edgecolor": "#9aa1a9",
    "hatch": "//////",
    "linewidth": 0.0,
}
"""What was not answered."""
APART: Final = 1.6
"""Points between the marks of neighbouring series at the same length."""

_RC: Final[Mapping[Any, Any]] = {
    "axes.edgecolor": DIM,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8,
    "grid.color": "#dcdfe3",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "savefig.dpi": 300,
    "svg.hashsalt": "rlm-bench",
    "text.parse_math": False,  # a run may be called $x$
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
_METADATA: Final[Mapping[str, Mapping[str, None]]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""Without a time, so that equal runs give equal bytes."""


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save inside; afterwards matplotlib's settings are as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def figure(
    width: float, height: float, key: Sequence[tuple[Any, str]] = (), *, where: str = "upper left"
) -> Figure:
    """An empty figure on a canvas without a display.

    Args:
        width: in inches.
        height: in inches, of all but the key.
        key: handles and names.
        where: they stand, outside of the axes.
    """
    columns = max(1, int(width * 15) // (max((len(name) for _, name in key), default=0) + 8))
    figure = Figure(figsize=(width, height + 0.15 * -(-len(key) // columns)))
    FigureCanvasAgg(figure)
    if key:  # a name that begins with _ would be left out
        names = [f" {name}" if name.startswith("_") else name for _, name in key]
        place: dict[str, Any] = {"loc": f"outside {where}", "ncols": columns, "columnspacing": 1.4}
        figure.legend([handle for handle, _ in key], names, **place)
    return figure


def line(number: int) -> Any:
    """Of the run with this number in its figure."""
    return LINES[number % len(LINES)]


def colour_map() -> ListedColormap:
    """Orange to blue, with the report's steps."""
    return ListedColormap([fill for fill, _ in figures.palette()])


def shifted(axes: Axes, points: float) -> Transform:
    """Data coordinates, drawn so many points to the right; the data stay what they are."""
    figure = axes.figure
    return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def few_ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis, and enough of them where it spans less than two tens."""
    low, high = axes.get_ylim()
    near = high / low < 100
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if near else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def by_length(axes: Axes, lengths: Sequence[int], unit: str) -> None:
    """Lengths below: a step for each doubling, named as in ids of cells."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(lengths[0] / 2**0.5, lengths[-1] * 2**0.5)
    every = -(-len(lengths) // 8)
    axes.xaxis.set_major_locator(FixedLocator(lengths[::every]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(lengths[::every], [label(n) for n in lengths[::every]])
    axes.set_xlabel(f"document length ({unit})")


def no_answer() -> tuple[Artist, str]:
    """The entry of a key that says what hatching means."""
    return Patch(**HATCHED), "no answer"


def band(name: str) -> tuple[Artist, str]:
    """The entry of a key that says what bands and bars mean."""
    return Patch(facecolor=DIM, alpha=0.2, linewidth=0), name


def save(figure: Figure, path: Path, form: str) -> None:
    """Write a figure, whole or not at all; to be called inside `applied`.

    Raises:
        UsageError: it cannot be written.
    """
    data = BytesIO()
    figure.savefig(data, format=form, metadata=dict(_METADATA[form]))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data.getvalue())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with -o"
        ) from error
