from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.bench.grid import Grid
from rlm.bench.records import Seconds, Tokens, decode, encode
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
    assert rows[1] == "niah 1k vanilla - - 0.50/0.50 1000/1000 1 truncated"
    assert rows[2] == "niah 1k rlm 1/3 [0.06, 0.79] 3.00/3.90 1000/1000 1 error; 1/2 of valid"


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
    assert figures(cut, cut) == "- - 0.00/0.00 1000/1000 2 truncated"
    assert figures(cut, wider, error).endswith("2 truncated, 1 error")
    assert figures(unknown).endswith(" 1 truncated")
    assert figures(cut, base) == ("1/2 [0.09, 0.91] 0.00/0.00 1000/1000 1 truncated; 1/1 of valid")
    assert unread(base) == []
    assert unread(cut, wider) == [
        "truncated: could not be read, the prompt does not fit the window of 4096, 8192 tokens"
    ]
    assert unread(unknown) == [
        "truncated: could not be read, the prompt does not fit the model's window"
    ]
    assert figures(error) == "- - - - 1 error"


def test_a_timeout_without_an_answer_is_no_measure_of_speed():
    base = replace(record(), time=Seconds(wall=2.0, model=1.0), usage=Tokens(900, 100, 3, 1))
    mute = replace(base, verdict="timeout", time=Seconds(wall=900.0), usage=Tokens())
    late = replace(base, verdict="timeout", time=Seconds(wall=900.0, model=900.0))
    assert figures(base, mute, mute) == (
        "1/3 [0.06, 0.79] 2.00/2.00 1000/1000 2 timeout; 1/1 of valid"
    )
    assert figures(base, late) == ("1/2 [0.09, 0.91] 451/855 1000/1000 1 timeout; 1/1 of valid")
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


def many(n=20, **other):
    """A table with long names, all kinds of figures, and sentences below it."""
    base = replace(record(), task="long_doc_qa", length=131072, **other)
    cut = {"verdict": "truncated", "usage": Tokens(131072, 0, 1, 0), "time": Seconds(wall=12.3)}
    return [
        replace(base, architecture=name, sample=sample, **(cut if sample and name != "rlm" else {}))
        for sample in range(n)
        for name in ("vanilla", "rlm")
    ]


def test_a_wide_summary_fits_eighty_columns_too():
    lines = summary(many(9, grep=True), width=80, color=False).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [" ".join(line.split()) for line in lines]
    row = rows.index("long_doc_qa 128k * vanilla 1/9 [0.02, 0.44] 12.3/12.3 131k/131k 8 truncated;")
    assert rows[row + 1] == "1/1 of valid"


def test_what_the_pairs_say_stands_below_the_table_and_breaks_between_words():
    lines = summary(many(), width=60, color=False).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("long_doc_qa 128k: rlm "))
    assert lines[first - 1] == ""
    assert lines[first : first + 2] == [
        "long_doc_qa 128k: rlm +95 points [67, 100], 19 against 0",
        "    discordant, p < 0.001, n = 20 (vanilla could not read 19",
    ]
    assert lines[-1].startswith("points [95 % interval]; ")


def test_seconds_and_tokens_are_median_and_95th_percentile():
    told = [
        replace(record(), sample=i, time=Seconds(wall=wall), usage=Tokens(tokens, 0, 1, 0))
        for i, (wall, tokens) in enumerate([(1.0, 100), (2.0, 200), (3.0, 1_300_000)])
    ]
    assert figures(*told) == "3/3 [0.44, 1.00] 2.00/2.90 200/1170k"


def marked(*answers):
    """Whether the table says that grep solves a task, given what grep got right."""
    found = [replace(record(), sample=i, grep=right) for i, right in enumerate(answers)]
    text = summary(found, width=80, color=False)
    assert ("niah 1k *" in text) == ("*: grep" in text)
    return "*: grep" in text


def test_a_task_that_grep_solves_is_marked():
    assert marked(*[True] * 19, False)
    assert not marked(*[True] * 18, False)
    assert not marked(None, None)
    assert marked(None, True)


def test_only_the_length_that_grep_solves_is_marked():
    found = [replace(record(), length=n, grep=n == 1024) for n in (1024, 2048)]
    lines = summary(found, width=80, color=False).splitlines()
    assert [line[:9] for line in lines[1:3]] == ["niah 1k *", "niah 2k  "]


def test_rows_from_before_grep_was_asked_are_read():
    line = encode(record(grep=True))
    assert decode(line).grep is True
    assert decode(line.replace('"grep":true,', "")).grep is None


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
