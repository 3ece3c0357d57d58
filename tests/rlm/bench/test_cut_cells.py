"""Cells whose document was cut on purpose: key, record, tables, statistics, gates and verify."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlm import architectures, prompts
from rlm.bench import records, runner
from rlm.bench.gates import judge, parse_gate
from rlm.bench.grid import Cell
from rlm.bench.pairs import Side, between_architectures, between_runs
from rlm.bench.records import RESULTS, Record, Store
from rlm.bench.report.compare import render
from rlm.bench.report.plan import plan
from rlm.bench.report.summary import summary
from rlm.bench.report.verdicts import lines
from rlm.bench.runner import Settings
from rlm.bench.verify import verify
from rlm.clients import connect
from rlm.clients.base import Client, ModelInfo
from rlm.errors import PromptTooLong
from rlm.messages import Message
from rlm.overflow import Cut, Overflow
from rlm.sandbox import open_sandbox
from tests.rlm.bench.plugin_session import BOTH, Session
from tests.rlm.bench.test_pairs import cells as signed
from tests.rlm.scripted import Reply, Scripted
from tests.servers.reader import ReaderServer

LONG = Cell("niah", 2048, 50, 0, "vanilla")
SHORT = replace(LONG, length=512)
WINDOW = 1024
ENVIRONMENT = runner.environment()
HEAD = Cut("head", ((0, 400),), 4096, "server", 3968, 3968)
CUT = {"verdict": "wrong", "cut": HEAD, "evidence": "lost"}


def prepared(name: str, **given: Any) -> Record:
    settings = Settings(run=Path("a"), sandbox="process", **given)
    cell = replace(LONG, architecture=name)
    info = ModelInfo("embedded", "digest", 4096, "server")
    item = runner.make_item(cell, settings.seed, settings.split)
    return runner.prepare(runner.blank(cell, settings), settings, info, item)


@pytest.mark.parametrize("name", architectures.names())
def test_a_cut_is_in_the_key_of_what_obeys_it_alone(name: str) -> None:
    """And `refuse` is not, so that runs from before the option continue."""
    plain = prepared(name)
    keys = {method: prepared(name, overflow=method).key for method in ("refuse", "head", "middle")}
    assert "overflow" not in plain.limits
    assert keys["refuse"] == plain.key
    assert len(set(keys.values())) == (3 if name == "vanilla" else 1)


def test_the_text_that_stands_for_what_is_missing_is_in_the_key() -> None:
    assert prepared("vanilla", overflow="tail").limits["overflow"] == f"tail@{prompts.OVERFLOW}"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with closing(connect("embedded", num_ctx=WINDOW)) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A run of cells that were cut, and of one that fits, on the embedded model."""
    path = tmp_path_factory.mktemp("made") / "run"
    store = Store(path)
    store.begin({"run": "run"})
    for method in ("head", "middle", "tail"):
        settings = Settings(
            run=path, environment=ENVIRONMENT, overflow=method, num_ctx=WINDOW, sandbox="process"
        )
        for cell in (LONG, replace(LONG, depth=10), SHORT):
            store.append(measure(cell, settings, client))
    store.close()
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to be tampered with."""
    return shutil.copytree(made, tmp_path / "run")


def measure(cell: Cell, settings: Settings, client: Client) -> Record:
    with closing(open_sandbox("process")) as sandbox:
        done = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
    assert done.record is not None
    return done.record


def test_a_record_says_what_was_read_and_whether_it_held_the_needle(made: Path) -> None:
    found = records.load(made)
    told = [(r.length, r.depth, r.cut.method if r.cut else "", r.evidence) for r in found]
    assert told == [
        (2048, 50, "head", "lost"),
        (2048, 10, "head", "kept"),
        (512, 50, "", ""),
        (2048, 50, "middle", "lost"),
        (2048, 10, "middle", "kept"),
        (512, 50, "", ""),
        (2048, 50, "tail", "lost"),
        (2048, 10, "tail", "lost"),
        (512, 50, "", ""),
    ]
    for record in found:
        assert record.verdict in ("correct", "wrong")
        assert record.is_valid is (record.length == 512)
        if record.cut:
            assert record.cut.counted == "server"
            assert (
                record.usage.prompt_tokens == record.cut.tokens <= record.cut.limit == WINDOW - 128
            )
        if record.evidence == "lost":
            assert record.verdict == "wrong"


def test_a_run_with_cuts_verifies(made: Path) -> None:
    report = verify(made)
    assert (report.mismatches, report.notes, report.rows) == ((), (), 9)


@pytest.mark.parametrize("refused", ["", "[...]"], ids=["sample too", "cut"])
@pytest.mark.parametrize("overflow", ["refuse", "head"])
def test_cells_that_were_refused_all_the_same_verify(
    tmp_path: Path, refused: str, overflow: Overflow
) -> None:
    """A call that was not made, a call that calibrates, or three that were refused."""

    def script(messages: Sequence[Message]) -> Reply:
        text = messages[-1].content
        return PromptTooLong("no") if refused in text or len(text) > 8000 else "sampled"

    settings = Settings(run=tmp_path, environment=ENVIRONMENT, overflow=overflow)
    record = measure(LONG, settings, Scripted(script, window=1500))
    assert (record.verdict, record.is_valid, record.error) == ("truncated", False, None)
    assert (record.cut is not None) is (overflow == "head" and bool(refused))
    store = Store(tmp_path)
    store.append(record)
    store.close()
    assert verify(tmp_path).mismatches == ()


def without_cut(row: dict[str, Any]) -> None:
    row["cut"], row["evidence"] = None, ""


def longer(row: dict[str, Any]) -> None:
    row["cut"]["kept"][0][1] += 1


def other_way(row: dict[str, Any]) -> None:
    row["limits"]["overflow"] = "tail@overflow1"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (without_cut, "cut: recorded None, but it is Cut("),
        (longer, "cut: recorded Cut("),
        (other_way, "cut: head, but the limits of the row say tail"),
        (lambda row: row.update(evidence="kept"), "evidence: recorded 'kept', but it is 'lost'"),
    ],
)
def test_an_edited_cut_is_found(run: Path, edit: Any, told: str) -> None:
    rows = [json.loads(line) for line in (run / RESULTS).read_text().splitlines()]
    edit(rows[1])
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [mismatch.text for mismatch in verify(run).mismatches]
    assert any(text.startswith(told) for text in found), found


def test_a_prompt_that_is_not_what_the_cut_makes_is_found(run: Path) -> None:
    """The trajectory with its hash, and the row: all edited alike, but for the messages."""
    rows = [json.loads(line) for line in (run / RESULTS).read_text().splitlines()]
    path = run / rows[1]["trace"]["path"]
    trace = json.loads(path.read_text())
    for each in (trace, rows[1]):
        each["cut"]["kept"] = [[0, 500]]
    path.write_text(json.dumps(trace))
    rows[1]["trace"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [mismatch.text for mismatch in verify(run).mismatches]
    assert found == ["prompt: the trajectory's is not what document and cut make"]


def test_a_row_from_before_the_option_is_read() -> None:
    row = json.loads(records.encode(prepared("vanilla")))
    del row["cut"], row["evidence"]
    old = records.decode(json.dumps(row))
    assert (old.cut, old.evidence) == (None, "")


def test_a_cut_survives_its_row() -> None:
    record = replace(prepared("vanilla"), **CUT)
    assert records.decode(records.encode(record)) == record
    assert msgspec.convert(asdict(HEAD), Cut) == HEAD


def vanilla(signs: str, **other: Any) -> list[Record]:
    return signed("vanilla", signs, **other)


def test_a_table_shows_cut_cells_beside_those_that_were_read() -> None:
    whole, cut = vanilla("+-"), vanilla("+--", cut=HEAD, evidence="lost")
    cut[0] = replace(cut[0], evidence="kept")
    text = summary([*whole, *cut], width=150, color=False)
    row, *_ = text.splitlines()[1:]
    assert row.split()[3] == "2/5"
    assert row.endswith("3 cut (2 lost); 1/2 of valid")
    assert "the rest was left out by --rlm-overflow head; lost: what" in " ".join(text.split())
    assert "cut" not in summary(whole, width=150, color=False)


def test_a_win_over_a_cut_document_is_called_so() -> None:
    cut = vanilla("-" * 18 + "++", cut=HEAD, evidence="lost", length=2048)
    cut[-2:] = [replace(r, evidence="kept") for r in cut[-2:]]
    found = lines([*cut, *signed("rlm", "+" * 20, length=2048)])
    assert "(vanilla read all cut on purpose, 18 without evidence)" in found[0]
    assert "both" not in found[0], "no pair was read as a whole"


def test_pairs_that_were_read_as_a_whole_are_told_apart() -> None:
    cut = vanilla("+" * 10, length=2048)
    cut[:4] = [replace(r, cut=HEAD, evidence="kept") for r in cut[:4]]
    everything = [*cut, *signed("rlm", "+" * 10, length=2048)]
    (found,) = between_architectures(everything)
    assert found.left_side == Side(10, 0, 0, 0, 0, cut=4, lost=0)
    assert (found.pairs, found.valid.pairs) == (10, 6)
    told = lines(everything)[0]
    assert "vanilla read 4 of 10 cut on purpose; of the 6 pairs both read as a whole:" in told


def test_a_cut_document_is_no_length_that_was_read() -> None:
    """Guards the effective length from answers to the first page."""
    short = vanilla("+" * 20, length=1024)
    long = vanilla("+" * 20, length=8192)
    read = lines([*short, *long, *signed("rlm", "+" * 20), *signed("rlm", "+" * 20, length=8192)])
    assert any("vanilla at least 8k" in line for line in read)
    cut = [replace(r, cut=HEAD, evidence="kept") for r in long]
    told = lines([*short, *cut, *signed("rlm", "+" * 20), *signed("rlm", "+" * 20, length=8192)])
    assert any("vanilla 1k, rlm at least 8k" in line for line in told)


def test_the_lead_says_where_vanilla_was_cut() -> None:
    short, long = "+" * 20, "-" * 20
    cut = vanilla(long, length=8192, cut=HEAD, evidence="lost")
    found = lines(
        [*vanilla(short), *cut, *signed("rlm", short), *signed("rlm", short, length=8192)]
    )
    assert any(line.endswith(", where vanilla read a part, cut on purpose") for line in found)


def test_a_gate_does_not_take_a_cut_document_for_one_that_was_read() -> None:
    cut = vanilla("++++", cut=HEAD, evidence="kept")
    (found,) = judge([parse_gate("vanilla>=0.5")], [*cut, *vanilla("++")])
    assert not found.passed
    assert "2 of 6 correct" in found.text
    assert "(4 cut)" in found.text


def test_a_comparison_of_runs_says_which_was_cut() -> None:
    before = vanilla("t" * 7, length=2048)
    after = vanilla("+" * 7, length=2048, cut=HEAD, evidence="kept")
    text = render(between_runs(before, [replace(r, run="b") for r in after]), width=99, color=False)
    assert "niah 2k vanilla: documents cut on purpose: 7 of 7 in b" in text
    assert "no pair has an answer to the whole document on both sides" in text


def test_a_plan_counts_what_a_cut_prompt_takes() -> None:
    def tokens(**more: Any) -> str:
        text = plan([LONG], spec="embedded", window=WINDOW, width=99, color=False, **more)
        return text.splitlines()[1].split()[4]

    assert (tokens(), tokens(overflow="head")) == ("0", "1,024")


CELLS = (
    *("--rlm-lengths=512,2k", "--rlm-depths=10", "--rlm-samples=1", "--rlm-arch=vanilla,grep"),
    f"--rlm-num-ctx={WINDOW}",
)


@BOTH
def test_a_session_cuts_and_continues_and_replays(session: Session, workers: tuple[str]) -> None:
    model = ("--rlm-model=embedded", "--rlm-overflow=head")
    result = session.run(*CELLS, *model, "--rlm-run=a", "--rlm-record=tape", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "documents that do not fit vanilla's prompt: their head alone is kept",
            "niah*2k*vanilla*1 cut",
            "cut: answers to a part of the document*",
            "*3 correct, 1 correct (cut) in *",
        ]
    )
    first = session.load("a")
    assert [first[name].cut is None for name in ("512-vanilla", "2048-vanilla")] == [True, False]
    assert "overflow" not in first["2048-grep"].limits
    again = session.run(*CELLS, *model, "--rlm-run=a", *workers)
    again.stdout.fnmatch_lines(["run: */a: 4 done, 0 to do", "*3 correct, 1 correct (cut) in *"])
    played = session.run(*CELLS, *model, "--rlm-run=b", "--rlm-replay=tape", *workers)
    assert played.ret == 0
    for name, record in session.load("b").items():
        held = first[name]
        assert (record.key, record.verdict, record.cut) == (held.key, held.verdict, held.cut)


def test_an_unknown_way_names_those_there_are(session: Session) -> None:
    result = session.look("--rlm-overflow=start")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'start'*refuse*head*middle*tail*"])


def test_a_document_that_is_refused_costs_no_call(server: ReaderServer, tmp_path: Path) -> None:
    """The default: what surely does not fit is truncated without asking the server."""
    settings = Settings(run=tmp_path / "run", spec=server.spec)
    with closing(connect(server.spec)) as opened:
        record = measure(replace(LONG, length=32_768), settings, opened)
    assert (record.verdict, record.error, record.cut) == ("truncated", None, None)
    assert server.bodies("/v1/chat/completions") == []
    assert record.trace is not None
    path = settings.run / record.trace.path
    kept = json.loads(path.read_bytes())
    assert "not sent" in kept["calls"][0]["error"]
    assert path.stat().st_size < 2_000  # without the document
    assert verified(settings.run, record) == ()
    kept["messages"][1]["content"] = kept["messages"][1]["content"].replace("[1", "[2")
    path.write_text(json.dumps(kept))
    edited = replace(record.trace, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (settings.run / RESULTS).unlink()
    assert verified(settings.run, replace(record, trace=edited)) == (
        "prompt: the trajectory's is not what document and cut make",
    )


def verified(run: Path, record: Record) -> tuple[str, ...]:
    """What is found wrong in a run of this one record."""
    with closing(Store(run)) as store:
        store.append(record)
    return tuple(mismatch.text for mismatch in verify(run).mismatches)
