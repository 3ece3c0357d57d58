from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench.pairs import Comparison, Side, adjusted, between_architectures, between_runs
from rlm.bench.pairs import differences as differences_of
from rlm.bench.records import Doc
from rlm.bench.statistics import holm, mcnemar, paired_difference
from tests.rlm.bench.test_records import record

SIGNS = {"+": "correct", "-": "wrong", "t": "truncated", "o": "timeout", "e": "error"}
SIGNS["c"] = "crashed"


def cells(architecture, signs, **other):
    """One cell for each sign, each on a document of its own."""
    return [
        replace(
            record(verdict=SIGNS[sign]),
            architecture=architecture,
            sample=sample,
            doc=Doc(f"{sample}", 4096),
            **other,
        )
        for sample, sign in enumerate(signs)
    ]


def compared(left, right) -> Comparison:
    (found,) = between_architectures([*cells("vanilla", left), *cells("rlm", right)])
    return found


def test_a_comparison_counts_what_is_there():
    found = compared("+-+--", "++-+-")
    assert (found.task, found.unit, found.length) == ("niah", "tokens", 1024)
    assert (found.architecture, found.left, found.right) == ("", "vanilla", "rlm")
    assert (found.pairs, found.documents, found.wins, found.losses) == (5, 5, 2, 1)
    assert found.difference.value == pytest.approx(0.2)
    assert found.p == found.p_holm == mcnemar(2, 1)
    assert found.left_side == Side(correct=2, wrong=3, truncated=0, timeout=0, failed=0)
    assert found.right_side == Side(correct=3, wrong=2, truncated=0, timeout=0, failed=0)
    assert (found.valid.pairs, found.valid.wins, found.valid.losses) == (5, 2, 1)
    assert found.valid.difference == found.difference
    assert (found.unmatched, found.windows) == (0, ())


def test_whatever_is_not_correct_counts_nothing_and_leaves_the_other_estimand_as_a_pair():
    found = compared("+tte-o", "c+-+++")
    assert (found.pairs, found.wins, found.losses) == (6, 4, 1)
    assert found.left_side == Side(correct=1, wrong=1, truncated=2, timeout=1, failed=1)
    assert found.right_side == Side(correct=4, wrong=1, truncated=0, timeout=0, failed=1)
    assert (found.valid.pairs, found.valid.documents) == (1, 1)
    assert (found.valid.wins, found.valid.losses) == (1, 0)
    assert found.valid.difference.value == 1.0
    assert found.windows == (4096,)


def test_no_pair_with_two_answers_is_no_difference():
    found = compared("ttt", "+++")
    assert found.difference.value == 1.0
    assert (found.valid.pairs, found.valid.difference, found.valid.p) == (0, None, 1.0)


def test_windows_are_those_of_truncated_cells_where_known():
    left = cells("vanilla", "ttt+")
    for i, window in enumerate((8192, None, 2048, 16384)):
        left[i] = replace(left[i], model=replace(left[i].model, window=window))
    (found,) = between_architectures([*left, *cells("rlm", "++++")])
    assert found.windows == (2048, 8192)


def test_cells_without_a_partner_are_counted():
    left, right = cells("vanilla", "+--"), cells("rlm", "++++")
    right[1] = replace(right[1], doc=Doc("another", 4096))
    (found,) = between_architectures([*left, *right])
    assert (found.pairs, found.wins, found.unmatched) == (2, 1, 3)


@pytest.mark.parametrize(
    "other", [{"depth": 10}, {"draw": 1}, {"seed": 1}, {"split": "train"}, {"doc": Doc("x", 1)}]
)
def test_only_the_same_cell_is_a_partner(other):
    (left,), (right,) = cells("vanilla", "-"), cells("rlm", "+")
    (found,) = between_architectures([left, replace(right, **other)])
    assert (found.pairs, found.unmatched) == (0, 2)
    assert (found.difference, found.p) == (paired_difference((), (), ()), 1.0)


@pytest.mark.parametrize(
    "other",
    [{"task": "x"}, {"length": 2048}, {"unit": "chars"}],
    ids=lambda other: next(iter(other)),
)
def test_each_place_is_compared_by_itself(other):
    (left,), (right,) = cells("vanilla", "-"), cells("rlm", "+")
    found = between_architectures([left, replace(right, **other)])
    assert [(c.pairs, c.unmatched) for c in found] == [(0, 1), (0, 1)]


