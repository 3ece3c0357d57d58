"""The client for OpenAI's protocol, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm.clients.openai import OpenAIClient
from rlm.errors import (
    ClientError,
    ModelNotFound,
    PromptTooLong,
    ProtocolError,
    ServerUnreachable,
    UsageError,
)
from rlm.messages import Message, Options, Usage
from tests.servers.openai import NAME, chat, openai_server
from tests.servers.scripted import Reply, ScriptedServer

TALK = [Message("user", "What is six times seven?")]
CHAT = "/v1/chat/completions"
KEY = "sk-very-secret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_server(max_model_len=4096) as running:
        yield running


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[OpenAIClient]:
    opened = OpenAIClient(NAME, server.address)
    yield opened
    opened.close()


def test_request_states_every_option(server: ScriptedServer, client: OpenAIClient) -> None:
    client.chat(TALK, options=Options(max_tokens=77, temperature=0.5, seed=5))
    assert server.bodies(CHAT) == [
        {
            "model": NAME,
            "messages": [{"role": "user", "content": "What is six times seven?"}],
            "stream": False,
            "temperature": 0.5,
            "top_p": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": 5,
            "max_tokens": 77,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]
    assert server.asked[-1].headers["Authorization"] == f"Bearer {KEY}"


def test_answer_becomes_a_completion(server: ScriptedServer, client: OpenAIClient) -> None:
    timings = {"prompt_ms": 500.0, "predicted_ms": 250.0}
    server.once(CHAT, chat("<think>\nsix\n</think>\n\n42", timings=timings))
    answer = client.chat(TALK, options=Options())
    assert (answer.text, answer.usage) == ("42", Usage(30, 4, 1))
    assert (answer.finish_reason, answer.window, answer.truncated) == ("stop", 4096, False)
    assert (answer.times.prefill, answer.times.decode) == (0.5, 0.25)
    assert answer.times.wall > 0


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_address_with_and_without_v1(server: ScriptedServer, suffix: str) -> None:
    client = OpenAIClient(NAME, server.address + suffix)
    assert client.chat(TALK, options=Options()).text == "Forty-two."
    client.close()


@pytest.mark.parametrize(
    ("card", "told", "window"),
    [
        ({"max_model_len": 4096}, None, 4096),
        ({"max_model_len": 4096}, 8192, 4096),
        ({"meta": {"n_ctx_train": 2048}}, None, 2048),
        ({"meta": {"n_ctx_train": 2048, "n_ctx": 1024}}, None, 1024),
        ({}, 8192, 8192),
        ({}, None, None),
    ],
)
def test_window_is_the_servers_where_it_tells(
    card: dict[str, object], told: int | None, window: int | None
) -> None:
    with openai_server(**card) as server:
        client = OpenAIClient(NAME, server.address, num_ctx=told)
        assert client.info().window == window
        assert client.chat(TALK, options=Options()).window == window
        client.close()
        assert len(server.bodies("/v1/models")) == 1


def test_server_without_a_list_of_models_still_answers(server: ScriptedServer) -> None:
    server.standing["/v1/models"] = Reply("no such page", status=404)
    client = OpenAIClient(NAME, server.address)
    assert client.chat(TALK, options=Options()).window is None
    client.close()


def test_fewer_tokens_than_words_is_a_cut(server: ScriptedServer, client: OpenAIClient) -> None:
    assert client.chat([Message("user", "word " * 31)], options=Options()).truncated
    assert not client.chat([Message("user", "word " * 30)], options=Options()).truncated


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (chat("42", usage=None), ProtocolError, "usage.prompt_tokens"),
        (chat("42", choices=[]), ProtocolError, "no message"),
        (
            chat("", choices=[{"message": {"content": ""}, "finish_reason": "content_filter"}]),
            ProtocolError,
            "'content_filter'",
        ),
        (Reply("<html>"), ProtocolError, "not JSON"),
        (Reply(["a", "b"]), ProtocolError, "not JSON"),
        (Reply("[1]"), ProtocolError, "not a JSON object"),
        (Reply({"error": {"message": "boom"}}, status=500), ProtocolError, "500.*boom"),
        (Reply({"error": {"message": "who"}}, status=401), ProtocolError, "set OPENAI_API_KEY"),
        (Reply({"error": {"message": "no"}}, status=404), ModelNotFound, f"{NAME}.*/v1/models"),
        (
            Reply({"error": {"message": "maximum context length is 4096 tokens"}}, status=400),
            PromptTooLong,
            "4096",
        ),
    ],
)
def test_failures(
    server: ScriptedServer,
    client: OpenAIClient,
    reply: Reply,
    error: type[ClientError],
    says: str,
) -> None:
    server.once(CHAT, reply)
    with pytest.raises(error, match=says):
        client.chat(TALK, options=Options())


def test_key_shows_nowhere(server: ScriptedServer, client: OpenAIClient) -> None:
    server.once(CHAT, Reply({"error": {"message": f"bad key {KEY}"}}, status=401))
    with pytest.raises(ProtocolError, match=r"bad key \*\*\*") as caught:
        client.chat(TALK, options=Options())
    assert KEY not in f"{caught.value!r} {client!r} {client.info()!r}"


def test_server_that_is_not_running_says_how_to_start_it(server: ScriptedServer) -> None:
    server.__exit__()
    client = OpenAIClient(NAME, server.address)
    with pytest.raises(ServerUnreachable, match=f"{server.address}.*vllm serve {NAME}"):
        client.chat(TALK, options=Options())
    client.close()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "http://me:pw@host/v1"])
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        OpenAIClient(NAME, url)
    assert "pw" not in str(caught.value)
