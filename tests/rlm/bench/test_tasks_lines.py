"""Documents of lines: what is counted, shown and asked."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import tasks
from rlm.bench.tasks import aggregate, lines
from rlm.bench.tasks.aggregate import ASKING, draw, margin, widened
from rlm.bench.tasks.kinds import kind_of, kinds
from rlm.bench.tasks.lines import EVAL, TRAIN, filler_words
from rlm.bench.tasks.stream import Stream, split_of

splits = st.sampled_from(["eval", "train"])
seeds = st.integers(0, 2**64 - 1)
sizes = st.integers(3000, 12_000)
both = st.sampled_from(["aggregate", "aggregate_visible"])
NOUN = re.compile(rf"\b(?:{'|'.join(kind_of())})\b")
SLOTS = {"date": "1", "person": "2", "noun": "3", "filler": "4", "kind": "5"}
PINNED = {
    ("aggregate", "eval"): "9b18bb19f98f1671",
    ("aggregate", "train"): "437991d842736dc8",
    ("aggregate_visible", "eval"): "f28c9ae2ba3e83a2",
    ("aggregate_visible", "train"): "bfe29d102fcd2753",
}


def counted(document):
    """Lines of each kind, by reading each line."""
    found = [NOUN.findall(line) for line in document.split("\n")]
    assert all(len(nouns) == 1 for nouns in found)
    return Counter(kind_of()[nouns[0]] for nouns in found)


@given(both, sizes, seeds, splits)
def test_the_answer_is_that_of_counting_each_line(name, chars, seed, split):
    made = draw(Stream("t", seed), split, chars, visible=name.endswith("visible"))
    counts = counted(made.lines.text)
    assert counts == made.counts
    assert set(counts) == set(kinds())
    ahead = margin(sum(counts.values()))
    order = counts.most_common()
    if made.asking == "most":
        assert made.gold == order[0][0]
        assert order[0][1] - order[1][1] >= ahead
    elif made.asking == "least":
        assert made.gold == order[-1][0]
        assert order[-2][1] - order[-1][1] >= ahead
    elif made.asking == "count":
        assert made.gold == str(counts[made.about[0]])
    else:
        (other,) = set(made.about) - {made.gold}
        assert counts[made.gold] - counts[other] >= ahead


@given(both, sizes, seeds, splits)
def test_spans_are_the_lines_of_what_is_asked_about(name, chars, seed, split):
    item = tasks.get(name).generate(chars, None, seed, split=split)
    counts = counted(item.document)
    stream = Stream(name, split, seed)
    wanted = draw(stream, split, chars, visible=name.endswith("visible")).about
    whole = [item.document[span.start : span.end] for span in item.spans]
    assert len(whole) == sum(counts[kind] for kind in wanted)
    assert set(whole) <= set(item.document.split("\n"))
    assert {kind_of()[NOUN.findall(line)[0]] for line in whole} == set(wanted)
    assert item.depth == item.spans[0].start / chars


@given(sizes, seeds, splits)
def test_what_lines_say_stands_on_them(chars, seed, split):
    made = draw(Stream("t", seed), split, chars, visible=False).lines
    assert [made.line(i).text for i in range(len(made))] == made.text.split("\n")
    for i in range(len(made)):
        line = made.line(i)
        assert all(line.text.count(each) == 1 for each in (line.date, line.person))
        assert split_of(line.person) == split
        assert kind_of()[line.noun] == line.kind


@given(both, seeds, splits)
def test_a_label_stands_on_a_line_only_where_it_is_shown(name, seed, split):
    document = tasks.get(name).generate(5000, None, seed, split=split).document
    for line in document.split("\n"):
        label = kind_of()[NOUN.findall(line)[0]]
        shown = [kind for kind in kinds() if kind in line]
        assert shown == ([label] if name == "aggregate_visible" else [])


def test_each_question_and_kind_is_asked_alike_often():
    """Guards against an answer that is right more often than chance."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for seed in range(800):
        made = draw(Stream("shares", seed), "eval", 3000, visible=False)
        asked[made.asking] += 1
        right[made.gold] += made.asking in ("most", "least")
        right["first"] += made.asking == "compare" and made.gold == made.about[0]
    assert all(abs(asked[each] - 200) < 50 for each in ASKING)
    assert abs(right["first"] - asked["compare"] / 2) < 35
    assert all(20 < right[kind] < 90 for kind in kinds())


@given(
    st.lists(st.integers(1, 60), min_size=8, max_size=8).filter(lambda n: sum(n) >= 24),
    st.sampled_from(ASKING),
)
def test_a_margin_is_made_from_any_counts(numbers, asking):
    counts = dict(zip(kinds(), numbers, strict=True))
    about = list(kinds()) if asking in ("most", "least") else ["bird", "game"]
    found = widened(counts, asking, about, margin(sum(numbers)))
    assert sum(found.values()) == sum(numbers)
    assert min(found.values()) >= 1