def test_a_cell_that_made_no_document_keeps_its_partner():
    (left,), (right,) = (
        cells(
            "vanilla",
            "c",
        ),
        cells("rlm", "+"),
    )
    (found,) = between_architectures([replace(left, doc=None), right])
    assert (found.pairs, found.documents, found.wins) == (1, 1, 1)
    (found,) = between_architectures([replace(left, doc=None), replace(right, doc=None)])
    assert (found.pairs, found.documents, found.wins) == (1, 1, 1)


def test_a_cell_that_is_there_twice_finds_the_partner_on_its_own_document():
    (left,), (right,) = cells("vanilla", "-"), cells("rlm", "+")
    again = [replace(r, doc=Doc("again", 4096)) for r in (left, right)]
    (found,) = between_architectures([left, again[0], again[1], right])
    assert (found.pairs, found.documents, found.unmatched) == (2, 2, 0)


def test_draws_on_one_document_are_one_witness():
    """Guards p and interval: ten answers to one document say no more of others than one."""
    left = [r for draw in range(10) for r in cells("vanilla", "---", draw=draw)]
    right = [r for draw in range(10) for r in cells("rlm", "+++", draw=draw)]
    (found,) = between_architectures([*left, *right])
    once = compared("---", "+++")
    assert (found.pairs, found.wins, found.documents) == (30, 30, 3)
    assert found.p == once.p == mcnemar(3, 0)
    assert found.difference.low == pytest.approx(once.difference.low)


def test_a_document_counts_for_the_side_that_won_more_of_its_draws():
    left = [*cells("vanilla", "--+", draw=0), *cells("vanilla", "-+-", draw=1)]
    right = [*cells("rlm", "+--", draw=0), *cells("rlm", "+-+", draw=1)]
    (found,) = between_architectures([*left, *right])
    assert (found.wins, found.losses) == (3, 2)
    assert found.p == mcnemar(1, 1)  # the first won, the second lost, the third a draw
    assert differences_of(left, right) == [1.0, -0.5, 0.0]


def test_p_is_adjusted_over_what_is_returned():
    records = [
        r
        for length, signs in ((1024, "--------"), (2048, "---+++++"), (4096, "--------"))
        for r in (*cells("vanilla", signs, length=length), *cells("rlm", "++++++++", length=length))
    ]
    found = between_architectures(records)
    assert [c.length for c in found] == [1024, 2048, 4096]
    assert tuple(c.p_holm for c in found) == holm([c.p for c in found])
    assert tuple(c.valid.p_holm for c in found) == holm([c.valid.p for c in found])
    assert found[0].p_holm == 3 * found[0].p
    assert adjusted(found[:1])[0].p_holm == found[0].p


def test_an_architecture_that_is_absent_is_not_compared():
    assert between_architectures(cells("rlm", "++")) == ()
    assert between_architectures([*cells("rlm", "+"), *cells("grep", "-")]) == ()
    assert between_architectures([*cells("rlm", "+"), *cells("grep", "-")], "grep")[0].wins == 1


def test_runs_are_compared_architecture_by_architecture():
    before = [*cells("vanilla", "++", run="old"), *cells("rlm", "+-", run="old")]
    after = [*cells("rlm", "++", run="new"), *cells("vanilla", "--", run="new")]
    found = between_runs(before, after)
    assert [(c.architecture, c.left, c.right) for c in found] == [
        ("vanilla", "old", "new"),
        ("rlm", "old", "new"),
    ]
    assert [(c.wins, c.losses) for c in found] == [(0, 2), (1, 0)]


def test_what_only_one_run_has_is_told():
    found = between_runs(cells("rlm", "++"), cells("vanilla", "+"))
    assert [(c.architecture, c.pairs, c.unmatched) for c in found] == [
        ("rlm", 0, 2),
        ("vanilla", 0, 1),
    ]
    (alone,) = between_runs([], cells("rlm", "+", run="new"))
    assert (alone.left, alone.right, alone.unmatched) == ("", "new", 1)
    assert between_runs([], []) == ()


@given(st.lists(st.tuples(st.sampled_from("+-toec"), st.sampled_from("+-toec")), min_size=1))
def test_sides_are_treated_alike_and_every_pair_is_counted(signs):
    left, right = ("".join(side) for side in zip(*signs, strict=True))
    found, turned = compared(left, right), compared(right, left)
    for side in (found.left_side, found.right_side):
        counts = (side.correct, side.wrong, side.truncated, side.timeout, side.failed)
        assert sum(counts) == found.pairs == len(signs)
    assert found.right_side.correct - found.left_side.correct == found.wins - found.losses
    assert (found.wins, found.losses, found.p) == (turned.losses, turned.wins, turned.p)
    assert found.difference.value == -turned.difference.value
    assert found.valid.pairs == sum(a in "+-" and b in "+-" for a, b in signs)
