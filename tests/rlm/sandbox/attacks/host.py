"""What an attack may have done to the host: its state before and after."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

MB = 2**20
PR_SET_CHILD_SUBREAPER, PR_GET_PDEATHSIG = 36, 2
_libc = ctypes.CDLL(None, use_errno=True)


class Guard:
    """The state of this process, its children and the canaries when it was made.

    Attributes:
        memory: bytes that this process may grow by at the highest.
    """

    def __init__(self, folder: Path) -> None:
        self.memory = 64 * MB
        self._folder = folder
        # A process that an attack leaves behind becomes a child of this one, and is found.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._children = descendants()
        self._state = self._look()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        self._size = _status("VmHWM")

    def check(self) -> None:
        """Assert that all is as it was."""
        grown = _status("VmHWM") - self._size
        deadline = time.monotonic() + 2.0
        while (left := descendants() - self._children) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # adopted and ended
            time.sleep(0.002)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        assert not left, "processes left behind"
        assert self._look() == self._state
        assert grown < self.memory, f"the host grew by {grown / MB:.0f} MB"

    def _look(self) -> dict[str, object]:
        return {
            "descriptors": descriptors(),
            "canaries": canaries(self._folder),
            "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
            "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "timer": signal.getitimer(signal.ITIMER_REAL),
            "limits": [resource.getrlimit(n) for n in range(16)],
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
            "cores": os.sched_getaffinity(0),
            "scheduler": os.sched_getscheduler(0),
            "folder": Path.cwd(),
            "name": os.uname().nodename,
            "deathsig": _pdeathsig(),
            "null": _seen(Path("/dev/null"))[:4],
        }


def descendants() -> set[int]:
    """The processes below this one, and those they left behind; never threads."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (folder / "stat").read_text(encoding="ascii", errors="replace")
            parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def descriptors() -> list[str]:
    """What this process has open."""
    links = []
    for link in os.listdir("/proc/self/fd"):  # noqa: PTH208 - one descriptor of its own, gone now
        with suppress(FileNotFoundError):
            links.append(f"{link} {os.readlink(f'/proc/self/fd/{link}')}")  # noqa: PTH115
    return sorted(links)


def canaries(folder: Path) -> dict[str, object]:
    """Content, mode, owner and times of each file; the time of change shows all the rest."""
    return {str(path): _seen(path) for path in (folder, *sorted(folder.rglob("*")))}


def _seen(path: Path) -> tuple[object, ...]:
    seen = path.lstat()
    body = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
    size = (seen.st_size, seen.st_nlink, seen.st_mtime_ns, seen.st_ctime_ns)
    return (seen.st_mode, seen.st_uid, seen.st_gid, body, *size)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _pdeathsig() -> int:
    number = ctypes.c_int()
    _libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    return number.value
