"""Verify a run folder: make every document anew, score every answer anew, and compare.

What a row says is compared with what it says it comes from. The seed gives document, question, gold
answer and depth; the trajectory, whose sha256 the row holds, gives answer and tokens; the answer
gives scores, these and the trajectory the verdict; and all of it the key. Times, host, dates and
versions cannot be verified, and nobody can tell who wrote a trajectory: this finds damage, drift of
the code, and rows that were edited, not a run that was made up as a whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rlm import controls, overflow, prompts
from rlm.bench import datasets, records, runner, tasks
from rlm.bench.grid import MAX_LENGTH, Cell, label
from rlm.bench.records import RESULTS, TRACES, Record, Verdict
from rlm.bench.runner import PREDICTION_CHARS
from rlm.bench.tasks.base import SUITE_VERSION, Item, Scores, Split, Task
from rlm.bench.tasks.given import Given
from rlm.blocks import final_call, last_answer, text_final
from rlm.errors import RecordError, UsageError
from rlm.trajectory import Call, Trajectory
from rlm.vanilla import unsent_prompt, vanilla_prompt

KNOWN: Final = frozenset({"vanilla", "rlm", "repl", "rag", "grep", "oracle", "closedbook"})
"""Architectures whose answer is what their trajectory ends with; of others nobody knows."""

CUTTING: Final = frozenset({"vanilla"})
"""Architectures whose prompt is the document, or what a cut on purpose left of it."""

_BROKEN_OFF: Final[Mapping[str, frozenset[Verdict]]] = {
    "PromptTooLong": frozenset({"truncated"}),
    "CallTimeout": frozenset({"timeout"}),
    "BudgetExceeded": frozenset({"timeout", "error"}),
    "crashed": frozenset({"crashed"}),
}
"""Verdicts of a cell without an answer, by what ended it; all else is ``error``."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something that is not what it should be.

    Attributes:
        line: of ``results.jsonl``, from 1; 0 if it is no line's.
        key: of the cell; empty if it is no cell's.
        text: what it is, and what it should be.
    """

    line: int
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came out.

    Attributes:
        run: the folder.
        rows: cells that were verified, each row counted.
        documents: that were made anew.
        mismatches: by line.
        notes: what could not be verified, and why.
    """

    run: Path
    rows: int
    documents: int
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One cell as it was written; `is_newest` if no later row has its key."""

    line: int
    record: Record
    is_newest: bool = True


@dataclass(frozen=True, slots=True)
class _Source:
    """What a row is compared with.

    Attributes:
        task: scores answers.
        item: made anew.
        grepped: what ``grep`` answers.
        trajectory: ``None`` where there is none that can be read.
    """

    task: Task | Given
    item: Item
    grepped: str
    trajectory: Trajectory | None = None


Place = tuple[Cell, int, Split]
"""A document: its cell without architecture and draw, seed, split."""


def verify(
    run: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Verify all rows of a run.

    Args:
        run: a name under ``runs/``, or a folder.
        progress: called with the rows that are done, and with all, after each document.

    Raises:
        RecordError: there is no such run, or it cannot be read.
    """
    return _Verification(records.folder(run)).report(progress)


