"""The baseline: the whole document in the prompt, one call."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from rlm import prompts
from rlm.clients.base import Client
from rlm.clients.window import least_tokens
from rlm.errors import ClientError, Interrupted, PromptTooLong
from rlm.fitting import Caller, Fitting
from rlm.messages import Completion, Message, Options
from rlm.overflow import Overflow
from rlm.prompts import say
from rlm.trajectory import Answer, Trajectory, cut_by_window

VANILLA_OPTIONS: Final = Options(max_tokens=128)
UNSENT: Final = "[{} characters, not sent]"
"""Stands in a trajectory for a document in a prompt that no model was sent."""


class Vanilla:
    """A model that reads the document directly.

    Args:
        client: the model.
        options: sampling of the call.
        overflow: what becomes of a document that does not fit the window with the question and the
            room for the answer. ``refuse``: the answer is empty, and truncated. ``head`` and
            ``tail`` keep that end and cut the other off; ``middle`` keeps both ends and cuts out
            what is between them. The trajectory's `cut` says what was left out.
    """

    def __init__(
        self, client: Client, *, options: Options | None = None, overflow: Overflow = "refuse"
    ) -> None:
        self.client = client
        self.options = options or VANILLA_OPTIONS
        self.overflow: Overflow = overflow

    def completion(self, context: str, query: str) -> Answer:
        """Answer `query` about `context`; refused for length, the answer is empty and truncated.

        Raises:
            ClientError: a call failed for another reason than its length; its `trajectory` says
                what was sent.
            Interrupted: Ctrl-C; it is a KeyboardInterrupt, with the same.
        """
        started, caller = time.monotonic(), Caller(self.client, self.options)
        fitting = None
        if self.overflow != "refuse":
            render = partial(vanilla_prompt, query=query)
            fitting = Fitting(caller, context, render, self.overflow)
        done = None
        try:
            done = fitting.answer() if fitting else self._whole(caller, context, query)
        except ClientError as error:
            if not isinstance(error, PromptTooLong):
                error.trajectory = _trajectory(caller, fitting)
                raise
        except KeyboardInterrupt as stop:
            went = _trajectory(caller, fitting)
            raise Interrupted(went).with_traceback(stop.__traceback__) from None
        trajectory = _trajectory(caller, fitting)
        return Answer(
            answer=done.text.strip() if done else "",
            iterations=1,
            sub_calls=0,
            trajectory=trajectory,
            usage=trajectory.usage,
            ended_by="answered",
            times=trajectory.times,
            wall=time.monotonic() - started,
            truncated=done is None or trajectory.truncated or cut_by_window(done, self.options),
        )

    def _whole(self, caller: Caller, context: str, query: str) -> Completion:
        """The one call, unless it is known beforehand that it cannot fit.

        What is kept of a prompt that was not sent says how long the document is, not the document.
        """
        messages = vanilla_prompt(context, query)
        window = self.client.info().window
        least = least_tokens(messages, enough=window)
        if window is not None and least >= window:
            told = (
                f"the prompt takes at least {least} tokens (its words; not sent); "
                f"the window is {window}"
            )
            raise caller.refuse(
                unsent_prompt(len(context), query), PromptTooLong(told, window=window)
            )
        return caller.ask(messages)


def _trajectory(caller: Caller, fitting: Fitting | None) -> Trajectory:
    return Trajectory(prompts.VERSION, tuple(caller.calls), cut=fitting.cut if fitting else None)


def vanilla_prompt(text: str, query: str) -> tuple[Message, ...]:
    """The messages with `text` in the document's place."""
    user = say("vanilla", "user", document=text, question=query)
    return Message("system", prompts.system("vanilla")), Message("user", user)


def unsent_prompt(chars: int, query: str) -> tuple[Message, ...]:
    """What a trajectory keeps of a prompt that was not sent, with a document of so many `chars`."""
    return vanilla_prompt(UNSENT.format(chars), query)
