"""Properties that every generator has."""

from __future__ import annotations

import hashlib
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm import controls
from rlm.bench import tasks
from rlm.bench.tasks import niah, prose, words
from rlm.bench.tasks.base import SPLITS
from rlm.bench.tasks.stream import Stream, cell_seed, split_of
from rlm.errors import UsageError

SHORTEST = {"niah": 160, "long_doc_qa": 600, "long_doc_hops": 1000}
SHORTEST |= {"niah_keys": 900, "niah_values": 1400, "niah_queries": 1400, "niah_semantic": 400}
SHORTEST |= {"aggregate": 3000, "aggregate_visible": 3000, "pairs": 4000, "trace": 1200}
PINNED = {  # the long ones are of more than one block of filler
    ("niah", "eval", 4_096): "f35fe30d0e5d16e906d92a603aa74189",
    ("niah", "train", 4_096): "466f452fb8e31b140f31b01c0e1fd1c4",
    ("niah", "eval", 600_000): "811e35e12a80eed4a33bb972b4aa562d",
    ("long_doc_qa", "eval", 4_096): "3a748c7d512b7661a0a5f14cece80176",
    ("long_doc_qa", "train", 4_096): "a68c200f21992ca2c4100b86d6315092",
    ("long_doc_qa", "eval", 600_000): "f5c57635aa864a7fa92dcf378aed28c3",
    ("niah_keys", "eval", 4_096): "dc76f18386fb82a07bd17eec4200fd6d",
    ("niah_keys", "train", 4_096): "10b622c6c9134144908356545cd4ca57",
    ("niah_keys", "eval", 600_000): "e9c5b9377ea54e442ff1856eb24067c1",
    ("niah_keys", "eval", 900): "e620db002fa0c00db45c246c7bb3f8df",
    ("niah_semantic", "eval", 400): "e978a9f418e9f4f789ca02c10e3afb8c",
    ("niah_values", "eval", 4_096): "c8af0ba14ddf30988756af8178d862cb",
    ("niah_values", "train", 4_096): "d9bb25907f21e711aa63b12d41ea7dbd",
    ("niah_values", "eval", 600_000): "46df414c169d88078785bca605ec6fec",
    ("niah_queries", "eval", 4_096): "9736c5426b017293d3a7df5dd4f96349",
    ("niah_queries", "train", 4_096): "fbf161bb0a13cc37e65bc35ae50b391d",
    ("niah_queries", "eval", 600_000): "ec35aed96d0291573f8760b7263b3180",
    ("niah_semantic", "eval", 4_096): "756ec90c2e05ecd718ab63d9cee8c0d2",
    ("niah_semantic", "train", 4_096): "9661546cb6f90215415be83dcf1967b6",
    ("niah_semantic", "eval", 600_000): "d4d66ea8a443deed86064827109faf24",
    ("long_doc_hops", "eval", 4_096): "c1bdf73e1cca50cd9451331d9500e57e",
    ("long_doc_hops", "train", 4_096): "05a11641be564117d140d7e7aeef4a7b",
    ("long_doc_hops", "eval", 600_000): "86fe87a1bd722e2344b268a9acc88b4d",
    ("aggregate", "eval", 4_096): "ed7a5a46472a0f368e314553f8a5d139",
    ("aggregate", "train", 4_096): "938e14d2a7d0da7dc5f2a8f0a9cf60c6",
    ("aggregate", "eval", 600_000): "c11510d0458aa35e8747f0edc7d08c23",
    ("aggregate_visible", "eval", 4_096): "6fc1b1d5eb3af696265993400dc4b93e",
    ("aggregate_visible", "train", 4_096): "6238f024339e62933a1d5f36d9e881f7",
    ("aggregate_visible", "eval", 600_000): "bf2f516bd185a32262bac7fce82d6e53",
    ("pairs", "eval", 4_096): "a368a8bf8c70561389eaa009ff219042",
    ("pairs", "train", 4_096): "149c25c492db02a34bc8f6bfdba3c456",
    ("pairs", "eval", 600_000): "5189112b112f2bbb8371d9ebe01ca1ce",
    ("trace", "eval", 4_096): "84e914dcf92ea3df82a52bae8b563c5b",
    ("trace", "train", 4_096): "c59aaabac2055870520ea2980df702c2",
    ("trace", "eval", 600_000): "aca9889a400a701769f24d4d84f65a99",
}

