from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.bench.grid import Grid
from rlm.bench.records import Seconds, Tokens
from rlm.bench.report.plan import plan
from rlm.bench.report.summary import outside_model, summary
from tests.rlm.bench.test_records import record


def cells():
    base = replace(record(), time=Seconds(wall=2.0, model=1.5), usage=Tokens(900, 100, 3, 1))
    return [
        replace(base, architecture="vanilla", verdict="truncated", time=Seconds(wall=0.5)),
        base,
        replace(base, sample=1, verdict="wrong", time=Seconds(wall=4.0, model=3.8)),
        replace(base, sample=2, verdict="error", time=Seconds()),
    ]


def test_summary_counts_everything_and_hides_nothing():
    rows = [
        " ".join(line.split()) for line in summary(cells(), width=100, color=False).splitlines()
    ]
    assert rows[1] == "niah 1k vanilla - - 0.50 1,000 1 truncated"
    assert rows[2] == "niah 1k rlm 1/2 [0.09, 0.91] 3.00 1,000 1 error"


def figures(*cells):
    """The columns after the names."""
    (line,) = summary(cells, width=100, color=False).splitlines()[1:2]
    return " ".join(line.split()).removeprefix("niah 1k rlm ")


def unread(*cells):
    """The lines below the table that say what could not be read."""
    lines = summary(cells, width=100, color=False).splitlines()
    return [line for line in lines if line.startswith("truncated: ")]


def test_truncation_is_kept_apart_from_errors_of_reading():
    """Guards a document that did not fit from being counted as one that was read wrongly."""
    base = replace(record(), usage=Tokens(900, 100, 3, 1))
    cut = replace(base, verdict="truncated")
    wider = replace(cut, model=replace(cut.model, window=8192))
    unknown = replace(cut, model=replace(cut.model, window=None))
    error = replace(base, verdict="error")
    assert figures(cut, cut) == "- - 0.00 1,000 2 truncated"
    assert figures(cut, wider, error).endswith("2 truncated, 1 error")
    assert figures(unknown).endswith(" 1 truncated")
    assert figures(cut, base) == "1/2 [0.09, 0.91] 0.00 1,000 1 truncated"
    assert unread(base) == []
    assert unread(cut, wider) == [
        "truncated: could not be read, the prompt does not fit the window of 4096, 8192 tokens"
    ]
    assert unread(unknown) == [
        "truncated: could not be read, the prompt does not fit the model's window"
    ]
    assert figures(error) == "0/0 [0.00, 1.00] - - 1 error"


def test_a_timeout_without_an_answer_is_no_measure_of_speed():
    base = replace(record(), time=Seconds(wall=2.0, model=1.0), usage=Tokens(900, 100, 3, 1))
    mute = replace(base, verdict="timeout", time=Seconds(wall=900.0), usage=Tokens())
    late = replace(base, verdict="timeout", time=Seconds(wall=900.0, model=900.0))
    assert figures(base, mute, mute) == "1/3 [0.06, 0.79] 2.00 1,000 2 timeout"
    assert figures(base, late) == "1/2 [0.09, 0.91] 451.00 1,000 1 timeout"
    assert figures(mute) == "0/1 [0.00, 0.79] - - 1 timeout"
    assert outside_model([base, mute]) == 0.5


def test_what_was_not_measured_says_nothing_of_time():
    broken = replace(cells()[1], verdict="error", time=Seconds(wall=100.0))
    assert outside_model([broken]) is None


def test_time_outside_the_model_is_the_median_over_cells_that_ran():
    assert outside_model(cells()) == pytest.approx(0.15)
    assert outside_model([]) is None
    assert "rlm cells: 15%" in summary(cells(), width=100, color=False)


def test_summary_fits_eighty_columns_and_keeps_every_figure():
    lines = summary(cells(), width=80, color=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)


def test_no_colour_unless_asked():
    assert "\x1b" not in summary(cells(), width=80, color=False)
    assert "\x1b" in summary(cells(), width=80, color=True)


def test_plan_costs_nothing_for_what_cannot_be_read():
    found = list(Grid(lengths=(1024, 131072), depths=(50,), samples=2).cells("niah", (50,)))
    lines = plan(found, spec="embedded", window=None, width=100, color=False).splitlines()
    assert lines[1].split()[:5] == ["niah", "1k", "vanilla", "2", "2,248"]
    assert lines[3].split()[:5] == ["niah", "128k", "vanilla", "2", "0"]
    assert lines[-1].startswith("8 cells on embedded, about 18,248 prompt tokens and ")


def test_plan_tells_no_time_of_a_model_it_does_not_know():
    found = list(Grid(lengths=(131072,), depths=(50,), samples=1).cells("niah", (50,)))
    text = plan(found, spec="ollama/x", window=None, width=100, color=False)
    assert "131,172    -" in text
    assert text.endswith("about 135,172 prompt tokens")
