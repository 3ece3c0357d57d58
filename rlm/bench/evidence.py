"""What a trajectory read of its document, and why a wrong answer came out wrong.

A text that a model was sent is laid over the document: each piece of 24 characters or more that
stands in both is a passage that was read. Texts that were sent are what the root model was told
(printed) and the prompts of sub-calls (passed on), those of loops that its cells opened included.
Output that nobody was shown is not among them, and neither is the question, which often shares
words with the sentence that answers it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from typing import Final, Literal, get_args

from rlm.bench.records import FAILED, Record
from rlm.bench.tasks.base import Item, Span
from rlm.trajectory import Call, Trajectory

LEAST: Final = 24
"""Characters from which on a piece of a text counts as read in the document."""
COVERED: Final = 0.8
"""Share of a span to be read where the answer's own place in it is not known."""
_COUNTED: Final = frozenset({"count", "answer"})
"""Rules of answers that hang on many lines (`aggregate`): what stands on one by chance is none."""
_SEED: Final = 20
_STRIDE: Final = LEAST - _SEED + 1
"""Any common piece of `LEAST` characters holds a seed that begins at a multiple of this."""
_PLACES: Final = 32
"""Places of one seed in a text that are followed; one repeated phrase may have thousands."""
_COMMON: Final = 64
"""Places of one seed in a document from which on it is boilerplate: a log has the same beginning
in each line, and a passage is told by what else is in it."""
_GAP: Final = "\1"
_STEPS: Final = (256, 16, 4, 1)

