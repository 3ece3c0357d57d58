"""The teacher on the task families that one search does not solve, on the train split.

Each draws an item, and plays a plan that decides by what the question says and by what it was
shown. Its code is the same for every item but for names and kinds: what the embedded model learns
is which of it a question calls for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rlm.bench.tasks import (
    aggregate,
    get,
    long_doc_hops,
    niah_keys,
    niah_queries,
    niah_semantic,
    niah_values,
    pairs,
    trace,
)
from rlm.bench.tasks.aggregate import Aggregate
from rlm.bench.tasks.base import Item
from rlm.bench.tasks.needles import place
from rlm.bench.tasks.stream import Stream
from rlm.messages import Message
from training.pretrain.pages import ABSENT, Asked, Page
from training.pretrain.passages import (
    KIND,
    NAME,
    NUMBER,
    WORDS,
    Told,
    answer,
    read_about,
    read_kinds,
)
from training.pretrain.play import LENGTHS, Play
from training.pretrain.teacher import (
    Plan,
    ScriptedClient,
    fenced,
    hits_shown,
    make_plan,
    shown_answer,
    sub_client,
)

KINDS = f"""found = (m.group() for m in re.finditer("[a-z]+", TEXT.lower()))
words = list(dict.fromkeys(found))
parts = [" ".join(words[i:i + {WORDS}]) for i in range(0, len(words), {WORDS})]
kind = {{}}
for a in query_chunks(parts, "{{chunk}}\\n\\n{KIND}", limit=250):
    kind |= dict(re.findall(r"(\\w+)=(\\w+)", a))"""
CANDIDATES = r"""hits = regex_windows(r"\d+", window=80, limit=9999)
KINDS
found = [h for h in hits for w in re.findall("[a-z]+", h.lower()) if kind.get(w) == "KIND"]
print(len(hits), found[:2])""".replace("KINDS", KINDS.replace("TEXT", '" ".join(hits)'))
EACH_NAME = """found = {}
for name in NAMES:
    for hit in keyword_windows(name, window=100, limit=3):
        a = llm_query(f"{hit}\\n\\nQuestion: ASK")
        if a != "not found":
            found[name] = a
print(found)"""
EACH_PLACE = """found = []
for hit in keyword_windows("NAME", window=100, limit=20):
    found.append(llm_query(f"{hit}\\n\\nQuestion: ASK"))
print(found)"""
SECOND_HOP = """name = llm_query(f"{hits[0]}\\n\\nQuestion: FIRST")
for hit in keyword_windows(name, window=100):
    print(llm_query(f"{hit}\\n\\nQuestion: ASK"))"""
LABELS = """KINDS
found = (m.group() for m in re.finditer("[a-z]+", context.lower()))
kinds = [kind[w] for w in found if w in kind]
print(len(words), len(kinds), kinds[:4])""".replace("KINDS", KINDS.replace("TEXT", "context"))
SHOWN_LABELS = f"""lines = context.split("\\n")
kinds = [re.findall(r"\\w+", line)[-1] for line in lines]
words = " ".join(re.findall("[a-z]+", lines[0].lower()))
print(len(lines), kinds[:4], llm_query(f"{{words}}\\n\\n{KIND}"))"""
FREQUENT = "FINAL({pick}(sorted(set(kinds)), key=kinds.count))"
FOLLOW = """hits = keyword_windows("VALUE", window=60)
print(llm_query(f"{hits[0]}\\n\\nQuestion: ASK"))
found = {"VALUE"}
for part in context.split(". "):
    names = re.findall(r"\\b[A-Z]{5}\\b|\\b\\d{5}\\b", part)
    if len(names) == 2 and found & set(names):
        found |= set(names)
print(sorted(found))"""
PAIRED = r"""KINDS
days = {}
for line in context.split("\n"):
    if any(kind.get(w) == "KIND" for w in re.findall("[a-z]+", line.lower())):
        day = re.search(r"\d+ [A-Z]\w+ \d{4}|\d[\d./-]+\d", line)
        who = re.search(r"[A-Z][\w-]+ [A-Z][\w-]+", line)
        days.setdefault(day.group(), set()).add(who.group())
