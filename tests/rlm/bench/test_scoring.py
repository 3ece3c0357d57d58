from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import scoring
from rlm.bench.scoring import (
    MAX_EXTRA_CHARS,
    is_correct,
    normalise,
    score_answer,
    score_count,
    score_pattern,
    score_set,
)
from rlm.errors import UsageError

RIGHT = [
    ("12345", "12,345"),
    ("12345", "12345."),
    ("12345", ' "12345" '),
    ("12345", "The passcode is 12345."),
    ("12345", "**12345**"),
    ("12345", "It is 12345, as the text says."),
    ("12345", "$12,345"),
    ("12345", "12345"),
    ("48213", "48213.0"),
    ("48213", "$48,213.00"),
    ("48213.50", "48213.5"),
    ("48213", "It is 48213.00, says page."),
    ("48213", "the code 48213-48213"),
    ("48213", "- 48213"),
    ("-48213", "-48,213"),
    ("-48213", "It is \N{MINUS SIGN}48213."),
    ("Copper Lantern", "copper  lantern"),
    ("Copper Lantern", "The answer is Copper Lantern."),
]
WRONG = [
    ("12345", ""),
    ("12345", "I do not know."),
    ("23456", "1234567"),
    ("12345", "12345.5"),
    ("12345", "0.12345"),
    ("12345", "123456"),
    ("12345", "x12345"),
    ("12345", "48213 or 12345"),
    ("48213", "48213 or 59131"),
    ("48213", "48213, 59131"),
    ("12345", "12 345"),
    ("12345", "It is 12345, not 1."),
    ("48213", "-48213"),
    ("48213", "It is -48213."),
    ("48213", "-$48,213"),
    ("-48213", "48213"),
    ("48213", "48213.01"),
    ("48213", "v1.48213"),
    ("48213", "48213th"),
    ("00482", "482"),
    ("48210", "4821"),
    ("Copper Lantern", "Copper"),
    ("Copper Lantern", "Copper Lanterns"),
]


@pytest.mark.parametrize(("gold", "text"), RIGHT)
def test_right(gold, text):
    assert is_correct(gold, text)


@pytest.mark.parametrize(("gold", "text"), WRONG)
def test_wrong(gold, text):
    assert not is_correct(gold, text)


@given(st.text(min_size=MAX_EXTRA_CHARS + 1).map(lambda s: "a" * MAX_EXTRA_CHARS + s))
def test_a_dump_is_wrong_even_without_a_rival_number(rest):
    """Guards against FINAL(context): the answer stands in it, and so does all else."""
    assert not is_correct("12345", f"The passcode is 12345. {rest}")


@given(st.integers(10000, 99999), st.integers(0, 10**9))
def test_a_second_number_is_hedging(gold, other):
    if gold != other:
        assert not is_correct(str(gold), f"{gold} or {other}")


@given(st.text(st.characters(codec="ascii")))
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once


def test_scores():
    assert score_answer("12345", "12,345").graded == 1.0
    assert not score_answer("12345", "54321").exact


def test_any_of_several_wordings_is_right():
    assert score_answer("Copper Lantern", "The Lantern.", "the lantern").exact
    assert not score_answer("Copper Lantern", "Lantern of tin", "the lantern").exact
    assert not score_answer("12", "12 or 13", "13").exact


@pytest.mark.parametrize(
    "text", ["Copper Lantern", "the copper lantern library.", "It is Copper Lantern"]
)
def test_a_right_answer_may_name_what_is_no_rival(text):
    assert score_answer("Copper Lantern", text, rivals=("Lantern of Tin", "copper lant")).exact


@pytest.mark.parametrize("text", ["Copper Lantern or amber gate", "Copper Lantern, not stated."])
def test_an_answer_that_holds_a_rival_is_wrong(text):
    assert score_answer("Copper Lantern", text).exact
    assert not score_answer("Copper Lantern", text, rivals=("Amber Gate", "not stated")).exact


@pytest.mark.parametrize(
    "text",
    [
        *("Not a bird", "no bird", "No birds.", "neither bird", "It isn't a bird", "not the bird"),
        *("It is not bird", "It isn\N{RIGHT SINGLE QUOTATION MARK}t any bird", "nor a bird"),
        *("**not** bird", "not 'a bird'", 'no "bird"'),
    ],
)
def test_of_two_kinds_a_denied_one_is_the_other(text):
    assert not score_answer("bird", text, "birds", rivals=("game", "games")).exact


