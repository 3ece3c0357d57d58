"""What the cells say, in sentences: who is better where, by how much, and whether that is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from math import inf
from statistics import median
from typing import Final

from rlm.bench import pairs
from rlm.bench.grid import Unit, label
from rlm.bench.pairs import Comparison, Side
from rlm.bench.records import Record
from rlm.bench.statistics import Estimate, crossover, effective_length, wilson
from rlm.errors import UsageError

LEFT: Final = "vanilla"
RIGHT: Final = "rlm"

FEWEST: Final = 6
"""Documents below which no result of `mcnemar` is below 0.05."""

THRESHOLD: Final = 0.8
"""Accuracy that an effective length asks for."""

Series = dict[str, dict[int, list[Record]]]


def lines(records: Sequence[Record], *, threshold: float = THRESHOLD) -> list[str]:
    """One line for each task and length at which `rlm` has a partner, then what holds over lengths.

    `rlm` is set against `vanilla` first, then against every other architecture that is there.

    Args:
        records: of one run.
        threshold: of the effective length, at least 0 and below 1.

    Raises:
        UsageError: a threshold that cannot be.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"a threshold of {threshold:g} cannot be: choose 0 to below 1, as 0.8")
    names = dict.fromkeys([LEFT, *(r.architecture for r in records if r.architecture != RIGHT)])
    family = pairs.adjusted(
        c for name in names for c in pairs.between_architectures(records, name, RIGHT)
    )
    found = [sentence(c) for c in family]
    found += _over_lengths(records, threshold)
    if any(c.documents >= FEWEST for c in family):
        over = f", Holm-adjusted over the {len(family)} comparisons above"
        found.append("points [95 % interval]; p: exact McNemar test" + over * (len(family) > 1))
    return found


def sentence(c: Comparison) -> str:
    """A comparison of two architectures in one line."""
    discordant = f"{c.wins} against {c.losses} discordant"
    if c.documents < FEWEST:
        text = f"n = {c.pairs}: too few to tell {c.right} from {c.left}, {discordant}"
    else:
        versus = c.right if c.left == LEFT else f"{c.right} against {c.left}"
        found = f"{points(c.difference)}, {discordant}, {chance(c.p_holm)}"
        text = f"{versus} {found}, n = {c.pairs}"
    if c.documents != c.pairs:
        text += f" on {c.documents} document{'s' * (c.documents != 1)}"
    notes = _notes(c)
    return f"{c.task} {_where(c.length, c.unit)}: {text}" + (f" ({notes})" if notes else "")


def points(difference: Estimate) -> str:
    """``+62 points [48, 75]``."""
    value, low, high = (round(100 * x) for x in (difference.value, difference.low, difference.high))
    return f"{value:+d} points [{low}, {high}]"


