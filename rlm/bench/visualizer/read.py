"""Logs of the official visualizer as trajectories. They have no gold answer and no verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rlm.blocks import last_answer
from rlm.errors import RecordError
from rlm.messages import Completion, Message, Times, Usage
from rlm.sandbox.base import CellResult
from rlm.sandbox.base import Final as Given
from rlm.trajectory import Call, Cell, ChildRun, EndedBy, Trajectory, Turn

Row = Mapping[str, Any]

UNKNOWN: Final = "unknown"
"""Version of the prompts: no log names it."""
NOT_TAKEN: Final = "This FINAL was not taken; the log does not say why."
LEVELS: Final = 32
"""Most levels of loops; what `rlm.loop` runs has up to 8."""
_MOST: Final = 10**12
"""A larger count or time is no measured one."""
_BROKEN: Final = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)
"""What a line raises that is JSON of another kind, or none."""


@dataclass(frozen=True, slots=True)
class Log:
    """One trajectory of somebody's.

    Attributes:
        name: of its file, without the ending.
        model: that answered; empty if the log does not say.
        question: empty if the log does not say; it may stand in the first prompt.
        answer: the last that was given; empty if none was.
        ended_by: what the log tells of it; ``None`` without an answer.
        seconds: of all turns.
        trajectory: what happened.
    """

    name: str
    model: str
    question: str
    answer: str
    ended_by: EndedBy | None
    seconds: float
    trajectory: Trajectory


def files(place: str) -> list[Path]:
    """Logs at a place: the file itself, or those in a folder."""
    path = Path(place)
    return [path] if path.is_file() else sorted(path.glob("*.jsonl"))


def read(path: Path) -> Log:
    """A log.

    Raises:
        RecordError: it cannot be read, or is none; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error
    model = question = ""
    turns = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            kind = row.get("type", "iteration")
            if kind == "iteration" and "code_blocks" not in row:
                raise RecordError(
                    f"{path}:{number} is not of a log of the RLM visualizer (no field "
                    "code_blocks); for a run name its folder"
                )
            if kind == "iteration":
                _loop([row])  # so that what is wrong with it is told by its line
                turns.append(row)
            elif kind == "metadata":
                model = str(row.get("root_model") or "")
            elif kind == "run_context":
                question = str(row.get("root_prompt") or "")
        except _BROKEN as error:
            raise RecordError(f"{path}:{number} is no line of a log: {error!r}") from error
    if not turns:
        raise RecordError(f"{path} holds no iteration: it is no log of the RLM visualizer")
    loop = _loop(turns)
    return Log(
        name=path.stem,
        model=model,
        question=question,
        answer=loop.answer,
        ended_by=loop.ended_by,
        seconds=sum(_seconds(row.get("iteration_time")) for row in turns),
        trajectory=loop.trajectory(),
    )


@dataclass(slots=True)
class _Loop:
    """A loop that grows turn by turn.

    Attributes:
        level: 1, or that of a loop below.
    """

    level: int = 1
    calls: list[Call] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    children: list[ChildRun] = field(default_factory=list)
    answer: str = ""
    ended_by: EndedBy | None = None

    def trajectory(self) -> Trajectory:
        return Trajectory(UNKNOWN, tuple(self.calls), tuple(self.turns), tuple(self.children))

    def add(self, number: int, row: Row, told: str) -> None:
        """Add a turn; `told` is what the model saw of it."""
        blocks, reply, final = row["code_blocks"], str(row["response"]), _answer(row)
        closing = not blocks and final == reply
        spent = sum(_seconds(b["result"].get("execution_time")) for b in blocks)
        times = Times(wall=max(0.0, _seconds(row.get("iteration_time")) - spent))
        done = Completion(reply, Usage(calls=1), "stop", None, times=times)
        sent = _messages(row["prompt"])
        self.calls.append(Call.answered("last" if closing else "root", number, sent, done))
        cells = [self._cell(number, at, block) for at, block in enumerate(blocks, 1)]
        given = bool(cells) and cells[-1].result.final is not None
        if final is not None:
            self.answer = last_answer(final) if closing else final
            self.ended_by = "turns" if closing else "final" if given else "text"
        if not closing:
            rejected = NOT_TAKEN if given and final is None else ""
            told = told if final is None else ""
            self.turns.append(Turn(number, reply, tuple(cells), told, rejected))

    def _cell(self, turn: int, number: int, block: Row) -> Cell:
        code, result = str(block["code"]), block["result"]
        made = result.get("rlm_calls") or ()
        for each in made:
            below = each.get("metadata") or {}
            if "iterations" in below:
                loop = _loop(below["iterations"], self.level + 1)
                self.children.append(_child(each, loop, turn, number, len(self.calls)))
            else:
                self.calls.append(_call(each, turn))
        spent = sum(_seconds(each.get("execution_time")) for each in made)
        final, error = result.get("final_answer"), str(result.get("stderr") or "")
        source: Any = "FINAL_VAR" if "FINAL_VAR" in code else "FINAL"
        output = str(result.get("stdout") or "")
        return Cell(
            code,
            CellResult(
                status="final" if final is not None else "error" if error else "ok",
                stdout=output,
                stdout_chars=len(output),
                error=error,
                final=None if final is None else Given(str(final), source),
                variables=tuple(sorted(result.get("locals") or {})),
                seconds=max(0.0, _seconds(result.get("execution_time")) - spent),
                calls=len(made),
            ),
        )


