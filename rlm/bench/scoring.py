"""Scoring that cannot be won by dumping text: short answers, lists, counts, patterns.

An answer is right when it equals the gold one after normalising (case, quotes, thousands
separators, final punctuation), or when it is a short sentence in which the gold one stands as a
whole word and no rival does: a second number beside a numeric gold answer makes it wrong. Numbers
are compared with their sign and without zeros behind the point; zeros in front count.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from rlm.errors import UsageError

if TYPE_CHECKING:
    from rlm.bench.tasks.base import Scores

MAX_EXTRA_CHARS: Final = 100
"""A right answer may be this much longer than the gold one."""
COUNT_BASE: Final = 0.75
"""What each unit of error leaves of a count's score (OOLONG, arXiv:2511.02817)."""
PATTERN_SECONDS: Final = 5.0
"""Wall time for matching one answer against one pattern."""

_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_WITH_DIGITS: Final = re.compile(r"(?:(?<![\w.])(-)\$?)?([\w.]*\d\w*(?:\.\d\w*)*)")
_EDGES: Final = " \t\r\n\"'`*“”‘’.,;:!?()[]{}<>$"  # noqa: RUF001
_LEAD_IN: Final = re.compile(r"\A[^:,;\n\[]{1,80}:\*{0,2}(?=\s)")
_SAYS: Final = re.compile(r"\A[^:,;\n\[(]{1,80}?\s(?:are|is)\s+", re.IGNORECASE)
_DENIAL: Final = re.compile(
    r"(?:\b(?:not|no|none|neither|nor|never|without|except)\b|n['’]t\b)",  # noqa: RUF001
    re.IGNORECASE,
)
_BULLET: Final = re.compile(r"\s*(?:[-*•]\s+|\d+[.)]\s+)?(?:and\s+)?", re.IGNORECASE)
_BRACKETED: Final = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
_JOINT: Final = re.compile(r"\s*&\s*|\s+and\s+|\s+[-–—]\s+|\s*,\s*")  # noqa: RUF001
"""Between the names of a pair."""
_WORD: Final = re.compile(r"\w+")
_BETWEEN_QUOTES: Final = r"(?<=[\"'])\s*,\s*(?=[\"'])"
_MATCH: Final = """
import json, re, sys
pattern, text = json.load(sys.stdin)
print(re.fullmatch(pattern, text, re.IGNORECASE) is not None)
"""


def score_answer(gold: str, text: str, *others: str, rivals: Iterable[str] = ()) -> Scores:
    """Score a single short answer; `Scores.graded` is 1.0 or 0.0.

    Args:
        gold: what is right.
        text: the answer.
        others: what is right too.
        rivals: what makes an answer wrong where it stands in it as a whole word. Where there are
            some, one of a few words is asked for, and "not a bird" names another one.
    """
    golds, against = (gold, *others), tuple(rivals)
    right = any(is_correct(each, text) for each in golds)
    if against and any(_is_denied(each, text) for each in golds):
        right = False
    return _all_or_nothing(right and not any(_stands(each, text) for each in against))


def score_set(gold: Collection[str], text: str) -> Scores:
    """Score a list in any order: exact if the sets are equal, graded by F1.

    An answer is a JSON list, or its members stand between commas, semicolons, line breaks or
    ``and`` (numbers also between blanks), after a bullet or a number if it likes. A few words that
    end in a colon, ``are`` or ``is`` may stand before all of it, or before every member; so may a
    word such as ``VAR`` that is the same before every member. What stands in a member of `gold`
    does not separate. So a comma within a number separates, too.

    Members `MAX_EXTRA_CHARS` longer than those of `gold` are wrong; repetitions make them longer.
    """
    want = {_member(each) for each in gold} - {""}
    got = [member for member in _members(text, want) if member]
    found = set(got)
    if sum(map(len, got)) > sum(map(len, want)) + MAX_EXTRA_CHARS:
        return _all_or_nothing(False)
    if found == want:
        return _all_or_nothing(True)
    return _scores(False, 2 * len(found & want) / (len(found) + len(want)))


