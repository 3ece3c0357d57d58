"""Run folders: one JSON line for each cell, and a trajectory file beside it.

    runs/NAME/results.jsonl        rows ``run`` (one for each session) and ``cell`` (a `Record`)
    runs/NAME/trajectories/KEY.json

Only one process writes ``results.jsonl``: each row is flushed and synced, so that a kill loses at
most the cells in flight. What reads a run reads this and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from rlm.bench.grid import Unit
from rlm.bench.tasks.base import Scores
from rlm.errors import RecordError

SCHEMA: Final = 1
RUNS: Final = Path("runs")
RESULTS: Final = "results.jsonl"

COORDINATES: Final = (
    "task",
    "length",
    "unit",
    "depth",
    "sample",
    "draw",
    "seed",
    "split",
    "architecture",
)
"""Fields of a record that say which cell it is."""

Verdict = Literal["correct", "wrong", "truncated", "timeout", "error", "crashed"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
FAILED: Final[frozenset[Verdict]] = frozenset({"error", "crashed"})
"""Verdicts that say nothing about the model: the cell was not measured."""


@dataclass(frozen=True, slots=True)
class Doc:
    """The document: sha256 of its UTF-8 bytes, and its characters."""

    sha256: str
    chars: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens as the server counted them, over all calls; `sub_calls` are part of `calls`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    sub_calls: int = 0


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where the time went; `queue`, `prefill` and `decode` are the server's own figures."""

    wall: float = 0.0
    model: float = 0.0
    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    sandbox: float = 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """What answered, and what it was asked with.

    Attributes:
        spec: as given with ``--rlm-model``.
        digest: of the weights; empty if the server could not be asked.
        window: live window in tokens, ``None`` where nobody says.
        server: engine and version.
        options: fixed settings of the client, and the sampling.
        prompt: name of the system prompt.
        prompt_version: of all texts that a model sees.
        prompt_sha256: hash of these texts.
    """

    spec: str
    digest: str
    window: int | None
    server: str
    options: dict[str, Any]
    prompt: str
    prompt_version: str
    prompt_sha256: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The trajectory file: path inside the run folder, and sha256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell was not measured."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One cell and its result.

    Attributes:
        run: name of the run.
        key: hash of everything that could change the result.
        task, length, unit, depth, sample, draw, split, architecture: which cell.
        seed: of the suite.
        verdict: see ``VERDICTS``.
        scores: ``None`` where nothing was scored.
        doc: ``None`` where no document could be made.
        realised_depth: of the evidence, 0 to 1.
        limits: of a code cell, and turns and seconds of the loop.
        isolation: what confined the code.
        trace: ``None`` where there is no trajectory.
        error: only with the verdicts ``error`` and ``crashed``.
        started, finished: UTC, ISO 8601.
    """

    run: str
    key: str
    task: str
    length: int
    unit: Unit
    depth: int | None
    sample: int
    draw: int
    seed: int
    split: str
    architecture: str
    verdict: Verdict
    model: Model
    doc: Doc | None = None
    question: str = ""
    gold: str = ""
    prediction: str = ""
    scores: Scores | None = None
    realised_depth: float | None = None
    usage: Tokens = Tokens()
    iterations: int = 0
    ended_by: str = ""
    time: Seconds = Seconds()
    limits: dict[str, Any] = field(default_factory=dict)
    isolation: dict[str, Any] = field(default_factory=dict)
    trace: Trace | None = None
    error: Failure | None = None
    host: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: str = ""
    started: str = ""
    finished: str = ""
    schema: int = SCHEMA

    @property
    def bare_key(self) -> str:
        """The key for as long as neither document nor model are known."""
        return digest({name: getattr(self, name) for name in COORDINATES})


def encode(record: Record) -> str:
    """One line of pure ASCII JSON, whatever text a model wrote (even lone surrogates)."""
    return json.dumps({"row": "cell", **asdict(record)}, separators=(",", ":"))


def decode(line: str) -> Record:
    """The inverse of `encode`.

    Raises:
        RecordError: the line is not a cell of a schema known here.
    """
    return _record(_parse(line))


def load(run: str | os.PathLike[str]) -> list[Record]:
    """All cells of a run, the newest row of each key, in the order they were first written.

    Args:
        run: a name under ``runs/``, or a folder.

    Raises:
        RecordError: there is no such run, or one of its lines is broken.
    """
    path = folder(run) / RESULTS
    if not path.is_file():
        raise RecordError(f"there is no run {str(run)!r}: {path} does not exist")
    return list(newest(_record(row) for row in _rows(path) if row["row"] == "cell").values())


def newest(found: Iterable[Record]) -> dict[str, Record]:
    """The newest record of each key.

    A cell whose model could not be asked has a key without a model; such a record gives way to any
    other of the same cell.
    """
    records = {r.key: r for r in found}
    for key in [r.bare_key for r in records.values() if r.model.digest]:
        records.pop(key, None)
    return records


def folder(run: str | os.PathLike[str], root: Path | None = None) -> Path:
    """The folder of a run: `run` itself if it is a path, else the one of that name under runs/."""
    path = Path(run)
    base = root or Path()
    if path.is_absolute() or len(path.parts) > 1:
        return base / path
    return base / RUNS / path


def new_name(now: datetime | None = None) -> str:
    """A name for a run: the UTC time."""
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"


def digest(parts: Mapping[str, Any]) -> str:
    """SHA-256 of plain data: the key of a cell."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_trace(run: Path, key: str, data: Mapping[str, Any]) -> Trace:
    """Write one trajectory, whole or not at all; any process may do this."""
    content = json.dumps(data, separators=(",", ":")).encode("ascii")
    path = run / "trajectories" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return Trace(path.relative_to(run).as_posix(), hashlib.sha256(content).hexdigest())


