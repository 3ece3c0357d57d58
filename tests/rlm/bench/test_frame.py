"""Records as a data frame, and what `rlm table` writes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO, StringIO

import pandas as pd
import pytest

import rlm.bench
from rlm.bench import frame
from rlm.bench.records import Doc, Failure, Seconds, Tokens
from rlm.cli import main
from rlm.errors import RecordError
from tests.rlm.bench.test_records import record, stored


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with one cell of each kind."""
    monkeypatch.chdir(tmp_path)
    good = record(
        "a",
        doc=Doc("d0", 4096),
        gold="a|b",
        prediction="a|b\n\ud800",
        usage=Tokens(900, 100, 3, 1),
        time=Seconds(wall=2.0, model=1.5),
        finished="2026-11-21T14:00:54.747+00:00",
    )
    failed = record("b", "error", digest="", error=Failure("Gone", "away"))
    cut = replace(record("c", "truncated"), depth=None, architecture="vanilla", scores=None)
    stored(tmp_path / "runs" / "a", good, failed, replace(cut, realised_depth=None))
    return "a"


def test_a_frame_has_the_documented_columns_and_one_row_a_cell(run):
    found = rlm.bench.load(run)
    assert list(found) == list(frame.COLUMNS)
    first, second, third = (found.loc[i] for i in range(3))
    assert (first.run, first.tokens, first.seconds, first.model_seconds) == ("a", 1000, 2.0, 1.5)
    assert (first.chars, first.graded, first.document) == (4096, 1.0, "d0")
    assert first.finished == pd.Timestamp("2026-11-21T14:00:54.747Z")
    assert (second.verdict, second.error, second.answered) == ("error", "Gone: away", False)
    assert found.correct.tolist() == [True, False, False]
    assert found.depth.isna().tolist() == [False, False, True]
    assert third.graded is pd.NA
    assert found.depth.dtype == "Int64"


def test_half_characters_are_replaced(run):
    """Guards reading a run at all: a column of text cannot hold what a model may write."""
    assert rlm.bench.load(run).prediction[0] == "a|b\n?"


def test_several_runs_are_told_apart(run, tmp_path):
    found = rlm.bench.load(run, tmp_path / "runs" / "a")
    assert found.run.tolist() == ["a"] * 3 + [str(tmp_path / "runs" / "a")] * 3


def test_a_run_that_is_not_there():
    with pytest.raises(RecordError, match="there is no run 'nowhere'"):
        rlm.bench.load("nowhere")


def test_csv_and_parquet_hold_the_same(run):
    loaded = rlm.bench.load(run)
    for data in (
        pd.read_csv(StringIO(frame.written([run], "csv").decode()), dtype={"digest": str}),
        pd.read_parquet(BytesIO(frame.written([run], "parquet"))),
    ):
        assert list(data) == list(loaded)
        for name in ("key", "verdict", "prediction", "tokens", "seconds"):
            assert data[name].fillna("").tolist() == loaded[name].tolist()


def test_markdown_has_a_line_for_each_group(run, capfdbinary):
    assert main(["table", run]) == 0
    assert capfdbinary.readouterr().out.decode().splitlines()[2:] == [
        "| niah | 1k | rlm | 2 | 1/2 | [0.09, 0.91] | 2.00 | 1000 | 1 error; 1/1 of valid |",
        "| niah | 1k | vanilla | 1 | - | - | 0.00 | 0 | 1 truncated |",
    ]
    assert main(["table", run, "runs/a"]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].startswith("| run | task | length |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a", "| a", "| runs/a", "| runs/a"]


def test_the_command_writes_files_and_tells_columns(run, tmp_path, capfd):
    assert main(["table", run, "--format", "parquet", "-o", "cells.parquet"]) == 0
    assert len(pd.read_parquet("cells.parquet")) == 3
    assert main(["table", "--columns"]) == 0
    told = capfd.readouterr().out
    assert all(f"{name} " in told for name in frame.COLUMNS)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nowhere"], "unknown run 'nowhere'; there are: a"),
        ([], "no run is named; name one or more, such as: rlm table monday"),
        (["a", "-o", "no/such/file.md"], "cannot write no/such/file.md: No such file"),
    ],
)
def test_what_cannot_be_done_is_told(run, capsys, args, told):
    assert main(["table", *args]) == 2
    assert told in capsys.readouterr().err


def test_parquet_is_not_written_to_a_terminal(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["table", run, "--format", "parquet"]) == 2
    assert "parquet is no text; add -o FILE.parquet" in capsys.readouterr().err
