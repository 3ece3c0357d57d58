"""Several names asked for at once, each with one value, among needles for other names.

Multi-query retrieval of RULER (arXiv:2404.06654). The needles are those of `niah_keys`.
"""

from __future__ import annotations

from typing import Final

from rlm.bench.tasks import needles, niah_keys
from rlm.bench.tasks.base import Split
from rlm.bench.tasks.needles import NEEDLES, Drawn, Names
from rlm.bench.tasks.niah import Wording
from rlm.bench.tasks.stream import Stream

NAME: Final = "niah_queries"
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


def draw(chars: int, seed: int, split: Split) -> Drawn:
    """The asked needles and `needles.NEEDLES` others of a document of `chars` characters."""
    stream = Stream(NAME, split, seed)
    if split == "eval":
        return needles.draw(stream, chars, Names(split, EVAL, keys=NEEDLES))
    keys, join = stream.choice(TRAIN_KEYS), stream.choice(TRAIN_JOINS)
    return needles.draw(stream, chars, Names(split, TRAIN, keys=keys, join=join))
