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
from rlm.bench.tasks import get, long_doc_hops, niah_keys, niah_queries, niah_values, trace
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from training.pretrain.asking import hopping, naming, tracing
from training.pretrain.pages import ABSENT, Asked, Level, make_page
from training.pretrain.passages import Told
from training.pretrain.play import Draw, Play, item_play, some_chars, some_seed
from training.pretrain.teacher import Plan, ScriptedClient, fenced

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


def each_name(line: str, names: Sequence[str], told: Sequence[Told]) -> Plan:
    """All that is told about each of some names."""
    feedback = yield fenced(f"{line}\n{EACH.format(names='names')}")
    found = [fact for name in names for fact in shown(feedback, told, name)]
    values = ", ".join(dict.fromkeys(fact.value for fact in found))
    yield fenced(f'{"".join(map(quoted, found))}FINAL("{values or ABSENT}")')


def bridge(line: str, where: str, told: Sequence[Told]) -> Plan:
    """A name, what is told about it, and what is told about that."""
    feedback = yield fenced(f"{line}\n{HITS.format(name='place')}")
    found = shown(feedback, told, where)
    if not found:
        yield nothing(where)
        return
    person = found[0].value
    search = HITS.format(name=f'"{person}"')
    feedback = yield fenced(f"{quoted(found[0])}{search}")
    numbers = [fact for fact in shown(feedback, told, person) if fact.value.isdigit()]
    if numbers:
        yield fenced(f'{quoted(numbers[0])}FINAL("{numbers[0].value}")')
    yield nothing(person)


def comparison(line: str, pair: Sequence[str], told: Sequence[Told]) -> Plan:
    """Two names and the number of each."""
    feedback = yield fenced(f"{line}\n{EACH.format(names='pair')}")
    found = {name: shown(feedback, told, name) for name in pair}
    for name in pair:
        if not found[name]:
            yield nothing(name)
            return
    facts = [found[name][0] for name in pair]
    counts = ", ".join(f'"{fact.about}": {fact.value}' for fact in facts)
    lines = "".join(map(quoted, facts))
    yield fenced(f"{lines}n = {{{counts}}}\nFINAL(max(n, key=n.get))")


def by_code(line: str, body: str) -> Plan:
    """A cell that works the answer out, then FINAL."""
    yield fenced(f"{line}\n{body}")
    while True:
        yield fenced("FINAL(answer)")


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
    chars, seed = some_chars(stream, 1_000), some_seed(stream)
    drawn = niah_keys.draw(chars, seed, "train")
    item = place(drawn, "niah_keys", chars, stream.random(), seed, "train")
    needle = drawn.asked[0]
    asked = Asked(needle.key, needle.sentence, item.question, needle.value)
    return item_play(item, one_fact(stream, asked), SILENT)


def named_play(stream: Stream, family: ModuleType) -> Play:
    """All numbers of one name, or those of several."""
    chars, seed = some_chars(stream, 1_500), some_seed(stream)
    drawn = family.draw(chars, seed, "train")
    item = place(drawn, family.NAME, chars, None, seed, "train")
    told = [Told(n.key, n.value, n.sentence) for n in (*drawn.asked, *drawn.others)]
    names = list(dict.fromkeys(n.key for n in drawn.asked))
    question, line = naming(stream, drawn.subject, names)
    return item_play(replace(item, question=question), each_name(line, names, told), SILENT)


def hops_play(stream: Stream) -> Play:
    """A bridge, a comparison, or neither."""
    chars, seed, depth = some_chars(stream, 1_500), some_seed(stream), stream.below(101)
    item = get("long_doc_hops").generate(chars, depth, seed, split="train")
    made = long_doc_hops.puzzle(Stream("long_doc_hops", seed), depth / 100, "train")
    told = [Told(fact.subject, fact.value, fact.sentence) for fact in made.facts]
    question, line = hopping(stream, made)
    if made.shape == "bridge":
        plan = bridge(line, made.asked[0], told)
    else:
        plan = comparison(line, made.asked, told)
    return item_play(replace(item, question=question), plan, SILENT)


def trace_play(stream: Stream) -> Play:
    """Variables by code alone."""
    chars, seed = some_chars(stream, trace.SHORTEST), some_seed(stream)
    item = get("trace").generate(chars, None, seed, split="train")
    value = trace.draw(Stream("trace", "train", seed), "train", chars).chains[0].value
    question, line = tracing(stream, value)
    return item_play(replace(item, question=question), by_code(line, HELD), SILENT)


PLAYS: Sequence[Draw] = (
    *(page_play,) * 5,
    *(keys_play,) * 2,
    partial(named_play, family=niah_values),
    partial(named_play, family=niah_queries),
    *(hops_play,) * 2,
    trace_play,
)
"""How often each is played."""