splits = st.sampled_from(["eval", "train"])
seeds = st.integers(0, 2**64 - 1)
depths = st.integers(0, 100)
names = st.sampled_from(tasks.names())
single = st.sampled_from(["long_doc_qa", "niah"])
"""Tasks whose answer stands once in the document, in the only span."""
with_depth = st.sampled_from(["niah", "niah_keys", "niah_semantic", "long_doc_qa", "long_doc_hops"])


@given(names, st.integers(0, 9000), depths, seeds, splits)
def test_every_document_is_as_long_as_asked(name, extra, depth, seed, split):
    item = tasks.get(name).generate(SHORTEST[name] + extra, depth, seed, split=split)
    assert len(item.document) == SHORTEST[name] + extra
    assert (item.task, item.split) == (name, split)
    assert all(0 <= span.start < span.end <= len(item.document) for span in item.spans)


@given(single, st.integers(0, 9000), depths, seeds, splits)
def test_every_item_is_well_formed(name, extra, depth, seed, split):
    chars = SHORTEST[name] + extra
    item = tasks.get(name).generate(chars, depth, seed, split=split)
    assert item.document.count(item.gold) == 1
    assert len(item.spans) == 1
    evidence = item.document[item.spans[0].start : item.spans[0].end]
    assert item.gold in evidence
    assert item.gold not in item.question
    assert split_of(item.gold) == split
    start = item.spans[0].start
    assert start == 0 or item.document[start - 2] in ".?!"
    assert item.depth == pytest.approx(start / (chars - len(evidence)))


@given(with_depth, st.integers(0, 90_000), depths, seeds, splits)
def test_no_other_sentence_boundary_is_nearer_to_the_depth(name, extra, depth, seed, split):
    """Be it one of the filler or of another fact, of which a long document has dozens."""
    chars = SHORTEST[name] + extra
    item = tasks.get(name).generate(chars, depth, seed, split=split)
    for span in item.spans[:1]:  # an abstention has none
        others = f"{item.document} "[: span.start] + f"{item.document} "[span.end + 1 :]
        boundaries = [0, *(found.end() for found in re.finditer(r"[.?!] ", others))]
        target = depth / 100 * (chars - (span.end - span.start))
        assert span.start in boundaries
        nearest = min(abs(each - target) for each in boundaries)
        assert abs(span.start - target) == nearest


@pytest.mark.parametrize(
    ("name", "chars"),
    [
        ("niah", 78),
        ("niah_keys", 82),
        ("niah_semantic", 80),
        ("long_doc_qa", 40),
        ("long_doc_hops", 40),
    ],
)
def test_how_far_from_its_depth_evidence_stands(name, chars):
    """Within a sentence: at most one ends in between. The pages of the families say how far."""
    missed, ends = [], set()
    for depth, sample in product((10, 50, 90), range(60)):
        seed = cell_seed(0, "eval", name, 16_384, depth, sample)
        item = tasks.get(name).generate(16_384, depth, seed)
        for span in item.spans[:1]:
            target = depth / 100 * (16_384 - (span.end - span.start))
            missed.append(abs(span.start - target))
            first, last = sorted((span.start, int(target)))
            ends.add(len(re.findall(r"[.?!] ", item.document[first : last + 1])))
    assert round(max(missed)) == chars
    assert ends == {0, 1}


@given(single, depths, seeds, splits)
def test_only_facts_hold_digits(name, depth, seed, split):
    item = tasks.get(name).generate(4096, depth, seed, split=split)
    numbers = re.findall(r"\d+", item.document)
    assert len(numbers) == {"niah": 1, "long_doc_qa": 5}[name]
    assert len(set(numbers)) == len(numbers)
    assert all(len(n) == 5 and split_of(n) == split for n in numbers)


@given(names, depths, seeds, splits)
def test_same_arguments_same_item(name, depth, seed, split):
    task = tasks.get(name)
    assert task.generate(4096, depth, seed, split=split) == task.generate(
        4096, depth, seed, split=split
    )


