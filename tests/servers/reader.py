"""A model that can read: a vLLM-like server that finds five-digit numbers in what it is sent."""

from __future__ import annotations

import re

from tests.servers.openai import NAME, chat
from tests.servers.scripted import Asked, Reply, ScriptedServer

CODE = "```python\nprint(llm_query(context[:50]))\nFINAL(re.search(r'\\d{5}', context)[0])\n```"
DEEP = "```python\nFINAL(rlm_query(context, query))\n```"


class ReaderServer(ScriptedServer):
    """Answers a vanilla prompt with its first number, and a loop with code that does the same, in a
    loop below it where it may open one.

    Args:
        window: in tokens of four characters; a longer prompt is refused as vLLM refuses it.

    Attributes:
        answers: it answers right; else with a number that is in no document.
        delay: seconds before each answer.
    """

    def __init__(self, window: int = 4096) -> None:
        card = {"id": NAME, "owned_by": "vllm", "max_model_len": window}
        super().__init__({"/v1/models": Reply({"data": [card]})})
        self.window, self.answers, self.delay = window, True, 0.0

    def slots(self, number: int) -> None:
        """Tell how many calls are answered at once, as llama-server does."""
        self.standing["/props"] = Reply({"total_slots": number})

    @property
    def spec(self) -> str:
        """For ``--rlm-model``."""
        return f"openai/{NAME}@{self.address}"

    def reply(self, asked: Asked) -> Reply:
        if asked.path != "/v1/chat/completions":
            return super().reply(asked)
        self.asked.append(asked)
        self.closing.wait(self.delay)
        texts = [message["content"] for message in asked.body["messages"]]
        tokens = sum(map(len, texts)) // 4 + 20
        if tokens > self.window:
            message = f"This model's maximum context length is {self.window} tokens"
            return Reply({"error": {"message": message}}, status=400)
        usage = {"prompt_tokens": tokens, "completion_tokens": 4}
        return chat(self._answer(texts), usage=usage)

    def _answer(self, texts: list[str]) -> str:
        if not self.answers:
            return "FINAL(99)"
        if "Reply with the answer only" not in texts[0]:
            code = DEEP if "rlm_query" in texts[0] else CODE
            return code if len(texts) > 1 else "nothing"
        found = re.search(r"\d{5}", texts[1])
        return found[0] if found else "unknown"
