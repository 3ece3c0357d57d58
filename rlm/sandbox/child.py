"""One worker process, seen from the host: its start, its two sockets, its signals, its end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from rlm.errors import SandboxError
from rlm.prompts import say
from rlm.sandbox.wire import Frames, Hello, Message, decode, frame

START_SECONDS = 30.0
SEND_SECONDS = 10.0
GRACE_SECONDS = 0.5

_WORKER = Path(__file__).with_name("worker.py")
_FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8", "-W", "ignore")
_READ_BYTES, _READS = 2**16, 64  # at most 4 MiB a turn, so that a flood cannot hide the clock


class ChildGoneError(Exception):
    """The worker has ended, or was ended for speaking out of turn; the text is the reason."""


class Child:
    """A running worker.

    Args:
        context_fd: the sealed context.
        setup: the first frame; see `rlm.sandbox.worker.main`.

    Raises:
        SandboxError: it did not start.
    """

    def __init__(self, context_fd: int, setup: Mapping[str, Any]) -> None:
        self._cells, cells_end = socket.socketpair()
        self._calls, calls_end = socket.socketpair()
        self._frames = {self._cells: Frames(), self._calls: Frames()}
        self._broken: str | None = None  # why nothing more can come; empty if the socket closed
        fds = (cells_end.fileno(), calls_end.fileno(), context_fd)
        try:
            self._process = _spawner(os.getpid()).submit(_spawn, fds).result()
        except OSError as problem:
            self._close_sockets()
            raise SandboxError(f"cannot start {sys.executable!r}: {problem}") from problem
        finally:
            cells_end.close()
            calls_end.close()
        self.measures = self._greet(setup)

    def send_cell(self, code: str, number: int) -> None:
        """Wake the worker and give it a cell. Raises `ChildGoneError`."""
        self._signal(signal.SIGCONT)
        self._send(self._cells, {"code": code, "number": number})

    def send_reply(self, message: Mapping[str, Any]) -> None:
        """Answer a call. Raises `ChildGoneError`."""
        self._send(self._calls, message)

    def receive(self, seconds: float) -> list[Message]:
        """What arrives first within `seconds`; nothing if the time runs out.

        Raises:
            ChildGoneError: the worker has ended, or sent what is no message.
        """
        poll = select.poll()
        for sock in self._frames:
            poll.register(sock, select.POLLIN)
        poll.poll(min(max(0.0, seconds), 60.0) * 1000 + 1)
        # A result is read before the calls that were sent before it, and handed on after them.
        results = self._read(self._cells)
        messages = self._read(self._calls) + results
        if self._broken is not None and not messages:
            ended = self.end()
            raise ChildGoneError(self._broken or ended)
        return messages

    @property
    def ended(self) -> bool:
        """The worker was ended and reaped."""
        return self._process.returncode is not None

    def pause(self) -> None:
        """Stop every thread until the next cell."""
        self._signal(signal.SIGSTOP)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell."""
        os.kill(self._process.pid, signal.SIGINT)

    def end(self) -> str:
        """Kill what is left of the worker and its process group; how it ended. Idempotent."""
        self._close_sockets()
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        code = self._process.wait()
        if code < 0:
            return say("died", "signal", number=-code)
        return say("died", "status", code=code)

    def _greet(self, setup: Mapping[str, Any]) -> tuple[str, ...]:
        deadline = time.monotonic() + START_SECONDS
        try:
            self._send(self._cells, setup)
            while (left := deadline - time.monotonic()) > 0:
                match self.receive(left):
                    case [Hello(measures)]:
                        self.pause()
                        return measures
        except ChildGoneError as gone:
            raise SandboxError(f"the sandbox's worker did not start: {gone}") from None
        except BaseException:
            self.end()
            raise
        self.end()
        raise SandboxError(f"the sandbox's worker gave no sign in {START_SECONDS:g} seconds")

    def _read(self, sock: socket.socket) -> list[Message]:
        messages = []
        try:
            for _ in range(_READS):
                data = sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                messages += [decode(body) for body in self._frames[sock].feed(data)]
                if not data:
                    raise ConnectionError
        except BlockingIOError:
            pass
        except ConnectionError:
            self._broken = self._broken or ""
        except SandboxError:
            self._broken = say("died", "protocol")
        return messages

    def _send(self, sock: socket.socket, message: Mapping[str, Any]) -> None:
        rest = memoryview(frame(message))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while rest:
            try:
                if not poll.poll(SEND_SECONDS * 1000):
                    self.end()
                    raise ChildGoneError(say("died", "protocol"))
                rest = rest[sock.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except ConnectionError:
                raise ChildGoneError(self.end()) from None

    def _signal(self, number: int) -> None:
        # Not reaped yet, so the group's number cannot belong to anyone else.
        os.killpg(self._process.pid, number)

    def _close_sockets(self) -> None:
        for sock in self._frames:
            sock.close()


@cache
def _spawner(_pid: int) -> ThreadPoolExecutor:
    """One thread a process, alive to its end: PR_SET_PDEATHSIG follows the thread that spawned."""
    return ThreadPoolExecutor(1, "rlm-sandbox")


def _spawn(fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    # With this environment -P -s is what -I would be, and the order of a set is the same every run.
    environment = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        [sys.executable, *_FLAGS, str(_WORKER), *map(str, fds)],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=fds,
    )
