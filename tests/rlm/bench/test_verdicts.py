from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.bench.records import Tokens
from rlm.bench.report.verdicts import chance, lines, points
from rlm.bench.statistics import Estimate, mcnemar
from rlm.errors import UsageError
from tests.rlm.bench.test_pairs import cells

K = 1024


def run(length=128 * K, **signs):
    """Cells of some architectures at one length, a sign for each document."""
    return [r for name, text in signs.items() for r in cells(name, text, length=length)]


def test_a_win_with_its_size_its_counts_and_its_chance():
    found = lines(run(vanilla="-" * 31 + "+" * 19, rlm="+" * 50))
    assert found == [
        "niah 128k: rlm +62 points [45, 74], 31 against 0 discordant, p < 0.001, n = 50",
        "points [95 % interval]; p: exact McNemar test",
    ]


def test_a_win_by_truncation_alone_is_called_so():
    (found, _) = lines(run(vanilla="t" * 20, rlm="+" * 20))
    assert found.endswith("n = 20 (vanilla could not read it: window 4096)")


def test_a_win_by_truncation_in_part_says_what_is_left_of_it():
    (found, _) = lines(run(vanilla="t" * 6 + "+-" * 5, rlm="+" * 16))
    assert found == (
        "niah 128k: rlm +69 points [34, 88], 11 against 0 discordant, p < 0.001, n = 16 "
        "(vanilla could not read 6 of 16: window 4096; "
        "of the 10 pairs both could read: +50 points [5, 78])"
    )


def test_a_window_that_nobody_knows_is_not_made_up():
    records = run(vanilla="t" * 9, rlm="+" * 9)
    records = [replace(r, model=replace(r.model, window=None)) for r in records]
    assert "(vanilla could not read it: window unknown)" in lines(records)[0]


def test_both_sides_may_fail_to_read():
    (found, _) = lines(run(vanilla="t" * 9, rlm="t" * 9))
    assert "rlm +0 points" in found
    assert "(vanilla could not read it: window 4096; rlm could not read it: window 4096)" in found


def test_what_else_kept_a_side_from_an_answer_is_told():
    records = run(vanilla="o-" + "+" * 8, rlm="+" * 8 + "ec")
    (found, _) = lines(records[:-1])
    assert found.endswith(
        "n = 9 (vanilla ran out of time on 1; rlm failed on 1; 1 cell without a partner; "
        "of the 7 pairs both answered: +14 points [-26, 48])"
    )


@pytest.mark.parametrize("n", [1, 3, 5])
def test_too_few_documents_make_no_claim(n):
    assert lines(run(vanilla="-" * n, rlm="+" * n)) == [
        f"niah 128k: n = {n}: too few to tell rlm from vanilla, {n} against 0 discordant"
    ]


def test_draws_do_not_make_up_for_documents():
    records = [
        r
        for draw in range(8)
        for name, sign in (("vanilla", "-"), ("rlm", "+"))
        for r in cells(name, sign, draw=draw)
    ]
    assert lines(records) == [
        "niah 1k: n = 8: too few to tell rlm from vanilla, 8 against 0 discordant on 1 document"
    ]


def test_controls_come_after_the_pair_and_share_its_family():
    records = run(rag="-" * 8, rlm="+" * 8, vanilla="-" * 8, grep="+" * 8)
    first, second, third, closing = lines(records)
    assert first.startswith("niah 128k: rlm +100 points")
    assert f"p = {3 * mcnemar(8, 0):.3f}, n = 8" in first
    assert second.startswith("niah 128k: rlm against rag +100 points")
    assert third.startswith("niah 128k: rlm against grep +0 points")
    assert closing.endswith("over the 3 comparisons above")


def test_there_is_nothing_to_say_of_one_architecture_at_one_length():
    assert lines(run(rlm="+" * 9)) == []
    assert lines([]) == []
    assert lines(run(rag="+" * 9, vanilla="-" * 9)) == []


