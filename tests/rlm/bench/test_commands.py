"""`rlm compare`, `verify`, `trace` and `power`: what they print, and how they end."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlm.bench import records, runner
from rlm.bench.grid import Cell
from rlm.bench.records import RESULTS, Record, Store
from rlm.bench.runner import Settings
from rlm.cli import main
from rlm.clients import connect
from rlm.sandbox import Sandbox, open_sandbox
from tests.servers.reader import ReaderServer

DOCUMENTS = 7
"""Enough to show a change, were all of them to change."""

Told = tuple[int, str, str]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


def measured(path: Path, server: ReaderServer, sandbox: Sandbox, *cells: Cell) -> list[Record]:
    settings = Settings(run=path, environment=runner.environment())
    with closing(connect(server.spec)) as client:
        outcomes = [
            runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
            for cell in cells
        ]
    return [outcome.record for outcome in outcomes if outcome.record]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """Runs of a model that reads, of one that does not, and one on other documents."""
    root = tmp_path_factory.mktemp("made")
    for name, first, answers in (("good", 0, True), ("bad", 0, False), ("other", 50, True)):
        path = root / "runs" / name
        samples = range(first, first + DOCUMENTS)
        cells = [Cell("niah", 1024, 50, i, arch) for i in samples for arch in ("vanilla", "rlm")]
        store = Store(path)
        with ReaderServer() as server:
            server.answers = answers
            store.begin({"run": name})
            for record in measured(path, server, sandbox, *cells):
                store.append(record)
        store.close()
    return root


@pytest.fixture
def rlm(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command in a folder with runs."""
    monkeypatch.chdir(made)

    def run(*args: str) -> Told:
        capsys.readouterr()
        status = main(args)
        return status, *capsys.readouterr()

    return run


def test_compare_shows_what_became_worse(rlm):
    status, out, err = rlm("compare", "good", "bad")
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "compared: good → bad"
    assert lines[2].startswith("niah 1k vanilla 7/7 0/7 -100 ")
    assert lines[2].endswith(" 0:7 0.031 worse")
    assert lines[3].startswith("niah 1k rlm 7/7 0/7 -100 ")


def test_compare_as_a_gate(rlm):
    status, out, _ = rlm("compare", "good", "bad", "--fail-on", "regression")
    assert status == 1
    assert out.count("gate regression fails: niah 1k ") == 2
    status, out, _ = rlm("compare", "bad", "good", "--fail-on", "regression")
    assert status == 0
    assert out.endswith("gate regression holds: none seen in 14 pairs of cells\n")


def test_compare_of_runs_with_nothing_in_common_fails(rlm):
    status, out, _ = rlm("compare", "good", "other")
    assert status == 1
    assert "nothing is compared" in out
    assert "28 cells have no partner in the other run" in out


def test_compare_as_json(rlm):
    status, out, _ = rlm("compare", "runs/good", "runs/bad", "--json", "--fail-on", "regression")
    assert status == 1
    data = json.loads(out)
    assert (data["before"], data["after"], data["unpaired"]) == ("runs/good", "runs/bad", 0)
    first = data["comparisons"][0]
    assert (first["architecture"], first["losses"], first["change"]) == ("vanilla", 7, "worse")
    assert first["difference"]["value"] == -1.0
    assert first["valid"]["pairs"] == 7
    assert [finding["passed"] for finding in data["findings"]] == [False, False]


def test_compare_has_no_colour_in_a_pipe_and_fits_the_terminal(rlm, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = rlm("compare", "good", "bad")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_verify_of_a_sound_run(rlm):
    found = rlm("verify", "good")
    assert found == (0, f"runs/good: rows: 14, documents: {DOCUMENTS}, mismatches: 0\n", "")


def test_verify_names_line_and_difference(rlm, tmp_path):
    line = Path("runs/good", RESULTS).read_text().splitlines()[2]
    run = tmp_path / "run"
    run.mkdir()
    (run / RESULTS).write_text(line.replace('"What is', '"\\u001b[31mWhat is') + "\n")
    status, out, _ = rlm("verify", str(run))
    assert status == 1
    trajectory, question, note, last = out.splitlines()
    assert trajectory.startswith("results.jsonl:1: trajectory: cannot read trajectories/")
    assert question.startswith("results.jsonl:1: question: recorded '\\x1b[31mWhat is ")
    assert note == "note: answer taken as recorded: no trajectory tells it (1 row)"
    assert last == f"{run}: rows: 1, documents: 1, mismatches: 2"


@pytest.mark.parametrize(
    "command",
    [
        "table RUN",
        "table RUN --format csv",
        "trace RUN s0",
        "compare RUN RUN",
        "power --mde 50 --run RUN",
    ],
)
def test_what_a_stranger_wrote_cannot_command_the_terminal(rlm, tmp_path, monkeypatch, command):
    """A run folder may come from anybody: no name in it may hold more than letters."""
    run = shutil.copytree("runs/good", tmp_path / "run")
    rows = (run / RESULTS).read_text()
    evil = rows.replace('"task":"niah"', r'"task":"ni\u001b]0;x\u0007ah"')
    evil = evil.replace('"run":"good"', r'"run":"go\u001b[2Jod"')
    (run / RESULTS).write_text(evil)
    if command.startswith("table"):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _, out, err = rlm(*command.replace("RUN", str(run)).split())
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert "⟨U+001B⟩" in out


def test_a_note_of_verify_cannot_command_the_terminal(rlm, tmp_path):
    row = Path("runs/good", RESULTS).read_text().splitlines()[1].replace('"key":"', '"key":"0')
    row = row.replace('"rlm-bench":"', r'"rlm-bench":"\u001b[31m\n')
    (tmp_path / RESULTS).write_text(row + "\n")
    out = rlm("verify", str(tmp_path))[1]
    assert "\nnote: key not verified: made by rlm-bench ⟨U+001B⟩[31m⟨U+000A⟩" in out


def test_a_table_in_a_file_or_pipe_is_what_the_run_holds(rlm, tmp_path):
    run = shutil.copytree("runs/good", tmp_path / "run")
    rows = (run / RESULTS).read_text()
    (run / RESULTS).write_text(rows.replace('"task":"niah"', r'"task":"ni\u001bah"'))
    assert ",ni\x1bah," in rlm("table", str(run), "--format", "csv")[1]


def test_verify_of_a_run_without_cells_fails(rlm, tmp_path):
    (tmp_path / RESULTS).write_text("")
    status, out, _ = rlm("verify", str(tmp_path))
    assert (status, out) == (1, f"{tmp_path}: rows: 0, documents: 0, mismatches: 0\n")


def test_verify_shows_its_progress_on_a_terminal(rlm, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, out, err = rlm("verify", "good")
    assert status == 0
    assert "verifying" in err
    assert out.count("\n") == 1


def test_power_teaches_and_takes_a_share(rlm):
    status, out, _ = rlm("power", "--mde", "10", "--discordant", "0.25")
    assert status == 0
    assert out.startswith("documents at each length to see 10 points of difference:")
    assert "\n25% " in out
    assert "\n10% " not in out


def test_power_takes_a_pilot_run(rlm):
    status, out, _ = rlm("power", "--mde", "10", "--run", "good")
    assert status == 0
    assert "niah: up to " in out


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("compare", "god", "bad"), "unknown run 'god' (did you mean 'good'?); there are: bad, g"),
        (("verify", "nothing/here"), "unknown run 'nothing/here'; there are: bad, good, other"),
        (("power", "--mde", "10", "--run", "x"), "unknown run 'x'"),
        (("power", "--mde", "0"), "0 points is no difference"),
        (("power", "--mde", "10", "--discordant", "7"), "7"),
    ],
)
def test_a_value_that_cannot_be_used(rlm, args, told):
    status, out, err = rlm(*args)
    assert (status, out) == (2, "")
    assert err.startswith("rlm: ")
    assert told in err


