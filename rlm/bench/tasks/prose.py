"""Coherent filler and facts about entities, in separate wordings for train and eval."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from rlm.bench.tasks.base import Split
from rlm.bench.tasks.stream import Stream, table
from rlm.bench.tasks.words import Filler, words, zipf


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence that states a value, and the question it answers."""

    sentence: str
    question: str
    value: str


@dataclass(frozen=True, slots=True)
class Relation:
    """How a fact is stated and asked; ``{name}``, ``{value}`` and ``{noun}`` are filled in."""

    statements: Sequence[str]
    questions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prose:
    """Filler sentences of one split; each brace takes a word of the list with that name."""

    sentences: Sequence[str]
    lists: dict[str, Sequence[str]]


EVAL_RELATIONS: Final = (
    Relation(
        ("The annual budget of the {name} project is {value} dollars.",),
        ("What is the annual budget of the {name} project in dollars?",),
    ),
    Relation(
        ("The {name} museum welcomed {value} visitors last year.",),
        ("How many visitors did the {name} museum welcome last year?",),
    ),
    Relation(
        ("The {name} library owns {value} books.",),
        ("How many books does the {name} library own?",),
    ),
    Relation(
        ("The {name} factory produced {value} bicycles in its best month.",),
        ("How many bicycles did the {name} factory produce in its best month?",),
    ),
    Relation(
        ("The {name} university enrolled {value} students this autumn.",),
        ("How many students did the {name} university enroll this autumn?",),
    ),
    Relation(
        ("The population of the town of {name} is {value}.",),
        ("What is the population of the town of {name}?",),
    ),
)

TRAIN_RELATIONS: Final = (
    Relation(
        ("At {name} they counted {value} {noun} units.", "{name} counts {value} {noun} units."),
        ("How many {noun} units were counted at {name}?", "Count of {noun} units at {name}?"),
    ),
    Relation(
        (
            "{name} paid {value} crowns for its {noun}.",
            "For its {noun}, {name} paid {value} crowns.",
        ),
        (
            "How many crowns were paid by {name} for its {noun}?",
            "What did {name} pay for its {noun}?",
        ),
    ),
    Relation(
        ("{name} keeps {value} {noun} jars in a cellar.",),
        ("How many {noun} jars are kept by {name}?", "Say how many {noun} jars {name} keeps."),
    ),
    Relation(
        ("With {value} members, {name} leads the {noun} league.",),
        ("How many members has {name}?", "Give the number of members at {name}."),
    ),
    Relation(
        (
            "A {noun} at {name} weighs {value} grams.",
            "{value} grams is what a {noun} of {name} weighs.",
        ),
        ("How heavy is a {noun} at {name}, in grams?", "Weight in grams of a {noun} at {name}?"),
    ),
    Relation(
        ("{name} lies {value} steps from the {noun} gate.",),
        ("How many steps lie between {name} and the {noun} gate?", "How far off is {name}?"),
    ),
    Relation(
        ("The {noun} number at {name} reads {value}.", "{name} carries the {noun} number {value}."),
        ("Which {noun} number does {name} carry?", "Give the {noun} number of {name}."),
    ),
    Relation(
        ("In {name} there live {value} people.", "{value} people live in {name}."),
        ("How many people live in {name}?", "Number of people who live in {name}?"),
    ),
    Relation(
        (
            "{name} sold {value} {noun} tickets.",
            "Someone bought {value} {noun} tickets from {name}.",
        ),
        ("How many {noun} tickets came from {name}?", "Number of {noun} tickets sold by {name}?"),
    ),
    Relation(
        ("The {noun} club {name} was given {value} points.",),
        ("How many points has the {noun} club {name}?", "Points given to {name}?"),
    ),
    Relation(
        (
            "{name} planted {value} trees near its {noun}.",
            "Near its {noun}, {name} has {value} trees.",
        ),
        ("How many trees has {name} near its {noun}?", "How many trees did {name} plant?"),
    ),
    Relation(
        ("Each week the {name} {noun} mill grinds {value} sacks.",),
        ("How many sacks are ground by the {name} {noun} mill?", "Sacks of the {name} mill?"),
    ),
    Relation(
        ("The {name} {noun} carried {value} parcels over the hill.",),
        ("How many parcels did the {name} {noun} carry over the hill?",),
    ),
    Relation(
        ("Once the {name} {noun} saw {value} guests in one night.",),
        ("How many guests were seen by the {name} {noun} in one night?",),
    ),
    Relation(
        ("The total weight of the {name} {noun} comes to {value} pounds.",),
        ("What does the total weight of the {name} {noun} come to in pounds?",),
    ),
    Relation(
        ("The {name} school taught {value} pupils that day.",),
        ("How many pupils did the {name} school teach that day?",),
    ),
    Relation(
        ("Every {noun} hour, {name} prints {value} pages.",),
        ("How many pages does {name} print?", "What number of pages is printed by {name}?"),
    ),
)

