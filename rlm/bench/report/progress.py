"""How far a session is, as one line: for the bottom of a terminal, or for a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from rlm.bench.progress import Standing
from rlm.bench.records import VERDICTS, Verdict
from rlm.bench.report.plan import duration

BAR: Final = (10, 30)
"""Columns of the bar, least and most."""

Part = tuple[str, Verdict | None]
"""Text, and the verdict whose colour it has."""


def bar(standing: Standing, *, width: int, now: datetime, letters: Mapping[str, str]) -> list[Part]:
    """What fits into `width` columns: the more room, the more it says.

    Args:
        standing: how far the session is.
        width: columns that may be used.
        now: the time, on the clock of who looks.
        letters: of the verdicts, for where words do not fit.
    """
    for parts in _forms(standing, now, letters):
        room = width - sum(len(text) for text, _ in parts)
        if room >= 0:
            return [*_drawn(standing, room - 1), *parts]
    return [(f"{standing.done}/{standing.cells}"[: max(0, width)], None)]


def _forms(standing: Standing, now: datetime, letters: Mapping[str, str]) -> Iterator[list[Part]]:
    """All there is to say, then less and less."""
    count = f"{standing.done}/{standing.cells}"
    rate = "" if standing.per_minute is None else f", {_rate(standing.per_minute)}/min"
    end = "" if standing.seconds_left is None else f", {_end(standing, now)}"
    words = [(f"{n} {verdict}", verdict) for verdict, n in _counts(standing)]
    short = [(f"{letters[verdict]}{n}", verdict) for verdict, n in _counts(standing)]
    yield [(f"{count} cells{rate}{end}", None), *_joined(words, ", ")]
    yield [(f"{count} cells{rate}{end}", None), *_joined(short, " ")]
    yield [(f"{count}{rate}{end}", None), *_joined(short, " ")]
    yield [(f"{count}{end}", None), *_joined(short, " ")]
    yield [(f"{count}{end}", None)]


def _joined(parts: Sequence[Part], between: str) -> list[Part]:
    """The parts with something between them, and before the first one a line."""
    gaps = [" | ", *[between] * len(parts)]
    return [part for gap, found in zip(gaps, parts, strict=False) for part in ((gap, None), found)]


def _drawn(standing: Standing, room: int) -> list[Part]:
    """The bar itself, with a blank after it; nothing where there is no room."""
    least, most = BAR
    inner = min(room, most) - 2
    if inner + 2 < least:
        return []
    full = inner * standing.done // standing.cells if standing.cells else inner
    return [(f"[{'#' * full}{'-' * (inner - full)}] ", None)]


def line(standing: Standing) -> str:
    """A whole sentence, without codes."""
    share = standing.done / standing.cells if standing.cells else 1.0
    said = [f"{standing.done} of {standing.cells} cells ({share:.0%})"]
    if standing.per_minute is not None:
        said.append(f"{_rate(standing.per_minute)} a minute")
    if standing.seconds_left is not None:
        until = " until the bound" if standing.is_cut_short else " left"
        said.append(f"about {duration(standing.seconds_left)}{until}")
    counts = ", ".join(f"{n} {v}" for v, n in _counts(standing))
    return f"rlm-bench: {', '.join(said)}" + (f": {counts}" if counts else "")


def _counts(standing: Standing) -> list[tuple[Verdict, int]]:
    return [(v, standing.verdicts[v]) for v in VERDICTS if standing.verdicts.get(v)]


def _rate(per_minute: float) -> str:
    return f"{per_minute:.0f}" if per_minute >= 10 else f"{per_minute:.2g}"


def _end(standing: Standing, now: datetime) -> str:
    """On the clock, which stays true while a long cell runs and nothing is drawn."""
    assert standing.seconds_left is not None
    end = now + timedelta(seconds=standing.seconds_left)
    days = (end.date() - now.date()).days
    form = "%H:%M" if days == 0 else "%a %H:%M" if days < 7 else "%d %b"
    return f"{'stops' if standing.is_cut_short else 'ends'} ~{end.strftime(form)}"