def test_no_runs_at_all_is_said(rlm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = rlm("verify", "good")
    assert (status, err) == (2, f"rlm: there is no run 'good', nor any under {tmp_path}/runs\n")


def test_a_broken_run_cannot_be_compared(rlm, tmp_path):
    (tmp_path / RESULTS).write_text("nonsense\n")
    status, _, err = rlm("compare", "good", str(tmp_path))
    assert status == 1
    assert "results.jsonl:1: not a row of a run" in err


@pytest.mark.parametrize("command", [("compare", "good", "bad"), ("power", "--mde", "10")])
def test_without_the_extra_the_remedy_is_told(rlm, command, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    status, _, err = rlm(*command)
    assert status == 1
    assert err.startswith(f"rlm: rlm {command[0]} needs scipy")
    assert err.endswith("pip install 'rlm-bench[bench]'\n")


@pytest.mark.parametrize("command", ["compare", "verify", "power"])
def test_help_teaches_with_examples(rlm, command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.split("examples:")[1].count(f"rlm {command} ") >= 2
    assert "exit status: 0" in out


@pytest.mark.parametrize(
    "args",
    [
        ("compare", "good"),
        ("power",),
        ("power", "--mde", "ten"),
        ("power", "--mde", "10", "--run", "good", "--discordant", "0.1"),
    ],
)
def test_wrong_arguments(rlm, args):
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """A run in which code opens loops, and one cell could not ask its model."""
    path = tmp_path_factory.mktemp("deep") / "run"
    settings = Settings(run=path, environment=runner.environment(), max_depth=2)
    store = Store(path)
    with ReaderServer() as server, closing(connect(server.spec)) as client:
        for cell in (Cell("niah", 1024, 50, 0, "rlm"), Cell("niah", 1024, 50, 1, "vanilla")):
            made = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
            assert made.record
            store.append(made.record)
    store.close()
    return path


def test_trace_shows_the_loops_of_a_cell(deep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = next(r for r in records.load(deep) if r.architecture == "rlm")
    assert main(["trace", str(deep), "s0-rlm"]) == 0
    lines = [re.sub(r"[\d,]+ tokens", "N tokens", x) for x in capsys.readouterr().out.splitlines()]
    assert lines == [
        "niah[L1k-d50-s0-rlm]: correct",
        "depth 1: 4,096 characters",
        record.question,
        "1 turn, 0 sub-calls, N tokens; ended by final",
        f"answer: {record.gold}",
        "└── depth 2, opened by turn 1, cell 1: 4,096 characters",
        f"    {record.question}",
        "    1 turn, 1 sub-call, N tokens; ended by final",
        f"    answer: {record.gold}",
    ]


def test_trace_shows_all_cells(deep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(deep)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("niah[")] == [
        "niah[L1k-d50-s0-rlm]: correct",
        "niah[L1k-d50-s1-vanilla]: correct",
    ]


def test_trace_names_a_cell_that_there_is(deep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(deep), "L8k"]) == 2
    told = f"no cell of {deep} has 'L8k' in its name: there is niah[L1k-d50-s0-rlm]"
    assert told in capsys.readouterr().err


def test_trace_of_a_trajectory_that_was_changed(
    deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(deep, tmp_path / "run")
    for trace in (run / "trajectories").glob("*.json"):
        trace.write_text(trace.read_text().replace("final", "fatal"))
    assert main(["trace", str(run), "rlm"]) == 1
    assert "trajectory: sha256 of trajectories/" in capsys.readouterr().err
