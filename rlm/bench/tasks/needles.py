"""What the families of several needles share: same-shaped sentences, one or some of them asked for.

A needle gives a number of five digits to a key. Beside the asked needles stand others for other
keys, and filler sentences that hold a number too, so that neither a shape nor a digit gives an
answer away. After multi-key, multi-value and multi-query retrieval in RULER (arXiv:2404.06654).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from rlm.bench.scoring import score_set
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.niah import Wording, sentence_case, train_key
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, entity, number, random_sentences

NEEDLES: Final = 4
"""Needles of other keys; asked values and asked keys of the eval split."""
NOISE_EVERY: Final = 2_048
"""Characters of document for each sentence of `Drawn.noise`."""
NOISE_LEAST: Final = 1
LIST_SHORTEST: Final = 1_400
"""Characters of the shortest document of a `NumberList`: eight needles and a sentence of noise."""
EVAL_THINGS: Final = ("door code", "locker code", "alarm code")
"""What eval needles give; no train needle has "code" in its thing (`niah.RESERVED`)."""


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence that gives a number to a key.

    Attributes:
        key: a name such as ``Copper Lantern``, or a noun such as ``owl``.
        value: its number, of five digits.
        sentence: says so; holds both.
    """

    key: str
    value: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """All that is drawn for a document but its filler and the places.

    Attributes:
        question: what is asked.
        subject: what the question calls the answer, such as ``door code``, or ``bird``, the kind of
            the asked noun.
        asked: the needles that answer it, in the order asked.
        others: needles of the same shapes for other keys, in document order.
        noise: filler sentences that hold a number, or a word of the question, in document order.
        without: words that no filler sentence holds.
    """

    question: str
    subject: str
    asked: tuple[Needle, ...]
    others: tuple[Needle, ...]
    noise: tuple[str, ...]
    without: frozenset[str]


@dataclass(frozen=True, slots=True)
class Names:
    """Needles about names: which names, and of each how many values, and in whose wording.

    Attributes:
        split: of names, values and things.
        wording: ``{thing}``, ``{name}`` (needles), ``{names}`` (questions) and ``{value}`` are
            filled in.
        keys: names that are asked for.
        values: of each of these.
        join: writes several names as one text.
    """

    split: Split
    wording: Wording
    keys: int = 1
    values: int = 1
    join: tuple[str, str] = (", ", " and ")


class NumberList:
    """A family that asks for several numbers; their needles stand anywhere.

    Args:
        name: of the family.
        draw: makes all of a document but its filler, from characters, seed and split.
    """

    depths: Sequence[int] = ()

    def __init__(self, name: str, draw: Callable[[int, int, Split], Drawn]) -> None:
        self.name = name
        self._draw = draw

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`; there is no depth."""
        del depth
        require_room(self.name, chars, LIST_SHORTEST)
        return place(self._draw(chars, seed, split), self.name, chars, None, seed, split)

    def score(self, item: Item, text: str) -> Scores:
        """Set F1 and exact set; the order is not judged."""
        return score_set(item.answers, text)


def draw(stream: Stream, chars: int, names: Names) -> Drawn:
    """Needles about names, and the noise of a document of `chars` characters."""
    split, taken = names.split, set[str]()
    thing = stream.choice(EVAL_THINGS) if split == "eval" else train_key(stream)
    keys = [entity(stream, split, taken) for _ in range(names.keys + NEEDLES)]
    keys = [key for key in keys[: names.keys] for _ in range(names.values)] + keys[names.keys :]
    made = [_about(stream, names, thing, key, taken) for key in keys]
    count = names.keys * names.values
    without = frozenset(f"{thing} {' '.join(keys)}".lower().split())
    return Drawn(
        question=sentence_case(
            stream.choice(names.wording.questions).format(
                thing=thing, names=joined(keys[:count], names.join)
            )
        ),
        subject=thing,
        asked=tuple(made[:count]),
        others=tuple(made[count:]),
        noise=tuple(noise(stream, chars, without, lambda: stray(stream, split, taken))),
        without=without,
    )


def place(
    drawn: Drawn, task: str, chars: int, where: float | None, seed: int, split: Split
) -> Item:
    """The document that holds what was drawn, with its question.

    Args:
        drawn: by the family's own ``draw``, from the same `chars`, `seed` and `split`.
        task: the family's name.
        chars: exact length of the document.
        where: depth of the first asked needle, 0 to 1; ``None`` is a random one for each.
        seed: of the item.
        split: of the item.
    """
    stream = Stream(task, split, seed, "places")
    rest = [*_spread(stream, [n.sentence for n in drawn.others]), *_spread(stream, drawn.noise)]
    own = [(stream.random(), needle.sentence) for needle in drawn.asked]
    asked = []
    if where is not None:
        asked, own = [(where, own[0][1])], own[1:]
    text, spans = document(stream, random_sentences(drawn.without), chars, [*own, *rest], asked)
    evidence = tuple(sorted(spans[: len(drawn.asked)], key=lambda span: span.start))
    values = tuple(needle.value for needle in drawn.asked)
    first = evidence[0]
    return Item(
        task=task,
        document=text,
        question=drawn.question,
        gold=", ".join(values),
        spans=evidence,
        depth=first.start / (chars - (first.end - first.start)),
        split=split,
        answers=values if len(values) > 1 else (),
    )


def noise(
    stream: Stream, chars: int, without: frozenset[str], draw: Callable[[], str]
) -> Iterator[str]:
    """Filler sentences of a document of `chars` characters, a word of each replaced by a draw."""
    count = max(NOISE_LEAST, chars // NOISE_EVERY)
    for sentence in random_sentences(without)(stream, count):
        words = sentence.split(" ")
        words[stream.between(1, len(words) - 2)] = draw()
        yield " ".join(words)


def stray(stream: Stream, split: Split, taken: Set[str]) -> str:
    """A number of `split` that is not in `taken`; another draw may give it again."""
    return number(stream, split, set(taken))


def _about(stream: Stream, names: Names, thing: str, key: str, taken: set[str]) -> Needle:
    value = number(stream, names.split, taken)
    statement = stream.choice(names.wording.needles).format(thing=thing, name=key, value=value)
    return Needle(key, value, sentence_case(statement))


def joined(keys: Sequence[str], join: tuple[str, str]) -> str:
    """Different `keys` in a row; `join` stands between two, and before the last."""
    *most, last = dict.fromkeys(keys)
    return join[1].join([join[0].join(most), last]) if most else last


def _spread(stream: Stream, sentences: Sequence[str]) -> list[tuple[float, str]]:
    """A depth for each sentence, in order: one in each of as many equal parts of the document."""
    return [((i + stream.random()) / len(sentences), text) for i, text in enumerate(sentences)]