def _loop(rows: Sequence[Row], level: int = 1) -> _Loop:
    if level > LEVELS:
        raise ValueError(f"more than {LEVELS} levels of loops")
    loop = _Loop(level)
    for number, row in enumerate(rows, 1):
        loop.add(number, row, _told(rows[number]["prompt"]) if number < len(rows) else "")
    return loop


def _told(prompt: Any) -> str:
    """What the user side said after the last reply."""
    found: list[str] = []
    for message in _messages(prompt):
        found = [] if message.role == "assistant" else [*found, message.content]
    return "\n\n".join(found)


def _answer(row: Row) -> str | None:
    """Older logs have a pair of how and what."""
    final = row.get("final_answer")
    if isinstance(final, list):
        final = final[-1]
    return None if final is None else str(final)


def _child(row: Row, loop: _Loop, turn: int, cell: int, before: int) -> ChildRun:
    """A loop below. In others' logs the prompt is its context, in ours question and length."""
    prompt = row["prompt"]
    ours = isinstance(prompt, dict) and set(prompt) == {"query", "context_chars"}
    text = prompt["query"] if ours else _text(prompt)
    return ChildRun(
        turn=turn,
        cell=cell,
        call=before,
        chars=_whole(prompt["context_chars"]) if ours else len(text),
        query=text,
        trajectory=loop.trajectory(),
        answer=str(row.get("response") or ""),
        ended_by=loop.ended_by,
        error=str(row.get("error") or ""),
    )


def _call(row: Row, turn: int) -> Call:
    prompt = row["prompt"]
    sent = _messages(prompt) if isinstance(prompt, list) else (Message("user", _text(prompt)),)
    if row.get("error"):
        return Call("sub", turn, sent, None, str(row["error"]))
    summaries = (row.get("usage_summary") or {}).get("model_usage_summaries") or {}
    usage = sum(map(_usage, summaries.values()), Usage())
    times = Times(wall=_seconds(row.get("execution_time")))
    done = Completion(_text(row["response"]), usage, "stop", None, times=times)
    return Call.answered("sub", turn, sent, done)


def _usage(row: Row) -> Usage:
    return Usage(
        _whole(row.get("total_input_tokens")),
        _whole(row.get("total_output_tokens")),
        _whole(row.get("total_calls")),
    )


def _seconds(value: Any) -> float:
    """A time; 0 where the log has none. NaN would be a page that no browser reads."""
    seconds = float(value or 0.0)
    if not abs(seconds) <= _MOST:
        raise ValueError(f"{value!r} is no time in seconds")
    return seconds


def _whole(value: Any) -> int:
    """A count; 0 where the log has none."""
    number = int(value or 0)
    if not 0 <= number <= _MOST:
        raise ValueError(f"{value!r} is no count")
    return number


def _messages(prompt: Any) -> tuple[Message, ...]:
    if not isinstance(prompt, list):
        return (Message("user", _text(prompt)),)
    return tuple(Message(_role(m), _text(m["content"])) for m in prompt)


def _role(message: Row) -> Any:
    """Whatever it is called: no log is refused for it."""
    return str(message["role"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)
