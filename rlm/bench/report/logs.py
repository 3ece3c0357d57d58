"""A page of somebody's logs: the viewer alone. Nobody knows a gold answer; nothing is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlm.bench.report import page
from rlm.bench.report.payload import CHUNK, Data, pack, story
from rlm.bench.visualizer import read
from rlm.bench.visualizer.read import Log


def write(files: Sequence[Path], out: Path) -> int:
    """Write a page on which each log can be opened, whole or not at all.

    Args:
        files: of the logs.
        out: the file; replaced if it is there.

    Returns:
        The size of the file in bytes.

    Raises:
        RecordError: a log cannot be read, or is none.
        UsageError: the file cannot be written.
    """
    return page.write_file(render([read.read(path) for path in files]), out, option="-o")


def render(logs: Sequence[Log]) -> str:
    """The page as text; see `write`."""
    details = [_detail(log) for log in logs]
    chunks = [pack(details[at : at + CHUNK]) for at in range(0, len(details), CHUNK)]
    index = pack(list(map(_row, logs)))
    return page.filled("logs.html", logs=logs, index=index, chunks=chunks, alone=False)


def _row(log: Log) -> Data:
    """As the viewer finds it; all logs are neighbours."""
    place = {"run": 0, "task": "log", "unit": "", "length": 0, "depth": None}
    return place | {"outcome": "", "cause": "", "answers": [], "name": log.name}


def _detail(log: Log) -> Data:
    done = log.trajectory
    calls = [call for _, run in done.runs() for call in run.calls]
    entry = {
        "architecture": log.model or "model unknown",
        "verdict": "",
        "mark": "imported, not scored",
        "cause": "",
        "cut": None,
        "prediction": log.answer,
        "prediction_chars": len(log.answer),
        "ended_by": log.ended_by or "",
        "error": "",
        "tokens": None,
        "calls": len(calls),
        "seconds": round(log.seconds, 3),
        "window": None,
        "trace": "",
        **story(done, ()),
    }
    return {
        "question": log.question,
        "gold": None,
        "chars": 0,
        "spans": [],
        "evidence": [],
        "entries": [_without_tokens(entry)],
    }


def _without_tokens(found: Any) -> Any:
    """The same without the counts of root models, which no log has: 0 would be a claim."""
    if isinstance(found, list):
        return [_without_tokens(each) for each in found]
    if not isinstance(found, dict):
        return found
    kept = {key: _without_tokens(value) for key, value in found.items()}
    if kept.get("kind") == "last":
        kept["tokens"] = []
    if kept.get("kind") == "loop":
        kept["tokens"] = None
    return kept
