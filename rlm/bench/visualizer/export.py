"""Trajectories of a run as logs of the official visualizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rlm.bench import records, runner
from rlm.bench.made import Made, by_turn, dealt
from rlm.bench.records import Record
from rlm.bench.verify import read_trajectory
from rlm.blocks import text_final
from rlm.errors import UsageError
from rlm.messages import Message, Usage
from rlm.trajectory import Call, Cell, ChildRun, Trajectory, Turn

Row = dict[str, Any]

EPOCH: Final = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a run: the files, and how many cells have no loop to show."""

    files: tuple[Path, ...]
    left_out: int


def write(run: str, folder: Path, *, name: str = "") -> Exported:
    """Write a log for each cell of a run that has a loop.

    Args:
        run: a name under ``runs/``, or a folder.
        folder: made if it is not there; files of the same name are replaced.
        name: a part of the cells' names, such as ``niah[L8k-d50-s0-rlm]``.

    Raises:
        RecordError: the run cannot be read, or a trajectory is not what it was.
        UsageError: no cell has such a name, or a file cannot be written.
    """
    place = records.folder(run)
    named = [(_name(record), record) for record in records.load(run)]
    wanted = [(cell, record) for cell, record in named if name in cell]
    if not wanted:
        some = f"there is {named[0][0]}" if named else "it has no cells"
        raise UsageError(f"no cell of {place} has {name!r} in its name: {some}")
    files = []
    for cell, record in wanted:
        done = read_trajectory(place, record)
        if done is None or not _has_loop(done):
            continue
        path = (
            folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', cell).strip('_')}_{record.key[:8]}.jsonl"
        )
        _save(path, lines(record, done))
        files.append(path)
    return Exported(tuple(files), len(wanted) - len(files))


def lines(record: Record, done: Trajectory) -> Iterator[Row]:
    """The lines of a log: metadata, then the turns.

    The time of a turn is worked out from the start of the cell and what the turns before it took.
    """
    metadata = _metadata(record)
    start = datetime.fromisoformat(record.started or EPOCH)
    yield {"type": "metadata", "timestamp": start.isoformat(), **metadata}
    yield from _iterations(done, metadata, start)


def _save(path: Path, rows: Iterator[Row]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)  # ASCII: half characters stay
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii", newline="\n")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with -o"
        ) from error


def _has_loop(done: Trajectory) -> bool:
    """Whether there is anything to show; a budget may leave a loop no more than its last call."""
    return bool(done.turns) or any(c.kind == "last" and c.completion for c in done.calls)


def _name(record: Record) -> str:
    return f"{record.task}[{runner.cell_of(record).id}]"


def _metadata(record: Record) -> Row:
    model, limits = record.model, record.limits
    return {
        "root_model": model.spec,
        "max_depth": limits.get("max_depth", 1),
        "max_iterations": limits.get("max_iterations"),
        "backend": model.spec.partition("/")[0],
        "backend_kwargs": {"model_name": model.spec, **model.options},
        "environment_type": limits.get("backend"),
        "environment_kwargs": limits.get("sandbox", {}),
        "other_backends": None,
    }


def _iterations(done: Trajectory, metadata: Mapping[str, Any], start: datetime) -> list[Row]:
    """The turns of one loop, and a last one for the closing call, as the official loop has it."""
    made = by_turn(done)
    answered = {(c.kind, c.turn): c for c in done.calls if c.completion is not None}
    found: list[Row] = []
    for turn in done.turns:
        blocks = _blocks(turn, made.get(turn.number, []), metadata, start)
        root = answered.get(("root", turn.number))
        row = _iteration(root, turn.reply, blocks, _accepted(turn, done))
        start += timedelta(seconds=row["iteration_time"])
        found.append(row | {"timestamp": start.isoformat()})
    last = next((c for c in answered.values() if c.kind == "last"), None)
    if last is not None and last.completion is not None:
        text = last.completion.text
        row = _iteration(last, text, [], text)
        start += timedelta(seconds=row["iteration_time"])
        found.append(row | {"timestamp": start.isoformat()})
    return [
        {"type": "iteration", "iteration": number, **row} for number, row in enumerate(found, 1)
    ]


def _iteration(call: Call | None, reply: str, blocks: list[Row], final: str | None) -> Row:
    seconds = call.completion.times.wall if call and call.completion else 0.0
    return {
        "timestamp": "",
        "prompt": _messages(call.messages) if call else [],
        "response": reply,
        "code_blocks": blocks,
        "final_answer": final,
        "iteration_time": seconds + sum(b["result"]["execution_time"] for b in blocks),
    }


def _accepted(turn: Turn, done: Trajectory) -> str | None:
    """The answer that a turn gave and the loop took."""
    if turn is not done.turns[-1] or turn.rejected or turn.feedback:
        return None
    if not turn.cells:
        return text_final(turn.reply)
    final = turn.cells[-1].result.final
    return final.value if final else None


def _blocks(
    turn: Turn, made: Sequence[Made], metadata: Mapping[str, Any], start: datetime
) -> list[Row]:
    *mine, left = dealt(turn, made)
    if mine:
        mine[-1] += left
    return [_block(c, called, metadata, start) for c, called in zip(turn.cells, mine, strict=True)]


def _block(
    cell: Cell, called: Sequence[Call | ChildRun], metadata: Mapping[str, Any], start: datetime
) -> Row:
    """A code cell; its time has the calls in it, as in the official log."""
    calls = [
        _loop(each, metadata, start) if isinstance(each, ChildRun) else _call(each, metadata)
        for each in called
    ]
    result = cell.result
    return {
        "code": cell.code,
        "result": {
            "stdout": result.stdout,
            "stderr": result.error,
            "locals": {},
            "execution_time": result.seconds + sum(call["execution_time"] for call in calls),
            "rlm_calls": calls,
            "final_answer": result.final.value if result.final else None,
        },
    }


def _call(call: Call, metadata: Mapping[str, Any]) -> Row:
    done = call.completion
    prompt: Any = _messages(call.messages)
    if [m.role for m in call.messages] == ["user"]:
        prompt = call.messages[0].content
    usage, seconds = (done.usage, done.times.wall) if done else (Usage(), 0.0)
    row = _completion(prompt, done.text if done else "", usage, seconds, metadata)
    return row | ({"error": call.error} if call.error else {})


def _loop(child: ChildRun, metadata: Mapping[str, Any], start: datetime) -> Row:
    """A loop below. A trajectory does not hold its context: its length stands in the prompt."""
    turns = _iterations(child.trajectory, metadata, start)
    prompt = {"query": child.query, "context_chars": child.chars}
    seconds = sum(turn["iteration_time"] for turn in turns)
    row = _completion(prompt, child.answer, child.trajectory.usage, seconds, metadata)
    row["metadata"] = {"run_metadata": dict(metadata), "iterations": turns}
    return row | ({"error": child.error} if child.error else {})


def _completion(
    prompt: Any, response: str, usage: Usage, seconds: float, metadata: Mapping[str, Any]
) -> Row:
    told = {
        "total_calls": usage.calls,
        "total_input_tokens": usage.prompt_tokens,
        "total_output_tokens": usage.completion_tokens,
    }
    return {
        "root_model": metadata["root_model"],
        "prompt": prompt,
        "response": response,
        "usage_summary": {"model_usage_summaries": {metadata["root_model"]: told}},
        "execution_time": seconds,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }


def _messages(messages: Sequence[Message]) -> list[Row]:
    return [{"role": m.role, "content": m.content} for m in messages]
