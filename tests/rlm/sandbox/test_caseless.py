"""`Caseless` finds what `re.IGNORECASE` finds, in all of Unicode."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.sandbox import caseless
from rlm.sandbox.caseless import BLOCK, KEPT, OTHER, PIECE, Caseless, fold

EVERY = [chr(code) for code in range(sys.maxunicode + 1)]
ODD = st.sampled_from(KEPT + OTHER + "İIKÅßẞŸÿΣ\u039cEéÉЖж𐐀𐐨aAsS .\ud800")
odd_texts = st.text(ODD | st.characters(), max_size=40)


def test_no_character_moves_another() -> None:
    text = "".join(EVERY)
    assert len(fold(text)) == len(text)
    # Guards: str.lower makes a final sigma of one that ends a word, and only of that.
    assert fold("ΟΔΟΣ ΟΔΟΣΑ") == fold("οδος οδοςα")


def test_two_characters_are_one_where_re_says_so() -> None:
    classes: dict[str, set[str]] = {}
    for character in EVERY:
        classes.setdefault(fold(character), set()).add(character)
    text = "".join(EVERY)
    assert sum(len(each) > 1 for each in classes.values()) > 1300
    for each in (each for each in classes.values() if len(each) > 1):
        for character in each:
            found = re.findall(re.escape(character), "".join(each), re.IGNORECASE)
            assert set(found) == each
    # One look at all of Unicode for each kind of letter that has a class of its own.
    for character in "kKsSiIİåßẞΣς\u0131\u017f\u212a\u00b5\u039c\u212b\u0431":
        assert set(re.findall(character, text, re.IGNORECASE)) == classes[fold(character)]


def test_characters_without_a_partner_have_none_for_re() -> None:
    """The other direction for all at once: each character beside all that differ from it in fold.

    `re` is asked with the letters that case can touch, in one set.
    """
    alone = [c for c in EVERY if fold(c) == c and c.upper() == c and c.lower() == c]
    cased = "".join(c for c in EVERY if not (c.upper() == c == c.lower()))
    pattern = re.compile("[" + re.escape(cased) + "]", re.IGNORECASE)
    odd = [c for c in alone if pattern.match(c)]
    assert odd == []


@given(odd_texts, st.data(), st.integers(0, 50))
def test_places_are_those_of_re(text: str, data: st.DataObject, start: int) -> None:
    at = data.draw(st.integers(0, len(text)))
    part = text[at : at + data.draw(st.integers(1, 3))]
    keyword = data.draw(st.sampled_from([part, part.swapcase()]) | st.text(ODD, min_size=1))
    keyword = keyword or "k"
    hit = re.compile(re.escape(keyword), re.IGNORECASE).search(text, start)
    assert Caseless(text).find(keyword, start) == (hit.start() if hit else -1)


def test_a_keyword_may_lie_across_two_pieces() -> None:
    text = "é" + "x" * (PIECE - 4) + "Harbour" + "İ" * PIECE + "Quay"
    finder = Caseless(text)
    assert text[PIECE - 3 :].startswith("Harbour")
    assert finder.find("hARBOUR") == PIECE - 3
    assert text[finder.find("quay") :] == "Quay"


@given(odd_texts, st.data(), st.lists(st.integers(0, 45), min_size=1, max_size=3))
def test_places_are_those_of_re_in_blocks_of_any_size(
    text: str, data: st.DataObject, starts: list[int]
) -> None:
    """One finder for several searches, with keywords that lie across blocks or hold whole ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caseless, "BLOCK", data.draw(st.integers(1, 9)))
        patch.setattr(caseless, "PIECE", data.draw(st.integers(1, 9)))
        finder = Caseless(text)
        for start in starts:
            at = data.draw(st.integers(0, len(text)))
            keyword = text[at : at + data.draw(st.integers(1, 12))].swapcase() or "k"
            hit = re.compile(re.escape(keyword), re.IGNORECASE).search(text, start)
            assert finder.find(keyword, start) == (hit.start() if hit else -1)


@pytest.mark.parametrize("end", [-7, -6, -3, -1, 0])
def test_a_keyword_may_lie_across_two_blocks(end: int) -> None:
    at = 2 * BLOCK + end
    text = "é" + "x" * (at - 1) + "Harbour" + "x" * BLOCK + "hARBOUR"
    finder = Caseless(text)
    assert finder.find("harbour") == at
    assert finder.find("HARBOUR", at) == at
    assert finder.find("HARBOUR", at + 1) == at + 7 + BLOCK
    assert finder.find("harbour", at + 8 + BLOCK) == -1


def test_no_more_is_lower_cased_than_a_search_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a first call with an early hit, and what an interrupted search had done."""
    text, folded = "x" * 10 * BLOCK + "Quay", []

    def counted(part: str) -> str:
        folded.append(len(part))
        return fold(part)

    monkeypatch.setattr(caseless, "fold", counted)
    finder = Caseless("Harbour" + text)
    assert finder.find("harbour") == 0
    assert sum(folded) <= BLOCK + 100
    assert finder.find("quay", 3 * BLOCK) == 10 * BLOCK + 7
    assert sum(folded) <= 9 * BLOCK + 300
    folded.clear()
    assert finder.find("quay") == 10 * BLOCK + 7
    assert sum(folded) <= 2 * BLOCK + 300
    folded.clear()
    assert finder.find("quay") == 10 * BLOCK + 7
    assert sum(folded) <= 300


def test_a_keyword_longer_than_a_block() -> None:
    text = "x" + "Aé" * BLOCK + "y"
    assert Caseless(text).find(text[1:-1].lower(), 1) == 1
    assert Caseless(text).find(text[1:-1].lower(), 2) == -1
