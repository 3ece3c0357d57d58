"""The helper functions, alone: the worker runs this same source."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.prompts import templates
from rlm.sandbox import helpers
from rlm.sandbox.caseless import Caseless
from rlm.sandbox.lazylist import LazyList

LETTERS = st.sampled_from("abAB İIßẞñÑжЖ𐐀𐐨.\n")
texts = st.text(LETTERS, max_size=60)


@pytest.fixture
def look(monkeypatch):
    """Bind what the worker binds."""

    def look(context, query="q"):
        bound = {
            "context": context,
            "query": query,
            "TEXTS": templates("helpers"),
            "llm_query_batched": lambda prompts: [f"<{p}>" for p in prompts],
            "find_caseless": Caseless(context).find,
            "items": LazyList,
        }
        for name, value in bound.items():
            monkeypatch.setattr(helpers, name, value, raising=False)
        return helpers

    return look


def test_ends_and_slices(look):
    h = look("0123456789")
    assert (h.head(3), h.tail(3), h.head(99), h.tail(99)) == ("012", "789", *["0123456789"] * 2)
    assert (h.context_slice(2, 5), h.context_slice(8, 99), h.context_slice(5, 2)) == (
        "234",
        "89",
        "",
    )


@given(texts, st.integers(1, 20), st.integers(0, 19))
def test_chunks_cover_the_text_with_their_overlap(text, size, overlap):
    overlap = min(overlap, size - 1)
    helpers.context, helpers.items = text, LazyList
    chunks = helpers.chunk_text(size, overlap)
    rebuilt = "".join(c if i == 0 else c[overlap:] for i, c in enumerate(chunks))
    assert rebuilt == text
    assert all(len(c) == size for c in chunks[:-1])
    assert all(len(c) > overlap for c in chunks[1:])  # no chunk lies within the one before
    assert all(a[size - overlap :] == b[:overlap] for a, b in pairwise(chunks))


def same(a: str, b: str) -> bool:
    """Equal but for case, one character against one character."""
    return a == b or a.lower()[0] == b.lower()[0]


def naive_windows(text: str, keyword: str, window: int, limit: int) -> list[str]:
    found, end = [], 0
    for at in range(len(text) - len(keyword) + 1):
        hit = all(same(a, b) for a, b in zip(text[at:], keyword, strict=False))
        if hit and at >= end and len(found) < limit:
            end = at + len(keyword) + window
            found.append(text[max(0, at - window) : end])
    return found


@given(texts, st.text(LETTERS, min_size=1, max_size=3), st.integers(0, 6), st.integers(1, 4))
def test_keyword_windows_agree_with_a_naive_search(text, keyword, window, limit):
    helpers.context, helpers.find_caseless = text, Caseless(text).find
    expected = naive_windows(text, keyword, window, limit)
    assert helpers.keyword_windows(keyword, window, limit) == expected


def test_a_letter_whose_lower_case_is_longer_shifts_nothing(look):
    # Guards: searching in context.lower(), where every 'İ' moves what follows by one.
    assert look("İ" * 50 + "KEY!").keyword_windows("key", window=1) == ["İKEY!"]


def test_overlapping_hits_come_once(look):
    h = look("key key key" + "." * 20 + "key")
    assert h.keyword_windows("KEY", window=8) == ["key key key", "." * 8 + "key"]


def test_a_keyword_is_no_pattern(look):
    assert look("a.c abc").keyword_windows("a.c", window=0) == ["a.c"]


def test_regex_windows(look):
    h = look("code 123, CODE 456")
    assert h.regex_windows(r"code \d+", window=1) == ["code 123,"]
    assert h.regex_windows(r"code \d+", window=0, flags=re.I) == ["code 123", "CODE 456"]
    assert h.regex_windows(r"\d+", window=0, limit=1) == ["123"]


def test_a_pattern_that_matches_nothing_at_all_ends(look):
    assert look("ab").regex_windows("x*", window=0) == ["", "", ""]


def test_query_chunks_fills_three_slots_and_leaves_other_braces(look):
    h = look("", query="Who?")
    template = '{index} {query} {chunk} {"a": {}} {{x}} {other}'
    assert h.query_chunks(["one", "{query}"], template) == [
        '<0 Who? one {"a": {}} {{x}} {other}>',
        '<1 Who? {query} {"a": {}} {{x}} {other}>',
    ]


def test_query_chunks_asks_about_the_first_ones_only(look):
    assert look("").query_chunks(["a", "b", "c"], "{chunk}", limit=2) == ["<a>", "<b>"]


def test_query_chunks_takes_one_text_as_one_chunk(look):
    # Guards: a str is a sequence of its letters, one model call each.
    assert look("").query_chunks("abc", "{chunk}") == ["<abc>"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("head(0)", "n must be a whole number above 0, not 0"),
        ("tail(-1)", "n must be a whole number above 0, not -1"),
        ("head(True)", "n must be a whole number above 0, not True"),
        ("context_slice(-1, 2)", "start must be a whole number of 0 or more, not -1"),
        ("context_slice(0, None)", "end must be a whole number of 0 or more, not None"),
        ("chunk_text(0)", "size must be a whole number above 0, not 0"),
        ("chunk_text(2.5)", "size must be a whole number above 0, not 2.5"),
        ("chunk_text(10, -1)", "overlap must be a whole number of 0 or more, not -1"),
        ("chunk_text(100)", "overlap must be smaller than size: 200 is not below 100"),
        ("keyword_windows('')", "keyword must not be empty"),
        ("keyword_windows(7)", "keyword must be a string, not int"),
        ("keyword_windows('a', window=-1)", "window must be a whole number of 0 or more, not -1"),
        ("keyword_windows('a', limit=0)", "limit must be a whole number above 0, not 0"),
        ("regex_windows(None)", "pattern must be a string, not NoneType"),
        ("regex_windows('a', flags='i')", "the pattern 'a' does not compile: "),
        ("query_chunks(['a'], 3)", "prompt_template must be a string, not int"),
        ("query_chunks(['a', 3], '{chunk}')", "chunks[1] must be a string, not int"),
        ("query_chunks(['a'], '{chunk}', 0)", "limit must be a whole number above 0, not 0"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(look, call, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        eval(call, vars(look("some text")))


def test_a_broken_pattern_is_told(look):
    with pytest.raises(ValueError, match=r"the pattern '\(' does not compile: missing \)"):
        look("some text").regex_windows("(")


def test_the_source_runs_in_every_backend():
    """Plain functions only: no generator, class or ``del``."""
    banned = (
        ast.Yield,
        ast.YieldFrom,
        ast.GeneratorExp,
        ast.ClassDef,
        ast.Delete,
        ast.AsyncFunctionDef,
    )
    nodes = list(ast.walk(ast.parse(Path(helpers.__file__).read_text(encoding="utf-8"))))
    assert [type(n).__name__ for n in nodes if isinstance(n, banned)] == []
