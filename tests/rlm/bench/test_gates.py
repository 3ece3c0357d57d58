"""Gates: what is one, when it holds, and that none passes for lack of data."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from rlm.bench.gates import Gate, changes, judge, parse_gate, regressions, unpaired
from rlm.bench.pairs import between_runs
from rlm.bench.records import Doc, Record, Verdict
from rlm.bench.report.compare import render
from rlm.errors import UsageError
from tests.rlm.bench.test_records import record


def cells(*verdicts: Verdict, run: str = "a", documents: str = "", **place: object) -> list[Record]:
    """A cell for each verdict, each on a document of its own."""
    base = replace(record(), run=run, **place)
    return [
        replace(
            base,
            key=f"{run}{base.task}{base.length}{base.architecture}{sample}",
            sample=sample,
            verdict=verdict,
            doc=Doc(f"{documents}{base.task}{base.length}{sample}", 4096),
        )
        for sample, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("text", "task", "length", "share", "is_strict"),
    [
        ("rlm>=0.9", None, None, Fraction(9, 10), False),
        ("rlm@128k>=90%", None, 131072, Fraction(9, 10), False),
        ("niah:rlm@1000 > 33.3%", "niah", 1000, Fraction(333, 1000), True),
        ("own-my.data:rlm>.5", "own-my.data", None, Fraction(1, 2), True),
        ("rlm>=1", None, None, Fraction(1), False),
    ],
)
def test_parse(text, task, length, share, is_strict):
    assert parse_gate(text) == Gate(text, task, "rlm", length, share, is_strict)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rlm@128k", "'rlm@128k' is no gate: write .* in quotes"),  # the shell had the rest
        ("rlm<0.5", "is no gate"),
        ("rlm@1k,2k>=0.5", "is no gate"),
        ("rml>=0.5", "unknown architecture 'rml' .did you mean 'rlm'"),
        ("rlm@128x>=0.5", "unknown length '128x'"),
        ("rlm>=90", "'90' in 'rlm>=90' is no share: write 0 to 1, or a percentage as 90%"),
        ("rlm>=101%", "is no share"),
        ("rlm>=-1", "is no share"),
        ("rlm>=nan", "is no share"),
        ("rlm>100%", "can never hold: write >="),
        ("", "is no gate"),
    ],
)
def test_what_is_no_gate_is_told_with_the_remedy(text, told):
    with pytest.raises(UsageError, match=told):
        parse_gate(text)


@pytest.mark.parametrize(
    ("gate", "correct", "of", "holds"),
    [
        ("rlm>=0.9", 9, 10, True),
        ("rlm>0.9", 9, 10, False),
        ("rlm>=0.9", 8, 9, False),
        ("rlm>=29%", 29, 100, True),  # 0.29 * 100 is less than 29 in binary
        ("rlm>=33.3%", 333, 1000, True),
        ("rlm>=0", 0, 1, True),
    ],
)
def test_a_share_is_compared_exactly(gate, correct, of, holds):
    assert parse_gate(gate).holds(correct, of) is holds


def test_whatever_is_not_correct_counts_against_a_gate():
    found = cells("correct", "wrong", "truncated", "timeout", "error", "crashed")
    (finding,) = judge([parse_gate("rlm>=0.2")], found)
    assert not finding.passed
    assert finding.text == (
        "gate rlm>=0.2 fails: niah 1k rlm, 1 of 6 correct, 0.167 [0.03, 0.56] "
        "(1 wrong, 1 truncated, 1 timeout, 1 error, 1 crashed)"
    )


def test_each_line_of_the_table_must_hold_by_itself():
    found = [*cells("correct", "correct"), *cells("correct", "wrong", length=8192)]
    passed = {f.text.split(": ")[1][:11]: f.passed for f in judge([parse_gate("rlm>=0.6")], found)}
    assert passed == {"niah 1k rlm": True, "niah 8k rlm": False}


def test_a_gate_means_what_it_names_and_nothing_else():
    found = [
        *cells("wrong"),
        *cells("wrong", architecture="vanilla", length=8192),
        *cells("wrong", task="long_doc_qa", length=8192),
        *cells("correct", length=8192),
    ]
    (finding,) = judge([parse_gate("niah:rlm@8k>=1")], found)
    assert finding.passed


@pytest.mark.parametrize("gate", ["rlm@2k>=0", "long_doc_qa:rlm>=0", "vanilla>=0"])
def test_a_gate_without_cells_fails_and_says_what_is_there(gate):
    (finding,) = judge([parse_gate(gate)], cells("correct"))
    assert not finding.passed
    assert finding.text.endswith("no cell of this run is meant by it; there are: niah 1k rlm")
    (finding,) = judge([parse_gate(gate)], [])
    assert not finding.passed
    assert finding.text.endswith("there are: no cells at all")


def test_no_gates_no_findings():
    assert judge([], cells("wrong")) == []


RIGHT, WRONG = ("correct",) * 10, ("wrong",) * 10


def test_a_regression_is_found_where_it_is():
    before = [*cells(*RIGHT), *cells(*RIGHT, length=8192)]
    after = [*cells(*RIGHT, run="b"), *cells(*WRONG, run="b", length=8192)]
    (finding,) = regressions(before, after)
    assert not finding.passed
    assert finding.text == (
        "gate regression fails: niah 8k rlm became worse, 10 to 0 of 10 correct, p = 0.0039 (Holm)"
    )


@pytest.mark.parametrize("verdict", ["truncated", "timeout", "error", "crashed"])
def test_cells_that_failed_are_a_regression_too(verdict):
    (finding,) = regressions(cells(*RIGHT), cells(*[verdict] * 10, run="b"))
    assert not finding.passed


def test_an_improvement_is_none():
    (finding,) = regressions(cells(*WRONG), cells(*RIGHT, run="b"))
    assert finding.passed
    assert finding.text == "gate regression holds: none seen in 10 pairs of cells"


def test_what_may_be_chance_is_none():
    before, after = cells(*RIGHT), cells(*RIGHT[:5], *WRONG[:5], run="b")
    (finding,) = regressions(before, after)
    assert finding.passed
    (finding,) = regressions(before, after, alpha=0.1)
    assert not finding.passed


def test_runs_without_common_documents_fail():
    (finding,) = regressions(cells(*RIGHT), cells(*RIGHT, run="b", documents="other"))
    assert not finding.passed
    assert "no cell has a partner" in finding.text
    assert finding.text.endswith("20 cells have no partner in the other run on the same document")
    assert not regressions([], [])[0].passed


def test_runs_too_small_to_show_a_regression_fail():
    """Guards CI from a gate that no outcome could have failed."""
    (finding,) = regressions(cells(*RIGHT[:5]), cells(*WRONG[:5], run="b"))
    assert not finding.passed
    assert "5 documents can show none: raise --rlm-samples" in finding.text


def test_a_line_that_is_too_small_is_said_beside_one_that_is_not():
    before = [*cells(*RIGHT), *cells("correct", length=8192)]
    after = [*cells(*RIGHT, run="b"), *cells("correct", "correct", run="b", length=8192)]
    (finding,) = regressions(before, after)
    assert finding.passed
    assert finding.text == (
        "gate regression holds: none seen in 11 pairs of cells; 1 of 2 comparisons are too small "
        "to show one; 1 cell has no partner in the other run on the same document"
    )


def test_lines_without_pairs_do_not_weaken_the_test():
    """Guards a short run compared with a large one: Holm would count what was never compared."""
    lengths = [1024 * 2**i for i in range(8)]
    before = [r for length in lengths for r in cells(*RIGHT[:7], length=length)]
    after = cells(*WRONG[:7], run="b")
    (finding,) = regressions(before, after)
    assert not finding.passed
    assert "became worse" in finding.text


def shown(before: list[Record], after: list[Record], width: int = 80) -> list[str]:
    return render(between_runs(before, after), width=width, color=False).splitlines()


def test_the_table_says_what_changed():
    before = [
        *cells(*RIGHT),
        *cells(*WRONG, length=8192),
        *cells(*RIGHT, length=16384),
        *cells(*RIGHT[:5], length=32768),
    ]
    after = [
        *cells(*WRONG, run="b"),
        *cells(*RIGHT, run="b", length=8192),
        *cells(*RIGHT, run="b", length=16384),
        *cells(*WRONG[:5], run="b", length=32768),
    ]
    lines = [" ".join(line.split()) for line in shown(before, after)]
    assert lines[0] == "compared: a → b"
    assert lines[2] == "niah 1k rlm 10/10 0/10 -100 [-100, -52] 0:10 0.008 worse"
    assert lines[3] == "niah 8k rlm 0/10 10/10 +100 [+52, +100] 10:0 0.008 better"
    assert lines[4].endswith("0:0 1.000 none")
    assert lines[5].endswith("0:5 0.125 too few")


def test_the_table_fits_eighty_columns_and_keeps_every_figure():
    place = {"task": "long_doc_qa", "architecture": "closedbook", "length": 131072}
    before, after = cells(*RIGHT * 3, **place), cells(*WRONG * 3, run="b", **place)
    lines = shown(before, after)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)


def test_both_estimands_are_shown_where_they_differ():
    before, after = cells(*RIGHT), cells(*["truncated"] * 4, *RIGHT[:6], run="b")
    lines = shown(before, after)
    assert "niah 1k rlm: of the 6 pairs with an answer on both sides: +0 [-35, +35] points" in lines
    lines = shown(before, cells(*["error"] * 10, run="b"))
    assert "niah 1k rlm: no pair has an answer on both sides" in lines


def test_what_has_no_partner_is_counted():
    found = between_runs(cells(*RIGHT), cells(*RIGHT[:9], run="b"))
    assert unpaired(found) == "1 cell has no partner in the other run on the same document"
    assert shown(cells(*RIGHT), cells(*RIGHT[:9], run="b"))[-1] == unpaired(found)
    assert unpaired(between_runs(cells(*RIGHT), cells(*RIGHT, run="b"))) == ""


def test_nothing_compared_is_said():
    lines = shown(cells("correct"), cells("correct", run="b", length=2048))
    assert lines[1] == "no cell of one run has a partner in the other: nothing is compared"
    assert changes(between_runs([], [])) == []
