"""Several needles for one name: all of its values are asked for, and nothing says how many.

Multi-value retrieval of RULER (arXiv:2404.06654), among needles for other names.
"""

from __future__ import annotations

from typing import Final

from rlm.bench.tasks import needles
from rlm.bench.tasks.base import Split
from rlm.bench.tasks.needles import NEEDLES, Drawn, Names
from rlm.bench.tasks.niah import Wording
from rlm.bench.tasks.stream import Stream

NAME: Final = "niah_values"
EVAL: Final = Wording(
    needles=("One {thing} of {name} is {value}.",),
    questions=("What are all the {thing}s of {names}?",),
)
TRAIN: Final = Wording(
    needles=(
        "Another {thing} for {name} turned out to be {value}.",
        "{value} counts as a {thing} at {name}.",
        "{name} also uses {value} as {thing}.",
        "Somebody at {name} added {value} to its {thing} list.",
        "Among the {thing} entries for {name} there is {value}.",
        "{name} got one more {thing}: {value}.",
        "You may try {value} as {thing} in {name}.",
        "A further {thing} that {name} accepts is {value}.",
        "For {name}, {value} works as {thing} too.",
        "{name} keeps {value} as a spare {thing}.",
        "Some people enter {name} by the {thing} {value}.",
        "They also told {name} about the {thing} {value}.",
        "{name} has {value} for a {thing}.",
        "Of {name} they say that one {thing} reads {value}.",
    ),
    questions=(
        "List every {thing} for {names}.",
        "Which {thing}s has {names}?",
        "Give all {thing} numbers that belong to {names}.",
        "What {thing} numbers does the text give for {names}? Name all.",
        "{names} may have more than one {thing}: which are they?",
        "Find each {thing} that goes with {names}.",
        "Collect the {thing}s at {names}.",
        "For {names}, what are its {thing}s?",
        "All {thing}s for {names}, please.",
        "Tell me every number said to be a {thing} at {names}.",
        "How do the {thing}s for {names} read, all together?",
        "Name whatever {thing}s you find for {names}.",
        "I want the whole list of {thing} values for {names}.",
        "Write down all that {names} has as {thing}.",
    ),
)
TRAIN_VALUES: Final = (2, 3, 4, 4, 5, 6)
"""How many values a name of the train split may have, so that no fixed number is learned."""


def draw(chars: int, seed: int, split: Split) -> Drawn:
    """The needles of one name and `needles.NEEDLES` others of a document of `chars` characters."""
    stream = Stream(NAME, split, seed)
    if split == "eval":
        return needles.draw(stream, chars, Names(split, EVAL, values=NEEDLES))
    return needles.draw(stream, chars, Names(split, TRAIN, values=stream.choice(TRAIN_VALUES)))
