"""The teacher on the task families that one search does not solve, on the train split.

Each draws an item and plays a program in one cell: its first line says what is asked
(`training.pretrain.asking`), the rest is the same for every item of its kind. What the embedded
model learns is which program a question and the beginning of a text call for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from textwrap import indent

from rlm.bench.tasks import (
    aggregate,
    get,
    niah_queries,
    niah_semantic,
    niah_values,
    pairs,
)
from rlm.bench.tasks.base import Item
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from rlm.messages import Message
from training.pretrain.alone import HELD, alone_play
from training.pretrain.asking import (
    Goal,
    counting,
    nearing,
    pairing,
)
from training.pretrain.items import Solvable, hops_item, key_item, named_item, trace_item
from training.pretrain.pages import ABSENT, Page
from training.pretrain.passages import (
    KIND,
    NAME,
    NUMBER,
    WORDS,
    answer,
    read_about,
    read_kinds,
)
from training.pretrain.play import Play, item_play, some_chars, some_seed
from training.pretrain.teacher import (
    ScriptedClient,
    by_code,
    make_plan,
    sub_client,
)

KINDS = f"""found = (m.group() for m in re.finditer("[a-z]+", TEXT.lower()))
words = list(dict.fromkeys(found))
parts = [" ".join(words[i:i + {WORDS}]) for i in range(0, len(words), {WORDS})]
kind = {{}}
for a in query_chunks(parts, "{{chunk}}\\n\\n{KIND}", limit=250):
    kind |= dict(re.findall(r"(\\w+)=(\\w+)", a))
"""
NEAR = r"""hits = regex_windows(r"\d+", window=40, limit=99999)
KINDS
found = [h for h in hits for w in re.findall("[a-z]+", h.lower()) if kind.get(w) == near]
answer = next((n for h in found for n in re.findall(r"\d+", h)), "not found")
print(len(hits), found, answer)""".replace("KINDS\n", KINDS.replace("TEXT", '" ".join(hits)'))
NAMES = f"""found = []
for name in names:
    for hit in keyword_windows(name, window=100, limit=20):
        found.append(llm_query(f"{{hit}}\\n\\nQuestion: {NUMBER}"))
answer = ", ".join(a for a in found if a != "{ABSENT}")
print(answer)"""
OF_PLACE, OF_VALUE = NAME.format(name="{place}"), NAME.format(name="{value}")
PLACE = f"""answer = "{ABSENT}"
for hit in keyword_windows(place, window=100, limit=1) or [head(200)]:
    name = llm_query(f"{{hit}}\\n\\nQuestion: {OF_PLACE}")
    for hit in keyword_windows(name, window=100):
        a = llm_query(f"{{hit}}\\n\\nQuestion: {NUMBER}")
        if a.isdigit():
            answer = a
print(answer)"""
PAIR = f"""found = {{}}
for name in pair:
    for hit in keyword_windows(name, window=100):
        a = llm_query(f"{{hit}}\\n\\nQuestion: {NUMBER}")
        if a.isdigit():
            found[name] = int(a)
answer = max(found, key=found.get) if len(found) == 2 else "{ABSENT}"
print(found, answer)"""
LABELS = f"""lines = context.split("\\n")
kinds = [re.findall(r"\\w+", line)[-1] for line in lines]
words = " ".join(re.findall("[a-z]+", lines[0].lower()))
if len(set(kinds)) <= 8:
    print(llm_query(f"{{words}}\\n\\n{KIND}"))
else:
    KINDS
    found = (m.group() for m in re.finditer("[a-z]+", context.lower()))
    kinds = [kind[w] for w in found if w in kind]
answer = pick(kinds)
print(len(kinds), answer)""".replace(
    "KINDS", indent(KINDS.replace("TEXT", "context"), "    ").strip()
)
MARKS = (
    *(
        " {KIND}",
        " |KIND|",
        " -- KIND",
        " *KIND*",
        ' "KIND"',
        " [is KIND]",
        " [kind KIND]",
        " ~KIND",
    ),
    *(", KIND!", " [a KIND]", " [KIND?]", " ((KIND))", " ...KIND", " @KIND", " KIND;", " [-KIND-]"),
)
"""Ways to show a label, beside those of the train split; none is that of the eval split."""
RESTYLED = 0.7
"""Share of the documents with labels that get one of `MARKS`."""
OPENED = f"""hit = keyword_windows(value, window=60)[0]
print(llm_query(f"{{hit}}\\n\\nQuestion: {OF_VALUE}"))"""
BOTH = r"""KINDS
days = {}
for line in context.split("\n"):
    if any(kind.get(w) == both for w in re.findall("[a-z]+", line.lower())):
        day = re.search(r"\d+ [A-Z]\w+ \d{4}|\d[\d./-]+\d", line)
        who = re.search(r"[A-Z][\w-]+ [A-Z][\w-]+", line)
        days.setdefault(day.group(), set()).add(who.group())
