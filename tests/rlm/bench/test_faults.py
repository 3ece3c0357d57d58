"""Faults of an Ollama server by what the record says of the cell: over a real socket, with a real
model, by the runner itself. None is ever scored as wrong, and no cut prompt as correct.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from rlm import loop
from rlm.bench import runner
from rlm.bench.grid import Cell
from rlm.bench.records import Record
from rlm.bench.report.summary import summary
from rlm.bench.runner import Settings
from rlm.clients._retries import Backoff
from rlm.clients.base import Client
from rlm.clients.ollama import OllamaClient
from rlm.overflow import Keep, shown
from rlm.sandbox import Sandbox, open_sandbox
from tests.servers.ollama_real import NAME, VERSIONS, Fault, RealModel, RealOllama

WINDOW = 2048
TRIES = 2
FITS = Cell("niah", 1024, 50, 0, "vanilla", unit="chars")
TOO_LONG = replace(FITS, length=2048, depth=90, unit="tokens")
LOOP = replace(FITS, architecture="rlm")

FAULTS: dict[str, tuple[str, str, int]] = {
    "queue full": ("ProtocolError", "503: server busy", TRIES),
    "crash": ("ProtocolError", "500: llama runner process has terminated", 0),
    "crash mid-stream": ("ProtocolError", "an error was encountered", 0),
    "aborted": ("ProtocolError", "without `done`", 0),
    "done is false": ("ProtocolError", "without `done`", 0),
    "tool call": ("ProtocolError", "took text for a tool call", 0),
    "page": ("ProtocolError", "HTTP 200 and a page of HTML", 0),
    "page of status 502": ("ProtocolError", "HTTP 502 and a page of HTML", 0),
    "no JSON": ("ProtocolError", "not a JSON object", 0),
    "no count": ("ProtocolError", "`prompt_eval_count`", 0),
    "hung up": ("ProtocolError", "broke off the call", TRIES),
    "cut": ("ProtocolError", "broke off the call", 0),
    "cut in a line": ("ProtocolError", "broke off the call", 0),
    "model gone": ("ModelNotFound", f"`ollama pull {NAME}`", 0),
    "bad host": ("ProtocolError", "403: invalid host header", 0),
}
"""Fault of every call: type of the error, part of its message, and new tries. All are errors."""


@pytest.fixture(scope="module")
def model() -> Iterator[RealModel]:
    with closing(RealModel()) as running:
        yield running


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


class Bench:
    """Measures cells on servers of one model."""

    def __init__(self, model: RealModel, sandbox: Sandbox, run: Path) -> None:
        self.model, self.sandbox = model, sandbox
        self.settings = Settings(run=run, spec=f"ollama/{NAME}", num_ctx=WINDOW)

    @contextmanager
    def serve(self, **more: Any) -> Iterator[tuple[RealOllama, Callable[[Cell], Record]]]:
        """A server, and what measures a cell on it."""
        with RealOllama(self.model, **more) as server:
            backoff = Backoff(tries=TRIES, first=0.01, jitter=lambda: 0.0)
            client = OllamaClient(NAME, num_ctx=WINDOW, url=server.address, backoff=backoff)

            with closing(client):
                yield server, lambda cell: self.measure(cell, client)

    def measure(self, cell: Cell, client: Client) -> Record:
        done = runner.measure(
            cell, self.settings, client=lambda: client, sandbox=lambda: self.sandbox
        )
        assert done.record is not None
        assert done.bug is None
        return done.record


@pytest.fixture
def bench(model: RealModel, sandbox: Sandbox, tmp_path: Path) -> Bench:
    return Bench(model, sandbox, tmp_path / "run")


@pytest.mark.ollama
@pytest.mark.parametrize("cell", [FITS, LOOP], ids=["vanilla", "rlm"])
def test_cell_on_a_server_of_ones_own_is_measured(
    bench: Bench, rlm_ollama: Client, cell: Cell
) -> None:
    record = bench.measure(cell, rlm_ollama)
    assert record.verdict in ("correct", "wrong")
    assert (record.error, record.usage.retries) == (None, 0)


@pytest.mark.ollama
def test_prompt_that_does_not_fit_a_server_of_ones_own_is_truncated(
    bench: Bench, rlm_ollama: Client
) -> None:
    window = rlm_ollama.info().window
    assert window
    record = bench.measure(replace(TOO_LONG, length=2 * window), rlm_ollama)
    assert (record.verdict, record.error) == ("truncated", None)


def is_sub_call(body: dict[str, Any]) -> bool:
    """A sub-call is one user message and nothing else."""
    return len(body["messages"]) == 1


def test_every_fault_is_in_the_table() -> None:
    assert {*FAULTS, "silent"} == set(get_args(Fault))


@pytest.mark.parametrize("cell", [FITS, LOOP], ids=["vanilla", "rlm"])
def test_cell_on_a_sound_server_is_measured(bench: Bench, cell: Cell) -> None:
    """What the other tests here bend is sound when nothing bends it."""
    with bench.serve() as (_, measure):
        record = measure(cell)
    assert record.verdict in ("correct", "wrong")
    assert (record.error, record.usage.retries) == (None, 0)
    assert record.usage.prompt_tokens > 0


@pytest.mark.parametrize("cell", [FITS, LOOP], ids=["vanilla", "rlm"])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_each_call(bench: Bench, fault: Fault, cell: Cell) -> None:
    kind, message, retries = FAULTS[fault]
    with bench.serve() as (server, measure):
        server.fail(fault)
        record = measure(cell)
        asked = len(server.chats)
    assert record.verdict == "error"
    assert record.error is not None
    assert record.error.type == kind
    assert message in record.error.message
    assert (record.scores, record.prediction) == (None, "")
    assert (record.usage.calls, record.usage.retries, asked) == (0, retries, 1 + retries)


@pytest.mark.parametrize("cell", [FITS, LOOP], ids=["vanilla", "rlm"])
def test_server_that_says_nothing_is_a_timeout(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, cell: Cell
) -> None:
    monkeypatch.setattr(runner, "CELL_SECONDS", 0.5)
    monkeypatch.setattr(loop, "LAST_SECONDS", 0.2)
    with bench.serve() as (server, measure):
        server.fail("silent")
        record = measure(cell)
    assert (record.verdict, record.prediction, record.usage.retries) == ("timeout", "", 0)
    assert record.scores is None or not record.scores.exact


def test_server_that_goes_away_is_waited_for_and_then_an_error(bench: Bench) -> None:
    with bench.serve() as (server, measure):
        sound = measure(FITS)
        server.stop()
        gone = [measure(FITS) for _ in range(2)]
    assert sound.error is None
    assert [record.verdict for record in gone] == ["error", "error"]
    assert {record.error.type for record in gone if record.error} == {"ServerUnreachable"}
    assert [record.usage.retries for record in gone] == [TRIES, 0]  # the second does not wait


@pytest.mark.parametrize("fault", ["aborted", "tool call", "hung up"])
def test_fault_of_sub_calls_alone(bench: Bench, fault: Fault) -> None:
    """The model is told and goes on: what it then answers is right, or nobody's fault but the
    server's.
    """
    kind, message, retries = FAULTS[fault]
    with bench.serve() as (server, measure):
        server.fail(fault, where=is_sub_call)
        record = measure(LOOP)
        failed = sum(map(is_sub_call, server.chats))
    assert failed == record.usage.sub_calls * (1 + retries) > 0
    assert record.usage.retries == record.usage.sub_calls * retries
    assert record.scores is not None
    if record.scores.exact:
        assert record.verdict == "correct"
    else:
        assert record.verdict == "error"
        assert record.error is not None
        assert record.error.type == kind
        assert message in record.error.message


@pytest.mark.parametrize("cell", [FITS, LOOP], ids=["vanilla", "rlm"])
@pytest.mark.parametrize("fault", ["queue full", "hung up"])
def test_fault_that_passes_changes_nothing_and_is_recorded(
    bench: Bench, fault: Fault, cell: Cell
) -> None:
    with bench.serve() as (server, measure):
        sound = measure(cell)
        server.fail(fault, times=1)
        record = measure(cell)
    assert record.usage == replace(sound.usage, retries=1)
    assert (record.verdict, record.prediction) == (sound.verdict, sound.prediction)
    assert record.trace is not None
    kept = json.loads((bench.settings.run / record.trace.path).read_bytes())
    (reason,) = [call["retries"] for call in kept["calls"] if call["retries"]]
    assert reason == [{"queue full": "HTTP 503", "hung up": "hung up"}[fault]]


@pytest.mark.parametrize("version", VERSIONS)
def test_prompt_that_does_not_fit_is_truncated_on_every_version(bench: Bench, version: str) -> None:
    """With the needle near the end, which a cut keeps: what is right by luck is not correct."""
    with bench.serve(version=version) as (server, measure):
        record = measure(TOO_LONG)
    assert (record.verdict, record.error) == ("truncated", None)
    seen = record.usage.prompt_tokens
    assert (server.lost > 0) is not server.version.listens
    assert seen == (0 if server.version.listens else server.version.kept(WINDOW))


@pytest.mark.parametrize("version", ["0.30.12", "0.30.12 deaf"])
def test_answer_that_meets_the_end_of_the_window_is_truncated(bench: Bench, version: str) -> None:
    """Guards an answer that was cut off, or for which the prompt was shifted out."""
    with bench.serve() as (_, measure):
        sound = measure(FITS)
    assert sound.usage.completion_tokens > 1
    with bench.serve(version=version, live=sound.usage.prompt_tokens + 1) as (_, measure):
        record = measure(FITS)
    assert record.usage.prompt_tokens == sound.usage.prompt_tokens
    assert record.verdict == "truncated"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["head", "middle", "tail"])
def test_cell_that_was_cut_on_purpose_is_never_one_that_was_read(
    bench: Bench, version: str, method: Keep
) -> None:
    """Whatever the server does with a prompt that is too long: it gets none, and the record says
    which part was read, and whether the needle was in it.
    """
    bench.settings = replace(bench.settings, overflow=method)
    with bench.serve(version=version) as (server, measure):
        record = measure(TOO_LONG)
        (*_, sent) = server.chats
        lost = server.lost
    assert (record.error, lost) == (None, 0)
    assert record.verdict in ("correct", "wrong")
    assert not record.is_valid, "counted as a document that was read"
    assert record.cut is not None
    assert (record.cut.method, record.cut.counted) == (method, "estimate")
    assert record.evidence == {"head": "lost", "middle": "kept", "tail": "kept"}[method]
    item = runner.make_item(TOO_LONG, bench.settings.seed, bench.settings.split)
    text = shown(item.document, record.cut.kept)
    assert sent["messages"][-1]["content"] == f"{text}\n\nQuestion: {item.question}"
    row = summary([record], width=120, color=False).splitlines()[1]
    assert row.endswith("1 cut (1 lost)" if method == "head" else "1 cut")


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_each_call_of_a_cut_cell(bench: Bench, fault: Fault) -> None:
    kind, message, retries = FAULTS[fault]
    bench.settings = replace(bench.settings, overflow="head")
    with bench.serve() as (server, measure):
        server.fail(fault)
        record = measure(TOO_LONG)
    assert (record.verdict, record.cut, record.scores) == ("error", None, None)
    assert record.error is not None
    assert (record.error.type, record.usage.retries) == (kind, retries)
    assert message in record.error.message


def test_cut_cell_whose_prompt_is_cut_again_is_truncated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a silent cut behind one on purpose, by a server that has less room than it says."""
    bench.settings = replace(bench.settings, overflow="tail")
    whole = RealOllama.fit
    monkeypatch.setattr(RealOllama, "fit", lambda server, body: whole(server, body)[:300])
    with bench.serve() as (_, measure):
        record = measure(TOO_LONG)
    assert record.cut is not None
    assert (record.verdict, record.is_valid) == ("truncated", False)


def test_loop_that_a_cutting_server_serves_stays_within_the_window(bench: Bench) -> None:
    """A loop needs no more than fits, so that it is measured where vanilla is not."""
    cell = replace(TOO_LONG, architecture="rlm", length=4096)
    with bench.serve(version="0.30.12 deaf") as (server, measure):
        record = measure(cell)
    assert (record.verdict in ("correct", "wrong"), server.lost) == (True, 0)
    assert record.doc is not None
    assert record.doc.chars > WINDOW * 4
