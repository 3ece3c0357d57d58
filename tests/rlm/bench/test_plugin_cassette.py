"""Sessions that are recorded, and replayed without their model."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlm.bench import records
from rlm.clients import connect, needs_engine
from tests.rlm.bench.plugin_session import FEW, Session
from tests.servers.reader import ReaderServer

N2 = ("-n2",)
DRAWN = ("--rlm-temperature=0.8", "--rlm-draws=2", "--rlm-concurrency=4")


def told(session: Session, run: str) -> dict[str, dict[str, Any]]:
    """All that a replay must give again: not the clock, and not what measured the machine."""
    found = {}
    for record in records.load(session.path / "runs" / run):
        row = json.loads(records.encode(record))
        for name in ("run", "time", "started", "finished", "trace"):
            del row[name]
        found[record.key] = row
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model, which a test can take away."""
    path = needs_engine("embedded")
    assert path is not None
    return Path(shutil.copy(path, tmp_path / "model.gguf"))


@pytest.mark.parametrize(
    ("sampling", "recorded", "replayed"),
    [((), (), N2), ((), N2, ()), (DRAWN, N2, N2)],
    ids=["greedy-alone-n2", "greedy-n2-alone", "drawn-n2-n2"],
)
def test_a_replay_gives_the_same_records_without_the_model(
    session: Session,
    model: Path,
    sampling: tuple[str, ...],
    recorded: tuple[str, ...],
    replayed: tuple[str, ...],
) -> None:
    cells = (*FEW, f"--rlm-model=gguf/{model}", "--rlm-num-ctx=4096", "--rlm-prompt=compact")
    result = session.run(*cells, *sampling, "--rlm-run=a", "--rlm-record=tape", *recorded)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"model: gguf/*, recorded into {session.path}/tape"])
    model.unlink()
    again = session.run(*cells, *sampling, "--rlm-run=b", "--rlm-replay=tape", *replayed)
    assert again.ret == 0
    again.stdout.fnmatch_lines([f"model: gguf/*, replayed from {session.path}/tape"])
    first = told(session, "a")
    assert told(session, "b") == first
    assert len(first) == (8 if sampling else 4)
    assert {row["verdict"] for row in first.values()} >= {"correct", "truncated"}
    headers = [session.path / "runs" / run / records.RESULTS for run in "ab"]
    told_by = [json.loads(header.read_text().splitlines()[0]).get("replay") for header in headers]
    assert told_by == [None, str(session.path / "tape")]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_replay_asks_no_server(session: Session, server: ReaderServer, depth: int) -> None:
    cells = (*FEW, f"--rlm-max-depth={depth}")
    session.run(*cells, "--rlm-run=a", "--rlm-record=tape")
    asked = len(server.asked)
    result = session.run(*cells, "--rlm-run=b", "--rlm-replay=tape", "-nauto")
    assert result.ret == 0
    assert len(server.asked) == asked
    assert told(session, "b") == told(session, "a")
    loops = {len(row["levels"]) for row in told(session, "b").values()}
    assert loops == ({0, 2} if depth == 2 else {0})


def test_a_drifted_prompt_is_an_error_that_shows_both(session: Session) -> None:
    short = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=1", "--rlm-arch=vanilla")
    session.run(*short, "--rlm-record=tape")
    result = session.run(*short, "--rlm-run=b", "--rlm-replay=tape", "--rlm-seed=7")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*NotRecorded: the cassette */tape does not hold this request; the nearest of its 1 "
            "differs first in message 2 (user), at character *",
            "*recorded  *",
            "*now       *",
        ]
    )
    (record,) = session.load("b").values()
    assert record.verdict == "error"


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--rlm-replay=nowhere",), "*the cassette */nowhere is not there: name a folder*"),
        (("--rlm-replay=tape", "--rlm-model=embedded"), "*not recorded with embedded, but with o*"),
        (("--rlm-replay=tape", "--rlm-record=tape"), "*either recorded or replayed*"),
        (("--rlm-record=test_cells.py",), "*cannot record into */test_cells.py: File exists*"),
    ],
)
def test_a_folder_that_cannot_be_used(
    session: Session, server: ReaderServer, args: tuple[str, ...], reason: str
) -> None:
    with closing(connect(server.spec, record=session.path / "tape")) as client:
        client.info()
    result = session.look(*FEW, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([reason])
