"""The teacher without a sub-model, under the prompt of `repl`: it prints, reads and answers.

What it reads it writes down first, as a comment that copies the text from the name to the value:
to quote is to copy, which a small model does well (`training.pretrain.pages.reply`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

from rlm.bench.scoring import is_correct
from rlm.bench.tasks import niah_queries, niah_values
from rlm.bench.tasks.stream import Stream
from training.pretrain.items import Solvable, hops_item, key_item, named_item, trace_item
from training.pretrain.pages import ABSENT, Asked, Level, make_page
from training.pretrain.passages import Told
from training.pretrain.play import Draw, Play, item_play, some_chars
from training.pretrain.teacher import Plan, ScriptedClient, by_code, fenced

HITS = """hits = keyword_windows({name}, window=100)
for hit in hits:
    print(hit)"""
EACH = """for name in {names}:
    for hit in keyword_windows(name, window=50, limit=20):
        print(hit)"""
RAREST = """low = context.lower()
words = [w for w in re.findall(r"\\w+", query.lower()) if w in low]
words.sort(key=low.count)
for word in words[:2]:
    for hit in keyword_windows(word, window=100, limit=3):
        print(hit)"""
HELD = """held = {value}
for part in context.split(". "):
    two = re.findall(r"\\b[A-Z]{5}\\b|\\b\\d{5}\\b", part)
    if len(two) == 2 and held & set(two):
        held |= set(two)
answer = ", ".join(sorted(held - {value}))
print(answer)"""
SILENT = ScriptedClient(lambda _: ABSENT)


def alone_play(stream: Stream) -> Play:
    """One of `PLAYS`, by a teacher that has no sub-model."""
    return replace(stream.choice(PLAYS)(stream), recursive=False)


def quoted(fact: Told) -> str:
    """What stands in the text, from the name to the value."""
    core = fact.core
    if not core.lower().startswith(fact.about.lower()):
        core = f"{fact.about} before: {fact.value}"
    return f"# {core}\n"


def shown(feedback: str, told: Sequence[Told], about: str) -> list[Told]:
    """What is told about a name, as far as it was printed."""
    output = feedback.split("\nVariables:", maxsplit=1)[0]
    return [fact for fact in told if fact.about == about and fact.core in output]


def nothing(about: str) -> str:
    """The last cell where nothing is said about a name."""
    return fenced(f'# {about} nothing\nFINAL("{ABSENT}")')


def one_fact(stream: Stream, asked: Asked) -> Plan:
    """Search the name, or first something else; the rarest words where that shows nothing."""
    told = [Told(asked.key, asked.value, asked.sentence)]
    first = asked.key if stream.random() < 0.85 else asked.question.rstrip("?.")
    feedback = yield fenced(HITS.format(name=f'"{first}"'))
    if not shown(feedback, told, asked.key):
        feedback = yield fenced(RAREST)
    if shown(feedback, told, asked.key):
        yield fenced(f'{quoted(told[0])}FINAL("{asked.value}")')
    yield nothing(asked.key)


def each_name(made: Solvable) -> Plan:
    """All that is told about each of some names."""
    feedback = yield fenced(f"{made.line}\n{EACH.format(names='names')}")
    found = [fact for name in made.asked for fact in shown(feedback, made.told, name)]
    values = ", ".join(dict.fromkeys(fact.value for fact in found))
    yield fenced(f'{"".join(map(quoted, found))}FINAL("{values or ABSENT}")')


def bridge(made: Solvable) -> Plan:
    """A name, what is told about it, and what is told about that."""
    (place,) = made.asked
    feedback = yield fenced(f"{made.line}\n{HITS.format(name='place')}")
    found = shown(feedback, made.told, place)
    if not found:
        yield nothing(place)
        return
    person = found[0].value
    search = HITS.format(name=f'"{person}"')
    feedback = yield fenced(f"{quoted(found[0])}{search}")
    numbers = [fact for fact in shown(feedback, made.told, person) if fact.value.isdigit()]
    if numbers:
        yield fenced(f'{quoted(numbers[0])}FINAL("{numbers[0].value}")')
    yield nothing(person)


def comparison(made: Solvable) -> Plan:
    """Two names and the number of each."""
    feedback = yield fenced(f"{made.line}\n{EACH.format(names='pair')}")
    found = {name: shown(feedback, made.told, name) for name in made.asked}
    for name in made.asked:
        if not found[name]:
            yield nothing(name)
            return
    facts = [found[name][0] for name in made.asked]
    counts = ", ".join(f'"{fact.about}": {fact.value}' for fact in facts)
    lines = "".join(map(quoted, facts))
    yield fenced(f"{lines}n = {{{counts}}}\nFINAL(max(n, key=n.get))")


def page_play(stream: Stream) -> Play:
    """One fact of a page, or one that is not there."""
    level = Level()
    page = make_page(stream, some_chars(stream, 1_000), stream.between(1, 4), level)
    missing = stream.random() < level.absent
    asked = page.missing if missing else stream.choice(page.facts)
    wanted = ABSENT if missing else asked.value
    return Play(
        text=page.text,
        question=asked.question,
        plan=one_fact(stream, asked),
        sub=SILENT,
        is_right=lambda answer: is_correct(wanted, answer),
        in_vain=missing,
    )


def keys_play(stream: Stream) -> Play:
    """One name among others."""
    item, asked = key_item(stream)
    return item_play(item, one_fact(stream, asked), SILENT)


def named_play(stream: Stream, family: ModuleType) -> Play:
    """All numbers of one name, or those of several."""
    made = named_item(stream, family)
    return item_play(made.item, each_name(made), SILENT)


def hops_play(stream: Stream) -> Play:
    """A bridge, a comparison, or neither."""
    made = hops_item(stream)
    return item_play(made.item, (bridge if made.shape == "bridge" else comparison)(made), SILENT)


def trace_play(stream: Stream) -> Play:
    """Variables by code alone."""
    made = trace_item(stream)
    return item_play(made.item, by_code(f"{made.line}\n{HELD}"), SILENT)


PLAYS: Sequence[Draw] = (
    *(page_play,) * 5,
    *(keys_play,) * 2,
    partial(named_play, family=niah_values),
    partial(named_play, family=niah_queries),
    *(hops_play,) * 2,
    trace_play,
)
"""How often each is played."""
