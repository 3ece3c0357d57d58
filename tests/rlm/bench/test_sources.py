"""The items behind records, made anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from rlm.bench import runner, tasks
from rlm.bench.grid import Cell
from rlm.bench.records import Doc, Store
from rlm.bench.sources import Sources
from rlm.bench.tasks import own
from tests.rlm.bench.test_records import record, stored


def documented(row, document: str):
    return replace(row, doc=Doc(hashlib.sha256(document.encode()).hexdigest(), len(document)))


def test_an_item_is_made_as_it_was(tmp_path):
    item = runner.make_item(Cell("niah", 1024, 50, 0, ""), 0, "eval")
    row = documented(record(), item.document)
    stored(tmp_path, row)
    assert Sources(tmp_path).item(row) == item


def test_what_cannot_be_made_is_told_and_counted(tmp_path):
    row = documented(record(), "another document")
    stored(tmp_path, row)
    sources = Sources(tmp_path)
    assert sources.item(record()) is None
    assert sources.missing == {}
    assert sources.item(row) is sources.item(row) is None
    assert sources.item(replace(row, task="theirs")) is None
    assert sources.missing == {
        "niah makes other documents by now": 2,
        f"unknown task 'theirs'; there are: {', '.join(tasks.names())}": 1,
    }


@pytest.mark.parametrize("gone", [False, True])
def test_own_data_are_read_where_they_were(tmp_path, gone):
    file = tmp_path / "mine.jsonl"
    line = {"context": "The key was under the stone. " * 9, "query": "Where?", "answer": "stone"}
    file.write_text(json.dumps(line) + "\n")
    data = own.load(str(file))
    store = Store(tmp_path / "run")
    store.begin({"run": "run", "file": {"path": str(file), "sha256": data.sha256}})
    store.close()
    if gone:
        file.unlink()
    row = documented(replace(record(), task=data.name, sample=1, depth=None), line["context"])
    sources = Sources(tmp_path / "run")
    item = sources.item(row)
    assert (item is None) == gone
    assert len(sources.missing) == 2 * gone
    if item:
        assert item.question == "Where?"
