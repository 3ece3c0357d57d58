"""A small terminal: what a person sees of the bytes that a program wrote to it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.rlm.terminal import ctrl_c_is_heard

TOKENS = re.compile(r"\x1b\[([\d;]*)([A-Za-z])|\x1b([78D])|([\r\n])|([^\x00-\x1f\x7f])", re.DOTALL)
"""All that may be written; anything else is refused."""


class Screen:
    """Lines of `columns` characters, of which the last `rows` are visible.

    Knows what the bar needs (save, restore, index, up, down, erase below), colours, which it drops,
    and how a line wraps: the character after the last column begins a new line.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines, self.top = [""], 0
        self.row = self.column = 0
        self._saved = (0, 0)

    def feed(self, text: str) -> None:
        """Show what is written."""
        at = 0
        while at < len(text):
            token = TOKENS.match(text, at)
            assert token, f"unknown to this terminal: {text[at : at + 20]!r}"
            at = token.end()
            numbers, code, escape, control, letter = token.groups()
            if letter:
                self._put(letter)
            elif control == "\r":
                self.column = 0
            elif control == "\n" or escape == "D":
                self._go(self.row + 1)
            elif escape == "7":
                self._saved = (self.row - self.top, self.column)  # of the screen, not of the text
            elif escape == "8":
                row, self.column = self._saved
                self.row = self.top + row
            else:
                self._code(code, int(numbers.partition(";")[0] or 0))

    def _code(self, code: str, number: int) -> None:
        if code == "A":
            self.row = max(self.top, self.row - (number or 1))
        elif code == "B":
            self.row = min(self.top + self.rows - 1, self.row + (number or 1))
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif code == "J":
            assert number == 0
            column = min(
                self.column, self.columns - 1
            )  # a line that is full keeps the cursor in it
            self.lines[self.row] = self.lines[self.row][:column]
            del self.lines[self.row + 1 :]
        else:
            assert code == "m", f"unknown to this terminal: CSI {code}"

    def _put(self, letter: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._go(self.row + 1)
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
        self.column += 1

    def _go(self, row: int) -> None:
        self.row = row
        self.lines += [""] * (row + 1 - len(self.lines))
        self.top = max(self.top, row + 1 - self.rows)

    @property
    def text(self) -> str:
        """All that was written, scrolled out of sight or not, without blanks at the ends."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    @property
    def below(self) -> list[str]:
        """The lines below the cursor."""
        return [line.rstrip() for line in self.lines[self.row + 1 :]]


def in_terminal(
    command: Sequence[str],
    *,
    folder: Path,
    columns: int = 100,
    rows: int = 24,
    environment: Mapping[str, str] | None = None,
    act: Callable[[str, subprocess.Popen[bytes], int], bool] | None = None,
    seconds: float = 300,
) -> tuple[int, str]:
    """Run a command in a terminal of its own; its exit code, and all that it wrote there.

    Args:
        command: what to run.
        folder: where.
        columns, rows: size of the terminal.
        environment: variables beside those that are there.
        act: called with what was written so far, the process and the terminal's descriptor, until
            it returns true.
        seconds: time after which it is given up.
    """
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CI", "BUILD_NUMBER")
    told = {name: value for name, value in os.environ.items() if name not in unset}
    told |= {"TERM": "xterm", **(environment or {})}
    ours, theirs = pty.openpty()
    resize(theirs, columns, rows)
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with ctrl_c_is_heard():
        process = subprocess.Popen(command, cwd=folder, env=told, process_group=0, **streams)
    os.close(theirs)
    written, end = b"", time.monotonic() + seconds
    try:
        while chunk := _read(ours, end):
            written += chunk
            if act and act(written.decode(errors="replace"), process, ours):
                act = None
        return process.wait(30), written.decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)


def resize(terminal: int, columns: int, rows: int = 24) -> None:
    """Give a terminal another size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read(terminal: int, end: float) -> bytes:
    """What comes next; nothing when the other side is closed."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
    assert ready, "it wrote nothing more, and did not end"
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""
