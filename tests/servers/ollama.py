"""Ollama's protocol, as far as the client speaks it."""

from __future__ import annotations

from typing import Any

from tests.servers.scripted import Reply, ScriptedServer

NAME = "qwen3.5:2b"


def ollama_server(*, trained: int = 40_960, live: int | None = 4096) -> ScriptedServer:
    """A server with one model, trained for `trained` tokens and loaded with a window of `live`."""
    loaded = [] if live is None else [{"name": NAME, "context_length": live}]
    return ScriptedServer(
        {
            "/api/version": Reply({"version": "0.30.12"}),
            "/api/tags": Reply({"models": [{"name": NAME, "digest": "abc123"}]}),
            "/api/show": Reply({"model_info": {"qwen35.context_length": trained}}),
            "/api/ps": Reply({"models": loaded}),
            "/api/chat": chat("Forty", "-two."),
        }
    )


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
