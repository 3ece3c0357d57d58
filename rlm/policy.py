"""When a FINAL is accepted, when the model is warned, and what it is told back. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rlm.limits import SandboxLimits
from rlm.prompts import say
from rlm.sandbox.base import CellResult

FAILED = frozenset({"error", "timeout", "died"})
"""Statuses of a cell that did not do what it was written for."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of the loop, with the constants of the source study.

    Attributes:
        recursive_from: characters of a document from which FINAL needs a sub-call first.
        rejections: after so many rejected FINALs the next one is accepted.
        similarity: `difflib` ratio from which a reply counts as a repetition.
        output_chars: characters of printed output told back a turn.
        answer_chars: characters of a sub-call's answer that reach the code.
        preview_chars: characters of the document shown in the opening message.
    """

    recursive_from: int = 16_000
    rejections: int = 2
    similarity: float = 0.92
    output_chars: int = 600
    answer_chars: int = 1_200
    preview_chars: int = 300

    def rejection(self, *, turn: int, chars: int, sub_calls: int, rejected: int) -> str:
        """Why a FINAL is not accepted: a key of the ``rejected`` texts, or empty if it is.

        Args:
            turn: number of the turn, from 1.
            chars: length of the document.
            sub_calls: sub-calls made so far in the run.
            rejected: FINALs rejected so far in the run.
        """
        if chars < self.recursive_from or rejected >= self.rejections:
            return ""
        if turn == 1:
            return "first_turn"
        return "" if sub_calls else "no_sub_call"

    def repeats(self, reply: str, previous: str) -> bool:
        """Whether `reply` is nearly the same text as the `previous` one."""
        if reply == previous:
            return True
        match = SequenceMatcher(None, previous, reply, autojunk=False)
        bounds = (match.real_quick_ratio, match.quick_ratio, match.ratio)  # cheap to dear
        return all(bound() >= self.similarity for bound in bounds)

    def needs_simpler(self, statuses: Sequence[str], *, new: int, just_told: bool) -> bool:
        """Whether to offer the simpler plan: two of the last three cells failed.

        Args:
            statuses: of all cells so far, this turn's included.
            new: how many of them are this turn's.
            just_told: the turn before this one was offered the plan already; then only a new
                failure brings it again.
        """
        if sum(status in FAILED for status in statuses[-3:]) < 2:
            return False
        return not just_told or any(s in FAILED for s in statuses[len(statuses) - new :])


def feedback(
    results: Sequence[CellResult],
    *,
    limits: SandboxLimits,
    output_chars: int,
    notes: Sequence[str] = (),
) -> str:
    """The user message that tells the model what its turn did: parts joined by newlines.

    Each cell in order (restored names, output or silence, error), then the variables that exist,
    then `notes`. The `output_chars` of a turn are shared equally by the cells that printed.
    """
    printed = sum(bool(result.stdout) for result in results)
    room = output_chars // max(printed, 1)
    parts = [part for result in results for part in _cell(result, limits, room)]
    if results and results[-1].variables:
        parts.append(say("feedback", "variables", names=", ".join(results[-1].variables)))
    return "\n".join([*parts, *notes])


def _cell(result: CellResult, limits: SandboxLimits, room: int) -> list[str]:
    parts = []
    if result.rebound:
        parts.append(say("feedback", "rebound", names=", ".join(result.rebound)))
    failed = result.error or result.status in FAILED
    if result.stdout:
        shown = _clip(result, room)
        parts.append(say("feedback", "output", length=result.stdout_chars, output=shown))
    elif not failed:
        parts.append(say("feedback", "silent"))
    if result.status == "timeout":
        parts.append(say("feedback", "timeout", seconds=f"{limits.seconds:g}"))
    elif result.status == "died":
        parts.append(say("feedback", "died", reason=result.error))
    elif failed:
        parts.append(say("feedback", "error", error=result.error))
    return parts


def _clip(result: CellResult, room: int) -> str:
    """The output without its final newline; two thirds of `room` from its head, the rest tail."""
    text = result.stdout.removesuffix("\n")
    if len(text) <= room:
        return text
    head = room * 2 // 3
    return say(
        "feedback",
        "clipped",
        head=text[:head],
        hidden=result.stdout_chars - room,
        tail=text[len(text) - (room - head) :],
    )
