"""Every error this package raises on purpose.

RLMError
├── UsageError             a value that a person gave: the message names it and what exists
├── ClientError            talking to a model failed
│   ├── ServerUnreachable  nothing answers at the address; says which command would start it
│   ├── ModelNotFound      the server is there, the model is not
│   ├── PromptTooLong      the prompt does not fit the window (the server or the client refused it)
│   ├── ProtocolError      the answer is not one: aborted, garbled, or swallowed on the way
│   ├── CallTimeout        no answer within the time allowed
│   └── NotRecorded        a cassette that is replayed does not hold the request
├── SandboxError           the sandbox could not start, or broke its own protocol
├── CallRefused            a sub-call the host will not make; its text is told to the model
├── BudgetExceeded         a `Budget` is spent
└── RecordError            a run folder cannot be read or continued

KeyboardInterrupt
└── Interrupted            Ctrl-C in a run: it is no error, and keeps what had happened until then
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rlm


class RLMError(Exception):
    """Base of all errors raised on purpose by this package.

    Attributes:
        trajectory: what had happened when it ended a run of `rlm.RLM` or `rlm.Vanilla`, the failed
            call included; ``None`` if no run had begun.
    """

    trajectory: rlm.Trajectory | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run of `rlm.RLM` or `rlm.Vanilla`.

    Args:
        trajectory: what had happened until then. A call that was under way is not in it.
    """

    def __init__(self, trajectory: rlm.Trajectory) -> None:
        super().__init__()
        self.trajectory = trajectory


class UsageError(RLMError):
    """A value given by a person is not usable; the message names it and the remedy."""


class ClientError(RLMError):
    """A call to a model failed. Never scored as a wrong answer.

    Attributes:
        retries: for each time the call was sent again before it failed, why.
    """

    retries: tuple[str, ...] = ()


class ServerUnreachable(ClientError):
    """No server answers at the address."""


class ModelNotFound(ClientError):
    """The server does not have the model."""


class PromptTooLong(ClientError):
    """The prompt does not fit the model's window.

    Args:
        message: what was refused and by whom.
        prompt_tokens: tokens of the prompt, where they were counted.
        window: the window in tokens, where it is known.
    """

    def __init__(
        self, message: str, *, prompt_tokens: int | None = None, window: int | None = None
    ) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.window = window


class ProtocolError(ClientError):
    """The server's answer is not an answer.

    Args:
        message: what it is instead.
        status: its HTTP status, where that is what is wrong with it.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CallTimeout(ClientError):
    """The model gave no answer in the time allowed."""


class NotRecorded(ClientError):
    """A cassette that is replayed does not hold the request; shows the nearest that it holds."""


class SandboxError(RLMError):
    """The sandbox could not be started, or spoke out of turn."""


class CallRefused(RLMError):
    """A sub-call the host refuses; becomes an exception inside the code cell."""


class BudgetExceeded(RLMError):
    """A `Budget` is spent.

    Args:
        resource: which one: ``calls``, ``tokens`` or ``seconds``.
    """

    def __init__(self, message: str, *, resource: str) -> None:
        super().__init__(message)
        self.resource = resource


class RecordError(RLMError):
    """A run folder is unreadable, or belongs to another model."""
