"""Ollama's protocol, as far as the client speaks it."""

from __future__ import annotations

from typing import Any

from tests.servers.scripted import Asked, Reply, ScriptedServer

NAME = "qwen3.5:2b"


class OllamaServer(ScriptedServer):
    """A server with one model, loaded by the first ``/api/chat``; one without messages only loads.

    Args:
        trained: tokens the model was trained for.
        live: window it is loaded with; ``None`` never lists it as loaded.
    """

    def __init__(self, trained: int, live: int | None) -> None:
        super().__init__(
            {
                "/api/version": Reply({"version": "0.30.12"}),
                "/api/tags": Reply({"models": [{"name": NAME, "digest": "abc123"}]}),
                "/api/show": Reply({"model_info": {"qwen35.context_length": trained}}),
                "/api/ps": Reply({"models": []}),
                "/api/chat": chat("Forty", "-two."),
            }
        )
        self.live = live

    def reply(self, asked: Asked) -> Reply:
        if asked.path != "/api/chat":
            return super().reply(asked)
        if self.live is not None:
            loaded = {"name": NAME, "context_length": self.live}
            self.standing["/api/ps"] = Reply({"models": [loaded]})
        if asked.body["messages"]:
            return super().reply(asked)
        self.asked.append(asked)
        empty = {"role": "assistant", "content": ""}
        return Reply({"model": NAME, "message": empty, "done": True, "done_reason": "load"})


def ollama_server(*, trained: int = 40_960, live: int | None = 4096) -> OllamaServer:
    """See `OllamaServer`."""
    return OllamaServer(trained, live)


def chat(*parts: str, **last: Any) -> Reply:
    """A streamed answer; `last` changes its last line, where ``None`` removes a field."""
    lines = [{"message": {"role": "assistant", "content": part}, "done": False} for part in parts]
    end = {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 30,
        "eval_count": 4,
        "load_duration": 2_000_000_000,
        "prompt_eval_duration": 500_000_000,
        "eval_duration": 250_000_000,
    } | last
    return Reply([*lines, {key: value for key, value in end.items() if value is not None}])
