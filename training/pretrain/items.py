"""Items of the task families on the train split, with all that a teacher knows about them.

What a stream draws here is the same for a teacher that may ask a sub-model and for one that may
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from rlm.bench.tasks import get, long_doc_hops, niah_keys, trace
from rlm.bench.tasks.base import Item
from rlm.bench.tasks.long_doc_hops import Shape
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from training.pretrain.asking import hopping, naming, tracing
from training.pretrain.pages import Asked
from training.pretrain.passages import Told
from training.pretrain.play import some_chars, some_seed


@dataclass(frozen=True)
class Solvable:
    """An item in the teacher's wording, and what decides it.

    Attributes:
        item: with the question that the model is shown.
        line: of code, that this question calls for (`training.pretrain.asking`).
        asked: the names, or the one value, that it is about.
        told: what the document says of them and of others, sentence by sentence.
        shape: of a question of two hops.
    """

    item: Item
    line: str
    asked: Sequence[str]
    told: Sequence[Told]
    shape: Shape = "bridge"


def key_item(stream: Stream) -> tuple[Item, Asked]:
    """One name among others."""
    chars, seed = some_chars(stream, 1_000), some_seed(stream)
    drawn = niah_keys.draw(chars, seed, "train")
    item = place(drawn, "niah_keys", chars, stream.random(), seed, "train")
    needle = drawn.asked[0]
    return item, Asked(needle.key, needle.sentence, item.question, needle.value)


def named_item(stream: Stream, family: ModuleType) -> Solvable:
    """All numbers of one name (`family` is `niah_values`), or those of several."""
    chars, seed = some_chars(stream, 1_500), some_seed(stream)
    drawn = family.draw(chars, seed, "train")
    item = place(drawn, family.NAME, chars, None, seed, "train")
    told = [Told(n.key, n.value, n.sentence) for n in (*drawn.asked, *drawn.others)]
    names = list(dict.fromkeys(n.key for n in drawn.asked))
    question, line = naming(stream, drawn.subject, names)
    return Solvable(replace(item, question=question), line, names, told)


def hops_item(stream: Stream) -> Solvable:
    """A bridge, a comparison, or neither: what is asked is not there."""
    chars, seed, depth = some_chars(stream, 1_500), some_seed(stream), stream.below(101)
    item = get("long_doc_hops").generate(chars, depth, seed, split="train")
    made = long_doc_hops.puzzle(Stream("long_doc_hops", seed), depth / 100, "train")
    told = [Told(fact.subject, fact.value, fact.sentence) for fact in made.facts]
    question, line = hopping(stream, made)
    return Solvable(replace(item, question=question), line, made.asked, told, made.shape)


def trace_item(stream: Stream) -> Solvable:
    """Variables that hold a value; told is the statement that gives it to the first of them."""
    chars, seed = some_chars(stream, trace.SHORTEST), some_seed(stream)
    item = get("trace").generate(chars, None, seed, split="train")
    value = trace.draw(Stream("trace", "train", seed), "train", chars).chains[0].value
    first = item.document[item.spans[0].start : item.spans[0].end]
    question, line = tracing(stream, value)
    told = [Told(value, item.answers[0], first)]
    return Solvable(replace(item, question=question), line, [value], told)
