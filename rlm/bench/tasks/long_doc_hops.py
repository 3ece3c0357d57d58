"""Questions that one sentence of a long document does not answer: two hops, or none.

Three kinds over the filler of `long_doc_qa`, drawn by the seed, a third each. A **bridge** asks for
the number of a person whom another sentence names. A **comparison** asks which of two names has
more. An **abstention** asks the same in the same words, about a name that the document does not
have. All say what to answer where the text does not say, and documents are laid out alike: neither
the question nor the number of facts tells the kind.

HotpotQA (arXiv:1809.09600) has bridges and comparisons; SQuAD 2.0 (arXiv:1806.03822) has questions
without an answer that look like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from rlm.bench.scoring import score_answer
from rlm.bench.tasks import prose
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.hop_wordings import WORDINGS, Wording
from rlm.bench.tasks.niah import sentence_case
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, entity, number, words

Shape = Literal["bridge", "comparison"]
Kind = Literal["bridge", "comparison", "abstention"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

BRIDGES: Final = 3
"""Bridges in a document, two sentences each; one is asked."""
COMPARED: Final = 4
"""Names with a number each in a document of a comparison; two are asked."""
APART: Final = 0.25
"""Least distance of the two deciding sentences, as a share of the document."""
SHORTEST: Final = 1_000
"""Characters of the shortest document: six facts take up to 500."""
ABSTENTIONS: Final = (
    *("not in the text", "not in the document", "not found", "not stated", "not given"),
    *("not mentioned", "nothing said", "no answer"),
)
"""Each is right where the text does not say, whichever of them the question asks for."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence about a name.

    Attributes:
        sentence: as it stands in the document.
        subject: the name that it says something about.
        value: what it says: a person's name (first hop), or a number.
        depth: where it is to stand, 0 to 1; the first two of a `Puzzle` in the whole document,
            the others in its filler.
    """

    sentence: str
    subject: str
    value: str
    depth: float


@dataclass(frozen=True, slots=True)
class Puzzle:
    """All that is drawn for one item but its filler.

    Attributes:
        kind: of the question.
        shape: how it is put; an abstention has that of a bridge or of a comparison.
        facts: all that the document holds. Of a bridge, first hop and second hop, then those of the
            other bridges; of a comparison, the asked two in drawn order, then the others. In an
            abstention the first one or two stand in for those of the asked name.
        deciding: so many of the first `facts` decide; 0 in an abstention.
        asked: the names in the question, in its order: one (bridge) or two.
        question: with what to answer where the text does not say.
        absent: that answer, as the question puts it.
        gold: what is right; `absent` in an abstention.
        rivals: what makes an answer wrong that holds it beside `gold`. In an abstention also the
            question's own names, and the sentence that says what to answer: they are a guess with
            a way out, or an echo of the question.
    """

    kind: Kind
    shape: Shape
    facts: tuple[Fact, ...]
    deciding: int
    asked: tuple[str, ...]
    question: str
    absent: str
    gold: str
    rivals: tuple[str, ...]


class LongDocHops:
    """Bridge, comparison and abstention: no sentence of the document holds question and answer."""

    name = "long_doc_hops"
    depths: Sequence[int] = (10, 50, 90)

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`.

        `depth` is that of the first deciding sentence; the second stands at least `APART` of the
        document before or behind it. In an abstention nothing decides: a fact about another name
        stands there, and the item has neither spans nor a depth.
        """
        require_room(self.name, chars, SHORTEST)
        stream = Stream(self.name, seed)
        made = puzzle(stream, 0.5 if depth is None else depth / 100, split)
        placed = [(fact.depth, fact.sentence) for fact in made.facts]
        text, spans = document(stream, prose.filler(split), chars, placed[2:], placed[:2])
        deciding = tuple(spans[: made.deciding])
        return Item(
            task=self.name,
            document=text,
            question=made.question,
            gold=made.gold,
            spans=deciding,
            depth=spans[0].start / (chars - len(made.facts[0].sentence)) if deciding else 0.0,
            split=split,
            answers=ABSTENTIONS if made.kind == "abstention" else (),
            absent=made.kind == "abstention",
            rivals=made.rivals,
        )

    def score(self, item: Item, text: str) -> Scores:
        """Whole answer; wrong if it holds a rival too. `ABSTENTIONS` are all the same.

        The abstention names nobody: "not in the text", and not "Dental Nervy is not in the text".
        """
        return score_answer(item.gold, text, *item.answers, rivals=item.rivals)


