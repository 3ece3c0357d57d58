"""What the controls find without a model."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench.tasks import get
from rlm.bench.tasks.base import Item
from rlm.controls import OVERLAP_CHARS, PASSAGE_CHARS, PASSAGES, bm25, grep, relevant, split

TASKS = ("niah", "long_doc_qa")
texts = st.text(st.sampled_from("abAZ09 İßé.!?\n-"), max_size=4_000)


def items(task: str, chars: int, split: str) -> list[Item]:
    return [get(task).generate(chars, (10, 50, 90)[n % 3], n, split=split) for n in range(24)]


@pytest.mark.parametrize("split", ["eval", "train"])
@pytest.mark.parametrize("chars", [4_096, 65_536])
@pytest.mark.parametrize("task", TASKS)
def test_grep_solves_what_is_asked_in_the_words_of_the_text(task, chars, split):
    """Guards the label of such tasks: a control that misses them would say too much for a model."""
    made = items(task, chars, split)
    solved = sum(get(task).score(item, grep(item.document, item.question)).exact for item in made)
    assert solved >= 0.95 * len(made)


def test_grep_tells_what_stands_in_the_text():
    item = get("niah").generate(16_384, 50, 1)
    other = item.document.replace(item.gold, "QX-7731-B")
    assert grep(other, item.question) == "QX-7731-B"


@pytest.mark.parametrize(
    ("sentence", "question", "value"),
    [
        ("The vault code is 1,234.5 now.", "What is the vault code?", "1,234.5"),
        ("In 1994 the Foo budget was -20013 dollars.", "What was the Foo budget?", "-20013"),
        ("In 1994 the Foo budget was 20013 dollars.", "What was it for Foo in 1994?", "20013"),
        ("The painter Ada Moor lives in New Brno.", "Where does Ada Moor live?", "New Brno"),
        ("In 1998 the mill was bought by Ada Moor.", "Who bought the mill?", "Ada Moor"),
        ("Ada paints walls.", "Who paints walls?", "Ada"),
        ("The mill is yellow.", "The mill is what?", "yellow"),
    ],
)
def test_grep_gives_the_number_or_name_that_was_not_asked(sentence, question, value):
    document = f"It rained in the 4 towns. {sentence} Then 77 people came."
    assert grep(document, question) == value


def test_grep_takes_words_as_wholes():
    document = "Category 11111 is here. The cat is 22222. Concatenate 33333."
    assert grep(document, "Which cat?") == "22222"


def test_grep_looks_at_the_rarest_word_first():
    filler = "The factory sold 5 cars in the month. " * 200
    assert grep(f"{filler}The Zebra factory sold 7 cars. {filler}", "The Zebra factory?") == "7"


GREPS = """
from rlm.bench.tasks import get
from rlm.controls import grep
made = [get("long_doc_hops").generate(4_096, 50, seed) for seed in range(60)]
print([grep(item.document, item.question) for item in made])
"""


def test_grep_finds_the_same_in_every_process():
    """Guards `rlm verify`: two sentences that fit equally well were told apart by their rounding,
    which was that of the order in which a set gives its words."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", GREPS],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    ]
    assert len(set(runs)) == 1


@pytest.mark.parametrize(("document", "question"), [("", "What?"), ("abc.", "Zeta?"), ("a.", "")])
def test_grep_without_a_common_word_says_nothing(document, question):
    assert grep(document, question) == ""


@given(texts, texts)
def test_grep_gives_a_part_of_the_text(document, question):
    assert grep(document, question) in document


@given(texts, texts)
def test_passages_are_in_order_apart_and_of_the_text(document, question):
    found = relevant(document, question)
    assert all(0 <= p.start < p.stop <= len(document) for p in found)
    assert all(before.stop < after.start for before, after in pairwise(found))
    assert bool(found) == bool(document)


@given(texts)
def test_passages_cover_the_text_and_repeat_a_little(document):
    passages = list(split(document))
    assert [p.start for p in passages[:1]] == [0] * bool(document)
    assert [p.stop for p in passages[-1:]] == [len(document)] * bool(document)
    assert all(len(p) <= PASSAGE_CHARS + OVERLAP_CHARS for p in passages)
    for before, after in pairwise(passages):
        assert before.stop - OVERLAP_CHARS <= after.start <= before.stop
        assert before.start < after.start


@pytest.mark.parametrize("task", TASKS)
def test_passages_begin_and_end_with_sentences(task):
    document = items(task, 65_536, "eval")[0].document
    for passage in split(document):
        text = document[passage.start : passage.stop].strip()
        assert text[0].isupper()
        assert text[-1] == "."


@pytest.mark.parametrize("task", TASKS)
def test_the_evidence_is_found(task):
    for item in items(task, 65_536, "eval"):
        found = relevant(item.document, item.question)
        assert sum(map(len, found)) <= PASSAGES * (PASSAGE_CHARS + OVERLAP_CHARS)
        (span,) = item.spans
        assert any(p.start <= span.start and span.end <= p.stop for p in found)


def test_bm25_is_the_formula():
    """Robertson & Zaragoza (2009), eq. 3.15, with Lucene's logarithm; k1 = 1.2, b = 0.75."""
    weight = {"a": math.log(1 + 0.5 / 2.5), "b": math.log(1 + 1.5 / 1.5)}
    norm = {2: 1.2 * (0.25 + 0.75 * 2 / 3), 4: 1.2 * (0.25 + 0.75 * 4 / 3)}
    first = weight["a"] * 2.2 / (1 + norm[2]) + weight["b"] * 2.2 / (1 + norm[2])
    second = weight["a"] * 3 * 2.2 / (3 + norm[4])
    assert bm25(["A b", "a a c a"], "b? A!") == pytest.approx([first, second])


def test_bm25_prefers_rare_words_and_short_texts():
    scores = bm25(["a z", "a", "a a a a b b b b", "a b", "b"], "a z")
    assert scores[0] == max(scores)
    assert scores[1] > scores[3] > scores[4] == 0
    assert bm25([], "a") == []
    assert bm25(["", " "], "a") == [0, 0]
