"""Several names asked for at once, each with one value, among needles for other names.

Multi-query retrieval of RULER (arXiv:2404.06654). The needles are those of `niah_keys`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rlm.bench.scoring import score_set
from rlm.bench.tasks import needles, niah_keys
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.needles import NEEDLES, Drawn, Names, place
from rlm.bench.tasks.niah import Wording
from rlm.bench.tasks.stream import Stream

EVAL: Final = Wording(
    needles=niah_keys.EVAL.needles,
    questions=("What are the {thing}s of {names}, in this order?",),
)
TRAIN: Final = Wording(
    needles=niah_keys.TRAIN.needles,
    questions=(
        "Which {thing}s belong to {names}?",
        "Give the {thing} at each of {names}.",
        "For {names}: name every {thing}, one after another.",
        "I need a {thing} for each: {names}.",
        "Look up {names} and list their {thing}s in the order given.",
        "Tell me, in that order, how the {thing}s for {names} read.",
        "{names}: which {thing} has each?",
        "Report one {thing} after the other for {names}.",
        "Find the {thing}s that go with {names}, keeping their order.",
        "State the {thing}s noted for {names}.",
        "What {thing} numbers does the text give for {names}?",
        "List the {thing} values in this sequence: {names}.",
        "Say what {thing}s these have: {names}.",
        "For {names}, what are their {thing}s? Keep the order.",
    ),
)
TRAIN_KEYS: Final = (2, 2, 3, 3, 4, 4, 5)
"""How many names a question of the train split may ask for."""
TRAIN_JOINS: Final = ((", ", " and "), (", ", ", "), ("; ", "; "), (" and ", " and "))


class NiahQueries:
    """The values of several names, asked for at once."""

    name = "niah_queries"
    depths: Sequence[int] = ()

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`; the needles stand anywhere."""
        del depth
        require_room(self.name, chars, 1_400)
        return place(draw(chars, seed, split), self.name, chars, None, seed, split)

    def score(self, item: Item, text: str) -> Scores:
        """Set F1 and exact set; the order is not judged."""
        return score_set(item.answers, text)


def draw(chars: int, seed: int, split: Split) -> Drawn:
    """The asked needles and `needles.NEEDLES` others of a document of `chars` characters."""
    stream = Stream(NiahQueries.name, split, seed)
    if split == "eval":
        return needles.draw(stream, chars, Names(split, EVAL, keys=NEEDLES))
    keys, join = stream.choice(TRAIN_KEYS), stream.choice(TRAIN_JOINS)
    return needles.draw(stream, chars, Names(split, TRAIN, keys=keys, join=join))
