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
    niah_semantic,
    trace,
)
from rlm.bench.tasks.kinds import kind_of
from rlm.bench.tasks.lines import filler_words
from rlm.bench.tasks.long_doc_hops import LongDocHops
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from training.pretrain.pages import ABSENT

LABEL = "Name the kind on each line."
NUMBER = "Which number goes with {name}?"
NAME = "Which name goes with {name}?"
ASKED = "{passage}\n\nQuestion: {question}"
LABELLED = "{passage}\n\n" + LABEL
MOST_LINES = 30
"""Lines in one prompt; a line takes some 35 tokens, its reply 3 of the 256 that there are."""
MOST_SHORT = 12
"""Lines in a prompt of short ones, which teach the kinds faster."""
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

    def quote(self, asked: str = "") -> str:
        """The reply: sentence and value, with `asked` in the place of what it is about.

        A model that reads from left to right knows what a noun is at its end: what follows it can
        be looked up by its kind, the noun itself cannot.
        """
        name, core = asked or self.about, self.core
        if not core.lower().startswith(self.about.lower()):
            return f"<think> {name} before: {self.value}</think>{self.value}"
        return f"<think> {name}{core[len(self.about) :]}</think>{self.value}"


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


def read_kind(told: Told, kind: str, prompt: str) -> str:
    """The reply on the only sentence whose noun is of `kind`."""
    return told.quote(kind) if told.core in prompt else nothing(kind)


def read_labels(prompt: str) -> str:
    """The reply to `LABEL`: number and kind of each line."""
    lines = prompt.removesuffix(f"\n\n{LABEL}").split("\n")
    return "\n".join(f"{line.rpartition('#')[2]} {label(line)}" for line in lines)


def label(line: str) -> str:
    """The kind of the noun in a line, or that it has none."""
    found = [word for word in re.findall(r"\w+", line.lower()) if word in kind_of()]
    return kind_of()[found[0]] if found else "none"


def numbered(lines: Sequence[str]) -> str:
    """Lines with a number behind each, where a reader has seen what it stands for."""
    return "\n".join(f"{line} #{k}" for k, line in enumerate(lines))


def label_prompt(stream: Stream, short: float) -> Prompt:
    """Lines with a number each: of a document, or in the share `short` of the prompts made up."""
    if stream.random() < short:
        lines = [_short_line(stream) for _ in range(stream.between(1, MOST_SHORT))]
    else:
        made = aggregate.draw(stream, "train", 4_000, visible=stream.random() < 0.1).lines
        lines = made.text.split("\n")
        first = stream.below(len(lines))
        lines = lines[first : first + stream.between(1, MOST_LINES)]
    prompt = LABELLED.format(passage=numbered(lines))
    return prompt, read_labels(prompt)


def _short_line(stream: Stream) -> str:
    """A noun with a few words before and behind it."""
    before, behind = ([stream.choice(filler_words()) for _ in range(stream.below(3))] for _ in "ab")
    return " ".join([*before, stream.choice(tuple(kind_of())), *behind])


def kind_prompt(stream: Stream, short: float) -> Prompt:
    """Windows around numbers, one of them maybe about a noun of the asked kind.

    In the share `short` of the prompts they are the sentences alone.
    """
    chars, seed = stream.between(600, 12_000), stream.below(1 << 62)
    drawn = niah_semantic.draw(chars, seed, "train")
    item = place(drawn, "niah_semantic", chars, stream.random(), seed, "train")
    asked = Told(drawn.asked[0].key, drawn.asked[0].value, drawn.asked[0].sentence)
    bare = stream.random() < short
    every = [n.sentence for n in drawn.others] if bare else number_windows(item.document)
    windows = [w for w in every if asked.core not in w]
    chosen = stream.sample(windows, min(len(windows), stream.between(0, 4)))
    if not chosen or stream.random() < 0.6:
        mine = [w for w in (asked.sentence, *every) if asked.core in w][0 if bare else 1 :]
        chosen = stream.sample([*chosen, *mine[:1]], len(chosen) + len(mine[:1]))
    prompt = ASKED.format(passage="\n".join(chosen), question=drawn.question)
    return prompt, read_kind(asked, drawn.subject, prompt)


def number_windows(text: str) -> list[str]:
    """What ``regex_windows`` finds by one or more digits, with a window of 80."""
    found, end = [], 0
    for hit in re.finditer(r"\d+", text):
        if hit.start() >= end:
            end = hit.end() + 80
            found.append(text[max(0, hit.start() - 80) : end])
    return found


def name_prompt(stream: Stream, short: float) -> Prompt:
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
    if stream.random() < short:
        passage = shown.sentence
    form = NUMBER if one.value.isdigit() else NAME
    prompt = ASKED.format(passage=passage, question=form.format(name=one.about))
    return prompt, read_about(told, prompt)


PROMPTS = {"label": label_prompt, "kind": kind_prompt, "name": name_prompt}
