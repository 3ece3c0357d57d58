"""The client for OpenAI's protocol, on a real socket."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import pytest

from rlm.clients.openai import OpenAIClient
from rlm.errors import (
    CallTimeout,
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
        ({"max_model_len": 4096}, 2048, 2048),
        ({"meta": {"n_ctx_train": 2048}}, None, None),
        ({"meta": {"n_ctx_train": 2048}}, 8192, 8192),
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


@pytest.mark.parametrize(("told", "window"), [(None, 1024), (8192, 1024), (512, 512)])
def test_window_of_llama_server_is_that_of_its_slots(told: int | None, window: int) -> None:
    """Guards against the trained length taken for the window."""
    with openai_server(meta={"n_ctx_train": 40_960}) as server:
        server.standing["/props"] = Reply({"default_generation_settings": {"n_ctx": 1024}})
        client = OpenAIClient(NAME, f"{server.address}/v1", num_ctx=told)
        assert [client.info().window for _ in range(2)] == [window, window]
        client.close()
        assert len(server.bodies("/props")) == 1


def test_call_ends_with_its_seconds(server: ScriptedServer, client: OpenAIClient) -> None:
    client.info()
    server.once(CHAT, Reply(chat("42").body, delay=5))
    with pytest.raises(CallTimeout, match=r"within 0\.2 s"):
        client.chat(TALK, options=Options(seconds=0.2))


def test_seconds_are_not_sent(server: ScriptedServer, client: OpenAIClient) -> None:
    for seconds in (None, 60.0):
        client.chat(TALK, options=Options(seconds=seconds))
    first, second = server.bodies(CHAT)
    assert first == second


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
        (Reply("<html>"), ProtocolError, "a page of HTML"),
        (Reply(["a", "b"]), ProtocolError, "not a JSON object"),
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


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": f"bad key {KEY}"}}, status=401),
        Reply({"error": {"message": "x" * 977 + KEY}}, status=401),  # would be cut in the key
        Reply(f"<html>bad key {KEY}"),
        Reply("<html>" + "x" * 170 + f" bad key *** {KEY}"),  # would be cut in the key
        Reply({"choices": [], "usage": {"prompt_tokens": 1}, "echo": f"bad key *** {KEY}"}),
    ],
)
def test_key_shows_nowhere(server: ScriptedServer, client: OpenAIClient, reply: Reply) -> None:
    server.once(CHAT, reply)
    with pytest.raises(ProtocolError) as caught:
        client.chat(TALK, options=Options())
    told = "".join(traceback.format_exception(caught.value))
    assert KEY[:8] not in f"{told} {client!r} {client.info()!r}"


def test_space_around_the_key_is_not_part_of_it(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against httpx's refusal of the header, which shows the key."""
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    client = OpenAIClient(NAME, server.address)
    assert client.chat(TALK, options=Options()).text == "Forty-two."
    client.close()
    assert server.asked[-1].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["sk-\N{SNOWMAN}-secret", "sk-secret\nsecret", "sk-secret\x7f"])
def test_key_that_no_header_holds(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="OPENAI_API_KEY has a character") as caught:
        OpenAIClient(NAME, "http://127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_server_that_is_not_running_says_how_to_start_it(server: ScriptedServer) -> None:
    server.__exit__()
    client = OpenAIClient(NAME, server.address)
    with pytest.raises(ServerUnreachable, match=f"{server.address}.*vllm serve {NAME}"):
        client.chat(TALK, options=Options())
    client.close()


def test_address_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"'ftp://x' is no address of a server; write openai/NAME"):
        OpenAIClient(NAME, "ftp://x")