def test_people_have_several_lines_each_and_are_at_most_200():
    for chars, people in ((3000, 4), (30_000, 48), (524_288, 200)):
        made = draw(Stream("people", chars), "eval", chars, visible=False).lines
        assert 0.9 * people <= len(set(made.facts.persons)) <= people


def test_lines_of_a_long_document_have_the_length_they_are_said_to_have():
    text = draw(Stream("long", 1), "eval", 1_000_000, visible=False).lines.text
    sizes = [len(line) + 1 for line in text.split("\n")]
    assert abs(sum(sizes) / len(sizes) - lines.LINE_CHARS) < 1
    assert 80 < min(sizes) <= max(sizes) < 175


@pytest.mark.parametrize("wording", [EVAL, TRAIN])
def test_a_statement_has_each_slot_once_and_leaves_room_for_words(wording):
    """Guards the last line, which must hold three characters of filling words whatever it says."""
    longest = max(map(len, filler_words())) * 2 + 1 + len("12 September 2031")
    longest += max(map(len, kind_of())) + max(map(len, kinds()))
    for statement in wording.statements:
        for mark in wording.marks:
            full = (statement + mark).format(**SLOTS)
            assert all(full.count(value) == 1 for value in SLOTS.values())
            assert len(full) - 5 + longest < 100


def test_the_train_split_says_things_in_many_ways():
    assert len(TRAIN.statements) >= 10
    for asking in ASKING:
        assert len(set(aggregate.TRAIN.of[asking])) >= 12
    told = " ".join(q for each in aggregate.TRAIN.of.values() for q in each).lower()
    assert all(word in told for word in ("most", "least", "how many", "more", "lines", "often"))


def test_dates_of_the_splits_are_different_days():
    for split, low, high in (("eval", 2031, 2060), ("train", 1951, 2030)):
        years = {int(re.findall(r"\d{4}", day)[0]) for day in lines.days(Stream(1), split, 400)}
        assert low <= min(years) <= max(years) <= high


def test_a_date_is_written_as_people_write_it():
    day = date(2014, 5, 3)
    written = {lines._written(day, form) for form in (*TRAIN.dates, *EVAL.dates)}
    assert {"3 May 2014", "2014-05-03", "May 3, 2014", "03.05.2014", "3/5/2014"} <= written


def ngrams(texts):
    found = set()
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found |= {tuple(words[i : i + 4]) for i in range(len(words) - 3)}
    return found


@pytest.mark.parametrize("name", ["aggregate", "aggregate_visible", "pairs", "trace"])
def test_train_and_eval_share_no_wording(name):
    texts = {}
    for split in ("train", "eval"):
        items = [tasks.get(name).generate(4096, None, seed, split=split) for seed in range(150)]
        texts[split] = [text for item in items for text in (item.document, item.question)]
    assert not ngrams(texts["train"]) & ngrams(texts["eval"])


@given(both, splits, seeds)
def test_other_seeds_make_other_items(name, split, seed):
    task = tasks.get(name)
    one, two = (task.generate(3000, None, each, split=split) for each in (seed, seed ^ 1))
    assert one.document != two.document


@pytest.mark.parametrize("name", ["aggregate", "aggregate_visible"])
@pytest.mark.parametrize("split", ["eval", "train"])
def test_items_never_change(name, split):
    """Guards old records and the training data: raise SUITE_VERSION instead."""
    item = tasks.get(name).generate(4096, None, 7, split=split)
    text = f"{item.document}\n{item.question}\n{item.gold}"
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PINNED[name, split]


def test_an_answer_of_all_kinds_is_wrong():
    """Guards against naming every kind, which is short enough for a single answer."""
    task = tasks.get("aggregate")
    made = [task.generate(3000, None, seed) for seed in range(40)]
    kind = next(item for item in made if item.scorer == "answer")
    assert task.score(kind, f"The {aggregate.plural(kind.gold)}.").exact
    assert not task.score(kind, f"{kind.gold}, not {aggregate.rivals(kind.gold)[0]}").exact
    assert not task.score(kind, f"{kind.gold} or {aggregate.rivals(kind.gold)[-1]}").exact
    assert task.score(kind, kind.gold).exact
    assert not task.score(kind, ", ".join(kinds())).exact
    count = next(item for item in made if item.scorer == "count")
    assert task.score(count, count.gold).exact
    assert task.score(count, str(int(count.gold) + 2)).graded == 0.75**2
