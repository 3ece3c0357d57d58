"""Questions about a long coherent document: five facts about named entities, one is asked.

The asked fact stands at the cell's depth, the four others elsewhere. The shape (five facts) is
that of the public project this benchmark answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm.bench.scoring import score_answer
from rlm.bench.tasks import prose
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, entity, number

FACTS = 5


class LongDocQA:
    """Five facts in coherent filler, one asked; the others are distractors of the same shape."""

    name = "long_doc_qa"
    depths: Sequence[int] = (10, 50, 90)

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`."""
        require_room(self.name, chars, 600)
        stream = Stream(self.name, seed)
        taken: set[str] = set()
        made = [fact(stream, split, taken) for _ in range(FACTS)]
        asked, *others = made
        rest = [(stream.random(), each.sentence) for each in others]
        where = 0.5 if depth is None else depth / 100
        own = [(where, asked.sentence)]
        text, spans = document(stream, prose.filler(split), chars, rest, own)
        return Item(
            task=self.name,
            document=text,
            question=asked.question,
            gold=asked.value,
            spans=(spans[0],),
            depth=spans[0].start / (chars - len(asked.sentence)),
            split=split,
        )

    def score(self, item: Item, text: str) -> Scores:
        """Whole answer."""
        return score_answer(item.gold, text)


def fact(stream: Stream, split: Split, taken: set[str]) -> prose.Fact:
    """A fact about a new entity with a new value; both are added to `taken`."""
    name = entity(stream, split, taken)
    return prose.make_fact(stream, split, name, number(stream, split, taken))
