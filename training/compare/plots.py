"""The plots of a comparison: loss by tokens and by seconds, and by learning rate."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any, Final

from training.compare.arms import ARMS
from training.compare.words import NAMES

COLOURS: Final = {"adamw": "#b35806", "muon": "#2166ac"}
"""Orange and blue: apart for every kind of colour blindness."""


def draw(data: dict[str, Any], out: Path) -> None:
    """Write ``loss.png`` and ``rates.png`` to a folder.

    Args:
        data: of `training.compare.report.collect`.
        out: the folder.
    """
    _losses(data, out / "loss.png")
    _rates(data, out / "rates.png")


def _losses(data: dict[str, Any], path: Path) -> None:
    """Thin lines are seeds; the thick one is the mean of those that did not diverge."""
    figure, axes = _figure(2)
    for axis, column, what in zip(axes, (1, 2), ("tokens", "seconds"), strict=True):
        for arm in ARMS:
            curves = [run["curve"] for run in data["seeds"][arm]]
            for curve in curves:
                points = [(row[column], row[3]) for row in curve if row[3] is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), color=COLOURS[arm], alpha=0.4, lw=0.8)
            whole = [run["curve"] for run in data["seeds"][arm] if not run["diverged"]]
            mean = [
                (fmean(row[column] for row in rows), fmean(row[3] for row in rows))
                for rows in zip(*whole, strict=False)
                if all(row[3] is not None for row in rows)
            ]
            if mean:
                axis.plot(*zip(*mean, strict=True), color=COLOURS[arm], lw=2, label=NAMES[arm])
        axis.set(xlabel=f"{what} of training", ylabel="validation loss")
        if axis.get_legend_handles_labels()[0]:  # else no arm has a seed that converged
            axis.legend(frameon=False)
    _save(figure, path)


def _rates(data: dict[str, Any], path: Path) -> None:
    """A ring is the rate that was chosen, a cross at the top one that diverged."""
    figure, (axis,) = _figure(1)
    for arm in ARMS:
        told = data["grid"][arm]
        rates = [(p["lr"], p["loss"]) for p in told["points"] if p["loss"] is not None]
        axis.plot(*zip(*rates, strict=True), "o-", color=COLOURS[arm], ms=4, label=NAMES[arm])
        chosen = [point for point in rates if point[0] == told["best"]]
        axis.plot(*zip(*chosen, strict=True), "o", color=COLOURS[arm], ms=11, mfc="none")
        for lost in (p["lr"] for p in told["points"] if p["loss"] is None):
            axis.plot(lost, 0.97, "x", color=COLOURS[arm], transform=axis.get_xaxis_transform())
    axis.set(xscale="log", xlabel="peak learning rate", ylabel="validation loss (to select on)")
    axis.legend(frameon=False)
    _save(figure, path)


def _figure(count: int) -> tuple[Any, Any]:
    """A figure with axes in one row; no window is ever opened."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * count, 3.6), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    """The same data give the same bytes."""
    figure.savefig(path, dpi=150, metadata={"Software": None})
