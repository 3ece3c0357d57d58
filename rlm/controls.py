"""What the controls find in a document without a model: a grep, and passages by BM25.

Neither is told the answer. `rlm.architectures` makes ways of answering out of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import fsum, log
from typing import Final

PASSAGES: Final = 6
PASSAGE_CHARS: Final = 1_000
OVERLAP_CHARS: Final = 200
K1: Final = 1.2
B: Final = 0.75

_WORD: Final = re.compile(r"\w+")
_SPACE: Final = re.compile(r"\s+")
_BREAK: Final = re.compile(r"(?<=[.!?])\s+|\n+")
"""Between two sentences."""
_NUMBER: Final = re.compile(r"(?<!\w)[-+]?(?=[\w-]*\d)[\w.,:/-]*\w")
_NAME: Final = re.compile(r"(?<=\s)[A-ZÀ-Þ][\w'-]*(?: [A-ZÀ-Þ][\w'-]*)*")
"""Not at the start of a sentence, where any word is written so."""
_ASKS_NAME: Final = frozenset({"who", "whom", "whose", "where"})
_RARE: Final = 3
"""Words of the question whose places are looked at."""
_PLACES: Final = 80
"""Places of each, parts of other words included."""
_REACH: Final = 400
"""Characters to either side of a place within which its sentence is looked for."""


def grep(document: str, question: str) -> str:
    """The value in the sentence that shares the rarest words with the question; empty if none does.

    A value is a number that is not in the question, else a name, else a word (a name first, where
    the question asks who or where); of several the one nearest to the rarest word.
    """
    lowered = document.lower()
    if len(lowered) != len(document):  # few letters become two, but then places would not agree
        lowered = document
    words = dict.fromkeys(_words(question))
    counts = {word: lowered.count(word) for word in words if len(word) > 2}
    weights = {word: 1 / count for word, count in counts.items() if count}
    rarest = sorted(weights, key=lambda word: -weights[word])[:_RARE]
    best, score = "", 0.0
    for place in (place for word in rarest for place in _places(lowered, word)):
        sentence = _sentence(document, place)
        shared = fsum(weights.get(word, 0.0) for word in set(_words(sentence)))  # in any order
        if shared > score:
            best, score = sentence, shared
    found = set(_words(best))
    return _value(best, set(words), next((word for word in rarest if word in found), ""))


def relevant(document: str, question: str) -> tuple[range, ...]:
    """The `PASSAGES` passages that fit a question best, in document order; overlaps are joined."""
    passages = tuple(split(document))
    scores = bm25([document[p.start : p.stop] for p in passages], question)
    best = sorted(range(len(passages)), key=lambda i: -scores[i])[:PASSAGES]
    joined: list[range] = []
    for passage in (passages[i] for i in sorted(best)):
        if joined and passage.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, passage.stop)
        else:
            joined.append(passage)
    return tuple(joined)


def split(document: str) -> Iterator[range]:
    """Passages of whole sentences, about `PASSAGE_CHARS` long; each repeats the end of the last.

    A sentence longer than `OVERLAP_CHARS` may be cut between two words, a word of that length
    anywhere.
    """
    start = stop = 0
    while stop < len(document):
        stop = _edge(document, start + PASSAGE_CHARS)
        yield range(start, stop)
        start = _edge(document, stop - OVERLAP_CHARS)


def bm25(texts: Sequence[str], query: str) -> list[float]:
    """How well each text fits a query: Okapi BM25 (Robertson & Zaragoza 2009), words as they are.

    The logarithm is of 1 + the original's, so that no word counts against a text that has it.
    """
    asked = set(_words(query))
    bags, lengths = [], []
    for text in texts:
        words = _words(text)
        lengths.append(len(words))
        bags.append(Counter([word for word in words if word in asked]))
    mean = sum(lengths) / max(len(lengths), 1)
    scores = [0.0] * len(texts)
    for word in sorted(asked):  # a sum of floats depends on the order
        having = [i for i, bag in enumerate(bags) if word in bag]
        weight = log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for i in having:
            often, length = bags[i][word], lengths[i] / mean
            scores[i] += weight * often * (K1 + 1) / (often + K1 * (1 - B + B * length))
    return scores


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _places(text: str, word: str) -> Iterator[int]:
    """Where `word` stands as a whole, among the first `_PLACES` where its letters stand."""
    place = text.find(word)
    for _ in range(_PLACES):
        if place < 0:
            return
        around = text[max(place - 1, 0) : place + len(word) + 1]
        if word in _WORD.findall(around):
            yield place
        place = text.find(word, place + 1)


def _sentence(text: str, place: int) -> str:
    """The sentence that holds the character at `place`."""
    start = max(place - _REACH, 0)
    for gap in _BREAK.finditer(text, start, place):
        start = gap.end()
    end = _BREAK.search(text, place, place + _REACH)
    return text[start : end.start() if end else place + _REACH]


def _value(sentence: str, known: set[str], near: str) -> str:
    """What in `sentence` is not `known`, nearest to the word `near`."""
    begin = sentence.lower().find(near)
    end = begin + len(near)
    number_first = not known & _ASKS_NAME
    for pattern in (_NUMBER, _NAME, _WORD) if number_first else (_NAME, _NUMBER, _WORD):
        found = [m for m in pattern.finditer(sentence) if not known.issuperset(_words(m.group()))]
        if found:
            return min(found, key=lambda m: max(m.start() - end, begin - m.end())).group()
    return ""


def _edge(text: str, at: int) -> int:
    """Where the first sentence from `at` on begins, else the first word, else `at`."""
    end = min(at + OVERLAP_CHARS, len(text))
    if end == len(text):
        return end
    gap = _BREAK.search(text, at, end) or _SPACE.search(text, at, end)
    return gap.end() if gap else at
