from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import grid
from rlm.bench.grid import Cell, Grid
from rlm.errors import UsageError


@given(st.integers(1, 10 * 2**20))
def test_label_is_read_back(length):
    assert grid.parse_lengths(grid.label(length)) == (length,)


def test_lengths():
    assert grid.parse_lengths("1k, 2K,1M,1m,1000") == (1024, 2048, 1048576, 1000)


@pytest.mark.parametrize("text", ["", "8q", "1k,,2k", "-1", "0", "1.5k", "k", "1k2"])
def test_bad_length_is_named(text):
    with pytest.raises(UsageError) as caught:
        grid.parse_lengths(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["11M", "10485761", "1k,999999999999M"])
def test_a_length_beyond_ten_million_is_refused(text):
    """Guards the machine's memory."""
    with pytest.raises(UsageError, match=f"{text.rpartition(',')[2]}' is above 10M"):
        grid.parse_lengths(text)


@pytest.mark.parametrize("text", ["", " ", ".", "..", "./", "x/..", "/"])
def test_a_run_needs_a_name(text):
    """Guards runs/ and the folder around it from being taken for a run."""
    with pytest.raises(UsageError, match=f"a run needs a name, not '{text}'"):
        grid.parse_run(text)


@pytest.mark.parametrize("text", ["monday", "../elsewhere/a", "/tmp/a"])
def test_a_run_is_a_name_or_a_path(text):
    assert grid.parse_run(text) == text


@pytest.mark.parametrize("text", ["101", "-5", "middle", "10,", "5.5"])
def test_bad_depth_is_named(text):
    with pytest.raises(UsageError, match=r"depth|empty entry"):
        grid.parse_depths(text)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", ""])
def test_bad_count(text):
    with pytest.raises(UsageError, match="whole number from 1"):
        grid.parse_count(text)


def test_unknown_name_says_what_exists():
    with pytest.raises(UsageError, match=r"unknown thing 'nia' \(did you mean 'niah'\?\).*niah, b"):
        grid.known("nia", "thing", ("niah", "b"))


def test_a_folder_is_absolute_and_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert grid.parse_folder("tape") == str(tmp_path / "tape")
    with pytest.raises(UsageError, match="a folder needs a name"):
        grid.parse_folder(" ")


def test_ids():
    assert Cell("niah", 131072, 50, 0, "rlm").id == "L128k-d50-s0-rlm"
    assert Cell("niah", 8192, 10, 2, "vanilla", "chars").id == "C8k-d10-s2-vanilla"
    assert Cell("aggregate", 1000, None, 1, "rlm").id == "L1000-s1-rlm"


def test_l8k_selects_no_128k():
    ids = [cell.id.lower() for cell in Grid().cells("niah", (10, 50, 90))]
    assert {i.split("-")[0] for i in ids if "l8k" in i} == {"l8k"}


def test_order_is_length_depth_sample_then_architectures_side_by_side():
    cells = list(Grid(lengths=(1024, 2048), depths=(50, 10), samples=2).cells("niah", (50,)))
    assert [c.id for c in cells[:5]] == [
        "L1k-d50-s0-vanilla",
        "L1k-d50-s0-rlm",
        "L1k-d50-s1-vanilla",
        "L1k-d50-s1-rlm",
        "L1k-d10-s0-vanilla",
    ]
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2


def test_a_task_without_depths_has_none_even_if_asked():
    (cell,) = Grid((1024,), depths=(10, 90), samples=1, architectures=("rlm",)).cells("x", ())
    assert cell.depth is None


def test_tokens_are_four_characters():
    assert Cell("niah", 1024, 50, 0, "rlm").chars == 4096
    assert Cell("niah", 1024, 50, 0, "rlm", "chars").chars == 1024


def test_smoke_has_two_tasks_three_lengths_two_architectures():
    cells = [c for t in ("niah", "long_doc_qa", "x") for c in Grid().cells(t, (10, 50, 90))]
    assert len([c for c in cells if c.is_smoke]) == 12


def test_parse_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert grid.parse_page("report.html") == str(tmp_path / "report.html")
    for text in ("", ".", "no/such/report.html"):
        with pytest.raises(UsageError, match="name a file in a folder that is there"):
            grid.parse_page(text)
