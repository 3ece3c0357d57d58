"""Properties that every generator has."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import tasks
from rlm.bench.tasks import niah, prose, words
from rlm.bench.tasks.stream import Stream, cell_seed, split_of
from rlm.errors import UsageError

SHORTEST = {"niah": 160, "long_doc_qa": 600, "long_doc_hops": 1000}
SHORTEST |= {"niah_keys": 900, "niah_values": 1400, "niah_queries": 1400, "niah_semantic": 400}
SHORTEST |= {"aggregate": 3000, "aggregate_visible": 3000, "pairs": 4000, "trace": 1200}
# Characters by which a needle may miss its depth: a filler sentence, and the other facts there.
SLACK = {"niah": 140, "long_doc_qa": 140 + 4 * 90}
PINNED = {
    ("niah", "eval"): "d0faa52062c9adedf2cdb6bb7b937aa3f127a71b935c1787996c9468e534aa13",
    ("niah", "train"): "6b4c2dd7d531d6ba32497d0410c8bb33fe0efd38a0e554f1e08adce85e25bc3a",
    ("long_doc_qa", "eval"): "66e962e394521386047d4a4bfad0bf3b222d975d639bec49767f4f190dcc0dbc",
    ("long_doc_qa", "train"): "e6276a0348631bfdf3e6d0505308054ec0f237f04248462e671a96cfc6cbdb21",
}

splits = st.sampled_from(["eval", "train"])
seeds = st.integers(0, 2**64 - 1)
depths = st.integers(0, 100)
names = st.sampled_from(tasks.names())
single = st.sampled_from(sorted(SLACK))
"""Tasks whose answer stands once in the document, in the only span."""


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
    assert abs(item.depth - depth / 100) * chars <= SLACK[name]
    start = item.spans[0].start
    assert start == 0 or item.document[start - 2] in ".?!"
    assert item.depth == pytest.approx(start / (chars - len(evidence)))


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


@pytest.mark.parametrize(("name", "split"), PINNED)
def test_documents_never_change(name, split):
    """Guards old records, and the embedded model's training data: raise SUITE_VERSION instead."""
    seed = cell_seed(0, split, name, 4096, 50, 0)
    item = tasks.get(name).generate(4096, 50, seed, split=split)
    assert hashlib.sha256(item.document.encode()).hexdigest() == PINNED[name, split]


@given(names, splits, seeds)
def test_a_document_too_short_is_refused(name, split, seed):
    with pytest.raises(UsageError, match=f"{name} document of .* too short.*larger length"):
        tasks.get(name).generate(SHORTEST[name] - 1, 50, seed, split=split)


def test_other_seeds_make_other_documents():
    made = {tasks.get("niah").generate(1024, 50, seed).document for seed in range(50)}
    assert len(made) == 50


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
