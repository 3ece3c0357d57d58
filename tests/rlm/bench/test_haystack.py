"""The haystack: how documents are put together, how frequent their words are, what they cost."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections import Counter
from itertools import pairwise
from statistics import NormalDist, linear_regression
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import tasks
from rlm.bench.tasks import prose, words
from rlm.bench.tasks.stream import NUMBERS, Stream, table
from rlm.errors import RLMError

MILLION_TOKENS = 4 * 2**20
"""In characters."""

seeds = st.integers(0, 2**64 - 1)
placed = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 120)), max_size=8)


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    """The words of a million tokens, in order."""
    text, _ = words.document(
        Stream("haystack", 1), words.random_sentences(set()), MILLION_TOKENS, []
    )
    return re.findall(r"[a-z]+", text.lower())


def filler_of(stream: Stream, count: int) -> list[str]:
    """Sentences of letters that no fact has, of 1 to 90 characters and a mark."""
    return ["x" * (1 + n % 90) + "." for n in stream.block(count)]


@given(seeds, placed, st.integers(1, 3000), st.sampled_from([1, 3, words.BLOCK]))
def test_facts_stand_at_the_nearest_boundary(seed, placed, room, block):
    """Whatever the sentences, the facts and the size of a block."""
    facts = [(depth, "F" * length + "!") for depth, length in placed]
    chars = room + sum(len(text) + 1 for _, text in facts)
    with mock.patch.object(words, "BLOCK", block):
        text, spans = words.document(Stream(seed), filler_of, chars, facts)
    assert len(text) == chars
    assert [text[span.start : span.end] for span in spans] == [fact for _, fact in facts]
    filler = re.sub(r"F+!( |$)", "", text)
    boundaries = [0, *(found.end() + 1 for found in re.finditer(r"\.", filler))]
    for (depth, _), span in zip(facts, spans, strict=True):
        before = len(re.sub(r"F+! ", "", text[: span.start]))
        assert before in boundaries
        nearest = min(abs(boundary - depth * (room + 1)) for boundary in boundaries)
        assert abs(before - depth * (room + 1)) == nearest


@given(seeds, placed, st.integers(1, 3000), st.sampled_from([1, 3, words.BLOCK]), st.floats(0, 1))
def test_what_is_asked_stands_at_the_nearest_boundary_of_all(seed, placed, room, block, depth):
    """Other facts are where they are without it, and push it nowhere."""
    facts, asked = [(at, "F" * length + "!") for at, length in placed], "Asked?"
    chars = room + sum(len(text) + 1 for _, text in facts)
    with mock.patch.object(words, "BLOCK", block):
        without, places = words.document(Stream(seed), filler_of, chars, facts)
        chars += len(asked) + 1
        text, spans = words.document(Stream(seed), filler_of, chars, facts, [(depth, asked)])
    assert len(text) == chars
    assert f"{text} ".replace("Asked? ", "") == f"{without} "
    assert [text[span.start : span.end] for span in spans] == [asked, *(fact for _, fact in facts)]
    own, *rest = spans
    gap = len(asked) + 1
    assert [span.start - gap * (span.start > own.start) for span in rest] == [
        span.start for span in places
    ]
    boundaries = [0, *(found.end() + 1 for found in re.finditer(r"[.!]", without))]
    target = depth * (chars - len(asked))
    assert own.start in boundaries
    assert abs(own.start - target) == min(abs(each - target) for each in boundaries)


@given(seeds, placed, st.floats(0, 0.5), st.booleans(), st.sampled_from([1, 3, words.BLOCK]))
def test_two_asked_half_a_document_apart_do_not_push_each_other(
    seed, placed, depth, swapped, block
):
    facts = [(at, "F" * length + "!") for at, length in placed]
    asked = [(depth, "First?"), (depth + 0.5, "And second?")][:: -1 if swapped else 1]
    with mock.patch.object(words, "BLOCK", block):
        text, spans = words.document(Stream(seed), filler_of, 3000, facts, asked)
    for (at, sentence), span in zip(asked, spans[:2], strict=True):
        assert text[span.start : span.end] == sentence
        without = f"{text} ".replace(f"{sentence} ", "")
        boundaries = [0, *(found.end() for found in re.finditer(r"[.!?] ", without))]
        target = at * (3000 - len(sentence))
        assert abs(span.start - target) == min(abs(each - target) for each in boundaries)


@given(seeds, st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_facts_stand_in_the_order_of_their_depths(seed, depths):
    """And those of one depth in the order given."""
    facts = [(depth, f"<{i}>.") for i, depth in enumerate(depths)]
    text, _ = words.document(Stream(seed), filler_of, 2000, facts)
    order = [int(i) for i in re.findall(r"<(\d)>", text)]
    assert order == sorted(range(len(facts)), key=lambda i: depths[i])


@given(seeds, st.integers(words.MIN_LAST, 3000))
def test_no_last_sentence_is_a_stump(seed, chars):
    text, _ = words.document(Stream(seed), filler_of, chars, [])
    assert len(text.rpartition(". ")[2]) >= words.MIN_LAST


def test_what_cannot_be_placed_is_refused():
    fact = "It stands here."
    with pytest.raises(ValueError, match=r"depth 1\.5 of 'It stands here\.': depths go from 0 to"):
        words.document(Stream(1), filler_of, 400, [(1.5, fact)])
    with pytest.raises(ValueError, match=r"depth -1 of 'It stands here\.': depths go from 0 to"):
        words.document(Stream(1), filler_of, 400, [], [(-1, fact)])
    with pytest.raises(ValueError, match="facts of 16 characters in a document of 16: too short"):
        words.document(Stream(1), filler_of, 16, [], [(0.5, fact)])
    with pytest.raises(ValueError, match="facts of 16 characters in a document of 16: too short"):
        words.document(Stream(1), filler_of, 16, [(0.5, fact)])
    with pytest.raises(ValueError, match=r"'First\.' and another one are asked at the same depth"):
        words.document(Stream(1), filler_of, 400, [], [(1.0, "First."), (1.0, "Second.")])
    assert words.document(Stream(1), filler_of, 17, [(0, fact)])[0] == f"{fact} ."


def test_words_are_as_frequent_as_their_rank_says(drawn):
    """The law of Zipf: over ranks 10 to 1,000 the frequency falls about as 1 / rank."""
    counts = Counter(drawn)
    found = sorted(counts.values(), reverse=True)[9:1000]
    ranks = [math.log(rank) for rank in range(10, 1001)]
    slope, _ = linear_regression(ranks, [math.log(count) for count in found])
    assert -1.05 < slope < -0.85
    top = words.ranked_words()[:200]
    weights = [1 / (rank + words.ZIPF_SHIFT) for rank in range(1, len(words.ranked_words()) + 1)]
    for rank, word in enumerate(top, 1):
        expected = len(drawn) * weights[rank - 1] / sum(weights)
        assert abs(counts[word] - expected) < 5 * math.sqrt(expected) + 0.02 * expected


def test_new_words_come_ever_more_slowly(drawn):
    """Heaps' law: growth of the vocabulary as a power of 0.4 to 0.8, until the list is used up."""
    sizes = [len(set(drawn[:n])) for n in (300, 3000, 30_000)]
    growth = [math.log10(b / a) for a, b in pairwise(sizes)]
    assert 0.8 > growth[0] > growth[1] > 0.4
    assert set(drawn) >= set(words.words())


