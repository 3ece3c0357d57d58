"""What there is to plot, and as what; needs no matplotlib, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rlm.bench.grid import known

KINDS: Final[Mapping[str, str]] = {
    "accuracy": "share of the answers that are right, by length",
    "heatmap": "the same by depth and length, and the paired difference",
    "latency": "seconds of a cell by length, median and 95th percentile",
    "scaling": "the model's seconds and the harness's by length, and their slopes",
    "sub-calls": "calls from inside code cells, by length",
    "iterations": "turns of the loop, by length",
    "training": "validation loss by tokens and by seconds, of a folder of training.sft",
}
"""Kinds of figures, in the order in which they are drawn."""
FORMATS: Final = ("png", "svg", "pdf")
WIDTHS: Final[Mapping[str, float]] = {"column": 3.3, "full": 6.9}
"""Inches: a column of a page with two, and the whole page."""


def parse_kinds(text: str) -> tuple[str, ...]:
    """``"accuracy,latency"`` → names of `KINDS`.

    Raises:
        UsageError: one of them is not known; lists those that are.
    """
    return _names(text, "kind", tuple(KINDS))


def parse_formats(text: str) -> tuple[str, ...]:
    """``"png,svg"`` → names of `FORMATS`.

    Raises:
        UsageError: one of them is not known; lists those that are.
    """
    return _names(text, "format", FORMATS)


def _names(text: str, what: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(known(part.strip(), what, names) for part in text.split(",")))