def puzzle(stream: Stream, depth: float, split: Split) -> Puzzle:
    """Draw one item's facts and question; the first deciding fact is to stand at `depth`."""
    kind = stream.choice(KINDS)
    shape = stream.choice(get_args(Shape)) if kind == "abstention" else kind
    make = _bridge if shape == "bridge" else _comparison
    return make(stream, depth, split, kind)


def _bridge(stream: Stream, depth: float, split: Split, kind: Kind) -> Puzzle:
    wording, slots = WORDINGS[split], _nouns(stream)
    role, attribute = stream.choice(wording.roles), stream.choice(wording.attributes)
    taken, values = set[str](), set[str]()
    depths = _depths(stream, depth, 2 * BRIDGES)
    facts: list[Fact] = []
    for first, second in zip(depths[::2], depths[1::2], strict=True):
        place, person = (_name(stream, split, taken) for _ in range(2))
        value = number(stream, split, values)
        hop = stream.choice(role.statements).format(place=place, person=person, **slots)
        end = stream.choice(attribute.statements).format(person=person, value=value, **slots)
        facts.append(Fact(sentence_case(hop), place, person, first))
        facts.append(Fact(sentence_case(end), person, value, second))
    place = facts[0].subject if kind == "bridge" else _name(stream, split, taken)
    who = stream.choice(role.phrases).format(place=place, **slots)
    question = stream.choice(attribute.questions).format(who=who, **slots)
    said = facts[1].value if kind == "bridge" else ""
    return _put(stream, wording, kind, "bridge", facts, (place,), question, said)


def _comparison(stream: Stream, depth: float, split: Split, kind: Kind) -> Puzzle:
    wording, slots = WORDINGS[split], _nouns(stream)
    relation = stream.choice(wording.comparisons)
    taken, values = set[str](), set[str]()
    facts: list[Fact] = []
    for at in _depths(stream, depth, COMPARED):
        name, value = _name(stream, split, taken), number(stream, split, values)
        statement = stream.choice(relation.statements)
        sentence = statement.format(name=name, value=value, **slots)
        facts.append(Fact(sentence_case(sentence), name, value, at))
    one = facts[0].subject
    other = facts[1].subject if kind == "comparison" else _name(stream, split, taken)
    asked = (one, other) if stream.below(2) else (other, one)
    question = stream.choice(relation.questions).format(first=asked[0], second=asked[1], **slots)
    most = max(facts[:2], key=lambda fact: int(fact.value)).subject
    said = most if kind == "comparison" else ""
    return _put(stream, wording, kind, "comparison", facts, asked, question, said)


def _put(
    stream: Stream,
    wording: Wording,
    kind: Kind,
    shape: Shape,
    facts: Sequence[Fact],
    asked: tuple[str, ...],
    question: str,
    said: str,
) -> Puzzle:
    """The puzzle whose answer is `said`; what to answer where nothing is said goes with it."""
    absent = stream.choice(wording.absent)
    otherwise = stream.choice(wording.otherwise).format(absent=absent)
    numbers = tuple(fact.value for fact in facts if fact.value.isdigit())
    others = tuple(name for name in asked if name != said) if shape == "comparison" else ()
    echo = (*asked, otherwise)
    return Puzzle(
        kind=kind,
        shape=shape,
        facts=tuple(facts),
        deciding=2 if said else 0,
        asked=asked,
        question=f"{sentence_case(question)} {sentence_case(otherwise)}",
        absent=absent,
        gold=said or absent,
        rivals=(*others, *ABSTENTIONS) if said else (*numbers, *echo),
    )


def _depths(stream: Stream, depth: float, count: int) -> list[float]:
    """`depth`, one that is `APART` from it, and `count` - 2 anywhere."""
    before, behind = max(0.0, depth - APART), max(0.0, 1 - depth - APART)
    at = stream.random() * (before + behind)
    second = at if at < before else at - before + depth + APART
    return [depth, second, *(stream.random() for _ in range(count - 2))]


def _name(stream: Stream, split: Split, taken: set[str]) -> str:
    """A name that shares no word with those in `taken`; its words are added to it."""
    while True:
        name = entity(stream, split, set())
        parts = set(name.lower().replace("-", " ").split())
        if len(parts) == 2 and not parts & taken:
            taken |= parts
            return name


def _nouns(stream: Stream) -> dict[str, str]:
    return {"craft": stream.choice(words()), "noun": stream.choice(words())}