def chance(p: float) -> str:
    """``p < 0.001``, ``p = 0.031`` or ``p = 0.42``."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _notes(c: Comparison) -> str:
    """What kept the sides from an answer, and estimand (b) where some pairs have two answers."""
    found = [_unread(c, c.left, c.left_side), _unread(c, c.right, c.right_side)]
    for name, side in ((c.left, c.left_side), (c.right, c.right_side)):
        found += [_cut(c, name, side)] * (side.cut > 0)
        found += [f"{name} ran out of time on {side.timeout}"] * (side.timeout > 0)
        found += [f"{name} failed on {side.failed}"] * (side.failed > 0)
    if c.unmatched:
        found.append(f"{c.unmatched} cell{'s' * (c.unmatched > 1)} without a partner")
    if c.valid.difference and c.valid.pairs < c.pairs:
        read = c.left_side.truncated or c.right_side.truncated
        did = "both could read" if read else "both answered"
        did = "both read as a whole" if c.left_side.cut or c.right_side.cut else did
        found.append(f"of the {c.valid.pairs} pairs {did}: {points(c.valid.difference)}")
    return "; ".join(text for text in found if text)


def _unread(c: Comparison, name: str, side: Side) -> str:
    if not side.truncated:
        return ""
    what = "it" if side.truncated == c.pairs else f"{side.truncated} of {c.pairs}"
    sizes = ", ".join(str(w) for w in c.windows) or "unknown"
    return f"{name} could not read {what}: window {sizes}"


def _cut(c: Comparison, name: str, side: Side) -> str:
    """Which answers are to a part of the document only."""
    which = "all" if side.cut == c.pairs else f"{side.cut} of {c.pairs}"
    lost = f", {side.lost} without evidence" if side.lost else ""
    return f"{name} read {which} cut on purpose{lost}"


def _over_lengths(records: Iterable[Record], threshold: float) -> list[str]:
    """For each task with several lengths: effective lengths, and where the lead changes."""
    tasks: defaultdict[tuple[str, Unit], Series] = defaultdict(dict)
    for r in records:
        lengths = tasks[r.task, r.unit].setdefault(r.architecture, {})
        lengths.setdefault(r.length, []).append(r)
    found = []
    for (task, unit), series in tasks.items():
        if len({length for lengths in series.values() for length in lengths}) > 1:
            told = (_effective(series, unit, threshold), _lead(series, unit))
            found += [f"{task}: {text}" for text in told if text]
        if text := _at_equal_tokens(series, unit):
            found.append(f"{task}: {text}")
    return found


def _effective(series: Series, unit: Unit, threshold: float) -> str:
    head = f"effective length (above {threshold:.0%} for sure)"
    most = max(len(found) for lengths in series.values() for found in lengths.values())
    if most < (least := _fewest_answers(threshold)):
        return f"{head} needs {least} cells a length, there are {most}"
    shown = []
    for name, lengths in series.items():
        length = effective_length(
            [
                (length, sum(r.verdict == "correct" and r.is_valid for r in found), len(found))
                for length, found in lengths.items()
            ],
            threshold,
        )
        beyond = "at least " if length == max(lengths) else ""
        shown.append(f"{name} {beyond}{_where(length, unit)}" if length else f"{name} none")
    return f"{head}: {', '.join(shown)}"


def _fewest_answers(threshold: float) -> int:
    """The fewest answers, all right, whose Wilson interval is above `threshold`."""
    return next(n for n in count(1) if wilson(n, n)[0] > threshold)


def _lead(series: Series, unit: Unit) -> str:
    """From where on `RIGHT` leads `LEFT`; empty if they were not paired at two lengths."""
    left, right = series.get(LEFT, {}), series.get(RIGHT, {})
    both = {n: pairs.differences(left[n], right[n]) for n in left.keys() & right.keys()}
    measured = [n for n, differences in both.items() if differences]
    if len(measured) < 2:
        return ""
    found = crossover([(n, both[n]) for n in measured])
    ends = [_end(n, measured, unit) for n in (found.low, found.high)]
    interval = f"[{', '.join(dict.fromkeys(ends))}]"
    if found.length is None:
        return f"{RIGHT} {found.reason} {interval}"
    after = [r for n in measured if n > found.length for r in left[n]]
    reasons = {r.verdict if r.cut is None else "cut" for r in after}
    unread = f", where {LEFT} could not read" if reasons == {"truncated"} else ""
    unread = f", where {LEFT} read a part, cut on purpose" if reasons == {"cut"} else unread
    return f"{RIGHT} leads beyond {_about(found.length)} {interval}{unread}"


def _at_equal_tokens(series: Series, unit: Unit) -> str:
    """How often `RIGHT` is right with no more tokens than `LEFT` takes, where that could read."""
    left, right = series.get(LEFT, {}), series.get(RIGHT, {})
    found = []
    for length in sorted(left.keys() & right.keys()):
        valid = (r for r in left[length] if r.is_valid)
        if took := [r.usage.total for r in valid if r.usage.total]:
            most, cells = median(took), right[length]
            within = sum(r.verdict == "correct" and r.usage.total <= most for r in cells)
            found.append(f"{_where(length, unit)} {within}/{len(cells)}")
    head = f"{RIGHT} correct with no more tokens than {LEFT}'s median"
    return f"{head}: {', '.join(found)}" if found else ""


def _end(length: float, measured: Sequence[int], unit: Unit) -> str:
    if length == 0:
        return f"below {_where(min(measured), unit)}"
    return f"beyond {_where(max(measured), unit)}" if length == inf else _about(length)


def _where(length: int, unit: Unit) -> str:
    return label(length) + ("" if unit == "tokens" else " chars")


def _about(length: float) -> str:
    """A length between those measured: ``2.8k``."""
    return f"{length / 1024:.1f}".removesuffix(".0") + "k"