EVAL_PROSE: Final = Prose(
    sentences=(
        "The {adjective} {place} was quiet in the {time}, and the {people} went home early.",
        "Several {people} walked along the {place} and talked about the {weather}.",
        "Nobody in the {place} had expected such {weather} so late in the {time}.",
        "Beyond the {place} lay a {adjective} valley where {people} grew apples and corn.",
        "It was a {adjective} {time}, and {weather} covered the roofs of the {place}.",
        "Old {people} still tell stories about the {adjective} {place} and its garden.",
        "During the {time} the {people} repaired the walls of the {adjective} {place}.",
        "A {adjective} wind came from the {place} and brought {weather} with it.",
        "When the {weather} ended, the {people} opened the doors of the {place} again.",
        "Children of the {people} played near the {adjective} {place} until the {time}.",
        "Most {people} agreed that the {place} looked more {adjective} than before.",
        "There was music at the {place} every {time}, in spite of the {weather}.",
    ),
    lists={
        "adjective": (
            "narrow",
            "peaceful",
            "ancient",
            "golden",
            "modest",
            "distant",
            "friendly",
            "lonely",
            "bright",
            "crowded",
            "pleasant",
            "forgotten",
            "famous",
            "wooden",
            "gentle",
            "heavy",
        ),
        "place": (
            "harbor",
            "market square",
            "river bank",
            "old town hall",
            "railway station",
            "chapel",
            "village school",
            "lighthouse",
            "stone bridge",
            "mill",
            "theater",
            "bakery",
            "inn",
        ),
        "people": (
            "farmers",
            "sailors",
            "teachers",
            "merchants",
            "painters",
            "travelers",
            "musicians",
            "gardeners",
            "doctors",
            "carpenters",
            "clerks",
            "neighbors",
            "students",
            "cooks",
        ),
        "time": ("morning", "evening", "winter", "summer", "spring", "autumn", "night", "season"),
        "weather": ("rain", "snow", "fog", "sunshine", "frost", "thunder", "mist", "heat"),
    },
)

TRAIN_PROSE: Final = Prose(
    sentences=(
        "With a {quality} {word} in hand, the {person} looked for another {word}.",
        "Some say that this {thing} is {quality}, but the {person} never believed it.",
        "After lunch our {person} put the {thing} beside a {quality} {thing}.",
        "He asked the {person} whether any {thing} could be that {quality}.",
        "She sold one {thing}, kept one {word}, and thanked the {person} for the {word}.",
        "If only a {person} knew how {quality} that {thing} used to be!",
        "Between one {thing} and the next, they found {word}, {word} and {word}.",
        "Why the {person} painted each {thing} so {quality} remains unclear.",
        "This week a {quality} {person} spoke at length on {word} and on {word}.",
        "Without his {thing}, no {person} would have crossed that {quality} {word}.",
        "Later on, two {quality} boxes arrived with a {thing} for every {person}.",
        "My {person} reads about {word} only if some {thing} is {quality}.",
        "From here one can see a {quality} {thing}, a {thing} and part of the {word}.",
        "Either the {thing} breaks or that {person} turns {quality}, as usual.",
    ),
    lists={
        "quality": (
            "green",
            "loud",
            "simple",
            "warm",
            "strange",
            "empty",
            "careful",
            "round",
            "cheap",
            "sharp",
            "clever",
            "dusty",
            "fresh",
            "silent",
            "useful",
            "thin",
            "rare",
            "proud",
        ),
        "thing": (
            "clock",
            "basket",
            "ladder",
            "letter",
            "engine",
            "mirror",
            "bucket",
            "carpet",
            "bottle",
            "wagon",
            "hammer",
            "window",
            "blanket",
            "candle",
            "drawer",
            "kettle",
            "rope",
            "chair",
        ),
        "person": (
            "pilot",
            "judge",
            "baker",
            "captain",
            "nurse",
            "printer",
            "hunter",
            "tailor",
            "poet",
            "miner",
            "guide",
            "lawyer",
            "singer",
            "guard",
            "uncle",
            "widow",
            "butler",
            "referee",
        ),
        "word": (),
    },
)

_SLOT: Final = re.compile(r"\{(\w+)\}")


def make_fact(stream: Stream, split: Split, name: str, value: str) -> Fact:
    """State `value` about the entity `name` in a wording of `split`."""
    relation = stream.choice(EVAL_RELATIONS if split == "eval" else TRAIN_RELATIONS)
    slots = {"name": name, "value": value, "noun": stream.choice(words())}
    return Fact(
        sentence=stream.choice(relation.statements).format(**slots),
        question=stream.choice(relation.questions).format(**slots),
        value=value,
    )


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A sentence of `Prose` with ``{}`` for its slots, and the table that each slot draws from."""

    fill: Callable[..., str]
    tables: Sequence[Sequence[str]]


@cache
def _patterns(split: Split) -> Sequence[_Pattern]:
    prose = EVAL_PROSE if split == "eval" else TRAIN_PROSE
    tables = {
        name: table(options, [1] * len(options)) if options else zipf(set())
        for name, options in prose.lists.items()
    }
    return tuple(
        _Pattern(_SLOT.sub("{}", text).format, [tables[name] for name in _SLOT.findall(text)])
        for text in prose.sentences
    )


def filler(split: Split) -> Filler:
    """Sentences of `split` that say nothing about any entity and hold no digit.

    A slot for any word draws by rank, as `random_sentences` does; others draw evenly.
    """
    patterns = _patterns(split)
    of_number = table(range(len(patterns)), [1] * len(patterns))

    def sentences(stream: Stream, count: int) -> list[str]:
        chosen = [of_number[n] for n in stream.block(count)]
        numbers = iter(stream.block(sum(len(patterns[i].tables) for i in chosen)))
        made = [
            map(p.fill, *(map(entries.__getitem__, numbers) for entries in p.tables))
            for p in patterns
        ]
        return [next(made[i]) for i in chosen]

    return sentences
