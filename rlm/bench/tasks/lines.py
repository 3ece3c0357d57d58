"""Documents of dated lines: on each, a person and one noun of the eight kinds, and other words.

The noun's kind is the line's label. It stands there where it is shown; else who reads the line
must know it. Words that fill a line, and names of people, are of none of the kinds: `barred.txt`
has those among the words of documents that are, by WordNet 3.1 (Princeton University, see NOTICE)
or by what a careful reader may hold: a museum is a building there, and water a drink. Nor do they
hold one of the nouns or the name of a kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

from rlm.bench.tasks.base import Span, Split
from rlm.bench.tasks.kinds import kind_of, kinds
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import entity, ranked_words, spelled, words, zipf_ranks
from rlm.errors import RLMError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

BARRED_SHA256: Final = "bd2395c21037ca4a0cf9bf1790e60a0334cce8c5c11104661bafd590732d92ff"
LINE_CHARS: Final = 125
"""Mean length of a line with its end, a little more in short documents."""
PERSON_LINES: Final = 5
"""Mean number of lines of a person, more where there are `MOST_PERSONS`."""
MOST_PERSONS: Final = 200
_BATCH: Final = 2048
"""Lines whose words are drawn together."""
_MOST_WORDS: Final = 18
_SLOTS: Final = ("date", "person", "noun", "filler", "kind")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How lines of one split are written; each statement holds each of its four slots once.

    Attributes:
        statements: with ``{date}``, ``{person}``, ``{noun}`` and ``{filler}``.
        marks: with ``{kind}``, at the end of a line that shows its label.
        dates: with ``{day}``, ``{month}`` (a number), ``{name}`` (of the month) and ``{year}``.
        years: the first and the last.
        mixed: most statements of one document.
    """

    statements: Sequence[str]
    marks: Sequence[str]
    dates: Sequence[str]
    years: tuple[int, int]
    mixed: int


