"""The items of a report as compressed data: an index of all, and chunks with their trajectories.

A reader's browser unpacks the index at once, and a chunk when one of its items is opened. Documents
are not among the data: a long text is cut to its beginning, its end and what surrounds the
evidence. The whole of it lies in the run's folder.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from rlm import prompts
from rlm.bench import evidence, records
from rlm.bench.evidence import Cause, Reading
from rlm.bench.made import Made, by_turn, dealt
from rlm.bench.pairs import is_cut_answer
from rlm.bench.records import COORDINATES, Record
from rlm.bench.report.verdicts import LEFT, RIGHT
from rlm.bench.sources import Sources
from rlm.bench.tasks.base import Item, Span
from rlm.bench.verify import read_trajectory
from rlm.errors import RecordError
from rlm.overflow import Cut
from rlm.trajectory import Call, Cell, ChildRun, Trajectory, Turn

CHUNK: Final = 32
"""Items that are unpacked together."""
ENDS: Final = 800
"""Characters of a long text that are kept at its beginning, and at its end."""
AROUND: Final = 300
"""Characters that are kept on either side of the evidence."""
SHOWN: Final = 32
"""Sentences of evidence that are marked and kept, of an item that has more."""
SHORT: Final = 80
"""Characters of an answer in a list of items."""

_CELL: Final = attrgetter(*(name for name in COORDINATES if name != "architecture"))
_FENCE: Final = re.compile(r"^[ \t]*`{3,}\w*[ \t]*$", re.MULTILINE)

Data = dict[str, Any]
Group = dict[str, Record]
"""The records of one item, by architecture."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the trajectory of one cell of the loop tells.

    Attributes:
        record: the cell.
        cause: see `rlm.bench.evidence.cause`.
        share: of the gold spans that were seen, 0 to 1; ``None`` if nobody can tell.
    """

    record: Record
    cause: Cause | None
    share: float | None


@dataclass(slots=True)
class Payload:
    """The data of a report, grown run by run with `add`.

    Attributes:
        told: for each run, its cells of the loop.
        notes: for each run, why something could not be shown, with how often.
    """

    told: list[list[Told]] = field(default_factory=list)
    notes: list[dict[str, int]] = field(default_factory=list)
    _index: list[Data] = field(default_factory=list)
    _chunks: list[str] = field(default_factory=list)
    _open: list[Data] = field(default_factory=list)

    def add(
        self, run: str, cells: Sequence[Record], progress: Callable[[int], None] | None = None
    ) -> None:
        """Add one run.

        Args:
            run: a name under ``runs/``, or a folder.
            cells: its records.
            progress: called after each item with how many records it has.

        Raises:
            RecordError: there is no such run, or it cannot be read.
        """
        reader = _Reader(run)
        for group in _items(cells):
            self._index.append({"run": len(self.told), **reader.row(group)})
            self._open.append(reader.detail)
            if len(self._open) == CHUNK:
                self._close_chunk()
            if progress is not None:
                progress(len(group))
        self.told.append(reader.told)
        self.notes.append(reader.notes | reader.sources.missing)

    def blobs(self) -> tuple[str, list[str]]:
        """The index and the chunks, each packed; an item's chunk is its number // `CHUNK`."""
        if self._open:
            self._close_chunk()
        return pack(self._index), self._chunks

    def _close_chunk(self) -> None:
        self._chunks.append(pack(self._open))
        self._open = []