def score_pairs(gold: Collection[Collection[str]], text: str) -> Scores:
    """Score a list of pairs, in any order and each either way round: exact, or graded by F1.

    Pairs stand between semicolons or line breaks, in a JSON list, or each in brackets, outside of
    which stands nothing but marks; a few words may lead in, as in `score_set`. Within a pair stand
    ``&``, ``and``, a dash or a comma; where ``&`` or ``and`` is in all of them, a comma separates
    pairs. What is no pair counts as a wrong one.

    An answer whose words, all of them, are `MAX_EXTRA_CHARS` longer than `gold` is wrong.
    """
    want = {frozenset(map(_member, pair)) for pair in gold}
    found = {pair for pair in map(_pair, _entries(text)) if pair}
    if _said(text) > _said(" ".join(name for pair in want for name in pair)) + MAX_EXTRA_CHARS:
        return _all_or_nothing(False)
    if found == want:
        return _all_or_nothing(True)
    return _scores(False, 2 * len(found & want) / (len(found) + len(want)))


def score_count(gold: int, text: str) -> Scores:
    """Score a whole number: graded by `COUNT_BASE` to the power of the error.

    An answer with no number, or with a second one, or with one that begins with a zero, or much
    longer than `gold`, is wrong.
    """
    got = normalise(text)
    numbers = _numbers(got)
    number = numbers.pop() if len(numbers) == 1 else ""
    if not re.fullmatch(r"-?(?:0|[1-9]\d*)", number) or len(got) > len(str(gold)) + MAX_EXTRA_CHARS:
        return _all_or_nothing(False)
    return _scores(int(number) == gold, COUNT_BASE ** abs(int(number) - gold))


