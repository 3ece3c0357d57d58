from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench.scoring import MAX_EXTRA_CHARS, is_correct, normalise, score_answer

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
