"""Documents that are given, not made: each row of a file is one document with one question.

`gather` reads files once and keeps where each row stands; `Given.item` reads a single row again
when its cell runs, and notices if it is another one by then. What a row looks like, and how an
answer to it is judged, is a `Format`: that of a person's own data is in `rlm.bench.tasks.own`,
those of published sets are in `rlm.bench.datasets`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rlm.bench.grid import CHARS_PER_TOKEN, LENGTHS, Cell, Grid
from rlm.bench.tasks.base import Item, Scores, Span, Split
from rlm.bench.tasks.rows import RawRow, read_row, read_rows
from rlm.errors import UsageError

SHOWN: Final = 10
"""Problems that `Given.told` lists; it counts the others."""
EVIDENCE: Final = 20
"""Sentences of a document that count as evidence, the first ones."""
REACH: Final = 300
"""Characters to either side of an answer within which its sentence ends."""

_BREAK: Final = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says.

    Attributes:
        document: the text.
        query: what is asked about it.
        answers: all that is right, or all members of a list.
        scorer: the rule that they are judged by, with what it needs to know.
        id: that no other row has; empty if it has none.
        part: of the data to which it belongs, a task of its own; empty where there is but one.
    """

    document: str
    query: str
    answers: tuple[str, ...]
    scorer: str
    id: str = ""
    part: str = ""


def _one_run(path: Path) -> str:
    del path
    return ""


@dataclass(frozen=True, slots=True)
class Format:
    """What rows look like, and how an answer to one is judged.

    Attributes:
        parse: what a row of a file says; raises `UsageError`, which says what is wrong and not
            where.
        evidence: where the evidence stands in the document of a row; none where nobody says it.
        score: judges an answer.
        remedy: what to do where not a single row can be used.
        run_of: names what a file belongs to; rows are numbered through all files of one run.
        answer_tokens: that an answer may need, where an architecture would give it fewer.
    """

    parse: Callable[[bytes, Path], Row]
    evidence: Callable[[Row], tuple[Span, ...]]
    score: Callable[[Item, str], Scores]
    remedy: str
    run_of: Callable[[Path], str] = _one_run
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row is left out; rows of a file count from 1."""

    number: int
    text: str
    file: Path


@dataclass(frozen=True, slots=True)
class Line:
    """Where a good row stands, and what it was when the file was loaded.

    Attributes:
        number: from 1; the cell's `sample`.
        file: in which it stands.
        at: its number in this file, from 1.
        start: of its first byte (see `rlm.bench.tasks.rows.RawRow`).
        size: in bytes.
        sha256: of the row and its document.
        chars: of its document.
    """

    number: int
    file: Path
    at: int
    start: int
    size: int
    sha256: str
    chars: int

    @property
    def length(self) -> int:
        """The smallest length of the usual grid, or its continuation, that holds the document.

        In tokens of four characters. Rows of about one size stand together in tables by it.
        """
        smallest = LENGTHS[0] * CHARS_PER_TOKEN
        length: int = LENGTHS[0] << ((self.chars - 1) // smallest).bit_length()
        return length


@dataclass(frozen=True, slots=True)
class Given:
    """The good rows of a file, or of a part of one; a task for `rlm.bench.tasks.register`.

    Attributes:
        name: the task's.
        path: of the file or folder, absolute.
        sha256: of its bytes.
        lines: those that become cells.
        problems: those that do not.
        form: of the rows.
        depths: none.
    """

    name: str
    path: Path
    sha256: str
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    form: Format
    depths: tuple[int, ...] = ()
    _by_number: dict[int, Line] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the lines: a session asks for each of many thousands."""
        object.__setattr__(self, "_by_number", {line.number: line for line in self.lines})

    def cells(self, grid: Grid) -> Iterator[Cell]:
        """The cells of each row, by draw and architecture.

        Args:
            grid: whose draws and architectures are used; lengths and samples are the file's.
        """
        grid = replace(grid, unit="tokens")
        for line in self.lines:
            yield from grid.answers(self.name, line.length, None, line.number)

    def item(self, number: int) -> Item:
        """The document and question of a row; the last two are kept.

        Args:
            number: of the row, from 1.

        Raises:
            UsageError: there is no such good row, or it is not what it was when it was loaded.
        """
        if number not in self._by_number:
            raise UsageError(f"{self.path} has no usable line {number}: load it again")
        return _item(self.name, self.form, self._by_number[number])

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """Nothing is made here; it completes `rlm.bench.tasks.base.Task`.

        Raises:
            UsageError: always.
        """
        del chars, depth, seed, split
        raise UsageError(f"the documents of {self.name} are those of {self.path}: ask for `item`")

    def score(self, item: Item, text: str) -> Scores:
        """By the rule of the row.

        Raises:
            UsageError: it is a pattern that takes too long.
        """
        return self.form.score(item, text)

    def told(self) -> list[str]:
        """What to tell a person: the rows that are used, and why others are not."""
        told = [f"{self.name}: {len(self.lines)} lines of {self.path}"]
        if self.problems:
            told[0] += f", {len(self.problems)} left out"
        shown = self.problems[:SHOWN]
        told += (f"{problem.file.name}:{problem.number}: {problem.text}" for problem in shown)
        if len(self.problems) > SHOWN:
            told.append(f"and {len(self.problems) - SHOWN} more")
        return told


@dataclass(frozen=True, slots=True)
class Found:
    """What files hold.

    Attributes:
        lines: good rows, each with the part of the data to which it belongs.
        problems: the others.
        sha256: of the only file, or of all their names and hashes.
    """

    lines: tuple[tuple[str, Line], ...]
    problems: tuple[Problem, ...]
    sha256: str


