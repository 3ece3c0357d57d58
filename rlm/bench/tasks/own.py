"""A person's own data: each line of a JSONL file is one document with one question.

    {"context": "…", "query": "…", "answer": "…", "scorer": "exact", "id": "…"}

`load` reads the file once and keeps where each line stands; `OwnData.item` reads a single line
again when its cell runs, and notices if it is another one by then.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rlm.bench import scoring
from rlm.bench.grid import CHARS_PER_TOKEN, LENGTHS, Cell, Grid
from rlm.bench.tasks.base import Item, Scores, Span, Split
from rlm.errors import UsageError

REQUIRED: Final = ("context", "query", "answer")
SHOWN: Final = 10
"""Problems that `OwnData.told` lists; it counts the others."""
EVIDENCE: Final = 20
"""Sentences of a document that count as evidence, the first ones."""
REACH: Final = 300
"""Characters to either side of an answer within which its sentence ends."""

_BREAK: Final = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Scorer:
    """A rule for judging answers.

    Attributes:
        flaw: what is wrong with the answers of a line (a text or a list of texts); empty if nothing
            is.
        score: judges a model's answer by those of the line.
        is_found: whether the answers of a line are texts that may stand in its document.
    """

    flaw: Callable[[str | list[str]], str]
    score: Callable[[Sequence[str], str], Scores]
    is_found: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line is left out; lines count from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """Where a good line stands, and what it was when the file was loaded.

    Attributes:
        number: from 1; the cell's `sample`.
        start: of its first byte.
        size: in bytes.
        sha256: of the line and its document.
        chars: of its document.
    """

    number: int
    start: int
    size: int
    sha256: str
    chars: int

    @property
    def length(self) -> int:
        """The smallest length of the usual grid, or its continuation, that holds the document.

        In tokens of four characters. Lines of about one size stand together in tables by it.
        """
        smallest = LENGTHS[0] * CHARS_PER_TOKEN
        length: int = LENGTHS[0] << ((self.chars - 1) // smallest).bit_length()
        return length


@dataclass(frozen=True, slots=True)
class OwnData:
    """The good lines of a file; a task for `rlm.bench.tasks.register`.

    Attributes:
        name: the task's, ``own-STEM`` for a file ``STEM.jsonl``.
        path: of the file, absolute.
        sha256: of its bytes.
        lines: those that become cells.
        problems: those that do not.
        depths: none.
    """

    name: str
    path: Path
    sha256: str
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    depths: tuple[int, ...] = ()

    def cells(self, grid: Grid) -> Iterator[Cell]:
        """The cells of each line, by draw and architecture.

        Args:
            grid: whose draws and architectures are used; lengths and samples are the file's.
        """
        grid = replace(grid, unit="tokens")
        for line in self.lines:
            yield from grid.answers(self.name, line.length, None, line.number)

    def item(self, number: int) -> Item:
        """The document and question of a line; the last two are kept.

        What says where the evidence is, is the answer itself: `Item.spans` are the first sentences
        in which one stands as a whole word, by chance or not. There may be none, and there are none
        for counts and patterns.

        Args:
            number: of the line, from 1.

        Raises:
            UsageError: there is no such good line, or it is not what it was when it was loaded.
        """
        for line in self.lines:
            if line.number == number:
                return _item(self.name, self.path, line)
        raise UsageError(f"{self.path} has no usable line {number}: load it again")

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """Nothing is made here; it completes `rlm.bench.tasks.base.Task`.

        Raises:
            UsageError: always.
        """
        del chars, depth, seed, split
        raise UsageError(f"the documents of {self.name} are those of {self.path}: ask for `item`")

    def score(self, item: Item, text: str) -> Scores:
        """By the scorer of the line.

        Raises:
            UsageError: it is a pattern that takes too long.
        """
        return SCORERS[item.scorer].score(item.answers, text)

    def told(self) -> list[str]:
        """What to tell a person: the lines that are used, and why others are not."""
        told = [f"{self.name}: {len(self.lines)} lines of {self.path}"]
        if self.problems:
            told[0] += f", {len(self.problems)} left out"
        shown = self.problems[:SHOWN]
        told += (f"{self.path.name}:{problem.number}: {problem.text}" for problem in shown)
        if len(self.problems) > SHOWN:
            told.append(f"and {len(self.problems) - SHOWN} more")
        return told


def load(path: str | os.PathLike[str]) -> OwnData:
    """Read a file of JSON lines, one at a time; blank lines are nothing.

    Raises:
        UsageError: it cannot be read, or has not a single good line.
    """
    path = Path(path).absolute()
    lines: list[Line] = []
    problems: list[Problem] = []
    ids: dict[str, int] = {}
    whole, start = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                whole.update(raw)
                try:
                    if raw.strip():
                        lines.append(_line(number, start, raw, path.parent, ids))
                except UsageError as error:
                    problems.append(Problem(number, str(error)))
                start += len(raw)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if not lines:
        first = f"line {problems[0].number}: {problems[0].text}" if problems else "it is empty"
        raise UsageError(
            f"{path} has no usable line ({first}): write one JSON object a line, "
            'such as {"context": "…", "query": "…", "answer": "…"}'
        )
    stem = re.sub(r"[^\w.-]+", "-", path.stem)
    return OwnData(f"own-{stem}", path, whole.hexdigest(), tuple(lines), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Row:
    """What a line says."""

    document: str
    query: str
    answers: tuple[str, ...]
    scorer: str
    id: str


def _line(number: int, start: int, raw: bytes, folder: Path, ids: dict[str, int]) -> Line:
    row = _row(raw, folder)
    if row.id and ids.setdefault(row.id, number) != number:
        raise UsageError(f"the id {row.id!r} is that of line {ids[row.id]}, too")
    return Line(number, start, len(raw), _digest(raw, row), len(row.document))


@lru_cache(2)
def _item(task: str, path: Path, line: Line) -> Item:
    """The item of a line; the architectures of a document follow each other."""
    try:
        with path.open("rb") as file:
            file.seek(line.start)
            raw = file.read(line.size)
        row = _row(raw, path.parent)
        is_same = _digest(raw, row) == line.sha256
    except (OSError, UsageError):
        is_same = False
    if not is_same:
        raise UsageError(
            f"line {line.number} of {path}, or the file that it names, was changed during the "
            "session: begin another"
        )
    spans = _evidence(row.document, row.answers) if SCORERS[row.scorer].is_found else ()
    return Item(
        task=task,
        document=row.document,
        question=row.query,
        gold=row.answers[0] if len(row.answers) == 1 else _json(row.answers),
        spans=spans,
        depth=spans[0].start / len(row.document) if spans else 0.0,
        split="eval",
        answers=row.answers,
        scorer=row.scorer,
    )


def _digest(raw: bytes, row: _Row) -> str:
    digest = hashlib.sha256(raw)
    digest.update(row.document.encode())
    return digest.hexdigest()


def _row(raw: bytes, folder: Path) -> _Row:
    """What a line says, if all of it is in order.

    Raises:
        UsageError: it is not; says what and not where.
    """
    fields = _fields(raw)
    name = fields.get("scorer", "exact")
    if not isinstance(name, str) or name not in SCORERS:
        raise UsageError(f"unknown scorer {_json(name)}; there are: {', '.join(SCORERS)}")
    answer = _answer(fields["answer"])
    if flaw := SCORERS[name].flaw(answer):
        raise UsageError(f"field 'answer' {flaw}")
    given = fields.get("id", "")
    return _Row(
        document=_document(fields["context"], folder),
        query=_text("query", fields["query"]),
        answers=tuple(answer) if isinstance(answer, list) else (answer,),
        scorer=name,
        id="" if given == "" else _text("id", _number_or(given)),
    )


def _fields(raw: bytes) -> dict[str, Any]:
    """The fields of a line; one that is unknown and like none that is known is left alone."""
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
    for field in fields:
        near = difflib.get_close_matches(field.casefold(), (*REQUIRED, "scorer"), n=1, cutoff=0.75)
        if near and near != [field]:
            raise UsageError(f"unknown field {field!r} (did you mean {near[0]!r}?)")
    if missing := [name for name in REQUIRED if name not in fields]:
        there = ", ".join(map(repr, fields)) or "none"
        raise UsageError(f"no field {missing[0]!r}; there are: {there}")
    return fields


def _text(field: str, given: object) -> str:
    """A text that says something and can be sent."""
    if not isinstance(given, str):
        raise UsageError(f"field {field!r} must be a text, not {_json(given)}")
    if not given.strip():
        raise UsageError(f"field {field!r} is empty")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"field {field!r} has half a character (\\u{ord(given[error.start]):x})"
        ) from error
    return given


def _number_or(given: object) -> object:
    """A whole number as its text; all else as it is."""
    return str(given) if type(given) is int else given


def _answer(given: object) -> str | list[str]:
    if isinstance(given, list):
        if not given:
            raise UsageError("field 'answer' is an empty list")
        return [_text("answer", _number_or(each)) for each in given]
    return _text("answer", _number_or(given))


def _document(given: object, folder: Path) -> str:
    """The context itself, or the text of the file that it names."""
    if not isinstance(given, dict):
        return _text("context", given)
    if list(given) != ["file"] or not isinstance(given["file"], str):
        raise UsageError('field \'context\' must be a text, or {"file": "relative/path.txt"}')
    name = given["file"]
    try:
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder.resolve()):
            raise UsageError(f"the file {name!r} lies outside of {folder}: move it there")
        stat = path.stat()
        text = _file(path, (stat.st_mtime_ns, stat.st_size))
    except UnicodeDecodeError as error:
        raise UsageError(f"the file {name!r} is no text in UTF-8") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the file {name!r}: {reason}") from error
    if not text.strip():
        raise UsageError(f"the file {name!r} is empty")
    return text


@lru_cache(2)
def _file(path: Path, stamp: tuple[int, int]) -> str:
    """A text file as it is, line ends included; several lines may ask about the same one.

    Args:
        path: of the file.
        stamp: by which a changed one is told from that read before.
    """
    del stamp
    return path.read_bytes().decode("utf-8-sig")


def _evidence(document: str, answers: Sequence[str]) -> tuple[Span, ...]:
    """The first sentences in which an answer stands as a whole word."""
    wanted = "|".join(re.escape(answer.strip()) for answer in answers)
    spans: list[Span] = []
    for found in re.finditer(rf"(?<!\w)(?:{wanted})(?!\w)", document, re.IGNORECASE):
        if spans and found.start() < spans[-1].end:
            continue
        if len(spans) == EVIDENCE:
            break
        spans.append(_sentence(document, found.start(), found.end()))
    return tuple(spans)


def _sentence(document: str, start: int, end: int) -> Span:
    """The sentence around ``[start, end)``."""
    first, last = max(start - REACH, 0), min(end + REACH, len(document))
    for gap in _BREAK.finditer(document, first, start):
        first = gap.end()
    gap_behind = _BREAK.search(document, end, last)
    return Span(first, gap_behind.start() if gap_behind else last)


def _says_nothing(answer: str | list[str]) -> str:
    answers = [answer] if isinstance(answer, str) else answer
    empty = [each for each in answers if not scoring.normalise(each)]
    return f"{empty[0]!r} holds nothing but quotes and marks" if empty else ""


def _no_list(answer: str | list[str]) -> str:
    if isinstance(answer, str):
        return f"must be a list for the scorer 'set', such as [\"{answer}\"]"
    return _says_nothing(answer)


def _no_count(answer: str | list[str]) -> str:
    if isinstance(answer, str) and re.fullmatch(r"-?\d{1,15}", answer.strip()):
        return ""
    return f"must be a whole number for the scorer 'count', not {_json(answer)}"


def _no_pattern(answer: str | list[str]) -> str:
    if isinstance(answer, list):
        return "must be a single pattern for the scorer 'regex', not a list: write a|b"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(answer)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"{answer!r} is no regular expression: {error}"
    return ""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


SCORERS: Final = {
    "exact": Scorer(
        _says_nothing,
        lambda answers, text: scoring.score_answer(answers[0], text, *answers[1:]),
        is_found=True,
    ),
    "set": Scorer(_no_list, scoring.score_set, is_found=True),
    "count": Scorer(
        _no_count,
        lambda answers, text: scoring.score_count(int(answers[0]), text),
        is_found=False,
    ),
    "regex": Scorer(
        _no_pattern,
        lambda answers, text: scoring.score_pattern(answers[0], text),
        is_found=False,
    ),
}
"""By the name that a line gives; ``exact`` where it gives none."""
