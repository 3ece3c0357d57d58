from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import records
from rlm.bench.records import Failure, Model, Record, Store, Verdict
from rlm.bench.tasks.base import Scores
from rlm.errors import RecordError
from rlm.messages import Usage
from rlm.trajectory import Level


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


def test_row_from_before_new_tries_were_counted():
    row = json.loads(records.encode(record()))
    del row["usage"]["retries"]
    assert records.decode(json.dumps(row)) == record()


def test_row_from_before_there_were_levels():
    row = json.loads(records.encode(record()))
    del row["levels"]
    assert records.decode(json.dumps(row)) == record()


def test_levels_come_back():
    levels = (Level(1, 2, 3, Usage(4, 5, 6)), Level(2, 4, 0, Usage(7, 8, 9)))
    deep = replace(record(), levels=levels)
    assert records.decode(records.encode(deep)) == deep


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


@pytest.fixture
def unusable(tmp_path):
    """Folders that cannot be that of a run, by what is wrong."""
    (tmp_path / "file").touch()
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / records.RESULTS).write_bytes(b'{"row":"\xff"}\n')
    (tmp_path / "folder" / records.RESULTS).mkdir(parents=True)
    return {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "x",
        "bytes": tmp_path / "bytes",
        "folder": tmp_path / "folder",
    }


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("file", "File exists|Not a directory"),
        ("below a file", "Not a directory"),
        ("bytes", "can't decode byte 0xff"),
        ("folder", "Is a directory"),
    ],
)
def test_an_unusable_folder_is_named(unusable, what, reason):
    path = unusable[what]
    with pytest.raises(RecordError, match=reason) as caught:
        Store(path)
    assert str(path / records.RESULTS) in str(caught.value)


def test_a_damaged_file_is_named_to_a_reader(unusable):
    with pytest.raises(RecordError, match=r"bytes/results.jsonl is damaged: .*0xff"):
        records.load(unusable["bytes"])


def test_a_row_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RecordError, match=r"results.jsonl: No space left"):
            store.append(record())
    store.close()


def test_a_trace_that_cannot_be_written_is_told(unusable):
    with pytest.raises(RecordError, match=r"trajectories/k.json: Not a directory"):
        records.write_trace(unusable["file"], "k", {})


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock")
def test_one_session_at_a_time_writes_a_run(tmp_path):
    """Guards rows in writing, which a second session would take for torn and cut off."""
    store = Store(tmp_path)
    file = tmp_path / records.RESULTS
    file.write_text('{"row":"ce')
    with pytest.raises(RecordError, match=rf"'{tmp_path.name}'.*is being written by another"):
        Store(tmp_path)
    assert file.read_text() == '{"row":"ce'
    store.close()
    Store(tmp_path).close()


def test_a_run_takes_no_cell_of_another_model(tmp_path):
    """Guards runs whose model could not be asked when the session began."""
    store = Store(tmp_path)
    store.append(record("a", "error", digest=""))
    store.append(record("b", digest="d1"))
    with pytest.raises(RecordError, match=r"another model \(d1\) than this one \(d2\).*--rlm-run"):
        store.append(record("c", digest="d2"))
    store.close()
    assert [r.key for r in records.load(tmp_path)] == ["a", "b"]


def test_store_knows_which_models_made_the_run(tmp_path):
    stored(tmp_path, record("a", digest="d1"), record("b", "error", digest=""))
    store = Store(tmp_path)
    store.close()
    assert store.digests == {"d1"}


def test_record_is_plain_data():
    assert json.loads(json.dumps(asdict(record())))["scores"] == {"exact": True, "graded": 1.0}


def test_records_share_what_they_have_in_common(tmp_path):
    """Guards the memory of a run with 10,000 cells."""
    stored(tmp_path, record("a"), record("b"))
    first, second = records.load(tmp_path)
    assert first.model is second.model


@pytest.mark.parametrize("given", ["./x", "a/x", "x/"])
def test_what_looks_like_a_folder_is_one(given):
    assert records.folder(given) == Path(given)
    assert records.folder("x") == records.RUNS / "x"
