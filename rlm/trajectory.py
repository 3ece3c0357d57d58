"""What happened in one run, exactly: every message, every cell, every sub-call, and every loop that
a cell opened, which is a run of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

from rlm.errors import ClientError, RLMError
from rlm.messages import Completion, Message, Options, Times, Usage
from rlm.overflow import Cut
from rlm.sandbox.base import CellResult, Final

CallKind = Literal["root", "sub", "last", "vanilla", "sample"]
EndedBy = Literal["final", "text", "turns", "window", "calls", "tokens", "seconds", "answered"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model.

    Attributes:
        kind: ``root`` (a turn), ``sub`` (from inside a cell), ``last`` (the closing request for an
            answer), ``vanilla``, or ``sample`` (pieces of a document, for the server's count of
            their tokens; its answer is not used).
        turn: number of the root turn it belongs to, from 1; 0 for vanilla.
        messages: exactly what was sent.
        completion: what came back; ``None`` if the call failed or was refused.
        error: why there is no completion.
        retries: for each time the call was sent again, why; also in its completion.
    """

    kind: CallKind
    turn: int
    messages: tuple[Message, ...]
    completion: Completion | None
    error: str = ""
    retries: tuple[str, ...] = ()

    @classmethod
    def answered(
        cls, kind: CallKind, turn: int, messages: tuple[Message, ...], completion: Completion
    ) -> Call:
        """A call that was answered."""
        return cls(kind, turn, messages, completion, retries=completion.retries)

    @classmethod
    def failed(
        cls, kind: CallKind, turn: int, messages: tuple[Message, ...], error: RLMError
    ) -> Call:
        """A call that failed or was refused."""
        retries = error.retries if isinstance(error, ClientError) else ()
        return cls(kind, turn, messages, None, f"{type(error).__name__}: {error}", retries)