def pack(data: object) -> str:
    """Plain data as base64 of gzip of ASCII JSON.

    Raises:
        ValueError: NaN or an infinity is in it, which no browser reads.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")
    return base64.b64encode(gzip.compress(text, 6, mtime=0)).decode("ascii")


def parts(text: str, keep: Iterable[str] = ()) -> str | list[str | int]:
    """A text, or of a long one what is kept: texts, and numbers of characters left out.

    Args:
        text: of any length.
        keep: sentences whose surroundings are kept, where they stand first.
    """
    if len(text) <= 2 * ENDS + AROUND:
        return text
    kept = [(0, ENDS), (len(text) - ENDS, len(text))]
    places = ((text.find(sentence), len(sentence)) for sentence in keep if sentence)
    kept += [
        (max(0, at - AROUND), min(len(text), at + size + AROUND)) for at, size in places if at >= 0
    ]
    found: list[str | int] = []
    end = 0
    for span in evidence.merged(Span(*ends) for ends in kept):
        found += [span.start - end] if span.start > end else []
        found.append(text[span.start : span.end])
        end = span.end
    return found


def shown_evidence(item: Item) -> list[str]:
    """The first `SHOWN` sentences of evidence; where all lines are, there are thousands."""
    return [item.document[span.start : span.end] for span in item.spans[:SHOWN]]


def marks(item: Item) -> tuple[Span, ...]:
    """Where evidence stands; of more than `SHOWN` places, those within 1/500 of each other are one.

    A picture of the document shows no more.
    """
    if len(item.spans) <= SHOWN:
        return item.spans
    gap = len(item.document) // 500
    joined = evidence.merged(Span(span.start, span.end + gap) for span in item.spans)
    return tuple(Span(span.start, span.end - gap) for span in joined)


def _items(cells: Iterable[Record]) -> list[Group]:
    """Records of the same cell and document together; a cell that is there twice is two items."""
    found: defaultdict[object, list[Group]] = defaultdict(list)
    order: list[Group] = []
    for record in cells:
        groups = found[_CELL(record)]
        free = [g for g in groups if record.architecture not in g and _same(g, record)]
        if not free:
            free = [{}]
            groups += free
            order += free
        free[0][record.architecture] = record
    return order


def _same(group: Group, record: Record) -> bool:
    """Whether nothing says that the document is another."""
    known = {r.doc.sha256 for r in (*group.values(), record) if r.doc is not None}
    return len(known) <= 1


def outcome(group: Group) -> str:
    """``both``, ``right``, ``left`` or ``neither``: which side is correct; empty without a pair."""
    if LEFT not in group or RIGHT not in group:
        return ""
    left, right = (group[name].verdict == "correct" for name in (LEFT, RIGHT))
    return {(True, True): "both", (False, True): "right", (True, False): "left"}.get(
        (left, right), "neither"
    )


class _Reader:
    """Reads the trajectories of one run.

    Attributes:
        detail: of the last item that `row` was asked for.
    """

    def __init__(self, run: str) -> None:
        self.path = records.folder(run)
        self.sources = Sources(run)
        self.told: list[Told] = []
        self.notes: dict[str, int] = {}
        self.detail: Data = {}

    def row(self, group: Group) -> Data:
        """An item as it stands in the index; its `detail` is read on the way."""
        first = next(iter(group.values()))
        item = next(filter(None, map(self.sources.item, group.values())), None)
        self.detail = {
            "question": first.question,
            "gold": first.gold,
            "chars": next((r.doc.chars for r in group.values() if r.doc), 0),
            "spans": [[span.start, span.end] for span in marks(item)] if item else [],
            "evidence": shown_evidence(item) if item else [],
            "entries": [self._entry(record, item) for record in group.values()],
        }
        return {
            **{name: getattr(first, name) for name in COORDINATES if name != "architecture"},
            "gold": first.gold[:SHORT],
            "outcome": outcome(group),
            "cause": next((e["cause"] for e in self.detail["entries"] if e["cause"]), ""),
            "answers": [
                [r.architecture, r.verdict, r.prediction[:SHORT], _mark(r)] for r in group.values()
            ],
        }

    def _entry(self, record: Record, item: Item | None) -> Data:
        """One cell as the viewer shows it."""
        trajectory = self._trajectory(record)
        keep = shown_evidence(item) if item else []
        is_loop = record.architecture == RIGHT or bool(trajectory and trajectory.turns)
        read = evidence.reading(item, trajectory) if is_loop and item and trajectory else None
        why = evidence.cause(record, item, trajectory, read) if is_loop else None
        if is_loop:
            self.told.append(Told(record, why, read.share if read else None))
        return {
            **_figures(record),
            "cause": why or "",
            **(reading_data(read) if read else {}),
            **(story(trajectory, keep) if trajectory else {}),
        }

    def _trajectory(self, record: Record) -> Trajectory | None:
        try:
            return read_trajectory(self.path, record)
        except RecordError as error:
            reason = re.sub(r"\b[0-9a-f]{64}\b", "…", str(error))
            self.notes[reason] = self.notes.get(reason, 0) + 1
            return None


def _figures(record: Record) -> Data:
    usage, error = record.usage, record.error
    return {
        "architecture": record.architecture,
        "verdict": record.verdict,
        "prediction": record.prediction,
        "prediction_chars": record.prediction_chars,
        "ended_by": record.ended_by,
        "error": f"{error.type}: {error.message}" if error else "",
        "tokens": [usage.prompt_tokens, usage.completion_tokens],
        "calls": usage.calls,
        "sub_calls": usage.sub_calls,
        "seconds": round(record.time.wall, 3),
        "window": record.model.window,
        "trace": record.trace.path if record.trace else "",
        "mark": _mark(record),
        "cut": cut_data(record.cut) if record.cut else None,
    }


def _mark(record: Record) -> str:
    """What a verdict on a part of the document is marked with; empty if it is on the whole."""
    if not is_cut_answer(record):
        return ""
    told = {"kept": "evidence kept", "part": "part of the evidence lost", "lost": "evidence lost"}
    return ", ".join(filter(None, ["cut on purpose", told.get(record.evidence, "")]))


def cut_data(cut: Cut) -> Data:
    """What was kept and left out on purpose."""
    return {"method": cut.method, "kept": cut.kept, "left_out": cut.left_out, "chars": cut.chars}


def reading_data(read: Reading) -> Data:
    """The share of the evidence that was seen, and the passages that were."""
    return {
        "share": read.share,
        "printed": [[span.start, span.end] for span in read.printed],
        "passed": [[span.start, span.end] for span in read.passed],
    }


def story(trajectory: Trajectory, keep: Sequence[str]) -> Data:
    """What was sent first, the turns, and the calls that belong to none.

    Args:
        trajectory: what happened.
        keep: sentences that stay where long texts are shortened; see `parts`.
    """
    reading = [call for call in trajectory.calls if call.kind == "vanilla"]
    first = next(iter(reading[-1:] or trajectory.calls), None)
    made = {turn: _shown(each, keep) for turn, each in by_turn(trajectory).items()}
    others = [c for c in trajectory.calls if c.kind not in ("root", "sub")]
    turns = [_turn(turn, made.pop(turn.number, []), keep) for turn in trajectory.turns]
    strays = [shown for _, shown in chain.from_iterable(made.values())]  # a turn was broken off
    return {
        "sent": [[m.role, parts(m.content, keep)] for m in first.messages] if first else [],
        "turns": turns,
        "others": [_call(c, keep, is_first=c is first) for c in others] + strays,
    }


def _shown(made: Iterable[Made], keep: Sequence[str]) -> list[tuple[int, Data]]:
    return [
        (cell, _loop(each, keep) if isinstance(each, ChildRun) else _call(each, keep))
        for cell, each in made
    ]


def _loop(child: ChildRun, keep: Sequence[str]) -> Data:
    """A loop that a cell opened, with all below it."""
    own = child.trajectory.levels[0]
    return {
        "kind": "loop",
        "chars": child.chars,
        "query": parts(child.query, keep),
        "answer": parts(child.answer),
        "error": child.error,
        "ended_by": child.ended_by or "",
        "tokens": [own.usage.prompt_tokens, own.usage.completion_tokens],
        **story(child.trajectory, keep),
    }


def _turn(turn: Turn, made: Iterable[tuple[int, Data]], keep: Sequence[str]) -> Data:
    """A turn; each cell has the sub-calls that it made and the loops that it opened."""
    *mine, left = dealt(turn, made)
    cells = [_cell(cell, subs, keep) for cell, subs in zip(turn.cells, mine, strict=True)]
    prose = turn.reply
    for cell in turn.cells:
        prose = prose.replace(cell.code, "", 1)
    is_code_alone = turn.cells and not _FENCE.sub("", prose).strip()
    return {
        "number": turn.number,
        "reply": "" if is_code_alone else parts(turn.reply, keep),
        "cells": cells,
        "feedback": parts(turn.feedback, keep),
        "rejected": prompts.templates("rejected").get(turn.rejected, turn.rejected),
        "dropped": list(turn.dropped),
        "subs": left,
    }


def _cell(cell: Cell, subs: list[Data], keep: Sequence[str]) -> Data:
    result = cell.result
    return {
        "code": parts(cell.code),
        "status": result.status,
        "output": parts(result.stdout, keep),
        "output_chars": result.stdout_chars,
        "error": result.error,
        "final": result.final and parts(result.final.value),
        "seconds": round(result.seconds, 3),
        "subs": subs,
    }


def _call(call: Call, keep: Sequence[str], *, is_first: bool = False) -> Data:
    """A call; of a last call's conversation only the newest message, of the first call none."""
    done = call.completion
    shown = () if is_first else call.messages[-1:] if call.kind == "last" else call.messages
    return {
        "kind": call.kind,
        "sent": [[m.role, parts(m.content, keep)] for m in shown],
        "answer": parts(done.text) if done else None,
        "error": call.error,
        "finish": done.finish_reason if done else "",
        "tokens": [done.usage.prompt_tokens, done.usage.completion_tokens] if done else [],
        "seconds": round(done.times.wall, 3) if done else 0,
        "retries": list(call.retries),
    }
