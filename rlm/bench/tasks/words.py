"""The frozen word list, and documents made of it.

The words are those of three to eight letters in the EFF large word list (CC BY 3.0 US, see NOTICE),
taken from the PyPI package ``xkcdpass`` 1.30.0.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

from rlm.bench.tasks.base import Span, Split
from rlm.bench.tasks.stream import Stream
from rlm.errors import RLMError

WORDS_SHA256 = "31d97983cf647bcdbe4fd8f21d161a4052785504b7a05f235a7ac6749920aa89"

Sentence = Callable[[Stream], str]


@cache
def words() -> tuple[str, ...]:
    """All words, sorted.

    Raises:
        RLMError: the file is not the one that the documents of this suite are made of.
    """
    raw = (files("rlm.bench.tasks") / "words.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != WORDS_SHA256:
        raise RLMError("rlm/bench/tasks/words.txt was changed: documents would not be the same")
    return tuple(raw.decode().split())


def number(stream: Stream, split: Split, taken: set[str], *, digits: int = 5) -> str:
    """A number of `digits` digits without a leading zero that belongs to `split`."""
    low = 10 ** (digits - 1)
    return stream.until(lambda: str(stream.between(low, 10 * low - 1)), split, taken)


def entity(stream: Stream, split: Split, taken: set[str], pool: Sequence[str] = ()) -> str:
    """A name of two words of `pool` (all words by default), such as ``Copper Lantern``."""
    pool = pool or words()
    return stream.until(
        lambda: f"{stream.choice(pool).title()} {stream.choice(pool).title()}", split, taken
    )


def random_sentences(without: set[str]) -> Sentence:
    """Sentences of 6 to 14 random words, none of them in `without`."""
    pool = [w for w in words() if w not in without]

    def sentence(stream: Stream) -> str:
        count = stream.between(6, 14)
        return " ".join([stream.choice(pool) for _ in range(count)]).capitalize() + "."

    return sentence


def document(
    stream: Stream, sentence: Sentence, chars: int, facts: Sequence[tuple[float, str]]
) -> tuple[str, list[Span]]:
    """A document of exactly `chars` characters with `facts` at sentence boundaries.

    Args:
        stream: where the draws come from.
        sentence: makes one filler sentence.
        chars: exact length.
        facts: (depth from 0 to 1, sentence) pairs.

    Returns:
        The document, and the span of each fact in the order given.
    """
    filler = _filler(stream, sentence, chars - sum(len(text) + 1 for _, text in facts))
    starts = [0]
    for part in filler:
        starts.append(starts[-1] + len(part) + 1)
    order = sorted(range(len(facts)), key=lambda i: facts[i][0])
    parts: list[str] = []
    spans: dict[int, Span] = {}
    taken = offset = 0
    for i in order:
        depth, text = facts[i]
        boundary = _nearest(starts, depth * starts[-1])
        parts.extend(filler[taken:boundary])
        taken = max(taken, boundary)
        begin = starts[taken] + offset
        spans[i] = Span(begin, begin + len(text))
        parts.append(text)
        offset += len(text) + 1
    parts.extend(filler[taken:])
    return " ".join(parts), [spans[i] for i in range(len(facts))]


def _filler(stream: Stream, sentence: Sentence, chars: int) -> list[str]:
    parts: list[str] = []
    left = chars
    while left > 0:
        part = sentence(stream)
        if left - len(part) - 1 < MIN_LAST:
            parts.append(_fit(part, left, stream))
            break
        parts.append(part)
        left -= len(part) + 1
    return parts


MIN_LAST = 24
"""No last sentence shorter than this: the one before is made longer instead."""


def _fit(text: str, chars: int, stream: Stream) -> str:
    while len(text) < chars:
        text = f"{text[:-1]} {stream.choice(words())}."
    body = text[: chars - 1]
    return (body[:-1] + "s" if body.endswith(" ") else body) + "."


def _nearest(starts: Sequence[int], target: float) -> int:
    after = bisect_left(starts, target)
    return min(
        (i for i in (after - 1, after) if 0 <= i < len(starts)),
        key=lambda i: abs(starts[i] - target),
    )