@dataclass(frozen=True, slots=True)
class Cell:
    """One code cell and what it did."""

    code: str
    result: CellResult


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the root model.

    Attributes:
        number: from 1.
        reply: the model's text.
        cells: the code blocks that ran, in order.
        feedback: the user message that told the model what happened; empty on the final turn.
        rejected: why a FINAL was not accepted (a key of the ``rejected`` texts), else empty.
        dropped: earlier turns whose output was dropped from the history before this turn.
    """

    number: int
    reply: str
    cells: tuple[Cell, ...]
    feedback: str = ""
    rejected: str = ""
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """What the loops of one level did together.

    Attributes:
        runs: how many there were.
        turns: their turns.
        sub_calls: their calls of `llm_query`, failed ones included.
        usage: tokens and calls of all their calls that were answered.
    """

    runs: int
    turns: int
    sub_calls: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A loop that a cell opened with `rlm_query`.

    Attributes:
        turn: number of the turn whose cell opened it, from 1.
        cell: number of that cell in its turn, from 1.
        call: how many of its parent's own calls were made before it.
        chars: length of its context.
        query: what it was asked.
        trajectory: what happened in it.
        answer: what it found; empty if nothing.
        ended_by: as in `Answer`; ``None`` if an error broke it off.
        error: that error, as ``Type: message``.
        truncated: as in `Answer`.
    """

    turn: int
    cell: int
    call: int
    chars: int
    query: str
    trajectory: Trajectory
    answer: str = ""
    ended_by: EndedBy | None = None
    error: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What happened, as a tree: sums are those of all loops in it.

    Attributes:
        prompt_version: of the texts that the model saw.
        calls: the calls of this loop, in the order they were made.
        turns: of this loop; none for vanilla.
        children: the loops that its cells opened, in this order.
        cut: what the prompt of the last vanilla call leaves out of the document on purpose;
            ``None`` if nothing.
    """

    prompt_version: str
    calls: tuple[Call, ...] = ()
    turns: tuple[Turn, ...] = ()
    children: tuple[ChildRun, ...] = ()
    cut: Cut | None = None

    def runs(self, depth: int = 1) -> Iterator[tuple[int, Trajectory]]:
        """The loop itself and all below it, each before its children, with their depths."""
        yield depth, self
        for child in self.children:
            yield from child.trajectory.runs(depth + 1)

    @property
    def levels(self) -> tuple[Level, ...]:
        """What was done on each level, the first being that of this loop alone."""
        found: list[Level] = []
        for depth, run in self.runs():
            if len(found) < depth:
                found.append(Level(0, 0, 0, Usage()))
            before, done = found[depth - 1], run._own_completions()
            found[depth - 1] = Level(
                before.runs + 1,
                before.turns + len(run.turns),
                before.sub_calls + sum(call.kind == "sub" for call in run.calls),
                sum((each.usage for each in done), before.usage),
            )
        return tuple(found)

    @property
    def iterations(self) -> int:
        """Turns of all loops."""
        return sum(len(run.turns) for _, run in self.runs())

    @property
    def sub_calls(self) -> int:
        """Calls of `llm_query`, failed ones included."""
        return sum(call.kind == "sub" for call in self._calls())

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all calls that were answered."""
        return sum((done.usage for done in self._completions()), Usage())

    @property
    def times(self) -> Times:
        """Seconds of the model, all answered calls together."""
        return sum((done.times for done in self._completions()), Times())

    @property
    def sandbox_seconds(self) -> float:
        """Seconds that code cells ran, without the calls they made."""
        turns = (turn for _, run in self.runs() for turn in run.turns)
        return sum(cell.result.seconds for turn in turns for cell in turn.cells)

    @property
    def retries(self) -> int:
        """How often a call was sent again, those that failed in the end included."""
        return sum(len(call.retries) for call in self._calls())

    @property
    def truncated(self) -> bool:
        """Whether any prompt was cut silently, messages of a root prompt were left out, or a loop
        whose answer a cell was given was truncated.
        """
        return (
            any(done.truncated for done in self._completions())
            or any(run._lost_messages for _, run in self.runs())
            or any(c.truncated and c.answer for _, run in self.runs() for c in run.children)
        )

    @property
    def fault(self) -> str:
        """The first error that code was told and that is the server's own: not a prompt too long.

        It is that of a sub-call, or of any call of a loop below the first.
        """
        calls = ((depth, call) for depth, run in self.runs() for call in run.calls)
        told = (call for depth, call in calls if depth > 1 or call.kind == "sub")
        return next((call.error for call in told if _is_servers(call.error)), "")

    @property
    def _lost_messages(self) -> bool:
        """Whether a root prompt counts fewer tokens than the one before it, which begins it.

        Ollama can leave out whole older messages; what it keeps fits, without the mark of a cut.
        """
        roots = [call for call in self.calls if call.completion and call.kind in ("root", "last")]
        return any(
            later.messages[: len(call.messages)] == call.messages
            and later.completion.usage.prompt_tokens < call.completion.usage.prompt_tokens
            for call, later in pairwise(roots)
            if call.completion and later.completion
        )

    def _calls(self) -> Iterator[Call]:
        return (call for _, run in self.runs() for call in run.calls)

    def _completions(self) -> list[Completion]:
        return [done for _, run in self.runs() for done in run._own_completions()]

    def _own_completions(self) -> list[Completion]:
        return [call.completion for call in self.calls if call.completion is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; each different message is stored once, calls hold indices."""
        table: dict[Message, int] = {}
        calls = []
        for call in self.calls:
            row = asdict(call)
            row["messages"] = [table.setdefault(m, len(table)) for m in call.messages]
            calls.append(row)
        return {
            "prompt_version": self.prompt_version,
            "messages": [asdict(m) for m in table],
            "calls": calls,
            "turns": [asdict(t) for t in self.turns],
            "children": [_child_row(child) for child in self.children],
            "cut": asdict(self.cut) if self.cut else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trajectory:
        """The inverse of `to_dict`."""
        table = [Message(**m) for m in data["messages"]]
        return cls(
            prompt_version=data["prompt_version"],
            calls=tuple(_call(row, table) for row in data["calls"]),
            turns=tuple(_turn(row) for row in data["turns"]),
            children=tuple(_child(row) for row in data.get("children", ())),
            cut=_cut(data["cut"]) if data.get("cut") else None,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one run of an architecture.

    Attributes:
        answer: the text to be scored.
        iterations: turns taken, those of loops that cells opened included; 1 for vanilla.
        sub_calls: calls of `llm_query` in all these loops, failed ones included.
        trajectory: see `Trajectory`.
        usage: tokens and calls of all calls together.
        times: seconds of the model, all calls together.
        wall: seconds from start to end.
        sandbox_seconds: seconds that code cells ran, without the calls they made.
        ended_by: ``final``; ``text`` (a FINAL outside code); ``turns``, ``window`` or a resource of
            the budget when a last call had to ask for the answer; ``answered`` for vanilla.
        truncated: the model did not see all of a root or vanilla prompt, its reply was cut off by
            the window, or a sub-call's prompt was cut silently. A root call that counts fewer
            tokens than the one before it did for a part of it lost messages. A root prompt refused
            for length counts when no last call could be made either; outputs that the loop dropped
            by itself do not count, nor does what was cut on purpose (`Trajectory.cut`). All this
            holds for the loops below it, too, whose answer it was given.
        fault: ``Type: message`` of the first sub-call, or call of a loop below this one, that
            failed for a reason of the server's, else empty. The model was told and went on, but its
            answer is not all its own.
    """

    answer: str
    iterations: int
    sub_calls: int
    trajectory: Trajectory
    usage: Usage
    ended_by: EndedBy
    times: Times = field(default_factory=Times)
    wall: float = 0.0
    sandbox_seconds: float = 0.0
    truncated: bool = False
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; see `Trajectory.to_dict`."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "trajectory": self.trajectory.to_dict(),
            "usage": asdict(self.usage),
            "times": asdict(self.times),
        }


