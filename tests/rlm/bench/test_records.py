from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import records
from rlm.bench.records import Failure, Model, Record, Store, Verdict
from rlm.bench.tasks.base import Scores
from rlm.errors import RecordError


def record(key: str = "k", verdict: Verdict = "correct", digest: str = "d", **other: object):
    return Record(
        run="a",
        key=key,
        task="niah",
        length=1024,
        unit="tokens",
        depth=50,
        sample=0,
        draw=0,
        seed=0,
        split="eval",
        architecture="rlm",
        verdict=verdict,
        model=Model("embedded", digest, 4096, "x 1", {"a": 1}, "compact", "v1", "0"),
        scores=Scores(exact=True, graded=1.0),
        **other,
    )


def stored(folder: Path, *rows: Record) -> Path:
    store = Store(folder)
    store.begin({"run": "a"})
    for row in rows:
        store.append(row)
    store.close()
    return folder / records.RESULTS


@given(st.text(), st.text())
def test_any_text_becomes_one_line_of_ascii_and_comes_back(prediction, message):
    """Guards xdist, which dies of a lone surrogate, and the file, where a line is a row."""
    row = record(prediction=prediction, error=Failure("X", message))
    line = records.encode(row)
    assert line.isascii()
    assert "\n" not in line
    assert records.decode(line) == row


def test_lone_surrogates_survive():
    assert records.decode(records.encode(record(prediction="\ud800"))).prediction == "\ud800"


def test_rows_come_back_in_order_and_the_newest_of_a_key_wins(tmp_path):
    stored(tmp_path, record("a", "wrong"), record("b"), record("a", "correct"))
    assert [(r.key, r.verdict) for r in records.load(tmp_path)] == [
        ("a", "correct"),
        ("b", "correct"),
    ]


def test_a_cell_that_could_not_ask_its_model_gives_way_to_a_measured_one(tmp_path):
    """Guards a run that was continued after its server came back from counting a cell twice."""
    bare = record(verdict="error", digest="")
    stored(tmp_path, replace(bare, key=bare.bare_key), record("a"))
    assert [r.key for r in records.load(tmp_path)] == ["a"]


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_cut_off_and_counted(tmp_path, cut):
    file = stored(tmp_path, record("a"), record("b"))
    whole = file.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    file.write_bytes(whole[:-cut])
    store = Store(tmp_path)
    store.append(record("c"))
    store.close()
    assert store.repaired == last - cut
    assert [r.key for r in records.load(tmp_path)] == ["a", "c"]


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    (tmp_path / records.RESULTS).write_text('{"row":')
    store = Store(tmp_path)
    store.close()
    assert (store.repaired, store.records) == (7, {})


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    file = stored(tmp_path, record("a"))
    file.write_text("nonsense\n" + file.read_text())
    with pytest.raises(RecordError, match=r"results.jsonl:1: not a row of a run: 'nonsense"):
        records.load(tmp_path)


@pytest.mark.parametrize("change", [{"schema": 2}, {"row": "future"}, {"verdict": "maybe"}])
def test_what_is_not_known_is_refused(change):
    with pytest.raises(RecordError, match=r"not known here|not a cell"):
        records.decode(json.dumps(json.loads(records.encode(record())) | change))


def test_an_absent_run_is_named(tmp_path):
    with pytest.raises(RecordError, match="there is no run 'nope'"):
        records.load("nope")


def test_a_run_is_a_name_or_a_folder(tmp_path):
    assert records.folder("a", tmp_path) == tmp_path / "runs" / "a"
    assert records.folder("x/a", tmp_path) == tmp_path / "x" / "a"
    assert records.folder(tmp_path / "a") == tmp_path / "a"


def test_names_made_sort_by_time():
    names = [records.new_name() for _ in range(3)]
    assert names == sorted(names)


def test_done_leaves_out_what_shall_run_again():
    held = {v: record(v, v) for v in records.VERDICTS}
    assert set(records.done(held, ())) == set(records.VERDICTS)
    assert set(records.done(held, ("error", "crashed"))) == {
        "correct",
        "wrong",
        "truncated",
        "timeout",
    }
    assert records.done(held, ("all",)) == {}


def test_a_trace_is_written_whole_under_its_key(tmp_path):
    trace = records.write_trace(tmp_path, "abc", {"text": "\ud800é"})
    assert trace.path == "trajectories/abc.json"
    assert json.loads((tmp_path / trace.path).read_bytes()) == {"text": "\ud800é"}
    assert [p.name for p in (tmp_path / "trajectories").iterdir()] == ["abc.json"]


def test_store_knows_which_models_made_the_run(tmp_path):
    stored(tmp_path, record("a", digest="d1"), record("b", "error", digest=""))
    store = Store(tmp_path)
    store.close()
    assert store.digests == {"d1"}


def test_record_is_plain_data():
    assert json.loads(json.dumps(asdict(record())))["scores"] == {"exact": True, "graded": 1.0}