def test_sentences_are_as_long_as_a_lognormal_says(drawn):
    law = NormalDist(math.log(10), 0.45)
    longest = words.FEWEST_WORDS + len(words.SENTENCE_WORDS) - 1
    chances = [
        law.cdf(math.log(count + 0.5)) - law.cdf(math.log(count - 0.5))
        for count in range(words.FEWEST_WORDS, longest + 1)
    ]
    for weight, chance in zip(words.SENTENCE_WORDS, chances, strict=True):
        assert weight == pytest.approx(1000 * chance / sum(chances), abs=1)
    made = words.random_sentences(set())(Stream("lengths"), 20_000)
    counts = Counter(len(sentence.split()) for sentence in made)
    assert set(counts) == set(range(words.FEWEST_WORDS, longest + 1))
    for count, weight in enumerate(words.SENTENCE_WORDS, words.FEWEST_WORDS):
        assert abs(counts[count] - 20 * weight) < 5 * math.sqrt(20 * weight)


@given(seeds, st.sets(st.sampled_from(words.ranked_words()), max_size=12))
def test_words_left_out_are_in_no_sentence(seed, without):
    made = words.random_sentences(without)(Stream(seed), 100)
    assert not without & set(re.findall(r"\w+", " ".join(made).lower()))


@pytest.mark.parametrize("first", [1, 3, 6])
@pytest.mark.parametrize("more", [0, 200])
def test_the_others_share_what_is_left_out(first, more):
    """In proportion: the ratio of two words' shares does not depend on a third."""
    ranked = words.ranked_words()
    whole = Counter(words.zipf(set()))
    rest = Counter(words.zipf({ranked[0], *ranked[500 : 500 + more]}))
    assert rest.total() == whole.total() == NUMBERS
    a, b = ranked[first], ranked[first + 7]
    assert rest[a] / rest[b] == pytest.approx(whole[a] / whole[b], rel=0.02)


