"""Questions about all lines of a document: what comes up most, least, how often, or more.

After OOLONG (arXiv:2511.02817): each line names a noun, its kind is the label, and the answer hangs
on how many lines have which label. In `aggregate` a reader must know what each noun is; in
`aggregate_visible` the label stands on the line, so that code is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final, Literal, get_args

from rlm.bench.scoring import score_answer, score_count
from rlm.bench.tasks import lines
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.kinds import kinds
from rlm.bench.tasks.lines import Facts, Lines
from rlm.bench.tasks.stream import Stream

Asking = Literal["most", "least", "count", "compare"]
ASKING: Final[tuple[Asking, ...]] = get_args(Asking)

SHORTEST: Final = 3_000
"""Characters of the shortest document: 24 lines, so that each kind has one and the margin holds."""
MARGIN: Final = 0.1
"""How far two counts differ at least that decide an answer, as a share of a kind's mean count."""
LEAST_MARGIN: Final = 2
"""How far they differ at least in a short document."""
DAYS: Final = 400
"""Different dates in a document, most of them."""


@dataclass(frozen=True, slots=True)
class Questions:
    """How one split asks.

    Attributes:
        lead_ins: name the kinds (``{kinds}``) before the question.
        lists: how the kinds are joined, all but the last, and the last: a pair for each way.
        of: the questions; ``{kind}``, ``{other}`` are names of kinds, ``{a}`` and ``{an}`` the
            articles before them.
    """

    lead_ins: Sequence[str]
    lists: Sequence[tuple[str, str]]
    of: Mapping[Asking, Sequence[str]]


EVAL: Final = Questions(
    lead_ins=("Every line names one {kinds}.",),
    lists=((", ", " or "),),
    of={
        "most": ("Which of these eight comes up most often?",),
        "least": ("Which of these eight comes up least often?",),
        "count": ("How many lines name {a} {kind}?",),
        "compare": ("Which comes up in more lines, {a} {kind} or {an} {other}?",),
    },
)
TRAIN: Final = Questions(
    lead_ins=(
        "The kinds are {kinds}.",
        "In each row stands a thing of one kind: {kinds}.",
        "All rows are about {kinds}.",
        "One of these is in each row: {kinds}.",
        "Here a row belongs to {kinds}.",
        "Sort the lines by kind ({kinds}).",
        "Possible kinds: {kinds}.",
        "Label every line as {kinds}.",
        "Nouns here are of the kinds {kinds}.",
        "There are eight labels, {kinds}, for the lines.",
    ),
    lists=((", ", " or "), (", ", " and "), ("; ", "; "), (" / ", " / "), (", ", ", ")),
    of={
        "most": (
            "Which kind has the most rows?",
            "Name the kind that is most frequent.",
            "What kind do people talk of most?",
            "Most of the time it is of which kind?",
            "Find the most common kind.",
            "Say which kind was most popular.",
            "Of all kinds, which has the largest count?",
            "Which kind is on the greatest number of lines?",
            "The kind with the most entries is?",
            "Tell me the top kind by number of lines.",
            "Which kind wins if lines are counted?",
            "What occurs most, by kind?",
            "Which of the labels occurs most often here?",
            "Most often a line belongs to what kind?",
            "Give the label that most lines have.",
            "Which one leads, the most frequent of all labels?",
        ),
        "least": (
            "Which kind has the least rows?",
            "Name the kind that is least frequent.",
            "What kind do people talk of least?",
            "Least of all they spoke of which kind?",
            "Find the rarest kind.",
            "Say which kind was least popular.",
            "Of all kinds, which has the smallest count?",
            "Which kind is on the lowest number of lines?",
            "The kind with the fewest entries is?",
            "Tell me the bottom kind by number of lines.",
            "Which kind loses if lines are counted?",
            "What occurs least, by kind?",
            "Which of the labels occurs least often here?",
            "Least often a line belongs to what kind?",
            "Give the label that the fewest lines have.",
            "Which one is last, the least common of all labels?",
        ),
        "count": (
            "How many rows are about {a} {kind}?",
            "Count the lines with {a} {kind}.",
            "In how many lines is {a} {kind} found?",
            "How many times does {a} {kind} occur?",
            "Give the number of lines of kind {kind}.",
            "How often is the label {kind}?",
            "What is the count of the kind {kind}?",
            "How many of the lines belong to {kind}?",
            "Number of rows labelled {kind}?",
            "How many entries speak of {a} {kind}?",
            "Say how many lines there are on {kind}.",
            "Of all lines, how many have the label {kind}?",
            "How large is the group {kind}?",
            "Tally {kind}: how many?",
        ),
        "compare": (
            "Are there more rows on {kind} than on {other}, or is it {other}?",
            "Which has more lines, {kind} or {other}?",
            "Who wins by count: {kind}, {other}?",
            "{kind} against {other}: which label has more?",
            "Of the two, {kind} and {other}, which is more frequent?",
            "Is {kind} or else {other} the more common kind?",
            "Say which is on more lines: {kind}, {other}.",
            "Compare {kind} with {other}. Which occurs more?",
            "What do people speak of more, {kind} or {other}?",
            "Take {kind} and {other}. Name the larger of them.",
            "More often it is which: {kind}, {other}?",
            "Between {kind} and {other}, more entries belong to which kind?",
            "Which label comes more often, {kind} or {other}?",
            "Give the one with more lines ({kind}, {other}).",
        ),
    },
)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """All that is drawn for one item.

    Attributes:
        lines: the document.
        counts: lines of each kind.
        asking: what is asked about them.
        about: the kinds that decide: the asked one, the two compared, or all.
        question: in the split's wording.
        gold: a kind, or a number for ``count``.
    """

    lines: Lines
    counts: Mapping[str, int]
    asking: Asking
    about: tuple[str, ...]
    question: str
    gold: str


