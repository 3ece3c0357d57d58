"""The families of several needles: what they say of their documents is so, and nothing leaks."""

from __future__ import annotations

import re
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm import controls
from rlm.bench import tasks
from rlm.bench.tasks import (
    needles,
    niah_keys,
    niah_queries,
    niah_semantic,
    niah_values,
    words,
)
from rlm.bench.tasks.kinds import kind_of, kinds
from rlm.bench.tasks.stream import split_of

FAMILIES = {
    "niah_keys": niah_keys,
    "niah_values": niah_values,
    "niah_queries": niah_queries,
    "niah_semantic": niah_semantic,
}
SHORTEST = {"niah_keys": 900, "niah_values": 1400, "niah_queries": 1400, "niah_semantic": 400}

few = settings(max_examples=50)
families = st.sampled_from(sorted(FAMILIES))
lists = st.sampled_from(["niah_values", "niah_queries"])
splits = st.sampled_from(["eval", "train"])
seeds = st.integers(0, 2**64 - 1)
depths = st.integers(0, 100)
lengths = st.integers(0, 9000)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ngrams(texts: list[str], n: int) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        parts = words_of(text)
        found |= {tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)}
    return found


@few
@given(families, lengths, depths, seeds, splits)
def test_the_document_holds_what_was_drawn(name, extra, depth, seed, split):
    chars = SHORTEST[name] + extra
    item = tasks.get(name).generate(chars, depth, seed, split=split)
    drawn = FAMILIES[name].draw(chars, seed, split)
    assert item.question == drawn.question
    asked = [needle.value for needle in drawn.asked]
    assert item.gold == ", ".join(asked)
    assert item.answers == (tuple(asked) if len(asked) > 1 else ())
    for needle in (*drawn.asked, *drawn.others):
        assert needle.value in needle.sentence
        assert needle.key.lower() in needle.sentence.lower()
        assert needle.sentence in item.document
    evidence = [item.document[span.start : span.end] for span in item.spans]
    assert sorted(evidence) == sorted(needle.sentence for needle in drawn.asked)
    assert all(a.end < b.start for a, b in pairwise(item.spans))
    for span in item.spans:
        assert span.start == 0 or item.document[span.start - 2 : span.start] in (". ", "? ", "! ")
    first = item.spans[0]
    assert item.depth == pytest.approx(first.start / (chars - (first.end - first.start)))


@few
@given(families, lengths, depths, seeds, splits)
def test_numbers_are_of_the_split_and_the_answers_stand_once(name, extra, depth, seed, split):
    chars = SHORTEST[name] + extra
    item = tasks.get(name).generate(chars, depth, seed, split=split)
    drawn = FAMILIES[name].draw(chars, seed, split)
    found = re.findall(r"\d+", item.document)
    assert len(found) == sum(
        len(re.findall(r"\d+", text))
        for text in (*(n.sentence for n in (*drawn.asked, *drawn.others)), *drawn.noise)
    )
    assert all(len(value) == 5 and split_of(value) == split for value in found)
    for value in item.answers or (item.gold,):
        assert found.count(value) == 1
        assert value not in item.question
    assert not re.search(r"\d", item.question)


