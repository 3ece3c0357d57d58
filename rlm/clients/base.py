"""What every client offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rlm.messages import Completion, Message, Options


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a record says about the model behind a client.

    Attributes:
        spec: the text given to `rlm.connect`.
        digest: hash that names the weights (sha256 of the file, or the server's own digest).
        window: the live window in tokens, ``None`` where the server does not say.
        server: engine and version, such as ``xllamacpp 2026.10.11549``.
        options: fixed settings that can change an answer.
    """

    spec: str
    digest: str
    window: int | None
    server: str
    options: Mapping[str, object] = field(default_factory=dict)


class Client(Protocol):
    """A model that chats. Synchronous and thread-safe."""

    def info(self) -> ModelInfo:
        """Describe the model; asks the server at most once.

        Raises:
            ClientError: the server cannot be asked.
        """
        ...

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer the last message.

        Raises:
            PromptTooLong: the prompt does not fit the window.
            ClientError: any other failure; see `rlm.errors`.
        """
        ...

    def close(self) -> None:
        """Release sockets and child processes. Idempotent."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A client that can have a prompt's tokens counted without an answer."""

    def count(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the prompt that these messages become, as the model would see it.

        Returns:
            ``None`` where the server cannot be asked for it.

        Raises:
            ClientError: it can, but did not answer.
        """
        ...