class Aggregation:
    """Lines whose labels must be counted.

    Args:
        name: of the family.
        visible: whether the label stands on the line.
    """

    depths: Sequence[int] = ()

    def __init__(self, name: str, *, visible: bool) -> None:
        self.name = name
        self.visible = visible

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`; there is no depth."""
        del depth
        require_room(self.name, chars, SHORTEST)
        made = draw(Stream(self.name, split, seed), split, chars, visible=self.visible)
        spans = made.lines.spans(made.about)
        return Item(
            task=self.name,
            document=made.lines.text,
            question=made.question,
            gold=made.gold,
            spans=spans,
            depth=spans[0].start / chars,
            split=split,
            scorer="count" if made.asking == "count" else "answer",
            rivals=rivals(made.gold),
        )

    def score(self, item: Item, text: str) -> Scores:
        """A number: graded by its error. A kind: the right one, and no other one beside it."""
        if item.scorer == "count":
            return score_count(int(item.gold), text)
        return score_answer(item.gold, text, plural(item.gold), rivals=item.rivals)


def draw(stream: Stream, split: Split, chars: int, *, visible: bool) -> Aggregate:
    """A document and a question about it; see `Aggregation`."""
    count = lines.line_count(chars)
    asking = stream.choice(ASKING)
    about = _about(stream, asking)
    counts = widened(drawn_counts(stream, count), asking, about, margin(count))
    labels = lines.shuffled(stream, [kind for kind, n in counts.items() for _ in range(n)])
    facts = Facts(
        dates=lines.column(stream, lines.days(stream, split, min(DAYS, count)), count),
        persons=lines.column(stream, lines.persons(stream, split, count), count),
        nouns=lines.nouns_of(stream, labels),
    )
    return Aggregate(
        lines=lines.write(stream, split, chars, facts, visible=visible),
        counts=counts,
        asking=asking,
        about=about,
        question=ask(stream, split, asking, about),
        gold=answer(counts, asking, about),
    )


def margin(count: int) -> int:
    """By how many of `count` lines the right answer is ahead, at least."""
    return max(LEAST_MARGIN, ceil(MARGIN * count / len(kinds())))


def answer(counts: Mapping[str, int], asking: Asking, about: Sequence[str]) -> str:
    """What is right."""
    if asking == "count":
        return str(counts[about[0]])
    pick: Callable[..., str] = min if asking == "least" else max
    return pick(about, key=counts.__getitem__)


def ask(stream: Stream, split: Split, asking: Asking, about: Sequence[str]) -> str:
    """A question in a wording of `split`; the train split names the kinds most of the time."""
    questions = EVAL if split == "eval" else TRAIN
    first, second = about[0], about[-1]
    question = stream.choice(questions.of[asking]).format(
        kind=first, other=second, a=article(first), an=article(second)
    )
    if split == "train" and stream.random() < 0.2:
        return question[0].upper() + question[1:]
    return f"{lead_in(stream, split)} {question[0].upper()}{question[1:]}"


def lead_in(stream: Stream, split: Split) -> str:
    """A sentence that names the kinds, in a wording of `split`."""
    questions = EVAL if split == "eval" else TRAIN
    named = listed(stream, split)
    return stream.choice(questions.lead_ins).format(kinds=named)


def listed(stream: Stream, split: Split) -> str:
    """The names of all kinds, joined in a way of `split`."""
    between, last = stream.choice((EVAL if split == "eval" else TRAIN).lists)
    *names, end = kinds() if split == "eval" else reordered(stream)
    return between.join(names) + last + end


def reordered(stream: Stream) -> list[str]:
    """The kinds in an order with another end, and other neighbours, than in the eval questions."""
    order = list(kinds())
    while True:
        drawn = stream.sample(order, len(order))
        if drawn[-1] != order[-1] and not set(pairwise(drawn)) & set(pairwise(order)):
            return drawn


def rivals(gold: str) -> tuple[str, ...]:
    """The other kinds, singular and plural; none of a number."""
    others = [kind for kind in kinds() if kind != gold] if gold in kinds() else []
    return (*others, *map(plural, others))


def plural(kind: str) -> str:
    """Several of a kind."""
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def article(noun: str) -> str:
    """``a`` or ``an``."""
    return "an" if noun[0] in "aeiou" else "a"


def drawn_counts(stream: Stream, count: int) -> dict[str, int]:
    """How many of `count` lines are of each kind: at least one, and far from equal shares."""
    shares = {kind: stream.between(250, 1750) for kind in kinds()}
    rest, total = count - len(shares), sum(shares.values())
    counts = {kind: 1 + rest * share // total for kind, share in shares.items()}
    for kind in stream.sample(tuple(counts), count - sum(counts.values())):
        counts[kind] += 1
    return counts


def widened(
    counts: Mapping[str, int], asking: Asking, about: Sequence[str], ahead: int
) -> dict[str, int]:
    """`counts` with as many lines given another kind as it takes for the answer to be `ahead`."""
    found = dict(counts)
    if asking == "count":
        return found
    by_count = found.__getitem__
    while True:
        order = sorted(about, key=by_count)
        low, high = order[-2:] if asking == "most" else order[:2]
        if found[high] - found[low] >= ahead:
            return found
        giver = low if found[low] > 1 else max((k for k in found if k != high), key=by_count)
        found[giver] -= 1
        found[high] += 1


def _about(stream: Stream, asking: Asking) -> tuple[str, ...]:
    if asking in ("most", "least"):
        return tuple(kinds())
    return tuple(stream.sample(tuple(kinds()), 2 if asking == "compare" else 1))