def test_every_family_is_pinned():
    assert {(name, split, 4_096) for name in tasks.names() for split in SPLITS} < set(PINNED)
    assert {(name, "eval", 600_000) for name in tasks.names()} < set(PINNED)


@pytest.mark.parametrize(("name", "split", "chars"), PINNED)
def test_items_never_change(name, split, chars):
    """Guards old records, and the embedded model's training data: raise SUITE_VERSION instead."""
    task = tasks.get(name)
    depth = 50 if task.depths else None
    item = task.generate(chars, depth, cell_seed(0, split, name, chars, depth, 0), split=split)
    told = (item.task, item.split, item.document, item.question, item.gold, item.answers)
    told += (item.rivals, [(span.start, span.end) for span in item.spans], item.depth)
    told += (item.scorer, item.absent)
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:32] == PINNED[name, split, chars]


@given(names, splits, seeds)
def test_a_document_too_short_is_refused(name, split, seed):
    with pytest.raises(UsageError, match=f"{name} document of .* too short.*larger length"):
        tasks.get(name).generate(SHORTEST[name] - 1, 50, seed, split=split)


@pytest.mark.parametrize("name", tasks.names())
def test_other_seeds_and_splits_make_other_items(name):
    made = [
        tasks.get(name).generate(SHORTEST[name], 50, seed, split=split)
        for seed, split in product(range(30), SPLITS)
    ]
    assert len({item.document for item in made}) == 60
    assert len({item.question for item in made}) > 2
    assert len({item.gold for item in made}) > 2


@pytest.mark.parametrize("name", ["aggregate", "aggregate_visible", "pairs", "trace"])
def test_grep_solves_none(name):
    """Where no sentence answers; the other families have tests of their own."""
    task = tasks.get(name)
    for seed in range(25):
        item = task.generate(16_384, None, seed)
        assert not task.score(item, controls.grep(item.document, item.question)).exact


def test_seed_depends_on_every_part_of_the_cell():
    base = (0, "eval", "niah", 4096, 50, 0)
    others = [(1, *base[1:]), (0, "train", *base[2:]), (0, "eval", "x", 4096, 50, 0)]
    others += [(0, "eval", "niah", 4097, 50, 0), (0, "eval", "niah", 4096, 10, 0)]
    others += [(0, "eval", "niah", 4096, None, 0), (0, "eval", "niah", 4096, 50, 1)]
    assert len({cell_seed(*parts) for parts in [base, *others]}) == 1 + len(others)


@given(seeds)
def test_names_and_values_belong_to_one_split(seed):
    for split in ("eval", "train"):
        stream = Stream(seed)
        assert split_of(words.entity(stream, split, set())) == split
        assert split_of(words.number(stream, split, set())) == split


def test_wordings_of_train_and_eval_are_disjoint():
    def texts(relations):
        return {t for r in relations for t in (*r.statements, *r.questions)}

    assert not texts(prose.EVAL_RELATIONS) & texts(prose.TRAIN_RELATIONS)
    assert not set(prose.EVAL_PROSE.sentences) & set(prose.TRAIN_PROSE.sentences)
    assert not set(niah.EVAL.needles) & set(niah.TRAIN.needles)
    assert not set(niah.EVAL.questions) & set(niah.TRAIN.questions)


@given(seeds)
def test_no_train_key_has_a_word_of_an_eval_key(seed):
    assert not set(niah.train_key(Stream(seed)).split()) & niah.RESERVED


def test_the_needle_words_stand_nowhere_else_in_the_haystack():
    item = tasks.get("niah").generate(200_000, 50, 7)
    key = item.question.removeprefix("What is the ").removesuffix("?")
    haystack = item.document.replace(item.document[item.spans[0].start : item.spans[0].end], "")
    assert not set(key.split()) & set(re.findall(r"\w+", haystack.lower()))


def test_unknown_task_says_what_exists():
    with pytest.raises(UsageError, match=r"'naih' \(did you mean 'niah'\?\).*long_doc_qa"):
        tasks.get("naih")
