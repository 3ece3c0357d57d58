"""Cells side by side: the same question on the same document, answered by two sides.

Two estimands are given, each with its counts. (a) An answer that is not correct counts 0, whatever
the reason. (b) Only pairs count in which both sides gave an answer to the whole document, right or
wrong. A pair is left out of (b) as a whole, and what has no partner is counted: nothing is dropped
from one side only. A document that was cut on purpose counts in (a) by what was answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import fmean
from typing import Final

from rlm.bench.grid import Unit
from rlm.bench.records import COORDINATES, FAILED, VALID, Record
from rlm.bench.statistics import Estimate, holm, mcnemar, paired_difference

_CELL: Final = attrgetter(*(name for name in COORDINATES if name != "architecture"))

Pair = tuple[Record, Record]
Group = tuple[str, Unit, int, str]


@dataclass(frozen=True, slots=True)
class Side:
    """Verdicts of one side of the pairs; `failed` is error and crashed.

    Of those correct or wrong, `cut` read a part of the document, which was cut on purpose, and
    `lost` a part without all of the evidence.
    """

    correct: int
    wrong: int
    truncated: int
    timeout: int
    failed: int
    cut: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What some pairs come to; see `Comparison`. `difference` is ``None`` if there is no pair."""

    pairs: int
    wins: int
    losses: int
    documents: int
    difference: Estimate | None
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides at one task and length.

    Attributes:
        task, unit, length: where.
        architecture: the one that is compared between runs; empty between architectures.
        left, right: names of the sides; a difference is right minus left, 0 to 1.
        pairs: cells that both sides have; 0 if none could be paired.
        wins: pairs that only the right side got.
        losses: pairs that only the left side got.
        documents: among the pairs.
        difference: of the shares that are correct.
        p: exact McNemar test over documents: of several pairs on one document, it counts which
            side won more.
        p_holm: the same, adjusted for all comparisons that were made together.
        valid: estimand (b), over the pairs whose two sides are `Record.is_valid`.
        left_side, right_side: verdicts of the pairs.
        unmatched: cells of one side without a partner on the same document.
        windows: live windows of the truncated cells, in tokens, where known.
    """

    task: str
    unit: Unit
    length: int
    architecture: str
    left: str
    right: str
    pairs: int
    wins: int
    losses: int
    documents: int
    difference: Estimate
    p: float
    p_holm: float
    valid: Figures
    left_side: Side
    right_side: Side
    unmatched: int
    windows: tuple[int, ...]


def between_architectures(
    records: Iterable[Record], left: str = "vanilla", right: str = "rlm"
) -> tuple[Comparison, ...]:
    """Two architectures of one run, by task, unit and length; none if one of the two is absent."""
    sides: dict[str, list[Record]] = {left: [], right: []}
    for record in records:
        if record.architecture in sides:
            sides[record.architecture].append(record)
    if not all(sides.values()):
        return ()
    return _compare(sides[left], sides[right], (left, right), lambda _: "")


def between_runs(before: Sequence[Record], after: Sequence[Record]) -> tuple[Comparison, ...]:
    """Two runs, by task, unit, length and architecture; the sides are named as the runs."""
    names = [records[0].run if records else "" for records in (before, after)]
    return _compare(before, after, (names[0], names[1]), lambda record: record.architecture)


def adjusted(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """The same with `p_holm` for these comparisons as one family, for each estimand by itself."""
    family = tuple(comparisons)
    every, valid = holm([c.p for c in family]), holm([c.valid.p for c in family])
    return tuple(
        replace(c, p_holm=p, valid=replace(c.valid, p_holm=q))
        for c, p, q in zip(family, every, valid, strict=True)
    )


def differences(left: Sequence[Record], right: Sequence[Record]) -> list[float]:
    """Mean difference of each document over the pairs of these cells, right minus left."""
    found: defaultdict[object, list[float]] = defaultdict(list)
    for a, b in _matched(left, right):
        found[_document((a, b))].append((b.verdict == "correct") - (a.verdict == "correct"))
    return [fmean(each) for each in found.values()]


def _compare(
    left: Iterable[Record],
    right: Iterable[Record],
    names: tuple[str, str],
    architecture: Callable[[Record], str],
) -> tuple[Comparison, ...]:
    groups: defaultdict[Group, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for side, records in enumerate((left, right)):
        for r in records:
            groups[r.task, r.unit, r.length, architecture(r)][side].append(r)
    order = {task: i for i, task in enumerate(dict.fromkeys(group[0] for group in groups))}
    rank = {name: i for i, name in enumerate(dict.fromkeys(group[3] for group in groups))}
    places = sorted(groups, key=lambda g: (order[g[0]], g[1], g[2], rank[g[3]]))
    return adjusted(_comparison(place, names, *groups[place]) for place in places)


def _comparison(
    place: Group, names: tuple[str, str], left: Sequence[Record], right: Sequence[Record]
) -> Comparison:
    pairs = _matched(left, right)
    every = _figures(pairs)
    valid = _figures([p for p in pairs if p[0].is_valid and p[1].is_valid])
    cut = [r.model.window for pair in pairs for r in pair if r.verdict == "truncated"]
    task, unit, length, architecture = place
    return Comparison(
        task=task,
        unit=unit,
        length=length,
        architecture=architecture,
        left=names[0],
        right=names[1],
        pairs=every.pairs,
        wins=every.wins,
        losses=every.losses,
        documents=every.documents,
        difference=every.difference or paired_difference((), (), ()),
        p=every.p,
        p_holm=every.p,
        valid=valid,
        left_side=_side(a for a, _ in pairs),
        right_side=_side(b for _, b in pairs),
        unmatched=len(left) + len(right) - 2 * len(pairs),
        windows=tuple(sorted({w for w in cut if w})),
    )


def _matched(left: Iterable[Record], right: Iterable[Record]) -> list[Pair]:
    """Pairs of the same cell and document; of a cell that is there twice, in the order given."""
    waiting: defaultdict[object, list[Record]] = defaultdict(list)
    for record in right:
        waiting[_CELL(record)].append(record)
    pairs = []
    for record in left:
        partners = waiting[_CELL(record)]
        found = next((i for i, r in enumerate(partners) if _same_document(record, r)), None)
        if found is not None:
            pairs.append((record, partners.pop(found)))
    return pairs


def _same_document(a: Record, b: Record) -> bool:
    """Unless both say that it is another; a cell that failed early may not say."""
    return a.doc is None or b.doc is None or a.doc.sha256 == b.doc.sha256


def _figures(pairs: Sequence[Pair]) -> Figures:
    left = [a.verdict == "correct" for a, _ in pairs]
    right = [b.verdict == "correct" for _, b in pairs]
    documents = [_document(pair) for pair in pairs]
    net = Counter[object]()
    for a, b, document in zip(left, right, documents, strict=True):
        net[document] += b - a
    p = mcnemar(sum(d > 0 for d in net.values()), sum(d < 0 for d in net.values()))
    return Figures(
        pairs=len(pairs),
        wins=sum(b > a for a, b in zip(left, right, strict=True)),
        losses=sum(b < a for a, b in zip(left, right, strict=True)),
        documents=len(net),
        difference=paired_difference(left, right, documents) if pairs else None,
        p=p,
        p_holm=p,
    )


def _document(pair: Pair) -> object:
    """What tells the document of a pair from others: its hash, or the cell without its draw."""
    for record in pair:
        if record.doc is not None:
            return record.doc.sha256
    return pair[0].depth, pair[0].sample, pair[0].seed, pair[0].split


def _side(records: Iterable[Record]) -> Side:
    cells = list(records)
    counts = Counter(r.verdict for r in cells)
    cut = [r for r in cells if is_cut_answer(r)]
    return Side(
        correct=counts["correct"],
        wrong=counts["wrong"],
        truncated=counts["truncated"],
        timeout=counts["timeout"],
        failed=sum(counts[v] for v in FAILED),
        cut=len(cut),
        lost=sum(map(is_lost, cut)),
    )


def is_cut_answer(record: Record) -> bool:
    """Whether it is an answer to a part of the document, the rest being cut off on purpose."""
    return record.verdict in VALID and record.cut is not None


def is_lost(record: Record) -> bool:
    """Whether the cut took evidence away."""
    return record.evidence in ("part", "lost")
