"""The client for OpenAI's protocol, on a real socket."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from rlm.bench import runner
from rlm.bench.grid import Cell
from rlm.bench.records import encode
from rlm.bench.runner import Settings
from rlm.clients import connect
from rlm.clients._retries import Backoff
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
from rlm.sandbox import open_sandbox
from tests.servers.openai import NAME, chat, openai_server
from tests.servers.scripted import Asked, Reply, ScriptedServer

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


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"state": "loaded", "max_context_length": 32768, "loaded_context_length": 4096}, 4096),
        ({"state": "not-loaded", "max_context_length": 32768}, None),
    ],
)
def test_window_of_lm_studio_is_that_of_the_loaded_model(
    entry: dict[str, object], window: int | None
) -> None:
    """Not the most it was trained for."""
    with openai_server() as server:
        listed = [{"id": "other", "loaded_context_length": 7}, {"id": NAME, **entry}]
        server.standing["/api/v0/models"] = Reply({"object": "list", "data": listed})
        client = OpenAIClient(NAME, server.address)
        assert client.info().window == window
        client.close()


UNKNOWN = {
    "OpenAI": Reply(
        {"error": {"message": "Unrecognized request argument supplied: chat_template_kwargs"}},
        status=400,
    ),
    "FastAPI": Reply(
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "chat_template_kwargs"],
                    "msg": "Extra inputs are not permitted",
                }
            ]
        },
        status=422,
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_strict_server_is_asked_without_the_field_it_does_not_know(
    server: ScriptedServer, client: OpenAIClient, kind: str
) -> None:
    server.once(CHAT, UNKNOWN[kind])
    first, second = (client.chat(TALK, options=Options(seconds=60.0)) for _ in range(2))
    status = UNKNOWN[kind].status
    assert first.retries == (f"HTTP {status}: chat_template_kwargs is not known",)
    assert (first.text, second.text, second.retries) == ("Forty-two.", "Forty-two.", ())
    bodies = server.bodies(CHAT)
    assert ["chat_template_kwargs" in body for body in bodies] == [True, False, False]
    assert bodies[1] == {k: v for k, v in bodies[0].items() if k != "chat_template_kwargs"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "chat_template_kwargs crashed"}}, status=500),
        Reply({"error": {"message": "temperature is too high"}}, status=400),
    ],
)
def test_another_refusal_is_not_sent_again(
    server: ScriptedServer, client: OpenAIClient, reply: Reply
) -> None:
    server.once(CHAT, reply)
    with pytest.raises(ProtocolError) as caught:
        client.chat(TALK, options=Options())
    assert (len(server.bodies(CHAT)), caught.value.retries) == (1, ())


def test_a_server_that_refuses_without_the_field_too_fails_as_it_says(
    server: ScriptedServer, client: OpenAIClient
) -> None:
    server.once(CHAT, *[UNKNOWN["OpenAI"]] * 2)
    with pytest.raises(ProtocolError, match=r"400: .*Unrecognized") as caught:
        client.chat(TALK, options=Options())
    assert len(caught.value.retries) == 1


def test_thinking_that_the_template_began_is_no_part_of_the_answer(
    server: ScriptedServer, client: OpenAIClient
) -> None:
    server.once(CHAT, chat("The text says six.\n</think>\n\n42"))
    assert client.chat(TALK, options=Options()).text == "42"


def test_a_server_without_a_route_that_counts_is_not_asked_for_long(
    server: ScriptedServer, client: OpenAIClient
) -> None:
    assert [client.count(TALK) for _ in range(3)] == [None] * 3
    asked = [asked.path for asked in server.asked]
    assert (asked.count("/tokenize"), asked.count("/apply-template")) == (1, 1)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_to_count_again(
    server: ScriptedServer, client: OpenAIClient, status: int
) -> None:
    """Guards a cut from the weather: estimates are for servers that have no route."""
    client._http._backoff = Backoff(tries=0)
    server.once("/tokenize", Reply({"error": "overloaded"}, status=status))
    server.standing["/tokenize"] = Reply({"count": 7})
    with pytest.raises(ProtocolError) as caught:
        client.count(TALK)
    assert caught.value.status == status
    assert client.count(TALK) == 7
    assert "/apply-template" not in [asked.path for asked in server.asked]


@pytest.mark.parametrize("answer", [{"tokens": []}, {"count": 0}, {"count": "many"}])
def test_a_count_that_is_none_is_not_taken_for_one(
    server: ScriptedServer, client: OpenAIClient, answer: dict[str, object]
) -> None:
    """llama-server answers a question of vLLM's kind with no tokens at all."""
    server.standing["/tokenize"] = Reply(answer)
    assert client.count(TALK) is None


class Echo(ScriptedServer):
    """Sends the Authorization header back: in errors of a status, or in the text of its answer."""

    status = 200

    def reply(self, asked: Asked) -> Reply:
        key = asked.headers.get("Authorization", "")
        if asked.path != CHAT:
            return super().reply(asked)
        self.asked.append(asked)
        if self.status == 200:
            return chat(f"You sent {key}", headers={"Authorization": key})
        body = {"error": {"message": f"refused {key}", "headers": {"Authorization": key}}}
        return Reply(body, status=self.status, headers={"Retry-After": "3600"})


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500, 503])
def test_a_key_that_is_sent_back_is_kept_nowhere(
    status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the record, the trajectory, the cassette, the log, nor in an error's traceback."""
    key = 'sk-very"secret/0123456789'
    monkeypatch.setenv("OPENAI_API_KEY", key)
    caplog.set_level("DEBUG")
    settings = Settings(run=tmp_path / "run", sandbox="process")
    cell = Cell("niah", 1024, 50, 0, "vanilla")
    with Echo({"/v1/models": Reply({"data": [{"id": NAME}]})}) as server:
        server.status = status
        spec = f"openai/{NAME}@{server.address}"
        with (
            closing(connect(spec, record=tmp_path / "tape")) as client,
            closing(open_sandbox("process")) as sandbox,
        ):
            done = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
            with suppress(ClientError):
                client.chat(TALK, options=Options())
        sent = [asked.headers.get("Authorization") for asked in server.asked]
    assert f"Bearer {key}" in sent, "the server was not even told it"
    assert done.record is not None
    kept = [path.read_text() for path in tmp_path.rglob("*.json*")]
    assert len(kept) == 2
    told = "\n".join([encode(done.record), caplog.text, *kept])
    assert "***" in told
    for secret in (key, json.dumps(key)[1:-1], "0123456789"):
        assert secret not in told


def test_a_word_for_a_key_is_no_secret_that_an_answer_may_not_hold(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards answers from the dummies that servers at home are given."""
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    client = OpenAIClient(NAME, server.address)
    server.once(CHAT, chat("The box is EMPTY"))
    assert client.chat(TALK, options=Options()).text == "The box is EMPTY"
    client.close()


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
