"""Records as a data frame, and as files for people and programs: ``rlm.bench.load``, ``rlm table``.

Needs pandas, and pyarrow for Parquet: ``pip install 'rlm-bench[bench]'``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

from rlm.bench import records
from rlm.bench.grid import label
from rlm.bench.records import Record
from rlm.bench.report import summary
from rlm.bench.statistics import wilson

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["md", "csv", "parquet"]

COLUMNS: Final[Mapping[str, str]] = {
    "run": "the run, as it was named to load",
    "key": "of the cell: a hash of everything that could change the result",
    "task": "the task's name",
    "length": "of the document, in unit",
    "unit": "tokens (of four characters each) or chars",
    "depth": "where the evidence was asked to stand, percent; missing for tasks without depths",
    "sample": "number of the document, from 0",
    "draw": "number of the answer to the same document, from 0",
    "seed": "of the suite",
    "split": "eval or train",
    "architecture": "vanilla, rlm, or a control",
    "verdict": "correct, wrong, truncated, timeout, error or crashed",
    "correct": "whether the verdict is correct",
    "answered": "whether the verdict is correct or wrong, and on the whole document",
    "graded": "score of the answer, 0 to 1; missing where nothing was scored",
    "model": "specification of the model",
    "digest": "of its weights; empty if the server could not be asked",
    "window": "live window in tokens; missing where nobody says",
    "server": "engine and version",
    "prompt": "name of the system prompt",
    "temperature": "of every call; missing where no model is called",
    "document": "sha256 of the document",
    "chars": "characters of the document",
    "cut": "what stayed of a document cut on purpose: head, middle or tail; empty if all did",
    "kept_chars": "characters that stayed of a document cut on purpose; missing if all did",
    "evidence": "what stayed of it after the cut: kept, part or lost; empty where nobody says",
    "overflow": "what was to be kept of a document that does not fit; empty for refuse",
    "realised_depth": "of the evidence, 0 to 1",
    "question": "what was asked",
    "gold": "the right answer",
    "prediction": "the first 2,000 characters of the answer",
    "grep": "whether a regular expression without a model finds the answer",
    "prompt_tokens": "over all calls, as the server counted them",
    "completion_tokens": "over all calls, as the server counted them",
    "tokens": "both together",
    "calls": "of the model, sub-calls among them",
    "sub_calls": "calls from inside code cells",
    "retries": "how often a call was sent again",
    "iterations": "turns of all loops; 1 for vanilla",
    "max_iterations": "turns that a loop was allowed; 20 where there is none",
    "max_depth": "levels of loops that were allowed; 1 where none can be opened",
    "levels": "levels of loops that there were",
    "ended_by": "what ended the loop: final, text, turns, window, calls, tokens or seconds",
    "seconds": "wall time of the cell",
    "model_seconds": "of all calls, without queueing",
    "queue_seconds": "of all calls: waiting, loading, transport; 0 where the server is silent",
    "prefill_seconds": "reading prompts; 0 where the server is silent",
    "decode_seconds": "writing answers; 0 where the server is silent",
    "sandbox_seconds": "running code",
    "error": "what broke the cell off; empty where nothing did",
    "finished": "UTC",
}
"""Columns of the data frame, in order, and what they mean."""
WIDEST: Final = max(map(len, COLUMNS))

_TYPES: Final[Mapping[str, str]] = {
    "depth": "Int64",
    "window": "Int64",
    "chars": "Int64",
    "kept_chars": "Int64",
    "grep": "boolean",
    "graded": "Float64",
    "temperature": "Float64",
    "realised_depth": "Float64",
}
"""Columns in which a value may be missing; those of the others follow from their values."""
_SAME: Final = (
    *records.COORDINATES,
    *("key", "verdict", "realised_depth", "question", "gold", "prediction", "grep"),
    *("evidence", "iterations", "ended_by", "finished"),
)
_COUNTED: Final = ("prompt_tokens", "completion_tokens", "calls", "sub_calls", "retries")


def load(*runs: str | os.PathLike[str]) -> pd.DataFrame:
    """All cells of some runs, one row a cell, the newest of each key.

    Half characters (lone surrogates), which no column of text can hold, are question marks here.

    Args:
        runs: names under ``runs/``, or folders.

    Returns:
        A data frame with the columns of `COLUMNS`.

    Raises:
        RecordError: there is no such run, it cannot be read, or one of its lines is broken.
    """
    import pandas as pd

    found = ((str(run), record) for run in runs for record in records.load(run))
    rows = [{k: _whole(v) for k, v in _row(run, record).items()} for run, record in found]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(_TYPES))
    frame["finished"] = pd.to_datetime(frame["finished"], utc=True, format="ISO8601")
    return frame


def written(runs: Sequence[str | os.PathLike[str]], form: Format) -> bytes:
    """The cells of some runs as a file.

    Args:
        runs: names under ``runs/``, or folders.
        form: ``csv`` and ``parquet`` have one row a cell, ``md`` one line for each task, length and
            architecture of a run.

    Raises:
        RecordError: there is no such run, it cannot be read, or one of its lines is broken.
    """
    if form == "md":
        return str(_whole(_markdown(runs))).encode()
    frame = load(*runs)
    if form == "csv":
        return frame.to_csv(index=False).encode()
    out = BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


def _row(run: str, r: Record) -> dict[str, Any]:
    """One cell; names are those of `COLUMNS`."""
    usage, time = r.usage, r.time
    sampling: Mapping[str, Mapping[str, Any]] = r.model.options.get("sampling", {})
    return {
        **{name: getattr(r, name) for name in _SAME},
        **{name: getattr(usage, name) for name in _COUNTED},
        **{
            f"{name}_seconds": getattr(time, name)
            for name in ("model", "queue", "prefill", "decode", "sandbox")
        },
        "run": run,
        "correct": r.verdict == "correct",
        "answered": r.is_valid,
        "graded": r.scores.graded if r.scores else None,
        "model": r.model.spec,
        "digest": r.model.digest,
        "window": r.model.window,
        "server": r.model.server,
        "prompt": r.model.prompt,
        "temperature": next((kind.get("temperature") for kind in sampling.values()), None),
        "document": r.doc.sha256 if r.doc else "",
        "chars": r.doc.chars if r.doc else None,
        "cut": r.cut.method if r.cut else "",
        "kept_chars": r.cut.kept_chars if r.cut else None,
        "overflow": str(r.limits.get("overflow", "")).partition("@")[0],
        "max_iterations": r.limits.get("max_iterations", 20),
        "max_depth": r.limits.get("max_depth", 1),
        "levels": len(r.levels) if "max_depth" in r.limits else 1,
        "tokens": usage.total,
        "seconds": time.wall,
        "error": f"{r.error.type}: {r.error.message}" if r.error else "",
    }


def _whole(value: Any) -> Any:
    """The value; of a text all that is Unicode."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _markdown(runs: Sequence[str | os.PathLike[str]]) -> str:
    """A table of all runs; which run stands in a column if there are several."""
    head = ["task", "length", "arch", "n", "correct", "interval", "seconds", "tokens", "other"]
    lines = []
    for run in runs:
        for (task, unit, length, name), cells in summary.groups(records.load(run)):
            where = label(length) + ("" if unit == "tokens" else " chars")
            row = [task, where, name, *_figures(cells)]
            lines.append([str(run), *row] if len(runs) > 1 else row)
    head = ["run", *head] if len(runs) > 1 else head
    rule = ["---:" if name in ("n", "correct", "seconds", "tokens") else "---" for name in head]
    rows = (f"| {' | '.join(map(_cell, line))} |" for line in (head, rule, *lines))
    return "\n".join(rows) + "\n"


def _figures(cells: Sequence[Record]) -> list[str]:
    """Counts as in the table at the end of a run, seconds and tokens as their medians."""
    counts = Counter(r.verdict for r in cells)
    low, high = wilson(counts["correct"], len(cells))
    share, interval = f"{counts['correct']}/{len(cells)}", f"[{low:.2f}, {high:.2f}]"
    if summary.is_unread(counts):
        share = interval = "-"
    timed = summary.timed(cells)
    return [
        str(len(cells)),
        share,
        interval,
        summary.short(median(r.time.wall for r in timed)) if timed else "-",
        summary.count(median(float(r.usage.total) for r in timed)) if timed else "-",
        summary.others(cells),
    ]


def _cell(text: str) -> str:
    """A text that no Markdown table takes for its own."""
    return " ".join(text.replace("|", "\\|").split())
