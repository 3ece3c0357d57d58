"""The baseline: the whole document in the prompt, one call."""

from __future__ import annotations

import time
from typing import Final

from rlm import prompts
from rlm.clients.base import Client
from rlm.errors import PromptTooLong
from rlm.messages import Message, Options
from rlm.prompts import say
from rlm.trajectory import Answer, Call, Trajectory

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
            ClientError: the call failed for another reason than its length.
        """
        started = time.monotonic()
        user = say("vanilla", "user", document=context, question=query)
        messages = (Message("system", prompts.system("vanilla")), Message("user", user))
        try:
            done = self.client.chat(messages, options=self.options)
            call = Call("vanilla", 0, messages, done)
        except PromptTooLong as error:
            call = Call("vanilla", 0, messages, None, f"PromptTooLong: {error}")
        trajectory = Trajectory(prompts.VERSION, (call,))
        return Answer(
            answer=call.completion.text.strip() if call.completion else "",
            iterations=1,
            sub_calls=0,
            trajectory=trajectory,
            usage=trajectory.usage,
            ended_by="answered",
            times=trajectory.times,
            wall=time.monotonic() - started,
            truncated=call.completion is None or trajectory.truncated,
        )
