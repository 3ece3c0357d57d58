"""Sessions in a terminal of their own: what a person sees while they run, and afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.rlm.bench.plugin_session import BOTH, FEW, Session
from tests.rlm.bench.screen import Screen, in_terminal, resize
from tests.servers.reader import ReaderServer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")

DRAWN = "\x1b8"
"""The last bytes of a bar."""
EVERY_CELL = "import rlm.bench.terminal\nrlm.bench.terminal.LINE_SECONDS = 0\n"
"""A conftest that does not wait a minute for the next plain line."""

Act = Callable[[str, "subprocess.Popen[bytes]", int], bool]


@dataclass(frozen=True)
class Seen:
    """What a session showed.

    Attributes:
        code: how it ended.
        raw: all that it wrote.
        text: what the terminal holds in the end.
        bars: what stood below the cursor each time that a bar was drawn.
    """

    code: int
    raw: str
    text: str
    bars: list[list[str]]


def look(session: Session, *args: str, columns: int = 100, rows: int = 24, **how: object) -> Seen:
    unused = ("cacheprovider", "hypothesispytest", "benchmark", "anyio")  # slow to load
    command = [sys.executable, "-m", "pytest", *(f"-pno:{name}" for name in unused)]
    code, raw = in_terminal(
        [*command, session.model, *args], folder=session.path, columns=columns, rows=rows, **how
    )
    screen, bars = Screen(columns, rows), []
    *drawn, rest = raw.split(DRAWN)
    for piece in drawn:
        screen.feed(piece + DRAWN)
        bars.append(screen.below)
    screen.feed(rest)
    return Seen(code, raw, screen.text, bars)


def without_times(text: str) -> list[str]:
    """The lines, without the table of seconds, which differ each time, and names of folders."""
    text = re.sub(r"^=+ rlm-bench =.*^records:", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\d+\.\d\ds.*$|=+|runs/\w+", "", text, flags=re.MULTILINE).splitlines()


LINE = len("test_cells.py::test_niah[L1k-d50-s0-vanilla] CORRECT")


@pytest.mark.parametrize(
    ("args", "columns", "rows"),
    [
        ((), 100, 24),
        (("-q",), 40, 24),
        (("-v",), 100, 5),
        (("-v", "-oconsole_output_style=classic"), LINE, 24),
        (("-v", "-oconsole_output_style=classic"), LINE - 1, 24),
        (("-x", "-rA", "-k", "l1k", "--rlm-fail-under=rlm>=1"), 100, 24),
    ],
    ids=["usual", "q-narrow", "v-scrolls", "v-full-line", "v-wraps", "x"],
)
def test_in_the_end_the_screen_is_as_if_there_had_been_no_bar(
    session: Session, args: tuple[str, ...], columns: int, rows: int
) -> None:
    size = {"columns": columns, "rows": rows}
    plain = look(session, *FEW, *args, "--rlm-run=a", "--rlm-progress=off", **size)
    assert not plain.bars
    assert "\x1b[J" not in plain.raw
    seen = look(session, *FEW, *args, "--rlm-run=b", **size)
    assert seen.code == plain.code == 0
    assert without_times(seen.text) == without_times(plain.text)
    assert seen.bars
    for below in seen.bars:
        (bar,) = below
        assert len(bar) < columns
    assert re.search(r"\b2/2|4/4\b", seen.bars[-1][0])


@BOTH
def test_a_bar_says_how_far_it_is(session: Session, workers: tuple[str, ...]) -> None:
    seen = look(session, *FEW, *workers, "--rlm-run=a")
    assert seen.code == 0
    bars = [bar for (bar,) in seen.bars]
    counts = [int(found[1]) for bar in bars if (found := re.search(r"(\d)/4 cells", bar))]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3, 4}
    assert "cells, " not in bars[0]  # nothing is known of this model before its first cell
    middle = next(bar for bar in bars if "2/4" in bar)
    assert re.match(r"\[#+-+\] 2/4 cells, \S+/min, ends ~\d\d:\d\d \| \d correct", middle)
    assert re.search(r"\] 4/4 cells, \S+/min, ends .* 3 correct, 1 truncated$", bars[-1])
    assert not re.search(r"/4 cells", seen.text)
    assert "\x1b[31m" not in seen.raw  # nothing failed, so nothing is red
    assert re.search(r"^run: runs/a: 0 done, 4 to do$", seen.text, re.MULTILINE)
    assert re.search(r"^model: openai", seen.text, re.MULTILINE)  # below xdist's own line


def test_lines_of_workers_stay_whole(session: Session) -> None:
    seen = look(session, *FEW, "-n2", "-v", columns=90)
    assert seen.code == 0
    found = re.findall(r"^\[gw\d\] \[ *\d+%\] [CT]\w+ test_cells.py::\S+$", seen.text, re.MULTILINE)
    assert len(found) == 4
    assert all(len(below) == 1 for below in seen.bars)


def test_a_terminal_may_be_narrow(session: Session) -> None:
    seen = look(session, *FEW, columns=24)
    assert seen.code == 0
    assert all(len(below) == 1 and len(below[0]) < 24 for below in seen.bars)
    assert re.match(r"4/4, ends ~\d\d:\d\d$", seen.bars[-1][0])


def test_a_terminal_may_change_its_size(session: Session) -> None:
    """The screen of the test does not, so only the bars are looked at."""

    def shrink(written: str, process: object, terminal: int) -> bool:
        if DRAWN not in written:
            return False
        resize(terminal, 30)
        return True

    seen = look(session, *FEW, act=shrink)
    assert seen.code == 0
    assert len(seen.bars[0][0]) > 30
    assert 0 < len(seen.bars[-1][0]) < 30


def test_the_window_of_a_terminal_may_be_unknown(session: Session) -> None:
    """As under some remote shells, which say that it has no columns."""
    seen = look(session, *FEW, act=lambda _written, _process, terminal: resize(terminal, 0, 0))
    assert seen.code == 0
    assert "4/4 cells" in seen.bars[-1][0]


def interrupt(written: str, process: subprocess.Popen[bytes], terminal: int) -> bool:
    if "1/4" not in written:
        return False
    process.send_signal(signal.SIGINT)
    return True


@BOTH
def test_ctrl_c_leaves_no_bar(
    session: Session,
    server: ReaderServer,
    monkeypatch: pytest.MonkeyPatch,
    workers: tuple[str, ...],
) -> None:
    monkeypatch.setattr(server, "delay", 0.5)
    seen = look(session, *FEW, "--rlm-run=a", *workers, act=interrupt)
    assert seen.code == pytest.ExitCode.INTERRUPTED
    stopped = r"^!+ (KeyboardInterrupt|rlm\.errors\.Interrupted) !+$"  # between cells, or in a loop
    assert re.search(stopped, seen.text, re.MULTILINE)
    assert re.search(r"^=+ \d (correct|truncated).* in ", seen.text, re.MULTILINE)
    assert "/4 cells" not in seen.text
    assert 0 < len(session.load("a")) < 4


def test_an_internal_error_leaves_no_bar(session: Session) -> None:
    session.pytester.makeconftest(
        """
        def pytest_runtest_logfinish(nodeid):
            if "l1k-d50-s0-rlm" in nodeid.lower():
                raise ValueError("no tea")
        """
    )
    seen = look(session, *FEW)
    assert seen.code == pytest.ExitCode.INTERNAL_ERROR
    assert re.search(r"^INTERNALERROR> .*ValueError: no tea$", seen.text, re.MULTILINE)
    assert seen.bars
    assert "/4 cells" not in seen.text


def test_a_worker_that_crashes_is_told_and_counted(session: Session) -> None:
    session.pytester.makepyfile(
        test_cells="""
        import os, pytest

        @pytest.mark.cells("niah")
        def test_niah(cell):
            if cell.cell.length == 8192 and cell.cell.architecture == "vanilla":
                os._exit(1)
            cell.run()
        """
    )
    seen = look(session, *FEW, "-n2")
    assert seen.code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"^\[gw\d\] node down: Not properly terminated$", seen.text, re.MULTILINE)
    assert re.search(r"^replacing crashed worker gw\d$", seen.text, re.MULTILINE)
    assert "1 crashed" in seen.bars[-1][0]
    assert "/4 cells" not in seen.text


def test_a_bound_that_stops_the_run_is_its_end(
    session: Session, server: ReaderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "delay", 0.3)
    seen = look(session, *FEW, "--rlm-samples=20", "--rlm-max-minutes=0.05")
    assert seen.code == pytest.ExitCode.INTERRUPTED
    assert any("stops ~" in bar for (bar,) in seen.bars)
    assert "stopped by --rlm-max-minutes 0.05" in seen.text


def test_what_tests_write_themselves_stays_whole(session: Session) -> None:
    """With ``-s`` the line below the cursor is theirs, so there are plain lines only."""
    session.pytester.makeconftest(EVERY_CELL)
    session.pytester.makepyfile(
        test_cells="""
        import pytest

        @pytest.mark.cells("niah")
        def test_niah(cell):
            print("first\\nsecond")
            cell.run()
        """
    )
    seen = look(session, *FEW, "-s")
    assert not seen.bars
    assert len(re.findall(r"first\nsecond\n", seen.text)) == 4
    assert "rlm-bench: 4 of 4 cells (100%)" in seen.text
    forced = look(session, *FEW, "-s", "--rlm-progress=bar")
    assert "4/4 cells" in forced.bars[-1][0]


def test_a_debugger_has_the_terminal_for_itself(session: Session) -> None:
    session.pytester.makepyfile(
        test_cells="""
        import pytest

        @pytest.mark.cells("niah")
        def test_niah(cell):
            cell.run()
            if cell.cell.architecture == "rlm":
                breakpoint()
        """
    )

    def go_on(written: str, process: object, terminal: int) -> bool:
        if "(Pdb)" in written:
            os.write(terminal, b"continue\n")
        return "(Pdb)" in written

    seen = look(session, *FEW, "-k", "l1k", act=go_on, columns=200)  # of a long path
    assert seen.code == 0
    assert re.search(r"^> .*test_cells.py\(\d+\)test_niah\(\)", seen.text, re.MULTILINE)
    assert "/2 cells" not in seen.text


@pytest.mark.parametrize("mode", ["auto", "bar"])
def test_a_terminal_that_knows_no_codes_gets_lines(session: Session, mode: str) -> None:
    session.pytester.makeconftest(EVERY_CELL)
    seen = look(session, *FEW, f"--rlm-progress={mode}", environment={"TERM": "dumb"})
    assert "\x1b" not in seen.raw
    assert "rlm-bench: 4 of 4 cells (100%)" in seen.text


@pytest.mark.parametrize(
    ("mode", "workers"), [("auto", ()), ("auto", ("-n2",)), ("bar", ()), ("lines", ())]
)
def test_a_log_gets_plain_lines(session: Session, mode: str, workers: tuple[str, ...]) -> None:
    session.pytester.makeconftest(EVERY_CELL)
    result = session.run(*FEW, f"--rlm-progress={mode}", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "rlm-bench: 1 of 4 cells (25%), * a minute, about * left: 1 *",
            "rlm-bench: 4 of 4 cells (100%), * a minute, about 0 s left: 3 correct, 1 truncated",
            "*3 correct, 1 truncated in *",
        ]
    )
    told = re.findall(r"^rlm-bench: (\d) of 4", result.stdout.str(), re.MULTILINE)
    assert told == ["1", "2", "3", "4"]
    assert "\x1b" not in result.stdout.str()


def test_a_log_of_a_minute_or_less_has_no_such_lines(session: Session) -> None:
    assert "of 4 cells" not in session.run(*FEW).stdout.str()


def test_off_is_off(session: Session) -> None:
    session.pytester.makeconftest(EVERY_CELL)
    result = session.run(*FEW, "--rlm-progress=off")
    assert result.ret == 0
    assert "of 4 cells" not in result.stdout.str()


@pytest.mark.parametrize("args", [("--collect-only",), ("--rlm-plan",), ("-k", "l1k and nothing")])
def test_where_no_cell_runs_nothing_is_drawn(session: Session, args: tuple[str, ...]) -> None:
    seen = look(session, *FEW, *args)
    assert seen.code in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert not seen.bars


@BOTH
def test_nothing_is_drawn_in_other_suites(session: Session, workers: tuple[str, ...]) -> None:
    session.pytester.makepyfile(test_cells="def test_x(): pass")
    seen = look(session, *workers)
    assert seen.code == 0
    assert not seen.bars
    assert "\x1b[J" not in seen.raw


def test_without_a_terminal_plugin_the_cells_run(session: Session) -> None:
    result = session.run(*FEW, "--rlm-run=a", "-pno:terminal")
    assert result.ret == 0
    assert len(session.load("a")) == 4