class _Verification:
    """One run folder, and what was found in it so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[Mismatch] = []
        self.notes: Counter[str] = Counter()
        self.here = _maker(runner.environment())
        self.was_written = (path / RESULTS).is_file() and records.is_being_written(path)
        rows, headers = self._read()
        self.rows = self._without_copies(rows)
        self.given = self._items(headers)

    def report(self, progress: Callable[[int, int], None] | None) -> Report:
        """Verify everything."""
        groups: defaultdict[Place, list[_Row]] = defaultdict(list)
        for row in self.rows:  # a document is made once, however scattered its rows are
            groups[_place(row.record)].append(row)
        documents = done = 0
        for place, rows in groups.items():
            documents += self._verify_document(place, rows)
            done += len(rows)
            if progress is not None:
                progress(done, len(self.rows))
        notes = [f"{text} ({_count(n, 'row')})" for text, n in self.notes.items()]
        if self.was_written or records.is_being_written(self.path):
            # it writes a trajectory before its row, and rows after those that were read
            notes.append("a session is writing this run: trajectories without a row are not told")
        else:
            self._look_for_strays()
        found = sorted(self.found, key=lambda each: each.line)
        return Report(self.path, len(self.rows), documents, tuple(found), tuple(notes))

    def _read(self) -> tuple[list[_Row], list[tuple[int, dict[str, Any]]]]:
        """Rows of cells and of sessions, with their lines; broken ones are told."""
        file, cells, headers = self.path / RESULTS, [], []
        try:
            lines = file.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise RecordError(f"cannot read {file}: {error.strerror or error}") from error
        for number, raw in enumerate(lines, 1):
            try:
                text = raw.decode("ascii")
                header = _header(text)
                if header is None:
                    cells.append(_Row(number, records.decode(text)))
                else:
                    headers.append((number, header))
            except (RecordError, UnicodeDecodeError) as error:
                self.found.append(Mismatch(number, "", f"broken row: {error}"))
        return cells, headers

    def _without_copies(self, rows: Sequence[_Row]) -> list[_Row]:
        """The rows, told which are newest; a row of a key ends later than those before it."""
        newest: dict[str, _Row] = {}
        for row in rows:
            before = newest.get(row.record.key)
            if before is not None and row.record.finished <= before.record.finished:
                text = f"key: that of line {before.line}, which is no earlier run of the cell"
                self._tell(row, text)
            newest[row.record.key] = row
        return [_Row(r.line, r.record, newest[r.record.key].line == r.line) for r in rows]

    def _items(self, headers: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, Given]:
        """Given data, by task, as the newest session on each file had them."""
        files: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        for line, header in headers:
            suite, file = header.get("suite", SUITE_VERSION), header.get("file")
            if suite != SUITE_VERSION:
                text = f"suite: version {suite}, this is {SUITE_VERSION}, which makes others"
                self.found.append(Mismatch(line, "", text))
            if isinstance(file, dict):
                files[str(file.get("dataset", "")), str(file.get("path"))] = line, file
        found: dict[str, Given] = {}
        for (_, path), (line, file) in files.items():
            try:
                loaded = datasets.reopen(file)
            except UsageError as error:
                self.found.append(Mismatch(line, "", f"file: {error}"))
                continue
            if loaded[0].sha256 != str(file.get("sha256")):
                what = _differs(str(file.get("sha256")), loaded[0].sha256)
                self.found.append(Mismatch(line, "", f"file: sha256 of {path} {what}"))
            found |= {data.name: data for data in loaded}
        return found

    def _verify_document(self, place: Place, rows: Sequence[_Row]) -> bool:
        """Verify the rows of one document; whether it could be made."""
        try:
            source = self._source(place)
        except Exception as error:  # anybody's task, and numbers that no grid has
            for row in rows:
                self._verify_without_item(row, error)
            return False
        for row in rows:
            self._verify_row(row, source)
        return True

    def _source(self, place: Place) -> _Source:
        cell, seed, split = place
        data = self.given.get(cell.task)
        if data is None and cell.length > MAX_LENGTH:
            raise UsageError(f"length {cell.length} is above {label(MAX_LENGTH)}")
        item = data.item(cell.sample) if data else runner.make_item(cell, seed, split)
        grepped = controls.grep(item.document, item.question)
        return _Source(data or tasks.get(cell.task), item, grepped)

    def _verify_without_item(self, row: _Row, error: Exception) -> None:
        """A cell that failed for the same reason says so itself."""
        record = row.record
        if record.doc is None and record.error and record.error.message == str(error):
            if record.key != record.bare_key:
                self._tell(row, f"key: {_differs(record.key, record.bare_key)}")
        else:
            self._tell(row, f"document: cannot be made: {error}")

    def _verify_row(self, row: _Row, source: _Source) -> None:
        record = row.record
        if row.is_newest:  # another run of the cell has the place of an older one's trajectory
            try:
                source = replace(source, trajectory=read_trajectory(self.path, record))
            except RecordError as error:
                self._tell(row, str(error))
        for check in (_document, _grep, _usage, _cut_on_purpose, self._answer, self._key):
            try:
                for text in check(record, source):
                    self._tell(row, text)
            except UsageError as error:  # an architecture that is unknown, a pattern without end
                self._tell(row, str(error))

    def _key(self, record: Record, source: _Source) -> Iterator[str]:
        """Whether the key is that of the row; the code may have been another when it was made."""
        if record.doc is None:
            computed = record.bare_key
        else:
            computed = runner.key_of(record, source.item, record.doc, record.model)
        maker = _maker({"git": record.git, "versions": record.versions})
        if computed == record.key:
            return
        if maker != self.here:
            self.notes[f"key not verified: made by {maker}, this is {self.here}"] += 1
        else:
            yield f"key: {_differs(record.key, computed)}: one of its parts was changed"

    def _answer(self, record: Record, source: _Source) -> Iterator[str]:
        """Whether answer, scores and verdict agree."""
        answer = _ending(record, source)
        if answer is None:
            answer = record.prediction
            if record.scores is not None:
                self.notes["answer taken as recorded: no trajectory tells it"] += 1
        elif (answer[:PREDICTION_CHARS], len(answer)) != (
            record.prediction,
            record.prediction_chars,
        ):
            yield f"prediction: {_differs(record.prediction, answer)} in the trajectory"
        scores = record.scores
        if scores is not None and len(answer) < record.prediction_chars:
            self.notes["scores taken as recorded: only the beginning of the answer is known"] += 1
        elif scores is not None:
            made = source.task.score(source.item, answer)
            if scores.exact != made.exact or not math.isclose(scores.graded, made.graded):
                yield f"scores: {_differs(scores, made)}"
            scores = made
        allowed = _allowed(record, answer, scores, source.trajectory)
        if record.verdict not in allowed:
            told = " or ".join(sorted(allowed)) or "none that is known"
            yield f"verdict: recorded {record.verdict}, all else says {told}"

    def _look_for_strays(self) -> None:
        """Trajectories that no row speaks of."""
        known = {f"{row.record.key}.json" for row in self.rows}
        for path in sorted((self.path / TRACES).glob("*.json")):
            if path.name not in known:
                text = (
                    f"trajectory: no row speaks of {TRACES}/{path.name}: its row was taken out, or "
                    "the session was killed before it was written"
                )
                self.found.append(Mismatch(0, path.stem, text))

    def _tell(self, row: _Row, text: str) -> None:
        self.found.append(Mismatch(row.line, row.record.key, text))


def _header(line: str) -> dict[str, Any] | None:
    """The row of a session; ``None`` for anything else."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.get("row") == "run" else None


