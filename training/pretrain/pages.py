"""Pages to read: short documents with several facts, each with its question, of the train split.

Supervision is dense: one page answers several questions. Difficulty is a `Level`, and the
curriculum in `training.pretrain.train` walks through them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlm.bench.tasks import prose
from rlm.bench.tasks.niah import TRAIN, sentence_case, train_key
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, entity, number, random_sentences, words

ABSENT = "not found"
"""What the embedded model says when the text does not hold the answer."""


@dataclass(frozen=True)
class Level:
    """How hard a page is.

    Attributes:
        pool: how many words of the list names and keys are made of.
        digits: lengths of the values.
        word_values: share of values that are a word instead of a number. Words teach to look up
            faster than numbers, whose digits are alike.
        absent: share of questions that the page does not answer.
        value_first: share of facts in which the value may stand before the key. A causal model
            learns these much later: when it reads the value it has not seen the key yet.
        quotes: share of questions that ask for the whole sentence instead of the value.
    """

    pool: int = 6216
    digits: Sequence[int] = (4, 5, 5, 5, 5, 6)
    word_values: float = 0.1
    absent: float = 0.1
    value_first: float = 0.1
    quotes: float = 0.1


@dataclass(frozen=True)
class Asked:
    """A fact in a page.

    Attributes:
        key: the words by which the question names it; they stand in the sentence.
        sentence: the fact.
        question: what is asked.
        value: the answer.
    """

    key: str
    sentence: str
    question: str
    value: str


QUOTES = (
    "Quote the sentence about {key}.",
    "Repeat the sentence that names {key}.",
    "Which sentence mentions {key}?",
)


def as_quote(stream: Stream, fact: Asked) -> Asked:
    """The same fact, asked for as a whole sentence."""
    question = stream.choice(QUOTES).format(key=fact.key)
    return replace(fact, question=question, value=fact.sentence)


@dataclass(frozen=True)
class Page:
    """A document, the facts in it (in document order), and one that is not in it."""

    text: str
    facts: tuple[Asked, ...]
    missing: Asked


def make_page(stream: Stream, chars: int, facts: int, level: Level) -> Page:
    """A page of exactly `chars` characters with `facts` facts at random depths."""
    taken: set[str] = set()
    made = [make_fact(stream, level, taken) for _ in range(facts + 1)]
    present, missing = made[:-1], made[-1]
    keys = {word.lower() for fact in made for word in fact.key.split()}
    prosaic = stream.random() < 0.4
    sentence = prose.filler("train") if prosaic else random_sentences(without=keys)
    placed = sorted((stream.random(), fact.sentence, fact) for fact in present)
    text, _ = document(stream, sentence, chars, [(depth, text) for depth, text, _ in placed])
    return Page(text, tuple(fact for _, _, fact in placed), missing)


def make_fact(stream: Stream, level: Level, taken: set[str]) -> Asked:
    """One fact with a key and a value that are not in `taken`; both are added to it."""
    value = _value(stream, level, taken)
    any_order = stream.random() < level.value_first
    key, make = _subject(stream, pool_of(level), taken)
    while True:
        fact = make(stream, key, value)
        text = fact.sentence.lower()
        if any_order or text.index(key.lower()) <= text.rindex(value.lower()):
            return fact


def _subject(
    stream: Stream, pool: Sequence[str], taken: set[str]
) -> tuple[str, Callable[[Stream, str, str], Asked]]:
    """A new key, and what makes a fact about it: an entity's relation, or a needle."""
    if stream.random() < 0.5:
        return entity(stream, "train", taken, pool), _relation
    key = train_key(stream, pool)
    while key in taken:
        key = train_key(stream, pool)
    taken.add(key)
    return key, _needle


def _relation(stream: Stream, name: str, value: str) -> Asked:
    fact = prose.make_fact(stream, "train", name, value)
    return Asked(name, fact.sentence, fact.question, value)


def _needle(stream: Stream, key: str, value: str) -> Asked:
    needle = stream.choice(TRAIN.needles).format(key=key, value=value)
    question = stream.choice(TRAIN.questions).format(key=key)
    return Asked(key, sentence_case(needle), sentence_case(question), value)


def pool_of(level: Level) -> Sequence[str]:
    """The words that names are made of at this level, spread over the whole list."""
    step = len(words()) / level.pool
    return [words()[int(i * step)] for i in range(level.pool)]


def _value(stream: Stream, level: Level, taken: set[str]) -> str:
    if stream.random() < level.word_values:
        return stream.until(lambda: stream.choice(words()), "train", taken)
    return number(stream, "train", taken, digits=stream.choice(level.digits))
