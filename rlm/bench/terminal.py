"""Progress beside pytest's own output, of which not a byte is changed.

On a terminal a bar stands in the line below pytest's. The cursor stays where pytest left it: to
draw, it is saved, moved down and restored; whatever pytest writes next first erases from the cursor
to the end of the screen. So letters, ``-v`` lines, failures, a Ctrl-C and an internal error find
the screen as if there had been no bar, and so does a terminal that was made narrower meanwhile.
Elsewhere a plain line a minute says that the run goes on.

It is drawn when a cell begins and when it ends, and at no other time: pytest captures the terminal
while a test runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TextIO

import pytest

from rlm.bench.controller import STATUS
from rlm.bench.progress import Standing
from rlm.bench.report import progress

LINE_SECONDS: Final = 60.0
"""From one plain line to the next, at least."""

ROOM: Final = "\x1bD\x1b[A"
"""Down a line, for which a screen that is full scrolls, and up again."""
SAVE: Final = "\x1b7"
BELOW: Final = "\r\x1b[B"
RESTORE: Final = "\x1b8"
ERASE: Final = "\x1b[J"
"""From the cursor to the end of the screen."""

Mode = Literal["auto", "bar", "lines", "off"]


def display(
    config: pytest.Config, mode: Mode, standing: Callable[[], Standing]
) -> Bar | Lines | None:
    """What shows the progress of this session; ``None`` where nothing is to be shown.

    Args:
        config: of the session.
        mode: ``bar`` is a line where the output is no terminal; ``auto`` is one too where a test
            may write to the terminal itself, under ``-s`` or a debugger, and on Windows.
        standing: how far the session is.
    """
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is None or mode == "off":
        return None
    # A plain attribute in older pytests, which can be called in newer ones.
    is_screen = bool(terminal.isatty) and os.environ.get("TERM", "dumb") != "dumb"
    option = config.option
    is_shared = option.capture not in ("fd", "sys") or option.usepdb or option.trace
    if is_screen and (mode == "bar" or not (is_shared or sys.platform == "win32")):
        return Bar(terminal._tw, standing)
    return Lines(terminal, standing)


def write_lines(terminal: Any, lines: Sequence[str]) -> None:
    """Write whole lines; pytest knows no more where a line is open once xdist wrote into it."""
    terminal.ensure_newline()
    if terminal._tw.width_of_current_line:
        terminal.line("")
    for line in lines:
        terminal.write_line(line)


class Lines:
    """A plain line at a cell's end, if the last one is a minute old."""

    def __init__(self, terminal: pytest.TerminalReporter, standing: Callable[[], Standing]) -> None:
        self._terminal, self._standing = terminal, standing
        self._told, self._done = time.monotonic(), 0

    @pytest.hookimpl(trylast=True)  # after pytest wrote what became of it
    def pytest_runtest_logreport(self) -> None:
        """Tell, if it is time."""
        if time.monotonic() - self._told < LINE_SECONDS:
            return
        standing = self._standing()
        if standing.done > self._done:
            write_lines(self._terminal, [progress.line(standing)])
            self._told, self._done = time.monotonic(), standing.done


class Bar:
    """A bar below what pytest writes."""

    def __init__(self, writer: Any, standing: Callable[[], Standing]) -> None:
        self._writer, self._standing = writer, standing
        self._file: TextIO = writer._file
        self._drawn = ""
        writer._file = _Above(self._file, self._erase)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self) -> None:
        """A test begins."""
        self._draw()

    @pytest.hookimpl(trylast=True)  # after pytest wrote what became of it
    def pytest_runtest_logreport(self) -> None:
        """A test, its setup or its teardown ended."""
        self._draw()

    def pytest_enter_pdb(self) -> None:
        """A person takes over the terminal."""
        self._erase()

    def pytest_unconfigure(self) -> None:
        """Leave the terminal as if nothing had been."""
        self._erase()
        self._writer._file = self._file

    def _draw(self) -> None:
        parts = progress.bar(
            self._standing(),
            width=self._columns() - 1,  # in the last column some terminals begin a new line
            now=datetime.now(),
            letters={verdict: letter for verdict, (letter, _) in STATUS.items()},
        )
        marked = (self._writer.markup(text, **(STATUS[v][1] if v else {})) for text, v in parts)
        if (text := "".join(marked)) == self._drawn:
            return
        self._erase()
        if not self._hangs():
            self._drawn = text
            self._file.write(f"{ROOM}{SAVE}{BELOW}{text}{RESTORE}")
        self._file.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = ""
            self._file.write(ERASE)

    def _hangs(self) -> bool:
        """A line ends in the last column: there, to erase would take its last character too."""
        width = self._writer.width_of_current_line
        return bool(width) and width % self._columns() == 0

    def _columns(self) -> int:
        """Of the terminal as it is now; pytest's own number is never below 40."""
        columns = os.get_terminal_size(self._file.fileno()).columns
        return columns or int(self._writer.fullwidth)


class _Above:
    """The file of a terminal; the bar is erased before anything else is written."""

    def __init__(self, file: TextIO, erase: Callable[[], None]) -> None:
        self._file, self._erase = file, erase

    def write(self, text: str) -> int:
        """Write where the cursor is."""
        self._erase()
        return self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
