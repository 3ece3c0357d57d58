"""What every sandbox backend offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Protocol

from rlm.errors import CallRefused
from rlm.limits import SandboxLimits

Status = Literal["ok", "final", "error", "timeout", "died"]


@dataclass(frozen=True, slots=True)
class Final:
    """An answer given from inside a code cell.

    Attributes:
        value: the answer as text (``str()`` of what was passed, or of the named variable).
        source: which function gave it.
    """

    value: str
    source: Literal["FINAL", "FINAL_VAR"]


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one code cell did.

    Attributes:
        status: ``final`` when FINAL or FINAL_VAR was called, whatever came after it.
        stdout: captured output, at most `SandboxLimits.output_chars` (head and tail of it).
        stdout_chars: the true length of the output.
        error: the end of the traceback, or what the watchdog did; empty when all went well.
        final: see `Final`; ``None`` unless `status` is ``final``.
        variables: names the model's code has bound so far, sorted, without the helpers; at most
            200, none longer than 100 characters.
        rebound: names of helpers or fixed variables that the cell had overwritten.
        seconds: wall time of the cell without the time the host spent serving calls.
        calls: calls the cell made: of the model, or of a loop below.
    """

    status: Status
    stdout: str = ""
    stdout_chars: int = 0
    error: str = ""
    final: Final | None = None
    variables: tuple[str, ...] = ()
    rebound: tuple[str, ...] = ()
    seconds: float = 0.0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Isolation:
    """What confines the code, as measured by a self-test before any of it ran.

    Attributes:
        backend: the backend's name.
        confined: the kernel (or an interpreter of its own) keeps the code off files and network.
        measures: what is in force, such as ``rlimits``, ``landlock``, ``seccomp``.
        refused: what the self-test tried and could not do, such as ``open``, ``socket``.
        note: what a person should know about it, such as why a weaker measure was chosen.
    """

    backend: str
    confined: bool
    measures: tuple[str, ...] = field(default=())
    refused: tuple[str, ...] = field(default=())
    note: str = ""


class Calls(Protocol):
    """What code in a cell may ask of the host.

    Each method may raise `rlm.errors.CallRefused` (or any `RLMError`): its text becomes a
    ``RuntimeError`` inside the cell.
    """

    def llm_query(self, prompt: str) -> str:
        """One answer of the sub-model."""
        ...

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        """Answers in order; a refused one's place says why."""
        ...

    def rlm_query(self, context: str, query: str) -> str:
        """The answer of a child loop on `context`."""
        ...


class NoCalls:
    """The `Calls` of a session that has no model: each is refused."""

    def _refuse(self, *_: object) -> NoReturn:
        raise CallRefused("no model listens here")

    llm_query = llm_query_batched = rlm_query = _refuse


class Sandbox(Protocol):
    """A Python session that holds `context` and runs code cells, never in this process."""

    @property
    def isolation(self) -> Isolation:
        """What is in force; measured once a session was started."""
        ...

    def start(
        self,
        context: str,
        calls: Calls,
        *,
        query: str = "",
        limits: SandboxLimits | None = None,
    ) -> None:
        """Open a session on `context`; on an open sandbox this replaces the session.

        Raises:
            SandboxError: the session cannot be opened.
        """
        ...

    def run(self, code: str) -> CellResult:
        """Run one cell. Never raises for what the code does.

        Raises:
            SandboxError: `start` was not called, or the session cannot be reopened.
        """
        ...

    def reset(self) -> None:
        """Forget all variables; `context`, `query` and limits stay."""
        ...

    def another(self) -> Sandbox:
        """One more of the same kind, without a session yet; to be closed before this one is."""
        ...

    def close(self) -> None:
        """End the session and its process. Idempotent."""
        ...
