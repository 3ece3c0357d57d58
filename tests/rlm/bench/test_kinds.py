"""The frozen nouns and their kinds."""

from __future__ import annotations

from rlm.bench.tasks.kinds import kind_of, kinds


def test_each_kind_has_as_many_nouns_and_no_noun_is_of_two():
    sizes = [len(nouns) for nouns in kinds().values()]
    assert sizes == [16] * 8
    assert len(kind_of()) == 16 * 8


def test_no_noun_holds_the_name_of_a_kind():
    assert not [noun for noun in kind_of() for kind in kinds() if kind in noun or noun in kind]


def test_a_noun_is_found_under_its_kind():
    assert all(noun in kinds()[kind] for noun, kind in kind_of().items())
