from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rlm.bench import runner
from rlm.bench.grid import Cell
from rlm.bench.runner import Outcome, Settings
from rlm.clients import connect
from rlm.clients.base import Client
from rlm.errors import CallTimeout, ServerUnreachable
from rlm.sandbox import Sandbox, open_sandbox
from rlm.trajectory import Trajectory
from tests.servers.reader import ReaderServer

CELL = Cell("niah", 1024, 50, 0, "rlm")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with ReaderServer() as server, closing(connect(server.spec)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run=tmp_path / "a", environment={"git": "abc"})


def measure(cell: Cell, settings: Settings, client: Client, sandbox: Sandbox, **more) -> Outcome:
    return runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox, **more)


def test_a_cell_becomes_a_record(settings, client, sandbox):
    record = measure(CELL, settings, client, sandbox).record
    assert (record.verdict, record.prediction) == ("correct", record.gold)
    assert (record.run, record.git, record.ended_by) == ("a", "abc", "final")
    assert (record.usage.calls, record.usage.sub_calls) == (2, 1)
    assert record.time.wall > record.time.model > 0
    assert record.isolation["backend"] == "process"
    assert record.model.prompt == "full"
    kept = json.loads((settings.run / record.trace.path).read_bytes())
    assert Trajectory.from_dict(kept).usage.prompt_tokens == record.usage.prompt_tokens


def test_vanilla_that_does_not_fit_is_truncated_not_wrong(settings, client, sandbox):
    cell = Cell("long_doc_qa", 8192, 50, 0, "vanilla")
    record = measure(cell, settings, client, sandbox).record
    assert (record.verdict, record.error, record.usage.prompt_tokens) == ("truncated", None, 0)
    assert record.isolation == {}


def test_architectures_get_the_same_document(settings, client, sandbox):
    found = [
        measure(replace(CELL, architecture=name), settings, client, sandbox).record
        for name in ("vanilla", "rlm")
    ]
    assert found[0].doc == found[1].doc
    assert found[0].key != found[1].key


def test_a_done_cell_does_not_run(settings, client, sandbox):
    key = measure(CELL, settings, client, sandbox).key
    done = {key: "wrong"}
    assert measure(CELL, settings, client, sandbox, done=done) == Outcome(key, "wrong", None)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"split": "train"}, {"prompt": "compact"}], ids=lambda c: next(iter(c))
)
def test_what_changes_a_result_changes_the_key(settings, client, sandbox, change):
    keys = {measure(CELL, s, client, sandbox).key for s in (settings, replace(settings, **change))}
    assert len(keys) == 2


def test_the_place_of_the_run_does_not_change_the_key(settings, client, sandbox, tmp_path):
    other = replace(settings, run=tmp_path / "b", environment={})
    assert measure(CELL, settings, client, sandbox).key == measure(CELL, other, client, sandbox).key


@pytest.mark.parametrize(
    ("error", "verdict", "is_bug"),
    [
        (ServerUnreachable("nobody at x"), "error", False),
        (CallTimeout("too slow"), "timeout", False),
        (ZeroDivisionError("oops"), "error", True),
    ],
)
def test_failures_become_verdicts(settings, sandbox, error, verdict, is_bug):
    def fails() -> Client:
        raise error

    outcome = runner.measure(CELL, settings, client=fails, sandbox=lambda: sandbox)
    assert outcome.verdict == verdict
    assert (outcome.bug is not None) == is_bug
    if verdict == "error":
        assert outcome.record.error.message == str(error)


def test_places_are_the_cells_that_need_not_run(settings, client, sandbox):
    record = measure(CELL, settings, client, sandbox).record
    info = client.info()
    assert runner.places([record], settings, info) == {CELL}
    assert runner.places([record], replace(settings, seed=1), info) == set()
    assert runner.places([record], settings, replace(info, window=1)) == set()
    assert runner.places([record], settings, None) == set()


def test_an_unmeasured_cell_has_the_key_it_would_have_had(settings, client, sandbox):
    failure = runner.Failure("crashed", "gw0")
    record = runner.unmeasured(CELL, settings, client.info(), "crashed", failure)
    assert record.key == measure(CELL, settings, client, sandbox).key
    assert runner.unmeasured(CELL, settings, None, "crashed", failure).doc is None


def test_environment_names_versions():
    found = runner.environment()
    assert found["versions"]["python"].startswith("3.")
    assert found["versions"]["rlm-bench"]
    assert found["host"]["processors"] >= 1
