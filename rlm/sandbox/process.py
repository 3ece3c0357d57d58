"""The sandbox that runs cells in a child process of this Python.

The context lies in a sealed memfd that every worker maps again, so that a session survives the
death of its worker (its variables do not). Cells and calls have a socket each. What the child is
bound by stands in `Isolation.measures`; nothing here keeps code off files or the network yet.
Until it is locked down, a process that code starts in a session of its own (`start_new_session`,
``setsid``) is not in the worker's process group and lives on when the sandbox is closed.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rlm.errors import SandboxError
from rlm.limits import SandboxLimits
from rlm.prompts import templates
from rlm.sandbox.base import Calls, CellResult, Isolation
from rlm.sandbox.cell import CellRun
from rlm.sandbox.child import Child
from rlm.sandbox.wire import MAX_CALL_CHARS


@dataclass(slots=True)
class _Session:
    """What survives the death of a worker."""

    context_fd: int
    context_bytes: int
    query: str
    calls: Calls
    limits: SandboxLimits
    cells: int = 0


class ProcessSandbox:
    """A `rlm.sandbox.base.Sandbox` in a child process. One thread at a time."""

    def __init__(self) -> None:
        self._session: _Session | None = None
        self._child: Child | None = None
        self._measures: tuple[str, ...] = ()

    @property
    def isolation(self) -> Isolation:
        """What the worker found in force; no measures before the first `start`."""
        return Isolation("process", confined=False, measures=self._measures)

    def start(
        self,
        context: str,
        calls: Calls,
        *,
        query: str = "",
        limits: SandboxLimits | None = None,
    ) -> None:
        """Open a session on `context`, in place of an open one; see `Sandbox.start`."""
        if sys.platform != "linux" or not hasattr(os, "memfd_create"):
            raise SandboxError(
                f"the process sandbox needs Linux (memfd_create, prctl), and this is "
                f"{sys.platform}: run under Linux, WSL or a Linux container, or measure "
                "--rlm-arch vanilla alone"
            )
        self.close()
        data = context.encode("utf-8", "surrogatepass")
        self._session = _Session(_seal(data), len(data), query, calls, limits or SandboxLimits())
        try:
            self._child = self._spawn(self._session)
        except BaseException:
            self.close()
            raise

    def run(self, code: str) -> CellResult:
        """Run one cell; see `Sandbox.run`. What `Calls` raises beside `RLMError` comes through."""
        session = self._session
        if session is None:
            raise SandboxError("no session is open: call start(context, calls) first")
        child = self._child = self._child or self._spawn(session)
        session.cells += 1
        try:
            return CellRun(child, session.calls, session.limits).run(code, session.cells)
        finally:
            if child.ended:
                self._child = None

    def reset(self) -> None:
        """Forget all variables; `context`, `query` and limits stay."""
        self._end_child()
        if self._session is not None:
            self._session.cells = 0

    def close(self) -> None:
        """End the session and its process. Idempotent."""
        self._end_child()
        if self._session is not None:
            os.close(self._session.context_fd)
            self._session = None

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _spawn(self, session: _Session) -> Child:
        limits = session.limits
        setup: dict[str, Any] = {
            "helpers": files(__package__).joinpath("helpers.py").read_text(encoding="utf-8"),
            "texts": templates("helpers"),
            "query": session.query,
            "memory": limits.memory + 6 * session.context_bytes,
            "seconds": limits.seconds,
            "output_chars": limits.output_chars,
            "prompt_chars": limits.prompt_chars,
            "call_chars": MAX_CALL_CHARS,
        }
        child = Child(session.context_fd, setup)
        self._measures = child.measures
        return child


def _seal(data: bytes) -> int:
    """A memfd that holds `data` and can no longer be changed."""
    import fcntl  # Linux only, like everything that leads here

    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fd = os.memfd_create("context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError as problem:
        os.close(fd)
        raise SandboxError(f"cannot hold a context of {len(data)} bytes: {problem}") from problem
    return fd
