"""One worker process, seen from the host: its start, its two sockets, its signals, its end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rlm.errors import SandboxError
from rlm.prompts import say
from rlm.sandbox.wire import Channel, Frames, Hello, Message, Unfit, decode, frame

START_SECONDS = 30.0
SEND_SECONDS = 10.0
GRACE_SECONDS = 0.5

Files = Literal["listed", "closed", "open"]
"""What a worker does about files: Landlock lists those it can read; it can open none, and imports
beforehand what code may want; or it is not confined at all."""

_FLAGS = ("-P", "-s", "-S", "-X", "utf8", "-W", "ignore")
# Imported, not run as a script, so that Python keeps its compiled form.
_BOOT = "import sys; sys.path.append({!r}); import worker; sys.path.pop(); worker.main()"
_SMALL = 2**20  # bytes of a frame on the cells' socket beside the output
_READ_BYTES, _READS = 2**16, 64  # at most 4 MiB a turn, so that a flood cannot hide the clock


class ChildGoneError(Exception):
    """The worker has ended, or was ended for speaking out of turn; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a worker is started.

    Attributes:
        files: see `Files`.
        python: the interpreter.
        inside: a command that runs the worker's command, and its own arguments.
        tells: the option by which that command takes a descriptor to which it writes JSON with the
            worker's process id as ``child-pid``.
    """

    files: Files
    python: str = sys.executable
    inside: tuple[str, ...] = ()
    tells: str = ""


class Child:
    """A worker: it starts, and waits until it is told what to work on.

    Raises:
        SandboxError: it did not start.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._cells, cells_end = socket.socketpair()
        self._calls, calls_end = socket.socketpair()
        self._frames = {self._cells: Frames(_SMALL), self._calls: Frames()}
        self._broken: str | None = None  # why nothing more can come; empty if the socket closed
        fds = (cells_end.fileno(), calls_end.fileno())
        try:
            self._process, self._pid = _spawner(os.getpid()).submit(_spawn, launch, fds).result()
        except OSError as problem:
            self._close_sockets()
            raise SandboxError(f"cannot start {launch.python!r}: {problem}") from problem
        finally:
            cells_end.close()
            calls_end.close()
        if not self._pid:
            raise SandboxError(f"{launch.inside[0]} did not start the worker: {self.end()}")
        self.namespaces = self._namespaces() if launch.inside else ()

    def _namespaces(self) -> tuple[str, ...]:
        """Namespaces that the worker does not share with this process (namespaces(7))."""
        kinds = ("mnt", "net", "pid", "user")
        try:
            apart = [k for k in kinds if _namespace(self._pid, k) != _namespace(os.getpid(), k)]
        except OSError as problem:
            reason = f"{problem}; {self.end()}"
            raise SandboxError(f"cannot see the worker's namespaces: {reason}") from problem
        if not {"mnt", "net", "pid"} <= set(apart):
            self.end()
            raise SandboxError(f"the worker has namespaces of its own only for {apart}")
        return tuple(f"{kind}-namespace" for kind in apart)

    def open(self, context_fd: int, setup: Mapping[str, Any]) -> Hello:
        """Give it the sealed context and the first frame (`rlm.sandbox.worker.main`).

        Raises:
            SandboxError: it could not confine itself, has ended, or gives no sign.
        """
        deadline = time.monotonic() + START_SECONDS
        try:
            hello = self._open(context_fd, setup, deadline)
        except ChildGoneError as gone:
            raise SandboxError(f"the sandbox's worker did not start: {gone}") from None
        except BaseException:
            self.end()
            raise
        self.pause()
        return hello

    def _open(self, context_fd: int, setup: Mapping[str, Any], deadline: float) -> Hello:
        try:
            socket.send_fds(self._cells, [b"."], [context_fd])
        except OSError:
            raise ChildGoneError(self.end()) from None
        self._frames[self._cells] = Frames(_SMALL + 6 * setup["output_chars"])
        self._send(self._cells, setup)
        while (left := deadline - time.monotonic()) > 0:
            match self.receive(left):
                case [Hello() as hello]:
                    return hello
                case [Unfit(reason)]:
                    raise SandboxError(f"the sandbox does not hold on this machine: {reason}")
        raise SandboxError(f"the sandbox's worker gave no sign in {START_SECONDS:g} seconds")

    def send_cell(self, code: str, number: int) -> None:
        """Wake the worker and give it a cell. Raises `ChildGoneError`."""
        self._signal(signal.SIGCONT)
        self._send(self._cells, {"code": code, "number": number})

    def send_reply(self, message: Mapping[str, Any], seconds: float) -> None:
        """Answer a call, which must have been read after `seconds`. Raises `ChildGoneError`."""
        self._send(self._calls, message, seconds)

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
        os.kill(self._pid, signal.SIGINT)

    def end(self) -> str:
        """Kill what is left of the worker and its process group; how it ended. Idempotent."""
        self._close_sockets()
        if self._launch.inside and self._broken == "":
            with suppress(subprocess.TimeoutExpired):  # the command is about to say how it ended
                self._process.wait(GRACE_SECONDS)
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        code = self._process.wait()
        if self._launch.inside and code > 128:  # how a command tells what ended its own
            code = 128 - code
        if code < 0:
            return say("died", "signal", number=-code)
        return say("died", "status", code=code)

    def _read(self, sock: socket.socket) -> list[Message]:
        messages = []
        try:
            for _ in range(_READS):
                data = sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                bodies = self._frames[sock].feed(data)
                channel: Channel = "cells" if sock is self._cells else "calls"
                messages += [decode(body, channel) for body in bodies]
                if not data:
                    raise ConnectionError
        except BlockingIOError:
            pass
        except ConnectionError:
            self._broken = self._broken or ""
        except SandboxError:
            self._broken = say("died", "protocol")
        return messages

    def _send(
        self, sock: socket.socket, message: Mapping[str, Any], seconds: float = SEND_SECONDS
    ) -> None:
        until = time.monotonic() + seconds
        rest = memoryview(frame(message))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while rest:
            try:
                left = until - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
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


def _spawn(launch: Launch, fds: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], int]:
    """The process started, and the process id of the worker."""
    # With this environment -P -s is what -I would be, and the order of a set is the same every run.
    environment = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    boot = _BOOT.format(str(Path(__file__).parent))
    command = [launch.python, *_FLAGS, "-c", boot, *map(str, fds), launch.files]
    told, tell = os.pipe() if launch.tells else (-1, -1)
    try:
        if launch.tells:
            command = [*launch.inside, launch.tells, str(tell), "--", *command]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(*fds, tell) if launch.tells else fds,
        )
    finally:
        if launch.tells:
            os.close(tell)
    return process, _told_pid(told) if launch.tells else process.pid


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def _told_pid(fd: int) -> int:
    """The worker's process id from the pipe `fd`; 0 if its command ended without telling."""
    told = b""
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        while b"}" not in told:
            piece = pipe.read(4096)
            if not piece:
                return 0
            told += piece
    return int(json.loads(told)["child-pid"])
