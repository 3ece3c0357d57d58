"""A command on a real terminal (a pty), and what stands on its screen in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 240.0
_CONTROL = re.compile(r"\x1b\[\?\d+[hl]|\x1b\[(\d*)([A-Z])|(\r)|(\n)")


@dataclass(frozen=True)
class Shown:
    """What a command did.

    Attributes:
        status: its exit status.
        raw: everything that it wrote to the terminal.
        stdout: what it wrote to stdout, where that was a pipe.
    """

    status: int
    raw: str
    stdout: str = ""

    @property
    def screen(self) -> str:
        """The lines in the end, colours left in: what was erased is gone."""
        return "\n".join(_lines(self.raw))

    @property
    def text(self) -> str:
        """The same without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.screen)


@contextmanager
def ctrl_c_is_heard() -> Iterator[None]:
    """Processes begun here hear Ctrl-C, though a shell's ``&`` made this one deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(
    command: Sequence[str],
    *,
    columns: int = 100,
    pipe: bool = False,
    environment: Mapping[str, str] | None = None,
    seen: Callable[[str, subprocess.Popen[bytes]], None] = lambda *_: None,
) -> Shown:
    """Run a command whose standard streams are a terminal.

    Args:
        command: and its arguments.
        columns: of the terminal.
        pipe: stdout is a pipe.
        environment: in addition to this one's.
        seen: called with all that was written so far each time there is more of it.
    """
    host, guest = pty.openpty()
    fcntl.ioctl(guest, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    given = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **(environment or {})}
    given.pop("NO_COLOR", None)
    with ctrl_c_is_heard():
        child = subprocess.Popen(
            command,
            stdin=guest,
            stdout=subprocess.PIPE if pipe else guest,
            stderr=guest,
            env=given,
            start_new_session=True,
        )
    os.close(guest)
    try:
        raw = _read(host, child, seen)
        stdout = child.stdout.read().decode() if child.stdout else ""
        return Shown(child.wait(SECONDS), raw, stdout)
    finally:
        child.kill()
        child.wait()
        os.close(host)
        if child.stdout:
            child.stdout.close()


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that these did (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return found + [each for child in found for each in below(child)]


def rlm(*arguments: str) -> list[str]:
    """The command line of ``rlm``."""
    return [sys.executable, "-m", "rlm.cli", *arguments]


def _read(
    host: int,
    child: subprocess.Popen[bytes],
    seen: Callable[[str, subprocess.Popen[bytes]], None],
) -> str:
    data, until = b"", time.monotonic() + SECONDS
    while time.monotonic() < until:
        if not select.select([host], [], [], 0.2)[0]:
            if child.poll() is not None:
                return data.decode(errors="replace")
            continue
        try:
            piece = os.read(host, 65536)
        except OSError:  # the last who held the other end is gone
            piece = b""
        if not piece:
            return data.decode(errors="replace")
        data += piece
        seen(data.decode(errors="ignore"), child)
    raise TimeoutError(f"still running after {SECONDS:g} seconds: {data[-2000:]!r}")


def _lines(raw: str) -> list[str]:
    """The screen: rich erases a line before it writes it anew, so a line is never overwritten."""
    lines, at, end = [""], 0, 0
    for match in _CONTROL.finditer(raw):
        lines[at] += raw[end : match.start()]
        end = match.end()
        number, command, _, newline = match.groups()
        if newline:
            at += 1
            lines += [""] * (at == len(lines))
        elif command == "A":
            at = max(0, at - int(number or 1))
        elif command == "K":
            lines[at] = ""
    lines[at] += raw[end:]
    return lines
