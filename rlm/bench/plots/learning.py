"""Training curves: validation loss by tokens and by seconds, of folders of ``training.sft``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from rlm.bench.plots import style
from rlm.errors import RecordError

LOG: Final = "log.jsonl"
"""What ``training.sft`` writes: a row for each step, and one for each validation."""


@dataclass(frozen=True, slots=True)
class Learning:
    """The validations of one training, in order.

    Attributes:
        name: of its folder.
        tokens: trained on until then, all of the rows counted.
        seconds: of training until then; those of earlier starts included.
        losses: mean cross-entropy of a learned token, in nats.
    """

    name: str
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    losses: tuple[float, ...]


def read(name: str, folder: Path) -> Learning:
    """The validations of a training, also of one that is running, or was killed in a line.

    Raises:
        RecordError: its log cannot be read, is none, or holds no validation.
    """
    path = folder / LOG
    at = {0: (0, 0.0)}
    found: list[tuple[int, float, float]] = []
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # a line without end is dropped
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if "validation" in row:
                found.append((*at[row["validation"]["step"]], float(row["validation"]["loss"])))
            else:
                at[row["step"]] = int(row["tokens"]), float(row["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}:{number} is no log of training.sft: {error!r}") from error
    if not found:
        raise RecordError(
            f"{path} holds no validation loss: train with documents held out, as with "
            "python -m training.sft … --validation 0.1"
        )
    tokens, seconds, losses = zip(*found, strict=True)
    return Learning(name, tokens, seconds, losses)


def curves(trainings: Sequence[Learning], width: float) -> Figure:
    """Validation loss of some trainings: by tokens, and by seconds."""
    looks = [
        {
            "color": style.COLOURS[number % len(style.COLOURS)],
            "marker": style.MARKERS[number % len(style.MARKERS)],
            "linestyle": style.line(number),
        }
        for number in range(len(trainings))
    ]
    key = [(Line2D([], [], **look), one.name) for look, one in zip(looks, trainings, strict=True)]
    stacked = width < 5
    figure = style.figure(width, 3.4 if stacked else 2.1, key)
    left, right = figure.subplots(2, 1) if stacked else figure.subplots(1, 2, sharey=True)
    for look, one in zip(looks, trainings, strict=True):
        left.plot(one.tokens, one.losses, **look)
        right.plot(one.seconds, one.losses, **look)
    for axes, what in ((left, "tokens trained on"), (right, "seconds of training")):
        axes.set_xlabel(what)
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.grid(axis="y")
    for axes in (left, right)[: 1 + stacked]:
        axes.set_ylabel("validation loss (nats)")
    return figure


def _short(value: float, _: object) -> str:
    for letter, size in (("M", 1_000_000), ("k", 1_000)):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
