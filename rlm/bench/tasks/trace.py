"""Chains of variables in a haystack: which of them hold a value that only the first is given.

After the variable tracking of RULER (arXiv:2404.06654). Statements of one chain stand in order and
far apart; chains of other values, as many to a page in a long document as in a short one, look the
same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rlm.bench.scoring import score_set
from rlm.bench.tasks.base import Item, Scores, Span, Split, require_room
from rlm.bench.tasks.stream import Stream, split_of
from rlm.bench.tasks.words import document, number, random_sentences

SHORTEST: Final = 1_200
HOPS: Final = 5
"""Variables of a chain."""
DECOY_CHARS: Final = 8_192
"""One chain of another value in so many characters."""
FEWEST_DECOYS: Final = 2
LETTERS: Final = 5
"""Upper-case letters of a name: all are of one length, so none stands within another."""


@dataclass(frozen=True, slots=True)
class Notation:
    """How a chain is written: what gives a value, and what passes it on."""

    gives: str
    copies: str


@dataclass(frozen=True, slots=True)
class Wording:
    """Notations and questions of one split."""

    notations: Sequence[Notation]
    questions: Sequence[str]


EVAL: Final = Wording(
    notations=(Notation("VAR {name} = {source}.", "VAR {name} = VAR {source}."),),
    questions=("Which variables hold the value {value}? Name all of them.",),
)
TRAIN: Final = Wording(
    notations=(
        *(Notation(form, form) for form in ("LET {name} BE {source}.", "{name} := {source}.")),
        *(Notation(form, form) for form in ("{name} <- {source}.", "DEF {name} AS {source}.")),
        *(Notation(form, form) for form in ("Set {name} to {source}.", "{name} is {source}.")),
        *(Notation(form, form) for form in ("{source} -> {name}.", "{name} equals {source}.")),
        *(Notation(form, form) for form in ("Store {source} in {name}.", "{name}: {source}.")),
        Notation("{name} starts as {source}.", "{name} is a copy of {source}."),
        Notation("Put {source} into {name}.", "Put what is in {source} into {name}."),
        Notation("assign({name}, {source}).", "assign({name}, get({source}))."),
        Notation("{name} was given {source}.", "{name} was given what {source} has."),
        Notation("const {name} == {source}.", "const {name} == const {source}."),
        Notation("${name} gets {source}.", "${name} gets ${source}."),
    ),
    questions=(
        "Find all variables with the value {value}.",
        "Which names lead back to {value}?",
        "List every variable equal to {value}.",
        "What are the variables whose value is {value}?",
        "Report all variables that end up as {value}.",
        "Name all that have {value}.",
        "Which of the variables have {value}?",
        "{value}: which variables hold it?",
        "Say which variables hold {value}.",
        "Give all names that stand for {value}.",
        "Follow {value} through the text. Which variables get it?",
        "All variables that come from {value}?",
        "Where does {value} go? Give the name of each variable.",
        "Collect the names of all of the variables that hold {value}.",
        "Which variables, directly or by a copy, are {value}?",
        "Tell me every name with a value of {value}.",
    ),
)


@dataclass(frozen=True, slots=True)
class Chain:
    """A value, the variables that hold it, and the statement about each, in document order."""

    value: str
    names: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """All that is drawn for one item.

    Attributes:
        text: the document.
        chains: the asked one first.
        spans: where the statements of each chain stand.
        question: about the first chain's value.
    """

    text: str
    chains: tuple[Chain, ...]
    spans: tuple[tuple[Span, ...], ...]
    question: str


class Trace:
    """Variable tracking: the value is in one statement, the other four name a variable alone."""

    name = "trace"
    depths: Sequence[int] = ()

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`; there is no depth."""
        del depth
        require_room(self.name, chars, SHORTEST)
        made = draw(Stream(self.name, split, seed), split, chars)
        asked, spans = made.chains[0], made.spans[0]
        return Item(
            task=self.name,
            document=made.text,
            question=made.question,
            gold=", ".join(asked.names),
            spans=spans,
            depth=spans[0].start / chars,
            split=split,
            answers=asked.names,
        )

    def score(self, item: Item, text: str) -> Scores:
        """All variables in any order: F1, and exact where the set is the same."""
        return score_set(item.answers, text)


def draw(stream: Stream, split: Split, chars: int) -> Traced:
    """A document and a question about it; see `Trace`."""
    wording = EVAL if split == "eval" else TRAIN
    notation, question = stream.choice(wording.notations), stream.choice(wording.questions)
    count = 1 + max(FEWEST_DECOYS, chars // DECOY_CHARS)
    names, taken = _names(stream, split, HOPS * count), set[str]()
    chains = tuple(
        chain(number(stream, split, taken), names[i : i + HOPS], notation)
        for i in range(0, len(names), HOPS)
    )
    facts = [fact for each in chains for fact in zip(_depths(stream), each.statements, strict=True)]
    text, spans = document(stream, random_sentences(without=set()), chars, facts)
    return Traced(
        text=text,
        chains=chains,
        spans=tuple(tuple(spans[i : i + HOPS]) for i in range(0, len(spans), HOPS)),
        question=question.format(value=chains[0].value),
    )


def chain(value: str, names: Sequence[str], notation: Notation) -> Chain:
    """The statements that give `value` to the first of `names`, and pass it on to the others."""
    first = notation.gives.format(name=names[0], source=value)
    links = zip(names[1:], names, strict=False)
    others = (notation.copies.format(name=name, source=source) for name, source in links)
    return Chain(value, tuple(names), (first, *others))


def _names(stream: Stream, split: Split, count: int) -> list[str]:
    """So many different names of `split`."""
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = "".join([chr(65 + (n * 26 >> 16)) for n in stream.block(LETTERS * count)])
        each = (drawn[i : i + LETTERS] for i in range(0, len(drawn), LETTERS))
        found.update((name, None) for name in each if split_of(name) == split)
    return list(found)[:count]


def _depths(stream: Stream) -> Iterator[float]:
    """A depth in each fifth of a document, a tenth from the next one at least."""
    for i in range(HOPS):
        yield (i + 0.25 + 0.5 * stream.random()) / HOPS
