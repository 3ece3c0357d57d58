"""Several conversations at once, answered in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rlm.messages import Completion, Message

Conversation = Sequence[Message]


def in_order(
    chat: Callable[[Conversation], Completion], batch: Sequence[Conversation], *, workers: int
) -> list[Completion | Exception]:
    """Answer every conversation with `chat`, at most `workers` at a time.

    A failed one's slot holds its exception.
    """

    def answer(messages: Conversation) -> Completion | Exception:
        try:
            return chat(messages)
        except Exception as error:
            return error

    if len(batch) < 2:
        return [answer(messages) for messages in batch]
    with ThreadPoolExecutor(min(workers, len(batch)), "rlm-chat") as pool:
        return list(pool.map(answer, batch))
