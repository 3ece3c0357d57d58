"""A prompt that holds as much of a document as fits, and the calls this takes.

Tokens are counted by the server where it can (see `rlm.clients.base.Counts`). Else one short call
with pieces of the document, whose prompt the server counts as it counts every prompt, says how many
characters a token has in this text; the estimate then leaves `MARGIN` for what the pieces do not
show, and is corrected if the server refuses the prompt all the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rlm.clients.base import Client, Counts
from rlm.clients.window import most_tokens
from rlm.errors import ClientError, PromptTooLong
from rlm.messages import Completion, Message, Options
from rlm.overflow import Cut, Keep, Spans, keep, most_that_fit, shown
from rlm.trajectory import Call, CallKind

SAMPLE_CHARS: Final = 3_000
"""Characters of the document in the call that calibrates, a third each of start, middle and end."""
MARGIN: Final = 1.05
"""What an estimate is multiplied by."""
TRIES: Final = 3
"""Prompts that are sent, each shorter than the one that was refused."""
SHORTER: Final = 1.25
"""What an estimate is multiplied by after a refusal without numbers."""

Render = Callable[[str], tuple[Message, ...]]


@dataclass(slots=True)
class Caller:
    """Calls of one item, kept in the order they are made.

    Attributes:
        client: the model.
        options: sampling; `Options.seconds` are those of all calls together.
        calls: made so far.
    """

    client: Client
    options: Options
    calls: list[Call] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def ask(
        self, messages: tuple[Message, ...], kind: CallKind = "vanilla", most: int | None = None
    ) -> Completion:
        """Make a call.

        Args:
            messages: what is sent.
            kind: what the call is kept as.
            most: most tokens of the answer, if not those of the options.

        Raises:
            ClientError: it failed; it is kept all the same.
        """
        options = replace(self.options, max_tokens=most or self.options.max_tokens)
        if options.seconds is not None:
            left = options.seconds - (time.monotonic() - self._started)
            options = replace(options, seconds=max(left, 0.0))
        try:
            done = self.client.chat(messages, options=options)
        except ClientError as error:
            self.calls.append(Call.failed(kind, 0, messages, error))
            raise
        self.calls.append(Call.answered(kind, 0, messages, done))
        return done

    def refuse(self, messages: tuple[Message, ...], error: PromptTooLong) -> PromptTooLong:
        """Keep a call that was not made, and give back why."""
        self.calls.append(Call.failed("vanilla", 0, messages, error))
        return error


class Fitting:
    """One document, to be answered about from as much of it as fits.

    Args:
        caller: makes the calls.
        document: the text.
        render: the prompt with a text in the document's place.
        method: what stays.

    Attributes:
        cut: of the prompt that was sent last; ``None`` if it held the whole document.
    """

    def __init__(self, caller: Caller, document: str, render: Render, method: Keep) -> None:
        self._caller, self._document, self._render = caller, document, render
        self._method: Keep = method
        self._asks_server, self._scale, self._chars_per_token = True, 1.0, 0.0
        self._limit = 0
        self.cut: Cut | None = None

    def answer(self) -> Completion:
        """Send what fits, and something shorter if the server says that it does not.

        Raises:
            PromptTooLong: it does not fit even without the document, nobody says what would, or
                the server refuses `TRIES` times.
            ClientError: a call failed for another reason.
        """
        known = window = self._caller.client.info().window
        for left in reversed(range(TRIES)):
            try:
                messages = self._fit(window)
            except PromptTooLong as error:
                told = PromptTooLong(str(error), window=window)
                raise self._caller.refuse(self._render(self._document), told) from None
            try:
                return self._caller.ask(messages)
            except PromptTooLong as error:
                known, window = window, window or error.window
                if not left or window is None:
                    raise
                if known:  # else the whole was sent, since nobody knew what fits
                    self._learn(messages, error)
        raise AssertionError("the last try ends the loop")

    def _fit(self, window: int | None) -> tuple[Message, ...]:
        """The prompt; `cut` says what it leaves out.

        Raises:
            PromptTooLong: it does not fit without the document, the window has no room for a
                prompt, or the call that calibrates does not fit.
        """
        whole = self._render(self._document)
        self._limit = limit = (window or 0) - self._caller.options.max_tokens
        self.cut = None
        if window is None or (self._scale == 1.0 and most_tokens(whole) <= limit):
            return whole
        if limit <= 0:
            raise self._too_long(window)

        def count(most: int) -> int:
            return self._tokens(self._prompt(self._kept(most)))

        found = most_that_fit(len(self._document), limit, count)
        if found is None:
            raise self._too_long(window)
        most, tokens = found
        if most < len(self._document):
            self.cut = self._described(self._kept(most), tokens)
        return self._prompt(self._kept(most))

    def _described(self, kept: Spans, tokens: int) -> Cut:
        is_exact = self._asks_server and self._scale == 1.0
        return Cut(
            method=self._method,
            kept=kept,
            chars=len(self._document),
            counted="server" if is_exact else "estimate",
            tokens=tokens,
            limit=self._limit,
            chars_per_token=None if is_exact else round(self._chars_per_token, 3),
        )

    def _kept(self, most: int) -> Spans:
        return keep(self._document, self._method, most)

    def _prompt(self, kept: Spans) -> tuple[Message, ...]:
        return self._render(shown(self._document, kept))

    def _tokens(self, messages: Sequence[Message]) -> int:
        """By the server's count if it has one, else by an estimate; more after a refusal."""
        client = self._caller.client
        counted = None
        if self._asks_server and isinstance(client, Counts):
            counted = client.count(messages)
        if counted is None:
            self._asks_server = False
            self._chars_per_token = self._chars_per_token or self._calibrate()
            counted = math.ceil(_chars(messages) * MARGIN / self._chars_per_token)
        return math.ceil(counted * self._scale)

    def _calibrate(self) -> float:
        """Characters of a token in this text, question and frame included."""
        text, piece = self._document, min(SAMPLE_CHARS, self._limit) // 3
        middle = len(text) // 2
        pieces = (text[:piece], text[middle : middle + piece], text[len(text) - piece :])
        messages = self._render(" ".join(pieces))
        done = self._caller.ask(messages, "sample", most=1)
        return _chars(messages) / done.usage.prompt_tokens

    def _learn(self, messages: Sequence[Message], error: PromptTooLong) -> None:
        """Count more than before: what a refusal tells of its prompt, else a quarter more."""
        counted, told = self._tokens(messages), error.prompt_tokens or 0
        self._scale *= MARGIN * told / counted if told > counted else SHORTER

    def _too_long(self, window: int) -> PromptTooLong:
        room = f"{self._caller.options.max_tokens} of the answer"
        if self._limit <= 0:
            return PromptTooLong(
                f"the window of {window} tokens has no room for a prompt beside the {room}; give "
                "it more (num_ctx, --rlm-num-ctx) or take another model"
            )
        return PromptTooLong(
            f"even without the text the prompt takes more than the {self._limit} tokens that the "
            f"window of {window} leaves beside the {room}"
        )


def _chars(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)