pairs = []
for who in days.values():
    who = sorted(who)
    pairs += [f"{a} & {b}" for i, a in enumerate(who) for b in who[i + 1:]]
print(pairs)""".replace("KINDS", KINDS.replace("TEXT", "context"))
LOOK = 'hits = keyword_windows("NAME", window=100)\nfor hit in hits:\n    print(hit)'


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
    chars, seed = _chars(stream, 1_000), _seed(stream)
    drawn = niah_keys.draw(chars, seed, "train")
    item = place(drawn, "niah_keys", chars, stream.random(), seed, "train")
    needle = drawn.asked[0]
    asked = Asked(needle.key, needle.sentence, item.question, needle.value)
    plan = make_plan(stream, Page(item.document, (asked,), asked), asked)
    return _play(item, plan, sub_client(asked))


def semantic_play(stream: Stream) -> Play:
    """No keyword helps: around each number the words are looked at, by what kind they are."""
    chars, seed = _chars(stream, 1_000), _seed(stream)
    drawn = niah_semantic.draw(chars, seed, "train")
    item = place(drawn, "niah_semantic", chars, stream.random(), seed, "train")
    return _play(item, _candidates(stream, drawn.subject), reader(read_kinds))


def _candidates(stream: Stream, kind: str) -> Plan:
    if stream.random() < 0.3:
        yield fenced(LOOK.replace("NAME", kind))
    yield fenced(CANDIDATES.replace("KIND", kind))
    yield fenced('FINAL(re.search(r"\\d+", found[0]).group())')


def values_play(stream: Stream) -> Play:
    """All numbers that go with one name."""
    chars, seed = _chars(stream, 1_500), _seed(stream)
    drawn = niah_values.draw(chars, seed, "train")
    item = place(drawn, "niah_values", chars, None, seed, "train")
    told = [Told(n.key, n.value, n.sentence) for n in (*drawn.asked, *drawn.others)]
    name = drawn.asked[0].key
    code = EACH_PLACE.replace("NAME", name).replace("ASK", NUMBER.format(name=name))
    plan = _then(code, 'FINAL(", ".join(a for a in found if a != "not found"))')
    return _play(item, plan, reader(partial(read_about, told)))


def queries_play(stream: Stream) -> Play:
    """The numbers of several names."""
    chars, seed = _chars(stream, 1_500), _seed(stream)
    drawn = niah_queries.draw(chars, seed, "train")
    item = place(drawn, "niah_queries", chars, None, seed, "train")
    told = [Told(n.key, n.value, n.sentence) for n in (*drawn.asked, *drawn.others)]
    plan = _then(each_name([n.key for n in drawn.asked]), 'FINAL(", ".join(found.values()))')
    return _play(item, plan, reader(partial(read_about, told)))


def each_name(names: Sequence[str]) -> str:
    """Code that asks for the number of each of `names`."""
    listed = ", ".join(f'"{name}"' for name in names)
    return EACH_NAME.replace("NAMES", f"[{listed}]").replace("ASK", NUMBER)


def _then(*cells: str) -> Plan:
    for code in cells:
        yield fenced(code)


def hops_play(stream: Stream) -> Play:
    """A bridge, a comparison, or neither: what is asked is not there."""
    chars, seed, depth = _chars(stream, 1_500), _seed(stream), stream.below(101)
    item = get("long_doc_hops").generate(chars, depth, seed, split="train")
    made = long_doc_hops.puzzle(Stream("long_doc_hops", seed), depth / 100, "train")
    told = [Told(fact.subject, fact.value, fact.sentence) for fact in made.facts]
    plan = _bridge(made.asked[0]) if made.shape == "bridge" else _comparison(made.asked)
    return _play(item, plan, reader(partial(read_about, told)))


def _bridge(place: str) -> Plan:
    feedback = yield fenced(LOOK.replace("NAME", place))
    if not hits_shown(feedback, place):
        yield fenced(f'FINAL("{ABSENT}")')
        return
    feedback = yield fenced(
        SECOND_HOP.replace("FIRST", NAME.format(name=place)).replace("ASK", NUMBER)
    )
    yield fenced(f'FINAL("{shown_answer(feedback)}")')


def _comparison(names: Sequence[str]) -> Plan:
    feedback = yield fenced(each_name(names))
    if all(f"'{name}'" in feedback for name in names):
        yield fenced("FINAL(max(found, key=lambda name: int(found[name])))")
    else:
        yield fenced(f'FINAL("{ABSENT}")')


def trace_play(stream: Stream) -> Play:
    """Variables by code: a statement names two things, and what is linked to the value holds it."""
    chars, seed = _chars(stream, trace.SHORTEST), _seed(stream)
    item = get("trace").generate(chars, None, seed, split="train")
    value = trace.draw(Stream("trace", "train", seed), "train", chars).chains[0].value
    told = [Told(value, item.answers[0], item.document[item.spans[0].start : item.spans[0].end])]
    code = FOLLOW.replace("ASK", NAME.format(name=value)).replace("VALUE", value)
    plan = _then(code, f'FINAL(", ".join(sorted(found - {{"{value}"}})))')
    return _play(item, plan, reader(partial(read_about, told)))


def labels_play(stream: Stream, *, visible: bool) -> Play:
    """Lines by their kinds: the sub-model knows those of words, or they are shown; code counts."""
    name = "aggregate_visible" if visible else "aggregate"
    chars, seed = _chars(stream, aggregate.SHORTEST), _seed(stream)
    item = get(name).generate(chars, None, seed, split="train")
    made = aggregate.draw(Stream(name, "train", seed), "train", chars, visible=visible)
    plan = _then(SHOWN_LABELS if visible else LABELS, counting(made))
    return _play(item, plan, reader(read_kinds))


def pairs_play(stream: Stream) -> Play:
    """Lines of one kind, by the words that are of it; then people by day, in code.

    It knows dates such as 3 May 1999 and 1999-05-03 alone: on others it fails, and is not kept.
    """
    chars, seed = _chars(stream, pairs.SHORTEST), _seed(stream)
    item = get("pairs").generate(chars, None, seed, split="train")
    kind = pairs.draw(Stream("pairs", "train", seed), "train", chars).kind
    plan = _then(PAIRED.replace("KIND", kind), 'FINAL("; ".join(pairs))')
    return _play(item, plan, reader(read_kinds))


def counting(made: Aggregate) -> str:
    """The cell that answers from the list ``kinds``."""
    if made.asking == "count":
        return f'FINAL(kinds.count("{made.about[0]}"))'
    if made.asking == "compare":
        return f'FINAL(max(["{made.about[0]}", "{made.about[1]}"], key=kinds.count))'
    return FREQUENT.format(pick="max" if made.asking == "most" else "min")


def _play(item: Item, plan: Plan, sub: ScriptedClient) -> Play:
    task = get(item.task)
    return Play(
        text=item.document,
        question=item.question,
        plan=plan,
        sub=sub,
        is_right=lambda text: task.score(item, text).exact,
        in_vain=item.absent,
    )


def _chars(stream: Stream, least: int) -> int:
    return max(least, stream.choice(LENGTHS) + stream.below(500))


def _seed(stream: Stream) -> int:
    return stream.below(1 << 62)


SHARES: Sequence[tuple[float, Callable[[Stream], Play]]] = (
    (1.0, keys_play),
    (1.0, semantic_play),
    (1.0, values_play),
    (1.0, queries_play),
    (2.0, hops_play),
    (2.0, partial(labels_play, visible=False)),
    (1.0, partial(labels_play, visible=True)),
    (1.0, trace_play),
    (3.0, pairs_play),
)
"""How often each family is played, in proportion."""
