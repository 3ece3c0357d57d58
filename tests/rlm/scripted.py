"""A client that answers from a script and counts a token for every four characters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from rlm.clients.base import ModelInfo
from rlm.errors import PromptTooLong
from rlm.messages import Completion, FinishReason, Message, Options, Times, Usage

Reply = str | BaseException
STOP = KeyboardInterrupt()
Script = Iterable[Reply] | Callable[[Sequence[Message]], Reply]


class Scripted:
    """A `rlm.clients.base.Client`.

    Args:
        script: replies in order, or a function of the messages; exceptions are raised,
            `STOP` as Ctrl-C.
        window: in tokens; a longer prompt is refused.
        silent: do not tell the window beforehand.
        truncated: say that every prompt was cut.
        finish_reason: why every answer ended.
    """

    def __init__(
        self,
        script: Script,
        *,
        window: int | None = None,
        spec: str = "scripted",
        silent: bool = False,
        truncated: bool = False,
        finish_reason: FinishReason = "stop",
    ) -> None:
        if callable(script):
            self._reply = script
        else:
            replies = iter(script)
            self._reply = lambda _: next(replies)
        self._window, self._spec, self._silent, self._truncated = window, spec, silent, truncated
        self._finish_reason = finish_reason
        self._lock = threading.Lock()
        self.sent: list[tuple[Message, ...]] = []
        self.options: list[Options] = []
        self.closed = False

    def info(self) -> ModelInfo:
        window = None if self._silent else self._window
        return ModelInfo(self._spec, digest="0" * 64, window=window, server="scripted 1")

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        tokens = count(messages)
        with self._lock:
            self.sent.append(tuple(messages))
            self.options.append(options)
        if self._window is not None and tokens > self._window:
            raise PromptTooLong("too long", prompt_tokens=tokens, window=self._window)
        with self._lock:
            reply = self._reply(messages)
        if isinstance(reply, BaseException):
            raise reply
        return Completion(
            reply,
            Usage(tokens, len(reply) // 4, 1),
            self._finish_reason,
            None if self._silent else self._window,
            truncated=self._truncated,
            times=Times(wall=0.5, decode=0.25),
        )

    def close(self) -> None:
        self.closed = True


def count(messages: Sequence[Message]) -> int:
    """Tokens of a prompt."""
    return sum(len(message.content) for message in messages) // 4


def code(*cells: str) -> str:
    """A reply that holds each cell in a fence."""
    return "\n".join(f"```python\n{cell}\n```" for cell in cells)