@pytest.mark.parametrize("text", ["A bird, no doubt.", "No. Bird!", "bird, not sure", "no, a bird"])
def test_a_denial_of_something_else_denies_nothing(text):
    assert score_answer("bird", text, "birds", rivals=("game", "games")).exact


def test_a_number_and_an_abstention_are_not_denied():
    assert score_answer("48213", "badge no 48213", rivals=("not stated",)).exact
    assert score_answer("not stated", "It is not stated.", rivals=("48213",)).exact
    assert score_answer("no answer", "no answer", "not stated", rivals=("48213",)).exact


CITIES = ("Paris", "Rome", "London")
SAME = [
    (CITIES, "Rome, London, Paris"),
    (CITIES, "paris; ROME; london."),
    (CITIES, "- Paris\n- **Rome**\n- London\n"),
    (CITIES, "1. Paris\n2. Rome\n3) London"),
    (CITIES, "Paris, Rome, and London"),
    (CITIES, "The cities are: Paris, Rome, London"),
    (CITIES, "**Cities:**\n\n* Paris\n* Rome\n* London"),
    (CITIES, '["Paris", "Rome", "London"]'),
    (CITIES, "['Paris', 'Rome', 'London']"),
    (CITIES, "{'Paris', 'Rome', 'London'}"),
    (CITIES, "Paris, Rome, London, Paris"),
    (("48213", "5.5"), "5.50, 48213"),
    (("48213", "-7"), "[48213, -7]"),
    (("Washington, D.C.", "Paris"), "Paris; Washington, D.C."),
    (("Washington, D.C.", "Paris"), "['Washington, D.C.', 'Paris']"),
    (("12,345", "678"), "12345, 678"),
    (("Ann: 5", "Bob: 3"), "Ann: 5, Bob: 3"),
    (("Zürich",), '["Z\\u00fcrich"]'),
    (CITIES, "Paris, Rome and London"),
    (CITIES, "Paris and Rome and London."),
    (CITIES, "The cities are Paris, Rome, London."),
    (CITIES, "The cities that he saw are: Paris, Rome and London."),
    (CITIES, "Ann Lee: Paris\nBob Ray: Rome\nCid Fox: London"),
    (CITIES, "Here they are:\n- Ann Lee: Paris\n- Bob Ray: Rome\n- Cid Fox: London"),
    (CITIES, "Ann's is Paris, Bob's is Rome and Cid's is London"),
    (("10281", "87379", "-7"), "10281 87379 -7"),
    (("10281", "87379"), "The codes are 10281 87379."),
    (("XICXO", "MCPAI", "VYIZK"), "VAR XICXO, VAR MCPAI, VAR VYIZK"),
    (("XICXO", "MCPAI", "VYIZK"), "VAR XICXO, VAR MCPAI and VAR VYIZK"),
    (("XICXO", "MCPAI", "VYIZK"), '["VAR XICXO", "VAR MCPAI", "VAR VYIZK"]'),
    (("XICXO", "MCPAI", "VYIZK"), "XICXO, MCPAI and VYIZK"),
    (("Trial and Error", "Rome"), "Trial and Error, Rome"),
    (("Here is Rome", "Paris"), "Here is Rome, Paris"),
]


@pytest.mark.parametrize(("gold", "text"), SAME)
def test_a_list_in_any_order_and_shape(gold, text):
    assert (score_set(gold, text).exact, score_set(gold, text).graded) == (True, 1.0)


@pytest.mark.parametrize(
    ("gold", "text", "graded"),
    [
        (CITIES, "", 0.0),
        (CITIES, "I do not know.", 0.0),
        (CITIES, "Paris", 0.5),
        (CITIES, "Paris, Rome", 0.8),
        (CITIES, "Paris, Rome, London, Oslo, Kiev", 0.75),
        (CITIES, "Paris Rome London", 0.0),
        (CITIES, "Parisian, Rome", 0.4),
        (("12", "34"), "12, -34", 0.5),
        (CITIES, "Not these are Paris, Rome, London", 2 / 3),
        (CITIES, "not Paris, not Rome, not London", 0.0),
        (CITIES, "Paris is right, Rome, London", 2 / 3),
        (CITIES, "New Paris, New Rome, New London", 0.0),
        (CITIES, "Ann: Paris\nBob: Rome or Oslo\nCid: London", 2 / 3),
        (("10281", "87379"), "10281 87379 11111", 0.8),
        (("10281", "87379"), "10281 or 87379", 0.0),
        (("10281", "87379"), "102 81 87379", 0.4),
    ],
)
def test_a_list_that_is_not_the_same_has_its_f1(gold, text, graded):
    assert not score_set(gold, text).exact
    assert score_set(gold, text).graded == pytest.approx(graded)