def cut_by_window(completion: Completion, options: Options) -> bool:
    """Whether the answer ended before `Options.max_tokens`, but not by the model's will."""
    written = completion.usage.completion_tokens
    counted = written > 0 or not completion.text  # some servers do not count what they write
    return completion.finish_reason == "length" and counted and written < options.max_tokens


def _is_servers(error: str) -> bool:
    return bool(error) and not error.startswith(("PromptTooLong:", "BudgetExceeded:"))


def _child_row(child: ChildRun) -> dict[str, Any]:
    row = {name: getattr(child, name) for name in child.__slots__}
    return row | {"trajectory": child.trajectory.to_dict()}


def _child(row: Mapping[str, Any]) -> ChildRun:
    return ChildRun(**{**row, "trajectory": Trajectory.from_dict(row["trajectory"])})


def _call(row: Mapping[str, Any], table: Sequence[Message]) -> Call:
    done = row["completion"]
    return Call(
        kind=row["kind"],
        turn=row["turn"],
        messages=tuple(table[i] for i in row["messages"]),
        completion=None if done is None else _completion(done),
        error=row["error"],
        retries=tuple(row.get("retries", ())),
    )


def _completion(row: Mapping[str, Any]) -> Completion:
    fields = dict(row)
    fields["usage"], fields["times"] = Usage(**row["usage"]), Times(**row["times"])
    for ids in ("prompt_ids", "completion_ids"):
        fields[ids] = None if row[ids] is None else tuple(row[ids])
    fields["retries"] = tuple(row.get("retries", ()))
    return Completion(**fields)


def _cut(row: Mapping[str, Any]) -> Cut:
    return Cut(**{**row, "kept": tuple((start, end) for start, end in row["kept"])})


def _turn(row: Mapping[str, Any]) -> Turn:
    cells = tuple(Cell(c["code"], _cell_result(c["result"])) for c in row["cells"])
    return Turn(
        number=row["number"],
        reply=row["reply"],
        cells=cells,
        feedback=row["feedback"],
        rejected=row["rejected"],
        dropped=tuple(row["dropped"]),
    )


def _cell_result(row: Mapping[str, Any]) -> CellResult:
    fields = dict(row)
    fields["final"] = None if row["final"] is None else Final(**row["final"])
    fields["variables"], fields["rebound"] = tuple(row["variables"]), tuple(row["rebound"])
    return CellResult(**fields)
