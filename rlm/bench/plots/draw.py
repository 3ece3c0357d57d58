"""Which figures some runs have, and writing them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from rlm.bench import records
from rlm.bench.grid import Unit
from rlm.bench.plots import curves, learning, maps, scaling, style
from rlm.bench.plots.curves import Panel, Series
from rlm.bench.plots.kinds import KINDS
from rlm.bench.plots.learning import Learning
from rlm.bench.records import Record
from rlm.bench.report import figures
from rlm.errors import RecordError, UsageError

_BY_LENGTH: Final[Mapping[str, Callable[[Panel], Figure | None]]] = {
    "accuracy": curves.accuracy,
    "latency": curves.latency,
    "scaling": scaling.scaling,
    "sub-calls": curves.sub_calls,
    "iterations": curves.iterations,
}

Task = tuple[str, Unit]
Named = tuple[str, Figure]
"""A figure with the name of its file, without the format."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run with the name that figures give it."""

    name: str
    cells: tuple[Record, ...]


def write(
    places: Sequence[str],
    folder: Path,
    *,
    kinds: Sequence[str] = (),
    formats: Sequence[str] = ("png",),
    width: float = 6.9,
) -> Iterator[Path]:
    """Draw what some runs and trainings have data for, and say which file was written.

    Args:
        places: names under ``runs/``, folders of runs, or folders of ``training.sft``; one that is
            named twice is drawn once.
        folder: where the files go; made if it is not there, files of the same name are replaced.
        kinds: of `KINDS`; none is all for which there is data.
        formats: of `rlm.bench.plots.kinds.FORMATS`.
        width: of a figure, in inches.

    Raises:
        RecordError: a run or a log cannot be read, or a run has no cells.
        UsageError: there is no data for a kind that was asked for, or a file cannot be written.
    """
    places = _once(places)
    taken: set[str] = set()
    folders = {place: path for place in places if (path := training_at(place)) is not None}
    runs = read([place for place in places if place not in folders])
    trainings = [
        learning.read(name, path)
        for name, path in zip(records.names(list(folders)), folders.values(), strict=True)
    ]
    with style.applied():
        for kind in kinds or KINDS:
            drawn = False
            for name, figure in _figures(kind, runs, trainings, width):
                drawn, free = True, _free(name, taken)
                for form in formats:
                    path = folder / f"{free}.{form}"
                    style.save(figure, path, form)
                    yield path
            if kinds and not drawn:
                raise UsageError(f"there is no data for {kind} in {', '.join(places)}{_hint(kind)}")


def slopes(places: Sequence[str]) -> Iterator[str]:
    """Lines of text that say what the figures of kind ``scaling`` draw.

    Raises:
        RecordError: a run cannot be read, or has no cells.
    """
    runs = read([place for place in _once(places) if training_at(place) is None])
    for panel in panels(runs, width=0):
        yield from scaling.table(panel)


def training_at(place: str) -> Path | None:
    """The folder of a training of this name; ``None`` if there is none, or a run of that name."""
    run = records.folder(place)
    if (run / records.RESULTS).is_file():
        return None
    return next((path for path in (Path(place), run) if (path / learning.LOG).is_file()), None)


def read(places: Sequence[str]) -> list[Run]:
    """The runs, with names that tell them apart.

    Raises:
        RecordError: one cannot be read, or has no cells.
    """
    found = []
    for name, place in zip(records.names(places), places, strict=True):
        cells = records.load(place)
        if not cells:
            raise RecordError(f"run {place!r} has no cells: there is nothing to plot")
        found.append(Run(name, tuple(cells)))
    return found


def panels(runs: Sequence[Run], width: float) -> Iterator[Panel]:
    """What figures by length show: a task each, all runs in it."""
    colours = figures.colours(r.architecture for run in runs for r in run.cells)
    tasks: defaultdict[Task, dict[tuple[int, str], list[Record]]] = defaultdict(dict)
    for number, run in enumerate(runs):
        for r in run.cells:
            tasks[r.task, r.unit].setdefault((number, r.architecture), []).append(r)
    for (task, unit), groups in tasks.items():
        lengths = sorted({r.length for cells in groups.values() for r in cells})
        series = [
            Series(name, colours[name], number, tuple(groups[number, name]))
            for number, name in sorted(groups, key=lambda group: (colours[group[1]], group[0]))
        ]
        names = tuple(run.name for run in runs)
        yield Panel(task, unit, tuple(lengths), tuple(series), names, width)


def _figures(
    kind: str, runs: Sequence[Run], trainings: Sequence[Learning], width: float
) -> Iterator[Named]:
    if kind == "training":
        if trainings:
            yield kind, learning.curves(trainings, width)
    elif kind == "heatmap":
        yield from _heat_maps(runs, width)
    else:
        for panel in panels(runs, width):
            figure = _BY_LENGTH[kind](panel)
            if figure is not None:
                yield _stem(kind, panel.title, panel.unit), figure


def _heat_maps(runs: Sequence[Run], width: float) -> Iterator[Named]:
    """One figure for each task of each run: squares of two runs do not fit into one."""
    for run in runs:
        tasks: defaultdict[Task, list[Record]] = defaultdict(list)
        for r in run.cells:
            tasks[r.task, r.unit].append(r)
        for (task, unit), cells in tasks.items():
            several = len(runs) > 1
            stem = _stem("heatmap", task, unit) + f"-{_plain(run.name)}" * several
            yield stem, maps.heat_maps(task + f", {run.name}" * several, cells, width)


def _stem(kind: str, task: str, unit: Unit) -> str:
    return f"{kind}-{_plain(task)}" + ("" if unit == "tokens" else f"-{unit}")


def _once(places: Sequence[str]) -> list[str]:
    """The places without those that are one of the others by another name."""
    folders = [(training_at(place) or records.folder(place)).resolve() for place in places]
    return [place for at, place in enumerate(places) if folders[at] not in folders[:at]]


def _free(name: str, taken: set[str]) -> str:
    """The name, or where another figure has it, with a number; it is taken then."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    free = next(each for each in names if each.casefold() not in taken)
    taken.add(free.casefold())
    return free


def _plain(name: str) -> str:
    """A name that any file can have."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "_"


def _hint(kind: str) -> str:
    if kind == "training":
        return ": name a folder that python -m training.sft --out made"
    return ": no cell of a loop was measured" if kind in ("sub-calls", "iterations") else ""
