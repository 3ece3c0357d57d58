"""LongBench v2 (Bai et al. 2024, arXiv:2412.15204; https://github.com/THUDM/LongBench).

Questions with four choices each, in an array of rows (``data.json``). Scored as its pred.py scores:
without asterisks, the first "The correct answer is (A)", else the first "The correct answer is A",
is the choice. Here a letter that stands alone is one, too: it is how a loop ends.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from rlm.bench.tasks import given
from rlm.bench.tasks.base import Item, Scores
from rlm.bench.tasks.given import Format, Row
from rlm.errors import UsageError

LETTERS: Final = "ABCD"
COLUMNS: Final = ("context", "question", *(f"choice_{letter}" for letter in LETTERS), "answer")
ASK: Final = 'Choose one of them and write: "The correct answer is (X)", with its letter for X.'

_SAID: Final = (
    re.compile(r"The correct answer is \(([A-D])\)"),
    re.compile(r"The correct answer is ([A-D])"),
)
_ALONE: Final = re.compile(r"\(?([A-D])\)?\.?")


def _row(raw: bytes, file: Path) -> Row:
    del file
    fields = given.fields_of(raw)
    given.require(fields, COLUMNS)
    texts = {name: given.text_of(name, fields[name]).strip() for name in COLUMNS}
    if texts["answer"] not in tuple(LETTERS):
        raise UsageError(f"field 'answer' must be A, B, C or D, not {texts['answer']!r}")
    choices = [f"({letter}) {texts[f'choice_{letter}']}" for letter in LETTERS]
    question = "\n".join([texts["question"], *choices, ASK])
    return Row(texts["context"], question, (texts["answer"],), "longbench-v2")


def choice(text: str) -> str:
    """The letter that an answer chooses; empty if it is none."""
    plain = text.replace("*", "").strip()
    for pattern in _SAID:
        if found := pattern.search(plain):
            return found[1]
    alone = _ALONE.fullmatch(plain)
    return alone[1] if alone else ""


def score(item: Item, text: str) -> Scores:
    """Whether the right letter is chosen."""
    is_right = choice(text) == item.gold
    return Scores(exact=is_right, graded=float(is_right))


FORMAT: Final = Format(
    parse=_row,
    evidence=given.nowhere,
    score=score,
    remedy="get LongBench v2 with: hf download THUDM/LongBench-v2 data.json --repo-type dataset "
    "--local-dir longbench-v2, and give the file data.json",
)
