"""Needles of one shape for several names: the asked one is told from the others by its name alone.

Multi-key retrieval of RULER (arXiv:2404.06654), with numbers in the haystack too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rlm.bench.scoring import score_answer
from rlm.bench.tasks import needles
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.needles import Drawn, Names, place
from rlm.bench.tasks.niah import Wording
from rlm.bench.tasks.stream import Stream

EVAL: Final = Wording(
    needles=("The {thing} of {name} is {value}.",),
    questions=("What is the {thing} of {names}?",),
)
TRAIN: Final = Wording(
    needles=(
        "For {name} the {thing} was set to {value}.",
        "{name} has the {thing} {value}.",
        "Whoever visits {name} needs {value} as {thing}.",
        "{value} serves as {thing} at {name}.",
        "They gave {name} a new {thing}, namely {value}.",
        "{name}: {thing} {value}.",
        "Once you reach {name}, the {thing} reads {value}.",
        "In the file on {name}, {value} is noted as its {thing}.",
        "{name}'s {thing}, by the way, equals {value}.",
        "The {thing} kept for {name} is now {value}.",
        "Among friends of {name}, {value} is known as their {thing}.",
        "As {thing} of {name}, the clerk wrote {value}.",
        "Since last year {name} answers to the {thing} {value}.",
        "A {thing} of {name} was mentioned: {value}.",
    ),
    questions=(
        "Which {thing} belongs to {names}?",
        "{names} has which {thing}?",
        "Give {names}'s {thing}.",
        "Find out the {thing} at {names}.",
        "What does the text give as {thing} for {names}?",
        "Tell me how the {thing} of {names} reads.",
        "I forgot the {thing} for {names}; please look it up.",
        "Name the {thing} noted for {names}.",
        "Look for {names}: what {thing} does it have?",
        "What {thing} goes with {names}?",
        "According to these lines, which {thing} is that of {names}?",
        "State {names}'s {thing} as a number.",
        "{thing} of {names}?",
        "Is there a {thing} for {names}? Say which.",
        "For {names}, what is its {thing}?",
        "Of all the names only {names} matters: which {thing} has it?",
    ),
)


class NiahKeys:
    """One needle of several that differ by name and value."""

    name = "niah_keys"
    depths: Sequence[int] = (10, 50, 90)

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`."""
        require_room(self.name, chars, 900)
        where = 0.5 if depth is None else depth / 100
        return place(draw(chars, seed, split), self.name, chars, where, seed, split)

    def score(self, item: Item, text: str) -> Scores:
        """Whole answer."""
        return score_answer(item.gold, text)


def draw(chars: int, seed: int, split: Split) -> Drawn:
    """One asked needle and `needles.NEEDLES` others of a document of `chars` characters."""
    stream = Stream(NiahKeys.name, split, seed)
    return needles.draw(stream, chars, Names(split, EVAL if split == "eval" else TRAIN))
