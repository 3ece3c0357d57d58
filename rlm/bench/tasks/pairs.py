"""Which pairs of people share a property that only both their lines together show.

After OOLONG-Pairs of the RLM paper (arXiv:2512.24601): lines as in `rlm.bench.tasks.aggregate`; a
pair of people belongs to the answer if both named something of the asked kind on the same day.
Dates and people are drawn before anything is of the asked kind, so that nothing that code can count
tells how many pairs there are, or which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from rlm.bench.scoring import score_pairs
from rlm.bench.tasks import lines
from rlm.bench.tasks.aggregate import article, lead_in
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.kinds import kinds
from rlm.bench.tasks.lines import Facts, Lines
from rlm.bench.tasks.stream import Stream

SHORTEST: Final = 4_000
FEWEST: Final = 3
MOST: Final = 8
"""Pairs in an answer, whatever the length."""
FEWEST_OF_KIND: Final = 2 * MOST
"""Lines of the asked kind in a short document; an eighth of all in a long one."""
FEWEST_PERSONS: Final = 12

EVAL: Final = (
    "Which pairs of people brought up {a} {kind} on the same day? "
    'Write each pair as NAME & NAME, with "; " between pairs.',
)
TRAIN: Final = (
    "Find everyone who shares a date with somebody else by {kind}: list two names at a time.",
    "Who spoke of {a} {kind} when another did so too, that very day? Pairs, please.",
    "Give all pairs of names for which {kind} and date agree.",
    "Two by two: who had {a} {kind} on one date?",
    "List the people, in pairs, that have {a} {kind} under equal dates.",
    "Same day, {a} {kind} each: which pairs are there?",
    "Match people by date where the kind is {kind}. Name & name; name & name.",
    "On which pairs of names does {kind} fall together in date?",
    "Look for {kind} twice in a day from two people. Which people are these?",
    "Name the pairs whose lines on {kind} have one date.",
    "Which two people at a time share both the day and the kind {kind}?",
    "Every pair with {a} {kind} at the same date, joined by &: which?",
    "Say who goes with whom if {kind} and the day must be the same.",
    "Report people in pairs: both on {kind}, both on that date.",
)
"""Questions of the splits; ``{kind}`` is the asked kind, ``{a}`` its article."""


@dataclass(frozen=True, slots=True)
class Together:
    """Two people who share a date, and the lines that say so."""

    date: str
    persons: tuple[str, str]
    lines: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Paired:
    """All that is drawn for one item.

    Attributes:
        lines: the document.
        kind: what is asked about.
        together: the pairs of the answer, by date in drawn order.
        question: in the split's wording.
    """

    lines: Lines
    kind: str
    together: tuple[Together, ...]
    question: str


class Pairs:
    """Pairs of people with a line of one kind on the same day; a list is asked for."""

    name = "pairs"
    depths: Sequence[int] = ()

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`; there is no depth."""
        del depth
        require_room(self.name, chars, SHORTEST)
        made = draw(Stream(self.name, split, seed), split, chars)
        numbers = sorted({number for each in made.together for number in each.lines})
        answers = tuple(" & ".join(each.persons) for each in made.together)
        spans = tuple(made.lines.span(number) for number in numbers)
        return Item(
            task=self.name,
            document=made.lines.text,
            question=made.question,
            gold="; ".join(answers),
            spans=spans,
            depth=spans[0].start / chars,
            split=split,
            answers=answers,
        )

    def score(self, item: Item, text: str) -> Scores:
        """Pairs in any order: F1, and exact where the set is the same."""
        return score_pairs([tuple(each.split(" & ")) for each in item.answers], text)


def draw(stream: Stream, split: Split, chars: int) -> Paired:
    """A document and a question about it; see `Pairs`."""
    count = lines.line_count(chars)
    kind = stream.choice(tuple(kinds()))
    of_kind = max(FEWEST_OF_KIND, count // len(kinds()))
    wanted = stream.between(FEWEST, MOST)
    while True:
        dates, persons = _columns(stream, split, count, of_kind - FEWEST)
        by_date = _by_date(dates)
        together = _together(stream, by_date, persons, wanted)
        if len(together) == wanted:  # else people met one another, or themselves, too often
            break
    chosen = {number for each in together for number in each.lines}
    chosen |= _alone(stream, by_date, together, of_kind - 2 * wanted)
    others = lines.column(stream, [each for each in kinds() if each != kind], count)
    labels = [kind if i in chosen else others[i] for i in range(count)]
    facts = Facts(dates, persons, lines.nouns_of(stream, labels))
    return Paired(
        lines=lines.write(stream, split, chars, facts, visible=False),
        kind=kind,
        together=together,
        question=ask(stream, split, kind),
    )


def ask(stream: Stream, split: Split, kind: str) -> str:
    """A question in a wording of `split`."""
    form = stream.choice(EVAL if split == "eval" else TRAIN)
    question = form.format(kind=kind, a=article(kind))
    return f"{lead_in(stream, split)} {question}"


def _columns(
    stream: Stream, split: Split, count: int, days: int
) -> tuple[Sequence[str], Sequence[str]]:
    """Date and person of each line; each of so many days has two lines at least."""
    drawn = lines.days(stream, split, days)
    rest = lines.column(stream, drawn, count - 2 * days)
    dates = lines.shuffled(stream, [*drawn, *drawn, *rest])
    people = lines.persons(stream, split, max(count, FEWEST_PERSONS * lines.PERSON_LINES))
    return dates, lines.column(stream, people, count)


def _together(
    stream: Stream, by_date: Mapping[str, Sequence[int]], persons: Sequence[str], wanted: int
) -> tuple[Together, ...]:
    """Up to `wanted` pairs of people, each on a date of its own, no pair twice."""
    found: dict[frozenset[str], Together] = {}
    for date in lines.shuffled(stream, tuple(by_date)):
        pairs = [
            Together(date, (persons[a], persons[b]), (a, b))
            for a, b in combinations(by_date[date], 2)
            if persons[a] != persons[b] and frozenset((persons[a], persons[b])) not in found
        ]
        if pairs:
            one = stream.choice(pairs)
            found[frozenset(one.persons)] = one
        if len(found) == wanted:
            break
    return tuple(found.values())


def _alone(
    stream: Stream, by_date: Mapping[str, Sequence[int]], together: Sequence[Together], count: int
) -> set[int]:
    """One line of each of `count` dates on which nobody is `together`."""
    taken = {each.date for each in together}
    free = [numbers for date, numbers in by_date.items() if date not in taken]
    return {stream.choice(numbers) for numbers in lines.shuffled(stream, free)[:count]}


def _by_date(dates: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """The lines of each date."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for number, date in enumerate(dates):
        found[date].append(number)
    return found