@few
@given(lists, depths, seeds, splits)
def test_a_family_without_a_depth_does_not_look_at_one(name, depth, seed, split):
    task = tasks.get(name)
    assert task.depths == ()
    assert task.generate(2048, depth, seed, split=split) == task.generate(
        2048, None, seed, split=split
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_other_seeds_make_other_items(name):
    made = [tasks.get(name).generate(2048, 50, seed) for seed in range(50)]
    assert len({item.document for item in made}) == 50
    assert len({item.gold for item in made}) == 50


@pytest.mark.parametrize("name", FAMILIES)
def test_train_and_eval_share_no_wording(name):
    made = {
        split: [
            text
            for seed in range(150)
            for item in [tasks.get(name).generate(1500, 50, seed, split=split)]
            for text in (item.document, item.question)
        ]
        for split in ("train", "eval")
    }
    assert not ngrams(made["train"], 4) & ngrams(made["eval"], 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_train_wordings_are_many_and_hold_the_words_that_decide_in_eval(name):
    family = FAMILIES[name]
    assert len(set(family.TRAIN.needles)) >= 10
    assert len(set(family.TRAIN.questions)) >= 12
    known = {word for text in family.TRAIN.questions for word in words_of(text)}
    decisive = {
        "niah_keys": {"what", "is", "of"},
        "niah_values": {"what", "are", "all"},
        "niah_queries": {"what", "are", "order"},
        "niah_semantic": {"which", "figure", "goes", "with", "kind", "of"},
    }[name]
    assert decisive <= {word for text in family.EVAL.questions for word in words_of(text)}
    assert decisive <= known


@few
@given(families, seeds, splits)
def test_the_filler_has_no_word_that_names_what_is_asked(name, seed, split):
    """A search for the name or the thing finds needles alone."""
    item = tasks.get(name).generate(4096, 50, seed, split=split)
    drawn = FAMILIES[name].draw(4096, seed, split)
    told = {needle.sentence for needle in (*drawn.asked, *drawn.others)}
    filler = item.document
    for sentence in told:
        filler = filler.replace(sentence, " ")
    names = " ".join(needle.key for needle in (*drawn.asked, *drawn.others))
    assert not set(words_of(f"{names} {drawn.subject}")) & set(words_of(filler))


@few
@given(seeds)
def test_keys_are_different_names(seed):
    drawn = niah_keys.draw(2048, seed, "eval")
    keys = [needle.key for needle in (*drawn.asked, *drawn.others)]
    assert len(set(keys)) == 1 + needles.NEEDLES == len(keys)
    assert drawn.question == f"What is the {drawn.subject} of {keys[0]}?"


@few
@given(seeds)
def test_values_are_of_one_name_and_the_question_does_not_say_how_many(seed):
    drawn = niah_values.draw(2048, seed, "eval")
    assert len({needle.key for needle in drawn.asked}) == 1
    assert len({needle.value for needle in drawn.asked}) == needles.NEEDLES
    assert drawn.question == f"What are all the {drawn.subject}s of {drawn.asked[0].key}?"


def test_how_many_values_there_are_in_training_varies():
    """Guards against a model that learns to stop at the fourth."""
    counts = {len(niah_values.draw(2048, seed, "train").asked) for seed in range(100)}
    assert counts == set(niah_values.TRAIN_VALUES)
    counts = {len(niah_queries.draw(2048, seed, "train").asked) for seed in range(100)}
    assert counts == set(niah_queries.TRAIN_KEYS)


@few
@given(seeds, splits)
def test_queries_are_answered_in_the_order_asked(seed, split):
    drawn = niah_queries.draw(2048, seed, split)
    asked = [needle.key for needle in drawn.asked]
    at = [drawn.question.index(key) for key in asked]
    assert at == sorted(at)
    assert len(set(asked)) == len(asked)
    assert not any(needle.key in drawn.question for needle in drawn.others)


@pytest.mark.parametrize("name", ["niah_values", "niah_queries"])
def test_the_order_asked_is_not_that_of_the_document(name):
    sorted_ones = 0
    for seed in range(200):
        item = tasks.get(name).generate(1400, None, seed)
        places = [item.document.index(value) for value in item.answers]
        sorted_ones += places == sorted(places)
    assert sorted_ones <= 25  # 200/24 are expected; more than 25 come once in a million


@pytest.mark.parametrize("name", ["niah_values", "niah_queries"])
def test_lists_are_judged_as_sets(name):
    task = tasks.get(name)
    item = task.generate(2048, None, 5)
    assert task.score(item, item.gold).exact
    assert task.score(item, "; ".join(reversed(item.answers))).exact
    assert not task.score(item, item.answers[0]).exact
    assert task.score(item, item.answers[0]).graded == pytest.approx(2 / 5)
    assert task.score(item, f"{item.gold}, 12345").graded < 1
    assert task.score(item, item.document).graded == 0


def test_no_word_of_a_semantic_question_stands_in_its_needle():
    """Not even as a part, as in bluebird; parts of two letters are in everything."""
    for kind, nouns in kinds().items():
        for noun, question, needle in product(
            nouns, niah_semantic.EVAL.questions, niah_semantic.EVAL.needles
        ):
            asked = words_of(question.format(kind=kind))
            told = words_of(needle.format(noun=noun, value="48213"))
            assert not set(asked) & set(told)
            clear = [(a, t) for a, t in product(asked, told) if min(len(a), len(t)) > 2]
            assert [(a, t) for a, t in clear if a in t or t in a] == []


@few
@given(lengths, seeds, splits)
def test_the_other_nouns_are_of_other_kinds_and_as_many_as_the_document_is_long(extra, seed, split):
    chars = 400 + 10 * extra
    drawn = niah_semantic.draw(chars, seed, split)
    asked = drawn.asked[0].key
    assert kind_of()[asked] == drawn.subject
    assert drawn.subject in words_of(drawn.question)
    assert len(drawn.others) == max(2, chars // 2048)
    assert drawn.subject not in {kind_of()[needle.key] for needle in drawn.others}


@few
@given(seeds, splits)
def test_no_filler_word_is_a_noun_or_kind(seed, split):
    drawn = niah_semantic.draw(8192, seed, split)
    filler = set(niah_filler(drawn, seed, split))
    assert not filler & {*drawn.without, *kinds(), *kind_of()}


def niah_filler(drawn: needles.Drawn, seed: int, split: str) -> list[str]:
    """Words of the document outside its needles."""
    text = tasks.get("niah_semantic").generate(8192, 50, seed, split=split).document
    for needle in (*drawn.asked, *drawn.others):
        text = text.replace(needle.sentence, " ")
    return words_of(text)


SEMANTIC = [
    tasks.get("niah_semantic").generate(32_768, (10, 50, 90)[seed % 3], 7_000 + seed)
    for seed in range(120)
]


def test_a_search_for_the_question_s_words_does_not_find_the_semantic_needle():
    """16 numbers of other kinds are there: one in 17 is what a guess among them gets."""
    task = tasks.get("niah_semantic")
    found = [controls.grep(item.document, item.question) for item in SEMANTIC]
    right = sum(
        task.score(item, answer).exact for item, answer in zip(SEMANTIC, found, strict=True)
    )
    assert right <= len(SEMANTIC) / 17
    assert {len(re.findall(r"\d{5}", item.document)) for item in SEMANTIC} == {17}


def test_bm25_ranks_the_semantic_needle_s_passage_no_better_than_another():
    """It is seldom the best of all, and on average not above the mean of the others."""
    above = 0
    gaps = []
    for item in SEMANTIC:
        passages = list(controls.split(item.document))
        scores = controls.bm25([item.document[p.start : p.stop] for p in passages], item.question)
        at = item.spans[0]
        scored = list(zip(passages, scores, strict=True))
        mine = [s for p, s in scored if p.start <= at.start and at.end <= p.stop]
        rest = [s for p, s in scored if p.stop <= at.start or p.start >= at.end]
        gaps.append(max(mine) - sum(rest) / len(rest))
        above += max(mine) > max(rest)
    assert sum(gaps) / len(gaps) <= 0.1
    assert above <= len(SEMANTIC) / 10


def test_bm25_shows_the_semantic_needle_as_often_as_it_shows_any_other_place():
    """Guards against ties: with no word to find, the first passages would be shown."""
    shown, hits = 0, dict.fromkeys((10, 50, 90), 0)
    for seed, item in enumerate(SEMANTIC):
        passages = controls.relevant(item.document, item.question)
        shown += sum(map(len, passages))
        at = item.spans[0]
        hits[(10, 50, 90)[seed % 3]] += any(p.start <= at.start < p.stop for p in passages)
    share = shown / sum(len(item.document) for item in SEMANTIC)
    assert 0.1 < share < 0.2
    assert all(hit <= 2 * share * len(SEMANTIC) / 3 for hit in hits.values())


def test_a_search_for_the_noun_would_find_the_semantic_needle():
    """So that the two tests above fail for lack of a shared word, and for nothing else."""
    right = 0
    for seed, item in enumerate(SEMANTIC):
        drawn = niah_semantic.draw(32_768, 7_000 + seed, "eval")
        right += controls.grep(item.document, f"Beside {drawn.asked[0].key}?") == item.gold
    assert right == len(SEMANTIC)


def test_all_words_that_hold_a_noun_are_left_out():
    left = set(words.words()) - niah_semantic.draw(400, 0, "eval").without
    assert len(left) > 5_000
    assert not [word for word in left for part in (*kinds(), *kind_of()) if part in word]