def score_pattern(pattern: str, text: str) -> Scores:
    """Score by a regular expression that must match all of the normalised answer, in either case.

    An empty answer is wrong, and so is one `MAX_EXTRA_CHARS` longer than the pattern. Matching
    takes place in a process of its own, since a pattern with repeats within repeats may take years.

    Raises:
        UsageError: the pattern needs more than `PATTERN_SECONDS`, or too much memory.
    """
    got = normalise(text)
    if not got or len(got) > len(pattern) + MAX_EXTRA_CHARS:
        return _all_or_nothing(False)
    try:
        done = subprocess.run(
            (sys.executable, "-I", "-S", "-c", _MATCH),
            input=json.dumps([pattern, got]),
            capture_output=True,
            text=True,
            timeout=PATTERN_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise UsageError(
            f"the pattern {pattern!r} cannot be matched within {PATTERN_SECONDS:g} s: "
            "write it without repeats inside of repeats"
        ) from error
    return _all_or_nothing(done.stdout.strip() == "True")


def is_correct(gold: str, text: str) -> bool:
    """Whether `text` gives `gold` and nothing that rivals it."""
    want, got = normalise(gold), normalise(text)
    if want == got:
        return True
    if not want or len(got) > len(want) + MAX_EXTRA_CHARS:
        return False
    if _NUMBER.fullmatch(want):
        return _numbers(got) == _numbers(want)
    return _stands(want, got)


def _stands(part: str, text: str) -> bool:
    """Whether `part` stands in `text` as a whole word, both normalised."""
    want, got = normalise(part), normalise(text)
    return re.search(rf"(?<![\w.]){re.escape(want)}(?![\w]|\.\d)", got) is not None


def _is_denied(part: str, text: str) -> bool:
    """Whether a ``not`` or the like stands directly before `part`; never of a number."""
    want, got = normalise(part), normalise(text)
    denied = rf"{_DENIAL.pattern}[^\w.,:;!?]+(?:(?:an?|the|any)\s+)?{re.escape(want)}(?!\w)"
    return not _NUMBER.fullmatch(want) and re.search(denied, got) is not None


def normalise(text: str) -> str:
    """Case-folded text with single spaces, plain digits, and no quotes or final punctuation."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    folded = folded.replace("\N{MINUS SIGN}", "-")
    return _THOUSANDS.sub("", folded).strip(_EDGES)


def _numbers(text: str) -> set[str]:
    """Every word with a digit in it, with its sign; numbers lose the zeros that say nothing."""
    return {_plain(sign + word) for sign, word in _WITH_DIGITS.findall(text)}


def _plain(word: str) -> str:
    """A number without the zeros that say nothing; any other word as it is."""
    return word.rstrip("0").rstrip(".") if "." in word and _NUMBER.fullmatch(word) else word


def _members(text: str, want: Collection[str]) -> list[str]:
    """What a list in an answer holds; nothing that stands in `want` separates or leads in."""
    listed = _json_list(text)
    entries = _written(text, want) if listed is None else list(map(str, listed))
    entries = _without_label([_BULLET.sub("", each, count=1) for each in entries], want)
    if all(map(_NUMBER.fullmatch, want)):
        entries = [part for each in entries for part in _numbers_apart(each)]
    return [_member(each) for each in entries]


def _written(text: str, want: Collection[str]) -> list[str]:
    """The members of a list in plain text, without what leads in, before all of them or each."""
    entries = _split(text, want)
    if not _all_led_in(entries, want):
        entries = _split(_without_lead_in(text, want), want)
    if _all_led_in(entries, want):
        return [_without_lead_in(each, want) for each in entries]
    return entries


def _all_led_in(entries: list[str], want: Collection[str]) -> bool:
    return all(_without_lead_in(each, want) != each for each in entries)


def _json_list(text: str) -> list[object] | None:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return listed if isinstance(listed, list) else None


def _split(text: str, want: Collection[str]) -> list[str]:
    """What stands between marks and ``and``, but for those within a member of `want`."""
    kept = " ".join(want)
    marks = "".join(mark for mark in ",;\n" if mark not in kept)
    between = f"[{marks}]|{_BETWEEN_QUOTES}" if marks else _BETWEEN_QUOTES
    if not re.search(r"\band\b", kept):
        between += r"|(?i:\s+and\s+)"
    return [each for each in re.split(between, text) if each.strip()]


def _without_lead_in(text: str, want: Collection[str] = ()) -> str:
    """`text` without the few words before it that end in a colon or a verb, if there are any.

    What denies leads in nothing: "none of these: …".
    """
    for lead_in, mark in ((_LEAD_IN, r":"), (_SAYS, r"\b(?:are|is)\b")):
        found = lead_in.match(text.lstrip())
        if found and not any(re.search(mark, each) for each in want):
            return text if _DENIAL.search(found.group()) else text.lstrip()[found.end() :]
    return text


def _without_label(entries: list[str], want: Collection[str]) -> list[str]:
    """`entries` without the word that stands before each, such as ``VAR`` or ``code``: no name."""
    parts = [each.strip(_EDGES).split() for each in entries]
    first = {part[0] for part in parts if part}
    label = first.pop() if len(first) == 1 and len(entries) > 1 else ""
    is_label = label.isalpha() and (label.islower() or label.isupper())
    is_new = not _DENIAL.search(label) and label.casefold() not in " ".join(want).split()
    if is_label and is_new and all(len(part) == 2 for part in parts):
        return [part[1] for part in parts]
    return entries


def _numbers_apart(entry: str) -> list[str]:
    """The numbers between the blanks of an entry that holds nothing else."""
    parts = entry.strip(_EDGES).split()
    return parts if len(parts) > 1 and all(map(_NUMBER.fullmatch, parts)) else [entry]


def _entries(text: str) -> list[str]:
    """What an answer lists: one text for each pair."""
    listed = _json_list(text)
    if listed is not None:
        return [" & ".join(map(str, e)) if isinstance(e, list) else str(e) for e in listed]
    rest = _without_lead_in(text)
    if not _JOINT.search(text[: len(text) - len(rest)].strip()):  # else a pair would lead in
        text = rest
    bracketed = _BRACKETED.findall(text)
    if all(_JOINT.search(each) for each in bracketed) and not _said(_BRACKETED.sub("", text)):
        return bracketed
    entries = re.split(r"[;\n]", text)
    for joint in (r"&", r"\band\b"):
        if all(re.search(joint, e) for e in entries if e.strip()):
            between = r",|\band\b" if joint == "&" else ","
            return [part for e in entries for part in re.split(between, e)]
    return entries


def _pair(text: str) -> frozenset[str]:
    """The two names in a text; where they are not two, the text; nothing of an empty one."""
    text = _BULLET.sub("", text, count=1)
    joint = _JOINT.search(text)
    parts = re.split(re.escape(joint.group()), text) if joint else [text]
    names = frozenset(map(_member, parts)) - {""}
    return names if len(parts) == 2 or not names else frozenset([_member(text)])


def _said(text: str) -> int:
    """Characters of the words of a text, one more for each; ``and`` and numbering are none."""
    words = _WORD.findall(re.sub(r"(?m)^\s*\d+[.)]|\b(?i:and)\b", "", text))
    return sum(len(word) + 1 for word in words)


def _member(text: str) -> str:
    """One member, as it is compared."""
    return _plain(normalise(_BULLET.sub("", text, count=1)))


def _all_or_nothing(right: bool) -> Scores:
    return _scores(right, float(right))


def _scores(exact: bool, graded: float) -> Scores:
    from rlm.bench.tasks.base import Scores  # the tasks import this module

    return Scores(exact=exact, graded=graded)
