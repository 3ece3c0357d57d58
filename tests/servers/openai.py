"""OpenAI's protocol, as far as the client speaks it."""

from __future__ import annotations

from typing import Any

from tests.servers.scripted import Reply, ScriptedServer

NAME = "Qwen/Qwen3-8B"


def openai_server(**card: Any) -> ScriptedServer:
    """A server with one model; `card` is added to its entry in ``/v1/models``."""
    entry = {"id": NAME, "owned_by": "vllm"} | card
    return ScriptedServer(
        {
            "/v1/models": Reply({"data": [{"id": "other", "max_model_len": 1}, entry]}),
            "/v1/chat/completions": chat("Forty-two."),
        }
    )


def chat(text: str, **changed: Any) -> Reply:
    """An answer; `changed` replaces its fields."""
    answer = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 4},
    }
    return Reply(answer | changed)
