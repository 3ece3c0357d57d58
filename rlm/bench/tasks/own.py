"""A person's own data: each row of a file is one document with one question.

{"context": "…", "query": "…", "answer": "…", "scorer": "exact", "id": "…"}

A row is a line of JSON, an object of the array in a ``.json`` file, or a row of a ``.parquet`` file
(see `rlm.bench.tasks.rows`); all are called lines.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rlm.bench import scoring
from rlm.bench.tasks.base import Item, Scores, Span
from rlm.bench.tasks.given import (
    Format,
    Given,
    Row,
    evidence,
    fields_of,
    gather,
    number_or,
    require,
    shown,
    text_of,
)
from rlm.errors import UsageError

REQUIRED: Final = ("context", "query", "answer")


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


def load(path: str | os.PathLike[str]) -> Given:
    """Read a file of rows; the task is called ``own-STEM`` for ``STEM.jsonl``.

    Raises:
        UsageError: it cannot be read, or has not a single good line.
    """
    path = Path(path).absolute()
    found = gather(path, [path], FORMAT)
    stem = re.sub(r"[^\w.-]+", "-", path.stem)
    lines = tuple(line for _, line in found.lines)
    return Given(f"own-{stem}", path, found.sha256, lines, found.problems, FORMAT)


def _row(raw: bytes, file: Path) -> Row:
    """What a line says, if all of it is in order.

    Raises:
        UsageError: it is not; says what and not where.
    """
    fields = _fields(raw)
    name = fields.get("scorer", "exact")
    if not isinstance(name, str) or name not in SCORERS:
        raise UsageError(f"unknown scorer {shown(name)}; there are: {', '.join(SCORERS)}")
    answer = _answer(fields["answer"])
    if flaw := SCORERS[name].flaw(answer):
        raise UsageError(f"field 'answer' {flaw}")
    given = fields.get("id", "")
    return Row(
        document=_document(fields["context"], file.parent),
        query=text_of("query", fields["query"]),
        answers=tuple(answer) if isinstance(answer, list) else (answer,),
        scorer=name,
        id="" if given == "" else text_of("id", number_or(given)),
    )


def _fields(raw: bytes) -> dict[str, Any]:
    """The fields of a line; one that is unknown and like none that is known is left alone."""
    fields = fields_of(raw)
    for field in fields:
        near = difflib.get_close_matches(field.casefold(), (*REQUIRED, "scorer"), n=1, cutoff=0.75)
        if near and near != [field]:
            raise UsageError(f"unknown field {field!r} (did you mean {near[0]!r}?)")
    require(fields, REQUIRED)
    return fields


def _answer(given: object) -> str | list[str]:
    if isinstance(given, list):
        if not given:
            raise UsageError("field 'answer' is an empty list")
        return [text_of("answer", number_or(each)) for each in given]
    return text_of("answer", number_or(given))


def _document(given: object, folder: Path) -> str:
    """The context itself, or the text of the file that it names."""
    if not isinstance(given, dict):
        return text_of("context", given)
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


def _evidence(row: Row) -> tuple[Span, ...]:
    """What says where the evidence is, is the answer itself: sentences in which one stands."""
    return evidence(row.document, row.answers) if SCORERS[row.scorer].is_found else ()


def _score(item: Item, text: str) -> Scores:
    return SCORERS[item.scorer].score(item.answers, text)


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
    return f"must be a whole number for the scorer 'count', not {shown(answer)}"


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

FORMAT: Final = Format(
    parse=_row,
    evidence=_evidence,
    score=_score,
    remedy='write one JSON object a line, such as {"context": "…", "query": "…", "answer": "…"}',
)