found = [f"{a} & {b}" for who in days.values() for a in who for b in who if a < b]
answer = "; ".join(found)
print(answer)""".replace("KINDS\n", KINDS.replace("TEXT", "context"))


def solve_play(stream: Stream) -> Play:
    """One of the families, by `SHARES`."""
    drawn = stream.random() * sum(share for share, _ in SHARES)
    for share, play in SHARES:
        drawn -= share
        if drawn < 0:
            return play(stream)
    return SHARES[-1][1](stream)


def reader(reply: Callable[[str], str]) -> ScriptedClient:
    """A sub-model that says what `reply` says to its prompt, without the quote."""

    def say(messages: Sequence[Message]) -> str:
        return answer(reply(messages[-1].content))

    return ScriptedClient(say)


def keys_play(stream: Stream) -> Play:
    """One name among others: the plans for a page do."""
    item, asked = key_item(stream)
    plan = make_plan(stream, Page(item.document, (asked,), asked), asked)
    return item_play(item, plan, sub_client(asked))


def semantic_play(stream: Stream) -> Play:
    """No keyword helps: around each number the words are looked at, by what kind they are."""
    chars, seed = some_chars(stream, 1_000), some_seed(stream)
    drawn = niah_semantic.draw(chars, seed, "train")
    item = place(drawn, "niah_semantic", chars, stream.random(), seed, "train")
    return _program(item, nearing(stream, drawn.subject), NEAR, read_kinds)


def values_play(stream: Stream) -> Play:
    """All numbers that go with one name."""
    return _solved(named_item(stream, niah_values), NAMES)


def queries_play(stream: Stream) -> Play:
    """The numbers of several names."""
    return _solved(named_item(stream, niah_queries), NAMES)


def hops_play(stream: Stream) -> Play:
    """A bridge, a comparison, or neither: what is asked is not there."""
    made = hops_item(stream)
    return _solved(made, PLACE if made.shape == "bridge" else PAIR)


def trace_play(stream: Stream) -> Play:
    """Variables by code: a statement names two things, and what is linked to the value holds it."""
    return _solved(trace_item(stream), f"{OPENED}\n{HELD}")


def labels_play(stream: Stream, *, visible: bool) -> Play:
    """Lines by their kinds: the sub-model knows those of words, or they are shown; code counts."""
    name = "aggregate_visible" if visible else "aggregate"
    chars, seed = some_chars(stream, aggregate.SHORTEST), some_seed(stream)
    item = get(name).generate(chars, None, seed, split="train")
    made = aggregate.draw(Stream(name, "train", seed), "train", chars, visible=visible)
    if visible and stream.random() < RESTYLED:
        item = replace(item, document=restyled(stream, item.document))
    return _program(item, counting(stream, made.asking, made.about), LABELS, read_kinds)


def restyled(stream: Stream, text: str) -> str:
    """`text` with another mark around the label at the end of each line."""
    form = stream.choice(MARKS).replace("KIND", r"\1")
    return "\n".join(re.sub(r"(?:\W+kind\b)?\W*(\w+)\W*$", form, line) for line in text.split("\n"))


def pairs_play(stream: Stream) -> Play:
    """Lines of one kind, by the words that are of it; then people by day, in code.

    It misreads a month before its day, and a word with a capital before the name. Where it matters
    it fails, and is not kept.
    """
    chars, seed = some_chars(stream, pairs.SHORTEST), some_seed(stream)
    item = get("pairs").generate(chars, None, seed, split="train")
    kind = pairs.draw(Stream("pairs", "train", seed), "train", chars).kind
    return _program(item, pairing(stream, kind), BOTH, read_kinds)


def _program(item: Item, goal: Goal, body: str, reply: Callable[[str], str]) -> Play:
    """The question of `goal` on the document of `item`; its line of code, then `body`, solve it."""
    question, line = goal
    return item_play(replace(item, question=question), by_code(f"{line}\n{body}"), reader(reply))


def _solved(made: Solvable, body: str) -> Play:
    """What `body` solves, with a sub-model that says what the document tells of a name."""
    reply = partial(read_about, made.told)
    return item_play(made.item, by_code(f"{made.line}\n{body}"), reader(reply))


SHARES: Sequence[tuple[float, Callable[[Stream], Play]]] = (
    (1.0, keys_play),
    (1.5, semantic_play),
    (1.0, values_play),
    (1.0, queries_play),
    (2.0, hops_play),
    (2.0, partial(labels_play, visible=False)),
    (1.5, partial(labels_play, visible=True)),
    (1.0, trace_play),
    (1.5, pairs_play),
    (4.0, alone_play),
)
"""How often each family is played, in proportion."""
