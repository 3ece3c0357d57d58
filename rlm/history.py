"""The root conversation, which gives up its oldest outputs when the window asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from rlm.messages import Completion, Message
from rlm.prompts import say

_CHARS_PER_NEW_TOKEN = 2
"""Fewer than text has, so that what was added is not taken for less than it is."""
_CHARS_PER_FREED_TOKEN = 6
"""More than text has, so that what was dropped is not taken for more than it was."""
_MESSAGE_TOKENS = 16
"""Room for what a chat template puts around a reply and its feedback."""


class History:
    """System prompt, opening, and per turn a reply and its feedback."""

    def __init__(self, system: str, opening: str) -> None:
        self._head = (Message("system", system), Message("user", opening))
        self._turns: list[tuple[Message, Message]] = []
        self._dropped: set[int] = set()
        self._counted_tokens = self._counted_chars = self._freed_chars = 0

    def add(self, reply: str, feedback: str) -> None:
        """Append a turn; turns are numbered from 1."""
        self._turns.append((Message("assistant", reply), Message("user", feedback)))

    def messages(self) -> tuple[Message, ...]:
        """What to send for the next turn."""
        return self._head + tuple(message for turn in self._turns for message in turn)

    def closing(self, *, bare: bool = False) -> tuple[Message, ...]:
        """What to send for the last call; `bare` leaves out all turns.

        The request joins the newest user message: strict chat templates refuse two in a row.
        """
        *before, newest = self._head if bare else self.messages()
        asked = f"{newest.content}\n{say('root', 'last_call')}"
        return (*before, Message("user", asked))

    def drop_oldest(self, *, keep: int) -> int | None:
        """Replace the oldest feedback that is still there by a marker.

        Args:
            keep: so many of the newest turns are left alone.

        Returns:
            The turn's number, or ``None`` if nothing is left that a marker would shorten.
        """
        for index, (reply, told) in enumerate(self._turns[: len(self._turns) - keep]):
            length = len(told.content)
            marker = say("root", "dropped", turn=index + 1, length=length)
            if index not in self._dropped and len(marker) < length:
                self._turns[index] = (reply, Message("user", marker))
                self._dropped.add(index)
                self._freed_chars += length - len(marker)
                return index + 1
        return None

    def count(self, sent: Sequence[Message], completion: Completion) -> None:
        """Learn from a root call how many tokens the history really takes."""
        usage, reply = completion.usage, completion.text
        # A thinking model counts tokens that do not enter the history; text bounds what does.
        answered = min(usage.completion_tokens, len(reply))
        self._counted_tokens = usage.prompt_tokens + answered
        self._counted_chars = _chars(sent) + len(reply)
        self._freed_chars = 0

    def bound(self, messages: Sequence[Message]) -> int:
        """Tokens that `messages` take at most; 0 before anything was counted."""
        if not self._counted_tokens:
            return 0
        added = max(_chars(messages) - self._counted_chars + self._freed_chars, 0)
        freed = self._freed_chars // _CHARS_PER_FREED_TOKEN
        return self._counted_tokens + _MESSAGE_TOKENS + added // _CHARS_PER_NEW_TOKEN - freed


def _chars(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)
