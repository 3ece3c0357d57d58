"""The baseline: the whole document in the prompt, one call."""

from __future__ import annotations

import time
from typing import Final

from rlm import prompts
from rlm.clients.base import Client
from rlm.errors import ClientError, PromptTooLong
from rlm.messages import Message, Options
from rlm.prompts import say
from rlm.trajectory import Answer, Call, Trajectory, cut_by_window

VANILLA_OPTIONS: Final = Options(max_tokens=128)


class Vanilla:
    """A model that reads the document directly.

    Args:
        client: the model.
        options: sampling of the call.
    """

    def __init__(self, client: Client, *, options: Options | None = None) -> None:
        self.client = client
        self.options = options or VANILLA_OPTIONS

    def completion(self, context: str, query: str) -> Answer:
        """Answer `query` about `context`; refused for length, the answer is empty and truncated.

        Raises:
            ClientError: the call failed for another reason than its length; its `trajectory` says
                what was sent.
        """
        started = time.monotonic()
        user = say("vanilla", "user", document=context, question=query)
        messages = (Message("system", prompts.system("vanilla")), Message("user", user))
        done = None
        try:
            done = self.client.chat(messages, options=self.options)
            trajectory = _one_call(Call.answered("vanilla", 0, messages, done))
        except ClientError as error:
            trajectory = _one_call(Call.failed("vanilla", 0, messages, error))
            if not isinstance(error, PromptTooLong):
                error.trajectory = trajectory
                raise
        return Answer(
            answer=done.text.strip() if done else "",
            iterations=1,
            sub_calls=0,
            trajectory=trajectory,
            usage=trajectory.usage,
            ended_by="answered",
            times=trajectory.times,
            wall=time.monotonic() - started,
            truncated=done is None or done.truncated or cut_by_window(done, self.options),
        )


def _one_call(call: Call) -> Trajectory:
    return Trajectory(prompts.VERSION, (call,))