Cause = Literal[
    "never looked", "misread", "sub-call wrong", "bad FINAL", "sandbox", "limit", "not measured"
]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
MEANING: Final[dict[Cause, str]] = {
    "never looked": "no model was shown the evidence",
    "misread": "the evidence was shown, and the answer is another",
    "sub-call wrong": "a sub-call was given the evidence, and none of those gave the right answer "
    "or, of a list, a right member",
    "bad FINAL": "the right answer was there (a sub-call or a loop below gave it, or it stands in "
    "what was returned), and FINAL gave something else or nothing",
    "sandbox": "the sandbox stopped the code or died",
    "limit": "turns, calls, tokens, seconds or the window ran out",
    "not measured": "an error or a crash outside the model",
}
_ENDED: Final = frozenset({"turns", "window", "calls", "tokens", "seconds"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a document.

    Attributes:
        printed: passages that the root model was shown, or that of a loop below, in order, without
            overlap.
        passed: passages that stood in the prompt of a sub-call of any loop.
        seen: for each gold span, whether a passage covers the answer in it, or most of the span
            where the answer is not a piece of it: a count, a kind, one of several names in the
            question.
    """

    printed: tuple[Span, ...]
    passed: tuple[Span, ...]
    seen: tuple[bool, ...]

    @property
    def share(self) -> float | None:
        """Share of the gold spans that were seen, 0 to 1; ``None`` if there are none."""
        return sum(self.seen) / len(self.seen) if self.seen else None


def reading(item: Item, trajectory: Trajectory) -> Reading:
    """What the calls of a trajectory were shown of the document of `item`."""
    printed, passed = passages(
        item.document,
        _prompts(item, trajectory, "root", "last"),
        _prompts(item, trajectory, "sub"),
    )
    read = merged([*printed, *passed])
    return Reading(printed, passed, _seen(item, item.spans, read))


def cause(
    record: Record,
    item: Item | None,
    trajectory: Trajectory | None,
    read: Reading | None = None,
) -> Cause | None:
    """Why a cell of the loop has no right answer; ``None`` if it has one, or nobody can tell.

    The first of these that holds: sandbox (it failed), not measured, limit, sandbox (it stopped a
    cell), bad FINAL, never looked, sub-call wrong, misread.

    Args:
        record: the cell.
        item: its document and question; ``None`` if it cannot be made.
        trajectory: what happened; ``None`` if it is not there.
        read: its `reading`, if that is known already.
    """
    if record.verdict == "correct":
        return None
    if kept_from_answering := _broken_off(record, trajectory):
        return kept_from_answering
    wanted = _parts(item) if item else (record.gold,)
    if all(_has(part, record.prediction) for part in wanted) or not record.prediction.strip():
        return "bad FINAL"
    if item is None or trajectory is None:
        return None
    return _of_reading(item, trajectory, read)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same characters as spans in order that neither overlap nor touch."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start, each.end)):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def passages(document: str, *groups: Iterable[str]) -> tuple[tuple[Span, ...], ...]:
    """For each group of texts, the passages of `document` that stand in one of them.

    A piece of a text that stands at several places of the document is counted at one of them, that
    where most of its neighbourhood agrees; one that stands at hundreds is not counted. The cost
    grows with the length of the document plus that of the texts.
    """
    unique = [list(dict.fromkeys(texts)) for texts in groups]
    pieces = [text for texts in unique for text in texts]
    group_of = [number for number, texts in enumerate(unique) for _ in texts]
    seeds = _seeds(pieces)
    matches: set[tuple[int, int, int, int]] = set()
    reached: dict[tuple[int, int], int] = {}  # of a text and an offset: the end of its last match
    starts = range(0, len(document) - _SEED + 1, _STRIDE)
    hits = [i for i in starts if document[i : i + _SEED] in seeds]
    often = Counter(document[i : i + _SEED] for i in hits)
    for start in [i for i in hits if often[document[i : i + _SEED]] <= _COMMON]:
        for number, at in seeds[document[start : start + _SEED]]:
            if reached.get((number, start - at), -1) > start:
                continue
            before, after = _extent(document, start, pieces[number], at)
            reached[number, start - at] = start + after
            if before + after >= LEAST:
                matches.add((-(before + after), number, at - before, start - before))
    found: list[list[Span]] = [[] for _ in groups]
    for number, span in _without_echoes(sorted(matches)):
        found[group_of[number]].append(span)
    return tuple(merged(spans) for spans in found)


def _seeds(texts: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Where each piece of `_SEED` characters stands: (number of the text, place in it)."""
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, text in enumerate(texts):
        for at in range(len(text) - _SEED + 1):
            places = found[text[at : at + _SEED]]
            if len(places) < _PLACES or places[-_PLACES][0] != number:
                places.append((number, at))
    return found


def _without_echoes(
    matches: Sequence[tuple[int, int, int, int]],
) -> Iterator[tuple[int, Span]]:
    """Text and span of each match that has `LEAST` characters which no longer one has explained.

    Matches, the longest first, are (minus the length, text, place in it, place in the document).
    """
    explained: defaultdict[int, list[Span]] = defaultdict(list)
    for negative, number, at, start in matches:
        own = Span(at, at - negative)
        new = (own.end - own.start) - _overlap(own, explained[number])
        if new >= LEAST:
            explained[number] = list(merged([*explained[number], own]))
            yield number, Span(start, start - negative)


def _overlap(span: Span, others: Iterable[Span]) -> int:
    """Characters of `span` within `others`, which do not overlap."""
    return sum(max(0, min(span.end, o.end) - max(span.start, o.start)) for o in others)


def _extent(document: str, start: int, text: str, at: int) -> tuple[int, int]:
    """How far two texts agree to the left of a place, and from it to the right."""
    before, most = 0, min(start, at)
    for step in _STEPS:
        while before + step <= most and (
            document[start - before - step : start - before]
            == text[at - before - step : at - before]
        ):
            before += step
    after, most = _SEED, min(len(document) - start, len(text) - at)
    for step in _STEPS:
        while after + step <= most and (
            document[start + after : start + after + step] == text[at + after : at + after + step]
        ):
            after += step
    return before, after


def _prompts(item: Item, trajectory: Trajectory, *kinds: str) -> Iterator[str]:
    """What calls of these kinds were sent, but for system prompts and the model's own replies."""
    for call in _calls(trajectory):
        if call.kind in kinds and call.completion is not None:
            yield from (_unasked(item, m.content) for m in call.messages if m.role == "user")


def _calls(trajectory: Trajectory) -> Iterator[Call]:
    """The calls of all loops of the tree."""
    return (call for _, run in trajectory.runs() for call in run.calls)


def _unasked(item: Item, text: str) -> str:
    """The text without the question."""
    return text.replace(item.question, "\0")


def _parts(item: Item) -> tuple[str, ...]:
    """The members of a list, which `Item.gold` joins; the answer itself, where it is a single one.

    Several answers that are all right are no list.
    """
    is_list = item.scorer == "set" or (not item.scorer and item.gold not in item.answers)
    return item.answers if is_list and item.answers else (item.gold,)


def _is_quoted(item: Item) -> bool:
    """Whether the answer, or a member of it, is copied from the evidence.

    A count and a kind are not, nor is one of several names in the question: where such a word
    stands, it does not answer.
    """
    return item.scorer not in _COUNTED and not _has(item.gold, item.question)


def _seen(item: Item, spans: Iterable[Span], read: Sequence[Span]) -> tuple[bool, ...]:
    """For each span, whether the answer in it was read; `read` is in order, without overlap."""
    parts = _parts(item) if _is_quoted(item) else ()
    return tuple(_is_seen(item.document, span, parts, read) for span in spans)


def _is_seen(document: str, span: Span, parts: Iterable[str], read: Sequence[Span]) -> bool:
    """Whether all `parts` in a span were read, or most of the span where it has none of them."""
    places = [(document.find(part, span.start, span.end), part) for part in parts if part]
    if found := [Span(at, at + len(part)) for at, part in places if at >= 0]:
        return all(any(r.start <= f.start and f.end <= r.end for r in read) for f in found)
    first = bisect_right(read, span.start, key=attrgetter("end"))
    behind = bisect_left(read, span.end, key=attrgetter("start"))
    return _overlap(span, read[first:behind]) >= COVERED * (span.end - span.start)


def _broken_off(record: Record, trajectory: Trajectory | None) -> Cause | None:
    """What kept the loop from an answer of its own; ``None`` if nothing did."""
    if record.error is not None and record.error.type.startswith("Sandbox"):
        return "sandbox"
    if record.verdict in FAILED:
        return "not measured"
    if record.verdict in ("truncated", "timeout") or record.ended_by in _ENDED:
        return "limit"
    turns = [turn for _, run in trajectory.runs() for turn in run.turns] if trajectory else []
    cells = (cell for turn in turns for cell in turn.cells)
    return "sandbox" if any(cell.result.status in ("timeout", "died") for cell in cells) else None


def _of_reading(item: Item, trajectory: Trajectory, read: Reading | None) -> Cause | None:
    """Why an answer is wrong that the loop gave by itself.

    What sub-calls gave is judged only where the answer is copied from the evidence: they are asked
    for labels or numbers where it is not, and give the right word by chance.
    """
    calls = _judged(item, trajectory) if _is_quoted(item) else []
    if calls and set(_parts(item)) <= set().union(*(given for _, given in calls)):
        return "bad FINAL"
    if _is_quoted(item) and _found_below(item, trajectory):
        return "bad FINAL"
    if not item.spans:
        return None
    if not any((read or reading(item, trajectory)).seen):
        return "never looked"
    failed = calls and not any(given for _, given in calls)
    return "sub-call wrong" if failed else "misread"


def _judged(item: Item, trajectory: Trajectory) -> list[tuple[set[str], set[str]]]:
    """Of each sub-call that was shown a part of the answer: those parts, and which it gave."""
    subs = [each for each in _calls(trajectory) if each.kind == "sub"]
    told = [(each.completion.text, _shown(item, each)) for each in subs if each.completion]
    return [(shown, {p for p in shown if _has(p, text)}) for text, shown in told if shown]


def _found_below(item: Item, trajectory: Trajectory) -> bool:
    """Whether a loop below gave the right answer; where its evidence stands, it was shown some."""
    return any(
        all(_has(part, child.answer) for part in _parts(item))
        and (not item.spans or any(reading(item, child.trajectory).seen))
        for _, run in trajectory.runs()
        for child in run.children
    )


def _shown(item: Item, call: Call) -> set[str]:
    """The parts of the answer whose evidence a prompt showed; all where its place is unknown.

    A single answer's evidence are all spans; a member's are those that it stands in. Only what
    surrounds the evidence is looked at, all at once: there may be thousands of lines.
    """
    parts = _parts(item)
    if not item.spans:
        return set(parts)
    text = _unasked(item, call.messages[-1].content)
    around = merged(Span(max(0, s.start - LEAST), s.end + LEAST) for s in item.spans)
    pieces = [item.document[span.start : span.end] for span in around]
    (read,) = passages(_GAP.join(pieces), [text])
    moved = list(_moved(read, around, pieces))
    told = zip(item.spans, _seen(item, item.spans, moved), strict=True)
    seen = [item.document[span.start : span.end] for span, is_seen in told if is_seen]
    if len(parts) == 1:
        return set(parts) if seen else set()
    return {part for part in parts if any(part in sentence for sentence in seen)}


def _moved(read: Iterable[Span], around: Sequence[Span], pieces: Sequence[str]) -> Iterator[Span]:
    """Spans of pieces joined by `_GAP`, as spans of the document that `around` says they are of."""
    starts = list(accumulate((len(piece) + len(_GAP) for piece in pieces), initial=0))
    for span in read:
        number = bisect_right(starts, span.start) - 1
        by = around[number].start - starts[number]
        yield Span(span.start + by, span.end + by)


def _has(gold: str, text: str) -> bool:
    """Whether the gold answer stands in a text as a word, in upper or lower case."""
    wanted, text = gold.casefold().strip(), text.casefold()
    if not wanted:
        return False
    at = text.find(wanted)
    while at >= 0:
        around = text[max(0, at - 1) : at] + text[at + len(wanted) : at + len(wanted) + 1]
        if not any(c.isalnum() for c in around):
            return True
        at = text.find(wanted, at + 1)
    return False
