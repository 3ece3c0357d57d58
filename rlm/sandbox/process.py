"""The sandboxes that run cells in a child process of this Python, confined by Linux itself.

The context lies in a sealed memfd that every worker maps again, so that a session survives the
death of its worker (its variables do not). Cells and calls have a socket each. The next worker is
started while the present one works, so that a new session or a death costs no start of Python; it
is lent to a sandbox that `ProcessSandbox.another` makes, so that only one waits for all of them.
What binds the worker (`rlm.sandbox.lockdown`) is tested by it before it runs any cell, and stands
in `Isolation`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from rlm.errors import SandboxError
from rlm.limits import SandboxLimits
from rlm.prompts import templates
from rlm.sandbox.base import Calls, CellResult, Isolation
from rlm.sandbox.cell import CellRun
from rlm.sandbox.child import Child, Launch
from rlm.sandbox.wire import (
    FINAL_CHARS,
    MAX_CALL_CHARS,
    MAX_TEXTS,
    VARIABLE_CHARS,
    VARIABLES,
    Hello,
)

_log = logging.getLogger("rlm.sandbox")
NO_LANDLOCK = "this kernel has no Landlock: cells can open no file at all"
UNCONFINED = "nothing keeps the model's code off your files and network"


@dataclass(slots=True)
class _Session:
    """What survives the death of a worker.

    Attributes:
        context_fd: of the memfd.
        text_bytes: address space that text may take beside what a cell uses: six times the context,
            and the copy in which helpers search (`rlm.sandbox.caseless`).
    """

    context_fd: int
    text_bytes: int
    query: str
    calls: Calls
    limits: SandboxLimits
    cells: int = 0


class ProcessSandbox:
    """A `rlm.sandbox.base.Sandbox` in a child process. One thread at a time.

    Args:
        backend: its name in `Isolation`.
        launch: how workers are started; ``Launch("listed")`` becomes ``"closed"`` where the kernel
            has no Landlock.
    """

    def __init__(self, backend: str = "process", launch: Launch | None = None) -> None:
        self._backend, self._launch, self._note = backend, launch or Launch("listed"), ""
        self._session: _Session | None = None
        self._child: Child | None = None
        self._spare: Child | None = None
        self._lender: ProcessSandbox | None = None
        self._isolation = Isolation(backend, confined=False)

    @property
    def isolation(self) -> Isolation:
        """What the worker found in force; not confined, and no measures, before `start`."""
        return self._isolation

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
                f"the sandbox {self._backend} needs Linux (memfd_create, seccomp), and this is "
                f"{sys.platform}: use monty (pip install 'rlm-bench[monty]'), or run under WSL or "
                "in a Linux container"
            )
        self._end_session()
        self._settle()
        data = context.encode("utf-8", "surrogatepass")
        text_bytes = 6 * len(data) + sys.getsizeof(context)
        self._session = _Session(_seal(data), text_bytes, query, calls, limits or SandboxLimits())
        try:
            self._open_child(self._session)
        except BaseException:
            self.close()
            raise

    def run(self, code: str) -> CellResult:
        """Run one cell; see `Sandbox.run`. What `Calls` raises beside `RLMError` comes through."""
        session = self._session
        if session is None:
            raise SandboxError("no session is open: call start(context, calls) first")
        child = self._child or self._open_child(session)
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

    def another(self) -> ProcessSandbox:
        """One more, without a session yet, to which this one lends the worker that waits."""
        other = ProcessSandbox(self._backend, self._launch)
        other._note, other._lender = self._note, self
        other._spare, self._spare = self._spare, None
        return other

    def close(self) -> None:
        """End the session, its process and the one that waits, or give it back. Idempotent."""
        self._end_session()
        spare, self._spare = self._spare, None
        if spare is not None and not (self._lender and self._lender._take_back(spare)):
            spare.end()

    def _take_back(self, spare: Child) -> bool:
        """Let `spare` wait here, if none does and a session is open."""
        wanted = self._session is not None and self._spare is None
        if wanted:
            self._spare = spare
        return wanted

    def _settle(self) -> None:
        """Say what is chosen, or not to be had, on this machine."""
        from rlm.sandbox.lockdown import landlock_version

        if self._launch.files == "open" and self._lender is None:
            _log.warning("sandbox %s: %s", self._backend, UNCONFINED)
        if self._launch.files == "listed" and not landlock_version():
            self._launch, self._note = replace(self._launch, files="closed"), NO_LANDLOCK
            _log.info("sandbox %s: %s", self._backend, NO_LANDLOCK)

    def _end_session(self) -> None:
        self._end_child()
        if self._session is not None:
            os.close(self._session.context_fd)
            self._session = None

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _open_child(self, session: _Session) -> Child:
        """The worker that waited, at work on the session; another one waits from now on."""
        child, hello = self._greet(session)
        self._child = child
        confined = self._launch.files != "open"
        note = self._note if confined else UNCONFINED
        measures = (*hello.measures, *child.namespaces)
        self._isolation = Isolation(self._backend, confined, measures, hello.refused, note)
        with suppress(SandboxError):  # the machine is full: the session works without one
            self._spare = Child(self._launch)
        return child

    def _greet(self, session: _Session) -> tuple[Child, Hello]:
        setup, spare = self._setup(session), self._spare
        self._spare = None
        if spare is not None:
            with suppress(SandboxError):  # it may have been killed while it waited
                return spare, spare.open(session.context_fd, setup)
        child = Child(self._launch)
        return child, child.open(session.context_fd, setup)

    def _setup(self, session: _Session) -> dict[str, Any]:
        from rlm.sandbox.seccomp import program

        limits = session.limits
        match self._launch.files:
            case "listed":
                locked = program("open")
            case "closed":
                locked = program("no-open")
            case _:
                locked = b""
        return {
            "helpers": files(__package__).joinpath("helpers.py").read_text(encoding="utf-8"),
            "texts": templates("helpers"),
            "query": session.query,
            "program": locked.hex(),
            "memory": limits.memory + session.text_bytes,
            "seconds": limits.seconds,
            "output_chars": limits.output_chars,
            "prompt_chars": limits.prompt_chars,
            "call_chars": MAX_CALL_CHARS,
            "call_texts": MAX_TEXTS,
            "final_chars": FINAL_CHARS,
            "variables": VARIABLES,
            "variable_chars": VARIABLE_CHARS,
        }


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