def _maker(environment: Mapping[str, Any]) -> str:
    """What decides a key besides the row: the package, its commit in a clone, and Python."""
    versions, git = environment["versions"], environment["git"]
    python = ".".join(versions.get("python", "").split(".")[:2])
    at = f" ({git})" if git else ""
    return f"rlm-bench {versions.get('rlm-bench', 'unknown')}{at} on Python {python}"


def _place(record: Record) -> Place:
    """Which document a row is about."""
    cell = Cell(record.task, record.length, record.depth, record.sample, "", record.unit)
    split: Split = "train" if record.split == "train" else "eval"
    return cell, record.seed, split


def read_trajectory(run: Path, record: Record) -> Trajectory | None:
    """The trajectory of a row, its bytes being those that the row speaks of.

    Raises:
        RecordError: it is not there, or another, or none.
    """
    if record.trace is None:
        if record.scores is None:
            return None
        raise RecordError("trajectory: the row has scores, but names no trajectory")
    path = f"{TRACES}/{record.key}.json"
    if record.trace.path != path:
        raise RecordError(f"trajectory: {_differs(record.trace.path, path)}")
    try:
        content = (run / path).read_bytes()
    except OSError as error:
        raise RecordError(f"trajectory: cannot read {path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != record.trace.sha256:
        raise RecordError(f"trajectory: sha256 of {path} {_differs(record.trace.sha256, sha256)}")
    try:
        return Trajectory.from_dict(json.loads(content))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RecordError(f"trajectory: {path} is none: {error!r}") from error


def _document(record: Record, source: _Source) -> Iterator[str]:
    """Whether the item is that of the row."""
    item = source.item
    if record.doc is None:
        if record.scores is not None:
            yield "document: the row has scores, but names no document"
        return
    sha256 = hashlib.sha256(item.document.encode()).hexdigest()
    for name, recorded, made in (
        ("document: sha256", record.doc.sha256, sha256),
        ("document: chars", record.doc.chars, len(item.document)),
        ("question:", record.question, item.question),
        ("gold:", record.gold, item.gold),
        ("realised depth:", record.realised_depth, item.depth),
    ):
        if recorded != made:
            yield f"{name} {_differs(recorded, made)}"


def _grep(record: Record, source: _Source) -> Iterator[str]:
    """Whether ``grep`` solves the item, or not, as the row says."""
    if record.grep is not None:
        solves = source.task.score(source.item, source.grepped).exact
        if record.grep != solves:
            yield f"grep: {_differs(record.grep, solves)}"


def _usage(record: Record, source: _Source) -> Iterator[str]:
    """Whether calls and tokens are those of the trajectory."""
    if source.trajectory is None:
        return
    done = source.trajectory
    used = done.usage
    made = records.Tokens(
        used.prompt_tokens, used.completion_tokens, used.calls, done.sub_calls, done.retries
    )
    if record.usage != made:
        yield f"usage: {_differs(record.usage, made)} in the trajectory"
    levels = runner.levels_of(record, done)
    if record.levels != levels:
        yield f"levels: {_differs(record.levels, levels)} in the trajectory"


def _cut_on_purpose(record: Record, source: _Source) -> Iterator[str]:
    """Whether the row says what its prompt left out, and its prompt holds the rest."""
    done = source.trajectory
    if done is None:
        if record.cut is not None:
            yield "cut: the row speaks of one, but there is no trajectory with the prompt"
        return
    if record.scores is None:
        return  # a failed call broke it off
    if record.cut != done.cut:
        yield f"cut: {_differs(record.cut, done.cut)} in the trajectory"
    held = runner.evidence(source.item, done)
    if record.evidence != held:
        yield f"evidence: {_differs(record.evidence, held)}"
    if record.architecture not in CUTTING:
        return
    asked = str(record.limits.get("overflow", "refuse")).partition("@")[0]
    if done.cut is not None and done.cut.method != asked:
        yield f"cut: {done.cut.method}, but the limits of the row say {asked}"
    document, question = source.item.document, source.item.question
    is_same = record.doc and record.doc.sha256 == hashlib.sha256(document.encode()).hexdigest()
    if not is_same or done.prompt_version != prompts.VERSION:
        return  # another document is told already, and another version's prompt cannot be made
    kept = done.cut.kept if done.cut else ((0, len(document)),)
    calls = [call for call in done.calls if call.kind == "vanilla"]
    made = [vanilla_prompt(overflow.shown(document, kept), question)]
    if calls and calls[-1].completion is None and done.cut is None:  # it may not have been sent
        made.append(unsent_prompt(len(document), question))
    if calls and calls[-1].messages not in made:
        yield "prompt: the trajectory's is not what document and cut make"


def _ending(record: Record, source: _Source) -> str | None:
    """The answer that a trajectory ends with, as `rlm.loop` and `rlm.vanilla` take it.

    ``None`` if it says none: an architecture that is not known here, or a last call of FINAL that
    ran in the sandbox.
    """
    done = source.trajectory
    if done is None or record.scores is None or record.architecture not in KNOWN:
        return None
    if record.architecture == "grep":
        return source.grepped
    closing = [call for call in done.calls if call.kind in ("vanilla", "last")]
    if closing:
        return _reply(closing[-1])
    if not done.turns or done.turns[-1].rejected:
        return ""
    turn = done.turns[-1]
    if not turn.cells:
        return text_final(turn.reply) or ""
    final = turn.cells[-1].result.final
    return final.value if final else ""


def _reply(call: Call) -> str | None:
    """The answer in the reply to a call that asked for nothing else."""
    if call.completion is None:
        return ""
    text = call.completion.text
    if call.kind == "vanilla":
        return text.strip()
    return last_answer(text) if final_call(text) is None else None


def _allowed(
    record: Record, answer: str, scores: Scores | None, done: Trajectory | None
) -> frozenset[Verdict]:
    """The verdicts that agree with scores, error and trajectory (see `rlm.bench.runner`)."""
    if scores is None:
        if record.error is None:
            return frozenset()
        return _BROKEN_OFF.get(record.error.type, frozenset({"error"}))
    plain: Verdict = "correct" if scores.exact else "wrong"
    fault = record.error.type if record.error else ""
    if done is not None and record.architecture in KNOWN:
        fault = fault or done.fault.partition(":")[0]
    if fault and not scores.exact:
        return frozenset({"timeout" if fault == "CallTimeout" else "error"})
    if record.ended_by == "seconds" and not answer.strip():
        plain = "timeout"
    if done is None or record.architecture not in KNOWN:
        return frozenset({plain, "truncated"})
    must, may = _cut(done)
    if must:
        return frozenset({"truncated"})
    return frozenset({plain, "truncated"}) if may else frozenset({plain})


def _cut(done: Trajectory) -> tuple[bool, bool]:
    """Whether the model surely did not see all of a prompt, and whether that may be."""
    own = (c for _, run in done.runs() for c in run.calls)
    own_calls = [call for call in own if call.kind not in ("sub", "sample")]
    refused = any(call.completion is None for call in own_calls)
    ended = any(c.completion.finish_reason == "length" for c in own_calls if c.completion)
    readers = [c for c in own_calls if c.kind == "vanilla"]
    must = done.truncated or any(c.completion is None for c in readers[-1:])
    return must, must or refused or ended


def _differs(recorded: object, made: object) -> str:
    return f"recorded {_short(recorded)}, but it is {_short(made)}"


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Scores | records.Tokens) else repr(value)
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text)} characters)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
