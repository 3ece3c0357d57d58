r"""OOLONG (Bertsch et al. 2025, arXiv:2511.02817; https://github.com/abertsch72/oolong).

Rows of oolong-synth have an ``answer_type``, those of oolong-real have none. The document is
``context_window_text``, without labels. Scored as its src/eval/eval_helpers.py scores.

oolong-synth: what is compared is what stands behind the last colon, without asterisks and square
brackets; without a colon the whole answer if it has under 20 characters, else its last word. It is
right if it equals the gold answer, letter for letter. A phrase of 20 characters or more with "more
common", "less common" or "same frequency" in it counts as that phrase, and that is right where it
stands in the gold answer. Numbers are graded by 0.75 to the power of the error, dates are compared
as dates.

oolong-real: what stands in ``\boxed{}``. Numbers are graded likewise, texts compared in either
case, and of a list the share of its members that are named is the grade; one that stands there
twice counts once. Exact is a list that names no others. An answer without ``\boxed{}`` is taken as
if all of it stood in one: a loop's FINAL has no need of it.
"""

from __future__ import annotations

import ast
import re
from datetime import date
from pathlib import Path
from typing import Final

from rlm.bench.scoring import COUNT_BASE
from rlm.bench.tasks import given
from rlm.bench.tasks.base import Item, Scores
from rlm.bench.tasks.given import Format, Row
from rlm.errors import UsageError

COLUMNS: Final = ("context_window_text", "question", "answer")
REAL: Final = "real"
"""What the scorer of a row of oolong-real is told."""
SHORT: Final = 20
"""Characters from which on an answer is searched for the one that is meant."""

_COMPARED: Final = ("more common", "less common", "same frequency")
_GOLD_DATE: Final = re.compile(r"\[datetime\.date\((\d+), (\d+), (\d+)\)\]")
_BOXED: Final = (
    re.compile(r"\\boxed\{\\text\{([^}]*)\}\}"),
    re.compile(r"\\boxed\{+([^}]*)\}+"),
)
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_MONTH: Final = rf"(?P<name>{'|'.join(_MONTHS)})[a-z]*\.?"
_DATES: Final = (
    re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?: 00:00(?::00)?)?"),
    re.compile(r"(?P<month>\d{1,2})[-/.](?P<day>\d{1,2})[-/.](?P<year>\d{4})"),
    re.compile(rf"(?:[a-z]+day,? )?{_MONTH} {_DAY},? (?P<year>\d{{4}})"),
    re.compile(rf"(?:[a-z]+day,? )?{_DAY} (?:of )?{_MONTH},? (?P<year>\d{{4}})"),
)
"""How people write a date, and pandas with midnight behind it; the month first where there are only
numbers, as in the data."""


def _row(raw: bytes, file: Path) -> Row:
    del file
    fields = given.fields_of(raw)
    given.require(fields, COLUMNS)
    kind, dataset = fields.get("answer_type"), fields.get("dataset")
    is_synthetic = isinstance(kind, str)
    scorer = str(kind).rpartition(".")[2] if is_synthetic else REAL
    return Row(
        document=given.text_of("context_window_text", fields["context_window_text"]),
        query=given.text_of("question", fields["question"]),
        answers=_gold(fields["answer"], scorer) if is_synthetic else _real_gold(fields["answer"]),
        scorer=f"oolong/{scorer}",
        part=dataset if isinstance(dataset, str) else "" if is_synthetic else REAL,
    )


def _gold(answer: object, kind: str) -> tuple[str]:
    """The gold answer of oolong-synth: a list of one, as Python writes it; a date in ISO form."""
    gold = _listed(answer)
    if kind != "DATE":
        return (gold,)
    day = _date(gold)
    if day is None:
        raise UsageError(f"field 'answer' holds no date such as 2023-01-05: {gold!r}")
    return (day.isoformat(),)


def _listed(answer: object) -> str:
    listed: object = answer
    if isinstance(answer, str):
        try:
            if found := _GOLD_DATE.fullmatch(answer.strip()):
                return date(*map(int, found.groups())).isoformat()
            listed = ast.literal_eval(answer)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            listed = None
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"field 'answer' must be a list such as ['spam'], not {answer!r}")
    return given.text_of("answer", given.number_or(listed[0]))


def _real_gold(answer: object) -> tuple[str, ...]:
    """The gold answer of oolong-real; the members of a list, which has a comma."""
    value = _value(given.text_of("answer", given.number_or(answer)))
    if value == []:
        raise UsageError(f"field 'answer' names nothing: {answer!r}")
    return tuple(value) if isinstance(value, list) else (str(value),)


def score(item: Item, text: str) -> Scores:
    """By the rule for the kind of answer."""
    kind = item.scorer.partition("/")[2]
    if kind == REAL:
        return _score_real(list(item.answers), text)
    graded = _score_synthetic(item.gold, kind, _meant(text.strip()))
    return Scores(exact=graded == 1.0, graded=graded)


def _meant(text: str) -> str:
    """What is compared of an answer to oolong-synth."""
    if ":" not in text:
        return text if len(text) < SHORT else text.rsplit(maxsplit=1)[-1]
    meant = re.sub(r"[*\[\]]", "", text.rpartition(":")[2].strip())
    if len(meant) < SHORT:
        return meant
    return next((phrase for phrase in _COMPARED if phrase in meant), meant)


def _score_synthetic(gold: str, kind: str, meant: str) -> float:
    if meant == gold:
        return 1.0
    if meant in _COMPARED:
        return float(meant in gold)
    if kind == "NUMERIC":
        return _near(_number(gold), _number(meant))
    return float(kind == "DATE" and _date(meant) == date.fromisoformat(gold))


def _near(gold: int | None, said: int | None) -> float:
    if gold is None or said is None or abs(gold - said) > 10_000:  # 0 by then, as a float
        return 0.0
    return float(COUNT_BASE ** abs(gold - said))


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _date(text: str) -> date | None:
    """A date as people write it."""
    plain = " ".join(text.lower().split()).rstrip(".")
    for pattern in _DATES:
        if found := pattern.fullmatch(plain):
            parts = found.groupdict()
            month = _MONTHS.index(parts["name"]) + 1 if "name" in parts else int(parts["month"])
            try:
                return date(int(parts["year"]), month, int(parts["day"]))
            except ValueError:
                return None
    return None


def _score_real(gold: list[str], text: str) -> Scores:
    found = next((m for m in (p.search(text) for p in _BOXED) if m), None)
    said = _value((found[1] if found else text).strip())
    if len(gold) > 1:
        named = set(said) if isinstance(said, list) else set()
        graded = len(named & set(gold)) / len(gold)
        return Scores(exact=named == set(gold), graded=graded)
    want = _value(gold[0])
    if isinstance(want, int):
        graded = _near(want, said) if isinstance(said, int) else 0.0
    else:
        is_same = isinstance(said, str) and said.lower() == gold[0].strip().lower()
        graded = float(is_same)
    return Scores(exact=graded == 1.0, graded=graded)


def _value(text: str) -> int | str | list[str]:
    """A number, the members between commas, each once, or the text itself; one member is itself."""
    number = _number(text)
    if number is not None:
        return number
    if "," in text:
        members = list(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
        return _value(members[0]) if len(members) == 1 else members
    return text


FORMAT: Final = Format(
    parse=_row,
    evidence=given.nowhere,
    score=score,
    remedy="get OOLONG with: hf download oolongbench/oolong-synth --repo-type dataset "
    "--local-dir oolong, or oolongbench/oolong-real, and give the folder or one of its files",
)
