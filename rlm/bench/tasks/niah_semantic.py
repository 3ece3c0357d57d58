"""A needle that shares no word with its question: one must know that an owl is a bird.

"Beside the word owl stands 48213." "Which figure goes with a kind of bird?" Same-shaped needles
with nouns of the seven other kinds stand all over the document, more of them the longer it is: a
regular expression finds candidates, and each has to be read. Other words of the question stand all
over it too, in the filler, so that a search finds them and nothing else. After NoLiMa
(arXiv:2502.05167).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from rlm.bench.scoring import score_answer
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.kinds import kind_of, kinds
from rlm.bench.tasks.needles import Drawn, Needle, noise, place, stray
from rlm.bench.tasks.niah import Wording, sentence_case
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import number, words

EVERY: Final = 2_048
"""Characters of document for each needle of another kind."""
LEAST: Final = 2

EVAL: Final = Wording(
    needles=("Beside the word {noun} stands {value}.",),
    questions=("Which figure goes with a kind of {kind}?",),
)
TRAIN: Final = Wording(
    needles=(
        "{noun} got {value} in the last column.",
        "They filed {noun} as number {value}.",
        "Someone drew {noun} on card {value}.",
        "{value} is the number for {noun}.",
        "On page {value} you will find {noun}.",
        "Our list says {noun}, then {value}.",
        "In the picture with {value} we saw {noun}.",
        "{noun}: {value}.",
        "A note about {noun} carries {value}.",
        "Shelf {value} was marked {noun}.",
        "My aunt chose {noun} and paid {value}.",
        "Whoever said {noun} had to add {value}.",
        "Once more they spelled {noun} and counted to {value}.",
        "The entry for {noun} reads {value}.",
        "Next to {noun} somebody wrote {value}.",
        "We read the word {noun} and, below it, {value}.",
    ),
    questions=(
        "What number was given to the {kind}?",
        "Which number has to do with any kind of {kind}?",
        "Find the {kind} and say its number.",
        "Somewhere some {kind} is mentioned: what number?",
        "Tell me the number noted for the {kind}.",
        "There is one {kind} in the text. What figure belongs to it?",
        "Give the value of the {kind}.",
        "What figure stands near the {kind}?",
        "Read all lines: which one names some {kind}, and what number does it hold?",
        "And the {kind}?",
        "Look for the {kind}; report the digits.",
        "Which digits go with the {kind}?",
        "Only one line is about some {kind}. Which value does it show?",
        "What comes with the {kind}, in digits?",
        "Say which figure the {kind} has.",
        "One word means some sort of {kind}: what goes with it?",
    ),
)


class NiahSemantic:
    """One needle about a noun of the asked kind, among needles about nouns of other kinds."""

    name = "niah_semantic"
    depths: Sequence[int] = (10, 50, 90)

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`."""
        require_room(self.name, chars, 400)
        where = 0.5 if depth is None else depth / 100
        return place(draw(chars, seed, split), self.name, chars, where, seed, split)

    def score(self, item: Item, text: str) -> Scores:
        """Whole answer."""
        return score_answer(item.gold, text)


def draw(chars: int, seed: int, split: Split) -> Drawn:
    """The asked needle and those of other kinds in a document of `chars` characters."""
    stream = Stream(NiahSemantic.name, split, seed)
    wording = EVAL if split == "eval" else TRAIN
    kind = stream.choice(list(kinds()))
    rest = [noun for noun, other in kind_of().items() if other != kind]
    taken: set[str] = set()
    own = _needle(stream, wording, stream.choice(kinds()[kind]), number(stream, split, taken))
    question = stream.choice(wording.questions).format(kind=kind)
    lures = [word for word in re.findall(r"\w+", question.lower()) if word != kind]
    return Drawn(
        question=sentence_case(question),
        subject=kind,
        asked=(own,),
        others=tuple(
            _needle(stream, wording, stream.choice(rest), stray(stream, split, taken))
            for _ in range(max(LEAST, chars // EVERY))
        ),
        noise=tuple(noise(stream, chars, _telling(), lambda: stream.choice(lures))),
        without=_telling(),
    )


def _needle(stream: Stream, wording: Wording, noun: str, value: str) -> Needle:
    statement = stream.choice(wording.needles).format(noun=noun, value=value)
    return Needle(noun, value, sentence_case(statement))


@cache
def _telling() -> frozenset[str]:
    """Words of the list that hold a noun or the name of a kind: ``birdcage``, ``trucks``."""
    parts = (*kinds(), *kind_of())
    return frozenset(word for word in words() if any(part in word for part in parts))
