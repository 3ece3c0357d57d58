"""The folder of a comparison: one comparison at a time works in it, by way of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
ROOT: Final = Path(__file__).parent.parent.parent
LOCK: Final = "lock"


class Place:
    """A folder, and the processes that work in it.

    Each process has the lock's file as its standard input, and the lock is held until the last one
    of them has ended: where a comparison was killed alone, the next one waits for what the first
    has left at work. On Windows, which has no such lock, it does not.

    Args:
        out: the folder; is made.
        jobs: processes at once.
    """

    def __init__(self, out: Path, jobs: int) -> None:
        self.out, self.jobs = out, jobs
        out.mkdir(parents=True, exist_ok=True)
        self._lock = (out / LOCK).open("a+b")
        _hold(self._lock.fileno(), out)

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def process(self, module: Sequence[str], said: Path) -> int:
        """Run ``python -m MODULE…`` from the clone, with one thread; its exit code."""
        paths = (str(ROOT), os.environ.get("PYTHONPATH"))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
        }
        with said.open("wb") as file:
            return subprocess.run(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env=environment,
                stdin=self._lock,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

    def each(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """What each of some tasks returns, `jobs` of them at once."""
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


class Progress:
    """A line for each task that is done, with the time that those of its kind still take.

    Args:
        jobs: tasks at once.
        tell: where lines go.
    """

    def __init__(self, jobs: int, tell: Callable[[str], None]) -> None:
        self.jobs, self.tell = jobs, tell
        self.done, self.planned, self.what = 0, 0, ""
        self._took: list[float] = []

    def begin(self, what: str, planned: int) -> None:
        """From now on tasks are of another kind."""
        self.done, self.planned, self.what, self._took = 0, planned, what, []

    def timed(self, task: Callable[[], T], told: Callable[[T], str]) -> Callable[[], T]:
        """The same task; once it is done, a line says what came of it."""

        def run() -> T:
            started = time.monotonic()
            found = task()
            took = time.monotonic() - started
            self.done += 1
            if took > 1:  # else it was there already
                self._took.append(took)
            self.tell(f"[{self.what} {self.done}/{self.planned}] {told(found)}{self._left()}")
            return found

        return run

    def _left(self) -> str:
        if not self._took or self.done >= self.planned:
            return ""
        mean = sum(self._took) / len(self._took)
        return f"; about {duration(mean * (self.planned - self.done) / self.jobs)} left"


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def last_words(said: Path) -> str:
    """The end of what a process said, and where the rest is."""
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join([*lines[-5:], f"(all of it is in {said})"])


def _hold(file: int, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another process is still at work in {out}: waiting for it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