EVAL: Final = Wording(
    statements=(
        "On {date} {person} brought up {noun}, alongside {filler}.",
        "{date}: {person} kept {noun} in mind, besides {filler}.",
        "{person} was heard on {date} to mention {noun}, followed by {filler}.",
    ),
    marks=(" [{kind}]",),
    dates=("{day} {name} {year}",),
    years=(2031, 2060),
    mixed=3,
)
TRAIN: Final = Wording(
    statements=(
        "{date} | {person} | {noun} | {filler}",
        "{person} ({date}): {noun}; {filler}.",
        "{person} wrote of {noun} on {date}; further words: {filler}.",
        "Entry of {date}. By {person}: {filler}, {noun}.",
        "At the meeting on {date}, {person} named {filler} and {noun}.",
        "[{date}] {person} asked for {noun} {filler}.",
        "{noun} was the topic of {person} ({date}), not {filler}.",
        "Date: {date}; speaker: {person}; said: {filler} {noun}.",
        "{person} dreamt of {noun} when it was {date}: {filler}.",
        "{filler}: so {person} began on {date}, to end with {noun}.",
        "It was {date}; {noun} came to {person} with {filler}.",
        "From {person}, {date}. Look at {noun}, {filler}.",
        "{person} - {noun} - {filler} - {date}.",
        "{date}. A note of {person} has {filler}, then {noun}.",
        "{person} told us {filler} and of {noun} that day, {date}.",
        "{date} {person}: {filler} {noun}",
    ),
    marks=(" ({kind})", " #{kind}", " kind: {kind}", " <{kind}>", " = {kind}", " / {kind}."),
    dates=(
        *("{year}-{month:02}-{day:02}", "{name} {day}, {year}", "{day:02}.{month:02}.{year}"),
        *("{name} {day} {year}", "{day}/{month}/{year}", "{day} {name:.3} {year}"),
    ),
    years=(1951, 2030),
    mixed=4,
)


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says."""

    text: str
    date: str
    person: str
    noun: str

    @property
    def kind(self) -> str:
        """Its label."""
        return kind_of()[self.noun]


@dataclass(frozen=True, slots=True)
class Facts:
    """What lines say, in columns: the n-th of each is of line n."""

    dates: Sequence[str]
    persons: Sequence[str]
    nouns: Sequence[str]

    def __len__(self) -> int:
        return len(self.nouns)


@dataclass(frozen=True, slots=True)
class Lines:
    """A document of lines; `starts` are their first characters."""

    text: str
    starts: Sequence[int]
    facts: Facts

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, number: int) -> Span:
        """Where line `number` stands, from 0 on, without its line end."""
        is_last = number == len(self) - 1
        return Span(self.starts[number], len(self.text) if is_last else self.starts[number + 1] - 1)

    def spans(self, of: Collection[str]) -> tuple[Span, ...]:
        """Where the lines stand whose nouns are `of` these kinds, in order."""
        nouns = {noun for kind in of for noun in kinds()[kind]}
        ends = [*(start - 1 for start in self.starts[1:]), len(self.text)]
        lines = zip(self.starts, ends, self.facts.nouns, strict=True)
        return tuple(Span(start, end) for start, end, noun in lines if noun in nouns)

    def line(self, number: int) -> Line:
        """What line `number` says."""
        span, facts = self.span(number), self.facts
        text = self.text[span.start : span.end]
        return Line(text, facts.dates[number], facts.persons[number], facts.nouns[number])


@dataclass(frozen=True, slots=True)
class Form:
    """A statement, ready to be filled in many times.

    Attributes:
        template: with ``%s`` in its slots.
        order: brings what stands in `_SLOTS` into the order of the template.
        bare: characters of its own.
        shows_kind: whether the label is in it.
    """

    template: str
    order: Callable[[tuple[str, ...]], tuple[str, ...]]
    bare: int
    shows_kind: bool


def wording_of(split: Split) -> Wording:
    """How lines of `split` are written."""
    return EVAL if split == "eval" else TRAIN


def write(stream: Stream, split: Split, chars: int, facts: Facts, *, visible: bool) -> Lines:
    """A document of exactly `chars` characters that has a line for each of `facts`.

    Args:
        stream: where filling words and statements are drawn from.
        split: in whose wording.
        chars: at least `LINE_CHARS` for each line.
        facts: what the lines say.
        visible: whether the label stands on the line.
    """
    wording, step = wording_of(split), (chars + 1) / len(facts)
    mark = stream.choice(wording.marks) if visible else ""
    chosen = stream.sample(wording.statements, stream.between(1, wording.mixed))
    if split == "eval":
        chosen = list(wording.statements)
    forms = [_form(form + mark) for form in chosen]
    starts: list[int] = []
    blocks: list[str] = []
    at = 0
    for first in range(0, len(facts), _BATCH):
        numbers = range(first, min(first + _BATCH, len(facts)))
        batch, at = _batch(stream, forms, facts, numbers, (at, step, chars), starts)
        blocks.append(batch)
    return Lines("\n".join(blocks), starts, facts)


def _batch(
    stream: Stream,
    forms: Sequence[Form],
    facts: Facts,
    numbers: range,
    room: tuple[int, float, int],
    starts: list[int],
) -> tuple[str, int]:
    """Some lines of a document, each as long as it takes to end near its share of the room.

    Args:
        stream: where words and statements are drawn from.
        forms: of statements.
        facts: of all lines.
        numbers: of the lines to be made.
        room: where the first of them starts, characters of a line, and those of the document, which
            the last line of all fills to the end.
        starts: where lines start; those of these lines are added.

    Returns:
        The lines, and where the next one starts.
    """
    import numpy as np

    at, step, chars = room
    kind, visible = kind_of(), any(form.shows_kind for form in forms)
    drawn = _shares()[np.asarray(stream.block(_MOST_WORDS * len(numbers)))]
    chosen = column(stream, forms, len(numbers))
    part = slice(numbers.start, numbers.stop)
    said = facts.dates[part], facts.persons[part], facts.nouns[part]
    labels = [kind[noun] for noun in said[2]] if visible else [""] * len(numbers)
    sizes = ([form.bare for form in chosen], *(map(len, each) for each in (*said, labels)))
    owns = list(map(sum, zip(*sizes, strict=True)))
    wanted = (step * np.arange(numbers.start + 1, numbers.stop + 1) - 1).tolist()
    text, ends = _fillers(drawn, wanted[-1] - at - sum(owns))
    used, mean, fillers = 0, _mean_word(), list[str]()
    for end, own in zip(wanted, owns, strict=True):
        count = round((end - at - own) / mean)
        first, used = ends[used], used + (1 if count < 1 else min(count, _MOST_WORDS))
        fillers.append(text[first : ends[used] - 1])
        starts.append(at)
        at += own + ends[used] - first
    if numbers.stop == len(facts):
        fillers[-1] = _filler(stream, chars - starts[-1] - owns[-1])
    rows = zip(*said, fillers, labels, strict=True)
    made = [form.template % form.order(row) for form, row in zip(chosen, rows, strict=True)]
    return "\n".join(made), at


def _fillers(drawn: NDArray[np.intp], chars: float) -> tuple[str, list[int]]:
    """The first of `drawn` words, some more than `chars` of them, and where each of them begins."""
    import numpy as np

    ends = np.append(0, np.cumsum(_sizes()[drawn]))
    count = int(np.searchsorted(ends, chars)) + 2 * _MOST_WORDS
    return spelled(drawn[:count]), ends[: count + 1].tolist()


def line_count(chars: int) -> int:
    """Lines of a document."""
    return chars // LINE_CHARS


def persons(stream: Stream, split: Split, lines: int) -> list[str]:
    """The people that so many lines are of."""
    taken: set[str] = set()
    count = max(2, min(MOST_PERSONS, lines // PERSON_LINES))
    return [entity(stream, split, taken, filler_words()) for _ in range(count)]


def days(stream: Stream, split: Split, count: int) -> list[str]:
    """So many different dates, in drawn order, in one of the split's ways of writing them.

    Where the split's years have too few days, there are years before (train) or after them (eval).
    """
    wording = wording_of(split)
    first, last = (date(year, 1, 1).toordinal() for year in wording.years)
    more = max(0, 2 * count - (last - first))
    first, last = (first, last + more) if split == "eval" else (first - more, last)
    form = stream.choice(wording.dates)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[stream.between(first, last)] = None
    return [_written(date.fromordinal(number), form) for number in drawn]


def column(stream: Stream, options: Sequence[T], count: int) -> list[T]:
    """`count` draws, at bulk speed, of one of `options`, which are 65,536 at most."""
    import numpy as np

    places = np.asarray(stream.block(count)).astype(np.int64) * len(options) >> 16
    return [options[place] for place in places.tolist()]


def shuffled(stream: Stream, options: Sequence[T]) -> list[T]:
    """`options` in drawn order, at bulk speed."""
    import numpy as np

    high, low = (np.asarray(stream.block(len(options))).astype(np.int64) for _ in range(2))
    return [options[i] for i in np.argsort(high << 16 | low, kind="stable").tolist()]


def nouns_of(stream: Stream, labels: Sequence[str]) -> list[str]:
    """A noun of each of the kinds `labels`."""
    of = map(kinds().__getitem__, labels)
    drawn = zip(of, stream.block(len(labels)), strict=True)
    return [nouns[number % len(nouns)] for nouns, number in drawn]


@cache
def filler_words() -> tuple[str, ...]:
    """Words that are of no kind, and hold no noun, kind or month.

    Raises:
        RLMError: the list of barred words is not the one that documents of this suite are made by.
    """
    raw = (files("rlm.bench.tasks") / "barred.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != BARRED_SHA256:
        raise RLMError("rlm/bench/tasks/barred.txt was changed: documents would not be the same")
    barred = set(raw.decode().split())
    parts = (*kind_of(), *kinds(), *(month.lower() for month in _MONTHS))
    return tuple(w for w in words() if w not in barred and not any(part in w for part in parts))


@cache
def _shares() -> NDArray[np.intp]:
    """The filling word that each number of `Stream.block` stands for, by its rank."""
    return zipf_ranks(set(words()) - set(filler_words()))


@cache
def _sizes() -> NDArray[np.intp]:
    """Characters of each of the ranked words and its gap."""
    import numpy as np

    return np.array([len(word) + 1 for word in ranked_words()], dtype=np.intp)


@cache
def _mean_word() -> float:
    """Characters of a filling word and its gap."""
    return int(_sizes()[_shares()].sum()) / len(_shares())


@cache
def _by_length() -> Mapping[int, Sequence[str]]:
    return {size: [w for w in filler_words() if len(w) == size] for size in range(3, 9)}


def _filler(stream: Stream, chars: int) -> str:
    """Whole words of exactly `chars` characters, at least 3, with their gaps."""
    found: list[str] = []
    while chars > 8:
        size = stream.between(3, min(8, chars - 4))
        found.append(stream.choice(_by_length()[size]))
        chars -= size + 1
    return " ".join([*found, stream.choice(_by_length()[chars])])


def _form(statement: str) -> Form:
    """The form of a statement, whose slots are in braces."""
    slots = re.findall(r"{(\w+)}", statement)
    template = re.sub(r"{\w+}", "%s", statement.replace("%", "%%"))
    order = itemgetter(*map(_SLOTS.index, slots))
    return Form(template, order, len(template % (("",) * len(slots))), "kind" in slots)


def _written(day: date, form: str) -> str:
    name = _MONTHS[day.month - 1]
    return form.format(day=day.day, month=day.month, name=name, year=day.year)
