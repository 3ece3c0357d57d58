"""What the sub-model is asked where a task is more than one fact: prompts, and its replies.

The teacher's code writes these very prompts, so both ends know them. A reply quotes what it rests
on, as `training.pretrain.pages.reply` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlm.bench.tasks import (
    aggregate,
    long_doc_hops,
    niah_keys,
    niah_queries,
    trace,
)
from rlm.bench.tasks.kinds import kind_of
from rlm.bench.tasks.lines import filler_words
from rlm.bench.tasks.long_doc_hops import LongDocHops
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from training.pretrain.pages import ABSENT

KIND = "Repeat the words, each of a kind with it."
NUMBER = "Which number goes with {name}?"
NAME = "Which name goes with {name}?"
ASKED = "{passage}\n\nQuestion: {question}"
WORDS = 40
"""Words in one prompt: their reply takes some 120 of the 256 tokens that there are."""
NOUNS = 0.4
"""Share of the words that are of a kind, in a prompt that is made to teach them."""
REACH = 100
"""Characters to either side of a name in a passage."""

Prompt = tuple[str, str]
"""What the sub-model is asked, and its reply."""


@dataclass(frozen=True)
class Told:
    """One sentence of a document: what it is about, and what it says of it."""

    about: str
    value: str
    sentence: str

    @property
    def core(self) -> str:
        """From the first of both to the end of both."""
        text = self.sentence.lower()
        about, value = text.index(self.about.lower()), text.rindex(self.value.lower())
        ends = (about + len(self.about), value + len(self.value))
        return self.sentence[min(about, value) : max(ends)]

    def quote(self) -> str:
        """The reply: the sentence from the name on, then the value."""
        core = self.core
        if not core.lower().startswith(self.about.lower()):
            return f"<think> {self.about} before: {self.value}</think>{self.value}"
        return f"<think> {self.about}{core[len(self.about) :]}</think>{self.value}"


def nothing(asked: str) -> str:
    """The reply where the passage does not say."""
    return f"<think> {asked} nothing</think>{ABSENT}"


def answer(reply: str) -> str:
    """A reply without its quote: what code is handed."""
    return reply.rpartition("</think>")[2]


def read_about(told: Sequence[Told], prompt: str) -> str:
    """The reply to `NUMBER` or `NAME`: the sentence on the name that is asked, if it is there."""
    passage, _, question = prompt.rpartition("\n\nQuestion: ")
    for each in told:
        if each.about in question and each.core in passage:
            return each.quote()
    asked = re.search(r"goes with (.*)\?", question)
    return nothing(asked[1] if asked else "")


def read_kinds(prompt: str) -> str:
    """The reply to `KIND`: the words again, those of a kind with it, as in ``the owl=bird sang``.

    To go along the words and say at each what it is needs no looking back: it is learned many times
    faster than to find the one word of a line that is of a kind.
    """
    words = prompt.removesuffix(f"\n\n{KIND}").split()
    return " ".join(f"{word}={kind_of()[word]}" if word in kind_of() else word for word in words)


def kind_prompt(stream: Stream) -> Prompt:
    """Words as code lists those of a document, each once, or many nouns among others."""
    if stream.random() < 0.5:
        text = aggregate.draw(stream, "train", 4_000, visible=stream.random() < 0.1).lines.text
        words = list(dict.fromkeys(re.findall("[a-z]+", text.lower())))
        first = stream.below(len(words))
        words = words[first : first + WORDS]
    else:
        lists = (tuple(kind_of()), filler_words())
        count = stream.between(4, WORDS)
        words = [stream.choice(lists[stream.random() >= NOUNS]) for _ in range(count)]
    prompt = f"{' '.join(words)}\n\n{KIND}"
    return prompt, read_kinds(prompt)


def name_prompt(stream: Stream) -> Prompt:
    """A passage around a name, and what goes with that name or with another one."""
    seed = stream.below(1 << 62)
    family = stream.random()
    if family < 0.15:
        traced = trace.draw(Stream("trace", "train", seed), "train", 3_000)
        told = [Told(each.value, each.names[0], each.statements[0]) for each in traced.chains]
        text = traced.text
    elif family < 0.55:
        made = long_doc_hops.puzzle(Stream("long_doc_hops", seed), 0.5, "train")
        told = [Told(fact.subject, fact.value, fact.sentence) for fact in made.facts]
        text = LongDocHops().generate(3_000, 50, seed, split="train").document
    else:
        drawn = stream.choice((niah_keys, niah_queries)).draw(3_000, seed, "train")
        told = [Told(n.key, n.value, n.sentence) for n in (*drawn.asked, *drawn.others)]
        text = place(drawn, "niah_keys", 3_000, None, seed, "train").document
    one = stream.choice(told)
    shown = one if stream.random() < 0.8 else stream.choice(told)
    at = text.index(shown.sentence) + shown.sentence.lower().index(shown.about.lower())
    passage = text[max(0, at - REACH) : at + len(shown.about) + REACH]
    form = NUMBER if one.value.isdigit() else NAME
    prompt = ASKED.format(passage=passage, question=form.format(name=one.about))
    return prompt, read_about(told, prompt)


PROMPTS = {"kind": kind_prompt, "name": name_prompt}
