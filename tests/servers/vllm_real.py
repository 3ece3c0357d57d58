"""vLLM's protocol over a real socket, with a real model behind it: the embedded engine.

It counts a prompt at ``/tokenize``, and refuses one that leaves no room for the answer, as vLLM
does. It can be without that route, as other servers of OpenAI's protocol are.
"""

from __future__ import annotations

from typing import Any

from tests.servers.ollama_real import RealModel
from tests.servers.openai import NAME, chat
from tests.servers.scripted import Asked, Reply, ScriptedServer

CHAT = "/v1/chat/completions"


class RealVllm(ScriptedServer):
    """A server on the loopback.

    Args:
        model: what answers.
        window: in tokens.
        counts: there is a route that counts.
        tells: its card has the window.
    """

    def __init__(
        self, model: RealModel, window: int, *, counts: bool = True, tells: bool = True
    ) -> None:
        card = {"id": NAME, "owned_by": "vllm"} | ({"max_model_len": window} if tells else {})
        super().__init__({"/v1/models": Reply({"data": [card]})})
        self.model, self.window, self.counts = model, window, counts

    @property
    def spec(self) -> str:
        """For ``--rlm-model``."""
        return f"openai/{NAME}@{self.address}"

    def reply(self, asked: Asked) -> Reply:
        if asked.path == "/tokenize" and self.counts and "messages" in asked.body:
            self.asked.append(asked)
            ids = self.model.ids(asked.body["messages"])
            return Reply({"count": len(ids), "max_model_len": self.window, "tokens": ids})
        if asked.path != CHAT:
            return super().reply(asked)
        self.asked.append(asked)
        return self._answer(asked.body)

    def _answer(self, body: dict[str, Any]) -> Reply:
        ids, most = self.model.ids(body["messages"]), body["max_tokens"]
        if len(ids) + most > self.window:
            message = (
                f"This model's maximum context length is {self.window} tokens. However, you "
                f"requested {len(ids) + most} tokens ({len(ids)} in the messages, {most} in the "
                "completion). Please reduce the length of the messages or completion."
            )
            return Reply({"object": "error", "message": message, "code": 400}, status=400)
        options = {"temperature": body["temperature"], "seed": body["seed"], "top_k": 1, "top_p": 1}
        *parts, last = self.model.stream(ids, options, most)
        text = "".join(part["content"] for part in (*parts, last))
        usage = {"prompt_tokens": len(ids), "completion_tokens": last["tokens_predicted"]}
        return chat(text, usage=usage)