def test_the_words_of_both_orders_are_the_same():
    assert list(words.words()) == sorted(set(words.ranked_words()))
    assert words.ranked_words()[:4] == ("that", "from", "had", "other")


def test_a_changed_word_list_is_refused(tmp_path, monkeypatch):
    (tmp_path / "words.txt").write_text("other\nwords\n")
    monkeypatch.setattr(words, "files", lambda _: tmp_path)
    with pytest.raises(RLMError, match=r"words\.txt was changed"):
        words.ranked_words.__wrapped__()


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_a_table_holds_each_option_by_its_weight(weights):
    entries = table(range(len(weights)), weights)
    assert len(entries) == NUMBERS
    assert entries == sorted(entries)
    for option, weight in enumerate(weights):
        assert abs(entries.count(option) - NUMBERS * weight / sum(weights)) <= 1


def test_a_table_needs_a_weight_for_each_option():
    with pytest.raises(ValueError, match="shorter"):
        table("abc", [1, 2])


@pytest.mark.parametrize(("split", "texts"), [("eval", 12), ("train", 14)])
def test_filler_uses_its_sentences_evenly_and_holds_no_digit(split, texts):
    made = prose.filler(split)(Stream("prose", split), 14_000)
    known = prose.EVAL_PROSE if split == "eval" else prose.TRAIN_PROSE
    shapes = [
        re.compile(r"[\w ]+".join(re.escape(part) for part in re.split(r"\{\w+\}", text)))
        for text in known.sentences
    ]
    assert len(shapes) == texts
    counts = [sum(bool(shape.fullmatch(sentence)) for sentence in made) for shape in shapes]
    assert sum(counts) == len(made)
    assert all(abs(count - 14_000 / texts) < 5 * math.sqrt(14_000 / texts) for count in counts)
    assert not re.search(r"[\d{}]", " ".join(made))


@pytest.mark.parametrize("name", ["niah", "long_doc_qa"])
@pytest.mark.parametrize("split", ["eval", "train"])
def test_a_long_document_takes_little_memory(name, split):
    """A million tokens in at most 4 times the document's size; 10M are measured in micro/."""
    tasks.get(name).generate(4096, 50, 1, split=split)  # tables that all documents share
    chars = MILLION_TOKENS
    tracemalloc.start()
    try:
        item = tasks.get(name).generate(chars, 50, 1, split=split)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(item.document) == chars
    assert peak < 4 * chars
