"""A needle in a haystack: one fact among random words, asked for exactly.

The default shape is that of the public project this benchmark answers: "The secret passcode is
48213." with values from 10000 to 99999 at depths of 10, 50 and 90 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlm.bench.scoring import score_answer
from rlm.bench.tasks.base import Item, Scores, Split, require_room
from rlm.bench.tasks.stream import Stream
from rlm.bench.tasks.words import document, number, random_sentences, words


@dataclass(frozen=True, slots=True)
class Wording:
    """Needles and questions of one split; ``{key}`` and ``{value}`` are filled in."""

    needles: Sequence[str]
    questions: Sequence[str]


EVAL: Final = Wording(
    needles=("The {key} is {value}.",),
    questions=("What is the {key}?",),
)
EVAL_KEYS: Final = (
    "secret passcode",
    "vault combination",
    "magic number",
    "backup access code",
    "hidden serial number",
)
TRAIN: Final = Wording(
    needles=(
        "Remember that {value} belongs to the {key}.",
        "They set the {key} to {value}.",
        "Note: {key} = {value}.",
        "On the label of the {key} stands {value}.",
        "Whoever asks for the {key} gets {value}.",
        "{value} was chosen as the {key}.",
        "As for the {key}, it reads {value}.",
        "Our {key} has been {value} for years.",
        "{key}: {value}.",
        "Somebody wrote down {value} for the {key}.",
    ),
    questions=(
        "Which number belongs to the {key}?",
        "Give the {key}.",
        "State the value of the {key}.",
        "{key}?",
        "Find the number of the {key}.",
        "Say which value the {key} has.",
        "Which value stands for the {key} in the text?",
        "I need the {key}. Which number was given?",
        "What number goes with the {key}?",
        "Look up the {key}.",
        "Tell me which number the {key} has.",
        "Can you find the {key}?",
        "According to the text, which value has the {key}?",
        "Search for the {key} and report its number.",
        "Name the number given for the {key}.",
        "Please report the {key}.",
    ),
)
RESERVED: Final = frozenset(word for key in EVAL_KEYS for word in key.split())
"""Words of the eval keys; no train key has one."""


class Niah:
    """Single needle: what every long-context model is shown with, and grep solves."""

    name = "niah"
    depths: Sequence[int] = (10, 50, 90)

    def generate(self, chars: int, depth: int | None, seed: int, *, split: Split = "eval") -> Item:
        """See `rlm.bench.tasks.base.Task.generate`."""
        require_room(self.name, chars, 160)
        stream = Stream(self.name, seed)
        wording = EVAL if split == "eval" else TRAIN
        key = stream.choice(EVAL_KEYS) if split == "eval" else train_key(stream)
        value = number(stream, split, set())
        needle = sentence_case(stream.choice(wording.needles).format(key=key, value=value))
        question = sentence_case(stream.choice(wording.questions).format(key=key))
        sentence = random_sentences(without=set(key.split()))
        where = 0.5 if depth is None else depth / 100
        text, spans = document(stream, sentence, chars, [], [(where, needle)])
        return Item(
            task=self.name,
            document=text,
            question=question,
            gold=value,
            spans=tuple(spans),
            depth=spans[0].start / (chars - len(needle)),
            split=split,
        )

    def score(self, item: Item, text: str) -> Scores:
        """Whole answer."""
        return score_answer(item.gold, text)


def train_key(stream: Stream, pool: Sequence[str] = ()) -> str:
    """A key of one to three words of `pool` (all words by default) for the train split.

    A third of the keys end in a made-up word, so that copying one is learned too.
    """
    free = [w for w in pool or words() if w not in RESERVED]
    parts = [stream.choice(free) for _ in range(stream.choice((1, 2, 2, 2, 3)))]
    if stream.random() < 0.3:
        parts[-1] = stream.choice(free)[:4] + stream.choice(free)[-4:]
    return " ".join(parts)


def sentence_case(text: str) -> str:
    """`text` with its first letter in upper case and the rest as it is."""
    return text[0].upper() + text[1:]
