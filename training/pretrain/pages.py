"""Pages to read: short documents with several facts, each with its question, of the train split.

Supervision is dense: one page answers several questions. Difficulty is a `Level`, and the
curriculum in `training.pretrain.train` walks through them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm.bench.tasks import prose
from rlm.bench.tasks.niah import TRAIN, sentence_case, train_key
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, entity, number, random_sentences, words

ABSENT = "not found"
"""What the embedded model says when the text does not hold the answer."""


LEAST_FILLER = 40
"""Characters of a page beside its facts."""


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
        wild: share of facts and questions in random words instead of the wordings of the train
            split. Without them a model learns those wordings by heart and reads no other: it
            copied keys of unseen wordings, then said that nothing was there.
        twins: share of facts that say of another name or key what the fact before says, word for
            word. They make a model keep the name in mind until it has said the value.
    """

    pool: int = 6216
    digits: Sequence[int] = (4, 5, 5, 5, 5, 5, 6, 7, 8)
    word_values: float = 0.08
    absent: float = 0.12
    value_first: float = 0.05
    wild: float = 0.5
    twins: float = 0.6


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

    @property
    def key_first(self) -> bool:
        """Whether the sentence names the key before it states the value."""
        text = self.sentence.lower()
        return text.index(self.key.lower()) <= text.rindex(self.value.lower())


def reply(fact: Asked, *, told: bool) -> str:
    """What a reader says: a thinking block that quotes the text, then the value alone.

    To quote is to copy, which a small model does well: the key out of the question, then what
    follows the key in the text, up to the value. Finding the value in one step is a lookup, which
    it learned far more slowly: after 4.6 M tokens it chose right once in n among n values.

    Args:
        fact: what was asked.
        told: whether the text holds the fact.
    """
    if not told:
        return f"<think> {fact.key} nothing</think>{ABSENT}"
    if not fact.key_first:
        return f"<think> {fact.key} before: {fact.value}</think>{fact.value}"
    begin = fact.sentence.lower().index(fact.key.lower()) + len(fact.key)
    end = fact.sentence.lower().rindex(fact.value.lower())
    return f"<think> {fact.key}{fact.sentence[begin:end]}{fact.value}</think>{fact.value}"


@dataclass(frozen=True)
class Page:
    """A document, the facts in it (in document order), and one that is not in it."""

    text: str
    facts: tuple[Asked, ...]
    missing: Asked


def make_page(stream: Stream, chars: int, facts: int, level: Level) -> Page:
    """A page of `chars` characters, more where its facts need them, with facts at random depths."""
    taken: set[str] = set()
    made = [make_fact(stream, level, taken)]
    for _ in range(facts):
        twin = stream.random() < level.twins and _twin(stream, level, taken, made[-1])
        made.append(twin or make_fact(stream, level, taken))
    present, missing = made[:-1], made[-1]
    keys = {word.lower() for fact in made for word in fact.key.split()}
    prosaic = stream.random() < 0.4
    sentence = prose.filler("train") if prosaic else random_sentences(without=keys)
    placed = sorted((stream.random(), fact.sentence, fact) for fact in present)
    chars = max(chars, sum(len(text) + 1 for _, text, _ in placed) + LEAST_FILLER)
    text, _ = document(stream, sentence, chars, [(depth, text) for depth, text, _ in placed])
    return Page(text, tuple(fact for _, _, fact in placed), missing)


def make_fact(stream: Stream, level: Level, taken: set[str]) -> Asked:
    """One fact with a key and a value that are not in `taken`; both are added to it."""
    if stream.random() < level.wild:
        return _wild(stream, level, taken)
    value = _value(stream, level, taken)
    any_order = stream.random() < level.value_first
    key, make = _subject(stream, pool_of(level), taken)
    while True:
        fact = make(stream, key, value)
        if any_order or fact.key_first:
            return fact


def _twin(stream: Stream, level: Level, taken: set[str], fact: Asked) -> Asked | None:
    """The same said of another name or key; ``None`` where the value is a word."""
    if not fact.value.isdigit():
        return None
    key = (_name if fact.key.istitle() else _key)(stream, pool_of(level), taken)
    value = number(stream, "train", taken, digits=stream.choice(level.digits))
    sentence, question = (
        _with_key(text, fact.key, key)
        for text in (fact.sentence.replace(fact.value, value), fact.question)
    )
    return Asked(key, sentence, question, value)


def _with_key(text: str, old: str, new: str) -> str:
    """`text` about another key: where it stands as whole words, at the beginning or not."""
    found = re.sub(rf"\b{re.escape(old)}\b", new, text, flags=re.IGNORECASE)
    return sentence_case(found)


SMALL_WORDS = (
    *("the", "a", "of", "in", "to", "for", "at", "on", "with", "by", "and", "from", "that", "this"),
    *("is", "was", "were", "had", "will", "can", "as", "it", "one", "each", "into", "then"),
)
"""Every other word of a wild fact, so that it has the rhythm of a sentence if not the sense."""


STARTS = (
    *("what", "what is", "what was", "what are", "which", "which is", "who", "where", "when"),
    *("how many", "how", "name", "give", "give me", "tell me", "say", "find", "show", "is", "do"),
)
"""How a share of the wild questions begin, so that no such word tells what a question calls for."""


def _wild(stream: Stream, level: Level, taken: set[str]) -> Asked:
    """A number some words after a key, and a question that names the key.

    The question shows what the key is: a name by its capitals, other words by standing between
    "the" and the question mark. What follows a name there may be what follows it in the text, the
    last word with another ending, as in "How many did it sell?" and "It sells four".
    """
    key, _ = _subject(stream, pool_of(level), taken)
    value = number(stream, "train", taken, digits=stream.choice(level.digits))
    between = _some_words(stream, 0, 4)
    asked = _some_words(stream, 2, 5)
    if stream.random() < 0.4:
        asked = [stream.choice(STARTS), *_some_words(stream, 1, 3)]
    if key.istitle():
        echo = between[: stream.between(0, 4)]
        if echo and stream.random() < 0.7:
            between[len(echo) - 1] += stream.choice(("s", "d", "ed"))
        asked += [key, *echo, *_some_words(stream, 0, 4)]
    else:
        asked += ["the", key]
    stated = [*_some_words(stream, 0, 5), key, *between, value, *_some_words(stream, 0, 4)]
    sentence, question = sentence_case(" ".join(stated)), sentence_case(" ".join(asked))
    return Asked(key, f"{sentence}.", f"{question}{stream.choice('???.')}", value)


def _some_words(stream: Stream, fewest: int, most: int) -> list[str]:
    lists = (SMALL_WORDS, words())
    return [stream.choice(stream.choice(lists)) for _ in range(stream.between(fewest, most))]


def _subject(
    stream: Stream, pool: Sequence[str], taken: set[str]
) -> tuple[str, Callable[[Stream, str, str], Asked]]:
    """A new key, and what makes a fact about it: an entity's relation, or a needle."""
    if stream.random() < 0.5:
        return _name(stream, pool, taken), _relation
    return _key(stream, pool, taken), _needle


def _name(stream: Stream, pool: Sequence[str], taken: set[str]) -> str:
    return entity(stream, "train", taken, pool)


def _key(stream: Stream, pool: Sequence[str], taken: set[str]) -> str:
    key = train_key(stream, pool)
    while key in taken:
        key = train_key(stream, pool)
    taken.add(key)
    return key


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