def test_characters_are_told_from_tokens():
    records = [replace(r, unit="chars") for r in run(vanilla="+" * 6, rlm="+" * 6)]
    assert lines(records)[0].startswith("niah 128k chars: rlm +0 points")


def over_lengths(records, **other):
    """What is said of a task as a whole."""
    return [line for line in lines(records, **other) if line.startswith("niah: ")]


def test_effective_length_of_each_architecture_and_the_crossover():
    records = [
        *run(K, vanilla="+" * 30, rlm="+" * 30),
        *run(4 * K, vanilla="+" * 28 + "--", rlm="+" * 30),
        *run(16 * K, vanilla="-" * 30, rlm="+" * 30),
        *run(64 * K, vanilla="-" * 30, rlm="+" * 20 + "-" * 10),
    ]
    assert over_lengths(records)[0] == (
        "niah: effective length (above 80% for sure): vanilla 1k, rlm 16k"
    )
    assert over_lengths(records, threshold=0.45)[0].endswith("vanilla 4k, rlm at least 64k")
    assert over_lengths(records, threshold=0.9)[0] == (
        "niah: effective length (above 90% for sure) needs 35 cells a length, there are 30"
    )
    assert over_lengths(records)[1].startswith("niah: rlm leads beyond 1k [below 1k, ")
    assert "none" in over_lengths([*records, *run(K, rlm="-" * 30)])[0]


def test_a_crossover_by_truncation_alone_is_called_so():
    records = [
        *run(2 * K, vanilla="+" * 9, rlm="-" * 9),
        *run(8 * K, vanilla="t" * 9, rlm="+" * 9),
    ]
    assert over_lengths(records)[1].startswith("niah: rlm leads beyond 4k [")
    assert over_lengths(records)[1].endswith("], where vanilla could not read")
    read = [*records, *run(16 * K, vanilla="-" * 9, rlm="+" * 9)]
    assert over_lengths(read)[1].endswith("]")


@pytest.mark.parametrize(
    ("vanilla", "rlm", "told"),
    [
        ("-", "+", "niah: rlm leads at every length [below 2k]"),
        ("+", "-", "niah: rlm does not lead at the longest length [beyond 8k]"),
    ],
)
def test_a_lead_that_never_changes(vanilla, rlm, told):
    records = [r for n in (2 * K, 8 * K) for r in run(n, vanilla=vanilla * 99, rlm=rlm * 99)]
    assert over_lengths(records)[1] == told


def test_no_crossover_without_two_lengths_in_common():
    records = [*run(K, vanilla="+" * 9), *run(2 * K, vanilla="+" * 9, rlm="+" * 9)]
    assert len(over_lengths(records)) == 1


def test_figures_are_short():
    assert points(Estimate(0.625, 0.484, 0.75)) == "+62 points [48, 75]"
    assert points(Estimate(-0.1, -0.3, 0.1)) == "-10 points [-30, 10]"
    assert [chance(p) for p in (0.0002, 0.0312, 0.35, 1.0)] == [
        "p < 0.001",
        "p = 0.031",
        "p = 0.35",
        "p = 1.00",
    ]


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_that_cannot_be_reached_is_refused(threshold):
    with pytest.raises(UsageError, match=f"threshold of {threshold:g} cannot be"):
        lines([], threshold=threshold)


def test_accuracy_at_equal_tokens():
    def costing(records, *tokens):
        pairs = zip(records, tokens, strict=True)
        return [
            replace(r, usage=Tokens(prompt_tokens=n - 1, completion_tokens=1)) for r, n in pairs
        ]

    records = [
        *costing(run(K, vanilla="+-+"), 100, 200, 300),
        *costing(run(K, rlm="++-"), 200, 201, 10),
        *run(8 * K, vanilla="ttt", rlm="+++"),
    ]
    (found,) = (line for line in lines(records) if "no more tokens" in line)
    assert found == "niah: rlm correct with no more tokens than vanilla's median: 1k 1/3"