def gather(path: Path, files: Sequence[Path], form: Format) -> Found:
    """Read files of rows, one row at a time.

    Args:
        path: the only file, or the folder of all.
        files: in the order in which rows are numbered.
        form: of the rows.

    Raises:
        UsageError: a file cannot be read, or there is not a single good row.
    """
    lines: list[tuple[str, Line]] = []
    problems: list[Problem] = []
    ids: dict[str, int] = {}
    before: Counter[str] = Counter()
    hashes: list[str] = []
    for file in files:
        run, at = form.run_of(file), 0
        try:
            with file.open("rb") as opened:
                hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
            for raw in read_rows(file):
                at = raw.at
                try:
                    lines.append(_line(file, raw, before[run], form, ids))
                except UsageError as error:
                    problems.append(Problem(at, str(error), file))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
        before[run] += at
    if not lines:
        first = problems[0] if problems else None
        why = f"line {first.number}: {first.text}" if first else "it is empty"
        raise UsageError(f"{path} has no usable line ({why}): {form.remedy}")
    return Found(tuple(lines), tuple(problems), _sha256(path, files, hashes))


def _sha256(path: Path, files: Sequence[Path], hashes: Sequence[str]) -> str:
    if list(files) == [path]:
        return hashes[0]
    named = (f"{f.relative_to(path).as_posix()}\0{h}\n" for f, h in zip(files, hashes, strict=True))
    return hashlib.sha256("".join(named).encode()).hexdigest()


def _line(
    file: Path, raw: RawRow, before: int, form: Format, ids: dict[str, int]
) -> tuple[str, Line]:
    """A row as a `Line`, and its part; `before` it stand so many rows of other files."""
    row = form.parse(raw.content, file)
    number = before + raw.at
    if row.id and ids.setdefault(row.id, number) != number:
        raise UsageError(f"the id {row.id!r} is that of line {ids[row.id]}, too")
    digest = _digest(raw.content, row)
    return row.part, Line(number, file, raw.at, raw.start, raw.size, digest, len(row.document))


@lru_cache(2)
def _item(task: str, form: Format, line: Line) -> Item:
    """The item of a row; the architectures of a document follow each other."""
    try:
        raw = read_row(line.file, line.start, line.size)
        row = form.parse(raw, line.file)
        is_same = _digest(raw, row) == line.sha256
    except (OSError, UsageError):
        is_same = False
    if not is_same:
        raise UsageError(
            f"line {line.at} of {line.file}, or the file that it names, was changed during the "
            "session: begin another"
        )
    spans = form.evidence(row)
    return Item(
        task=task,
        document=row.document,
        question=row.query,
        gold=row.answers[0] if len(row.answers) == 1 else shown(row.answers),
        spans=spans,
        depth=spans[0].start / len(row.document) if spans else 0.0,
        split="eval",
        answers=row.answers,
        scorer=row.scorer,
    )


def _digest(raw: bytes, row: Row) -> str:
    digest = hashlib.sha256(raw)
    digest.update(row.document.encode())
    return digest.hexdigest()


def fields_of(raw: bytes) -> dict[str, Any]:
    """The fields of a row.

    Raises:
        UsageError: it is no JSON object.
    """
    try:
        fields = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"no JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:  # a number too long, lists within lists
        raise UsageError(f"no JSON that can be read: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError("no JSON object: write {…}")
    return fields


def require(fields: dict[str, Any], names: Sequence[str]) -> None:
    """Raise `UsageError` where one of `names` is not among the fields; it names them and those."""
    if missing := [name for name in names if name not in fields]:
        needed = ", ".join(map(repr, names))
        there = ", ".join(map(repr, fields)) or "none"
        raise UsageError(f"no field {missing[0]!r}; needed are: {needed}; there are: {there}")


def text_of(field: str, given: object) -> str:
    """A text that says something and can be sent.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(given, str):
        raise UsageError(f"field {field!r} must be a text, not {shown(given)}")
    if not given.strip():
        raise UsageError(f"field {field!r} is empty")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"field {field!r} has half a character (\\u{ord(given[error.start]):x})"
        ) from error
    return given


def number_or(given: object) -> object:
    """A whole number as its text; all else as it is."""
    return str(given) if type(given) is int else given


def shown(value: object) -> str:
    """A value as JSON, for a message or a gold answer."""
    return json.dumps(value, ensure_ascii=False)


def evidence(document: str, answers: Sequence[str]) -> tuple[Span, ...]:
    """The first sentences in which an answer stands as a whole word, by chance or not."""
    wanted = "|".join(re.escape(answer.strip()) for answer in answers)
    spans: list[Span] = []
    for found in re.finditer(rf"(?<!\w)(?:{wanted})(?!\w)", document, re.IGNORECASE):
        if spans and found.start() < spans[-1].end:
            continue
        if len(spans) == EVIDENCE:
            break
        spans.append(_sentence(document, found.start(), found.end()))
    return tuple(spans)


def nowhere(row: Row) -> tuple[Span, ...]:
    """The evidence of rows that do not say where theirs stands."""
    del row
    return ()


def _sentence(document: str, start: int, end: int) -> Span:
    """The sentence around ``[start, end)``."""
    first, last = max(start - REACH, 0), min(end + REACH, len(document))
    for gap in _BREAK.finditer(document, first, start):
        first = gap.end()
    gap_behind = _BREAK.search(document, end, last)
    return Span(first, gap_behind.start() if gap_behind else last)
