"""Whole-answer scoring that cannot be won by dumping text.

An answer is right when it equals the gold one after normalising (case, quotes, thousands
separators, final punctuation), or when it is a short sentence in which the gold one stands as a
whole word and no rival does: a second number beside a numeric gold answer makes it wrong. Numbers
are compared with their sign and without zeros behind the point; zeros in front count.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rlm.bench.tasks.base import Scores

MAX_EXTRA_CHARS: Final = 100
"""A right answer may be this much longer than the gold one."""

_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_WITH_DIGITS: Final = re.compile(r"(?:(?<![\w.])(-)\$?)?([\w.]*\d\w*(?:\.\d\w*)*)")
_EDGES: Final = " \t\r\n\"'`*“”‘’.,;:!?()[]{}<>$"  # noqa: RUF001


def score_answer(gold: str, text: str) -> Scores:
    """Score a single short answer; `Scores.graded` is 1.0 or 0.0."""
    from rlm.bench.tasks.base import Scores  # the tasks import this module

    exact = is_correct(gold, text)
    return Scores(exact=exact, graded=float(exact))


def is_correct(gold: str, text: str) -> bool:
    """Whether `text` gives `gold` and nothing that rivals it."""
    want, got = normalise(gold), normalise(text)
    if want == got:
        return True
    if not want or len(got) > len(want) + MAX_EXTRA_CHARS:
        return False
    if _NUMBER.fullmatch(want):
        return _numbers(got) == _numbers(want)
    return re.search(rf"(?<![\w.]){re.escape(want)}(?![\w]|\.\d)", got) is not None


def normalise(text: str) -> str:
    """Case-folded text with single spaces, plain digits, and no quotes or final punctuation."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    folded = folded.replace("\N{MINUS SIGN}", "-")
    return _THOUSANDS.sub("", folded).strip(_EDGES)


def _numbers(text: str) -> set[str]:
    """Every word with a digit in it, with its sign; numbers lose the zeros that say nothing."""
    words = (sign + word for sign, word in _WITH_DIGITS.findall(text))
    return {
        word.rstrip("0").rstrip(".") if "." in word and _NUMBER.fullmatch(word) else word
        for word in words
    }