class Store:
    """The ``results.jsonl`` of one run, open for one writer.

    Args:
        path: the run's folder; made if it is not there.

    Attributes:
        path: the same.
        repaired: bytes of a torn last line that were cut off when the file was opened.
        records: the newest row of each key.
        digests: digests of the models that the run was made with.

    Raises:
        RecordError: a line other than the last is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        file = path / RESULTS
        self.repaired = repair(file)
        rows = list(_rows(file)) if file.is_file() else []
        cells = [_record(row) for row in rows if row["row"] == "cell"]
        self.records = newest(cells)
        self.digests = {r.model.digest for r in cells} - {""}
        self._file = file.open("a", encoding="ascii")

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the header row of one session: who runs what, where."""
        self._write(json.dumps({"row": "run", "schema": SCHEMA, **header}, separators=(",", ":")))

    def append(self, record: Record) -> None:
        """Write one cell; on return it survives a crash of the machine."""
        self._write(encode(record))
        self.records[record.key] = record

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def repair(path: Path) -> int:
    """Cut off what stands after the last newline of a file, and return how many bytes it was.

    A writer that was killed leaves such a torn line; its cell counts as not run.
    """
    if not path.is_file():
        return 0
    content = path.read_bytes()
    torn = len(content) - (content.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(content) - torn)
    return torn


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _parse(line)
            except RecordError as error:
                raise RecordError(f"{path}:{number}: {error}") from error


def _parse(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        schema = row["schema"]
        known = row["row"] in ("run", "cell")
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"not a row of a run: {line[:80]!r}") from error
    if schema != SCHEMA or not known:
        raise RecordError(f"schema {schema!r} is not known here; update rlm-bench")
    return dict(row)


def _record(row: Mapping[str, Any]) -> Record:
    try:
        return msgspec.convert({k: v for k, v in row.items() if k != "row"}, Record)
    except msgspec.ValidationError as error:
        raise RecordError(f"not a cell: {error}") from error


def done(records: Mapping[str, Record], rerun: Sequence[str]) -> dict[str, Verdict]:
    """Keys that need not run again, with their verdicts.

    Args:
        records: by key.
        rerun: verdicts that shall run again; ``all`` is every one.
    """
    again = set(VERDICTS) if "all" in rerun else set(rerun)
    return {key: r.verdict for key, r in records.items() if r.verdict not in again}
