"""One question asked of one document: what each side answered, and what it saw of the document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rlm.bench import evidence
from rlm.bench.evidence import Reading
from rlm.bench.tasks.base import Item, Span
from rlm.clients.base import ModelInfo
from rlm.overflow import Spans
from rlm.trajectory import Answer, Trajectory
from rlm.tree import count

Outcome = Literal["answered", "unanswered", "truncated", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Side:
    """One way of answering, and what came of it.

    Attributes:
        architecture: ``rlm`` or ``vanilla``.
        model: what answered.
        trajectory: what happened, to the end or until it was broken off.
        seconds: from start to end.
        answer: ``None`` if it was broken off.
        error: by what, as ``Type: message``; empty for Ctrl-C, and where nothing did.
    """

    architecture: str
    model: ModelInfo
    trajectory: Trajectory
    seconds: float
    answer: Answer | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """The answer; empty if there is none."""
        return self.answer.answer if self.answer else ""

    @property
    def outcome(self) -> Outcome:
        """What it came to; ``truncated`` is that nothing was answered for want of room."""
        if self.answer is None:
            return "failed" if self.error else "stopped"
        if self.text.strip():
            return "answered"
        return "truncated" if self.answer.truncated else "unanswered"


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a document a side saw.

    Attributes:
        text: in words.
        reading: passages, for a side that reads by code; ``None`` for one that reads a prompt.
    """

    text: str
    reading: Reading | None = None


def seen(side: Side, document: str, question: str) -> Seen:
    """What a side saw of the document that it was asked about."""
    if side.architecture == "vanilla":
        return Seen(_of_prompt(side, len(document)))
    item = Item("", document, question, gold="", spans=(), depth=0.0, split="eval")
    read = evidence.reading(item, side.trajectory)
    size = len(document)
    whole = _chars(evidence.merged([*read.printed, *read.passed]))
    return Seen(
        f"{_share(whole, size)} of the text: {_share(_chars(read.printed), size)} shown to the "
        f"model that writes code, {_share(_chars(read.passed), size)} passed to sub-calls",
        read,
    )


def facts(side: Side) -> list[tuple[str, str]]:
    """What a side used, and how it ended: names and values."""
    went, usage = side.trajectory, side.trajectory.usage
    ended = f"ended by {side.answer.ended_by}" if side.answer and side.text else side.outcome
    is_loop = side.architecture != "vanilla"
    sub_calls = f", {went.sub_calls:,} of them sub-calls" if is_loop else ""
    end = f"{count(went.iterations, 'turn')}, {ended}" if is_loop else side.outcome
    return [
        ("calls", f"{usage.calls:,}{sub_calls}"),
        ("tokens", f"{usage.prompt_tokens:,} + {usage.completion_tokens:,}"),
        ("seconds", f"{side.seconds:.1f}"),
        ("end", end),
    ]


def told(side: Side) -> str:
    """The answer, or why there is none."""
    if side.outcome == "answered":
        return side.text
    return {
        "unanswered": "no answer",
        "truncated": "truncated: no answer",
        "stopped": "stopped by Ctrl-C",
    }.get(side.outcome, f"failed: {side.error}")


def _of_prompt(side: Side, size: int) -> str:
    cut = side.trajectory.cut
    if not any(call.kind == "vanilla" and call.completion for call in side.trajectory.calls):
        if side.outcome != "truncated":
            return "nothing: no prompt was answered"
        window = f" of {side.model.window:,} tokens" if side.model.window else ""
        return f"truncated: saw nothing, as the text does not fit the window{window}"
    if cut is not None:
        return (
            f"{_share(cut.kept_chars, size)} of the text: characters {_places(cut.kept)}; "
            f"not {_places(cut.left_out)}"
        )
    if side.answer is not None and side.answer.truncated:
        return "not all: the server cut the prompt or the answer, and does not say where"
    return "all of the text"


def _places(spans: Spans) -> str:
    return " and ".join(f"{start:,} to {end:,}" for start, end in spans)


def _chars(spans: Iterable[Span]) -> int:
    return sum(span.end - span.start for span in spans)


def _share(chars: int, size: int) -> str:
    return f"{chars / size:.1%}" if size else "0%"