def keyed(members):
    return "\n".join(
        f"Key {'abcdefghijklmnopqrstuvwxyz'[i % 26]}: {m}" for i, m in enumerate(members)
    )


WAYS = {
    "commas": ", ".join,
    "and": " and ".join,
    "last and": lambda members: " and ".join([", ".join(members[:-1]), members[-1]]),
    "are": lambda members: f"The codes are {', '.join(members)}.",
    "keys": keyed,
    "blanks": " ".join,
    "label": lambda members: ", ".join(f"VAR {member}" for member in members),
}
numbers = st.lists(st.integers(10_000, 99_999).map(str), min_size=2, max_size=9, unique=True)


@pytest.mark.parametrize("way", WAYS)
@given(numbers, st.integers(1, 8), st.lists(st.integers(100_000, 999_999).map(str), max_size=9))
def test_a_list_is_worth_the_same_in_whatever_way_it_is_written(way, gold, kept, wrong):
    """Guards against a way of writing that hides a wrong member, or makes up for a missing one."""
    told = [*gold[:kept], *wrong]
    if len(told) < 2:
        return
    assert score_set(gold, WAYS[way](gold)).exact
    assert score_set(gold, WAYS[way](told)) == score_set(gold, json.dumps(told))
    assert score_set(gold, WAYS[way](told)).exact == (set(told) == set(gold))


@pytest.mark.parametrize("way", WAYS)
def test_no_way_of_writing_makes_a_dump_win(way):
    gold = [str(n) for n in range(10_000, 10_004)]
    dump = [str(n) for n in range(10_000, 10_040)]
    assert score_set(gold, WAYS[way](dump)).graded == 0.0
    assert score_set(gold, WAYS[way](gold * 20)).graded == 0.0


@pytest.mark.parametrize("mark", [", ", "\n", "; "])
def test_a_list_of_everything_is_wrong(mark):
    """Guards the graded score too: all members stand in a dump."""
    dump = mark.join([*CITIES, *(f"City {i}" for i in range(20))])
    assert score_set(CITIES, dump).graded == 0.0
    assert score_set(CITIES, mark.join(CITIES * 20)).graded == 0.0


@given(st.sets(st.text("abcxyz", min_size=1, max_size=9), min_size=1, max_size=9), st.randoms())
def test_f1_of_lists_is_what_it_is_of_sets(gold, random):
    found = {each for each in gold if random.random() < 0.5}
    f1 = 2 * len(found) / (len(found) + len(gold))
    assert score_set(gold, ", ".join(found)).graded == pytest.approx(f1)


@pytest.mark.parametrize(
    ("gold", "text", "graded"),
    [
        (7, "7", 1.0),
        (7, "There are 7 of them.", 1.0),
        (1200, "1,200", 1.0),
        (-3, "-3", 1.0),
        (7, "7.0", 1.0),
        (7, "8", 0.75),
        (7, "5", 0.75**2),
        (7, "-7", 0.75**14),
        (7, "seven", 0.0),
        (7, "7.5", 0.0),
        (7, "7 or 8", 0.0),
        (7, "v7", 0.0),
        (12, "012", 0.0),
        (7, "-07", 0.0),
        (0, "0", 1.0),
        (0, "00", 0.0),
        (7, "", 0.0),
        (7, "7" + " and so on" * 11, 0.0),
        (7, "9" * 90, 0.0),
    ],
)
def test_counts(gold, text, graded):
    scores = score_count(gold, text)
    assert scores.graded == pytest.approx(graded)
    assert scores.exact == (graded == 1.0)


@pytest.mark.parametrize(
    ("pattern", "text", "right"),
    [
        ("(the )?copper lantern", "Copper Lantern.", True),
        ("(The )?Copper Lantern", "the copper lantern", True),
        ("copper", "copper lantern", False),
        (r"\d{5}", "12,345", True),
        (".*", "", False),
        (".*", "anything", True),
        (".*", "anything " * 20, False),
        ("a", "\ud800", False),
    ],
)
def test_patterns(pattern, text, right):
    assert score_pattern(pattern, text).exact == right


def test_a_pattern_that_takes_years_is_given_up(monkeypatch):
    monkeypatch.setattr(scoring, "PATTERN_SECONDS", 0.5)
    with pytest.raises(UsageError, match=r"'\(a\+\)\+b' cannot be matched within 0.5 s"):
        score_pattern("(a+)+b", "a" * 60)
