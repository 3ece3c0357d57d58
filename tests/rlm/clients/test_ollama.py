"""The Ollama client, against its protocol on a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from rlm.clients.ollama import OllamaClient, base_url
from rlm.errors import (
    CallTimeout,
    ModelNotFound,
    PromptTooLong,
    ProtocolError,
    ServerUnreachable,
    UsageError,
)
from rlm.messages import Message, Options, Times, Usage
from tests.servers.ollama import NAME, chat, ollama_server
from tests.servers.scripted import Reply, ScriptedServer

TALK = [Message("system", "Be brief."), Message("user", "What is six times seven?")]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ollama_server() as running:
        yield running


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[OllamaClient]:
    opened = OllamaClient(NAME, num_ctx=4096, url=server.address)
    yield opened
    opened.close()


def test_request_states_every_option(server: ScriptedServer, client: OllamaClient) -> None:
    client.chat(TALK, options=Options(max_tokens=77, seed=5))
    assert server.bodies("/api/chat") == [
        {
            "model": NAME,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is six times seven?"},
            ],
            "stream": True,
            "think": False,
            "truncate": False,
            "shift": False,
            "keep_alive": "30m",
            "options": {
                "num_ctx": 4096,
                "num_predict": 77,
                "temperature": 0.0,
                "seed": 5,
                "top_k": 1,
                "top_p": 1.0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "repeat_last_n": 0,
            },
        }
    ]


def test_temperature_lifts_the_greedy_choice(server: ScriptedServer, client: OllamaClient) -> None:
    client.chat(TALK, options=Options(temperature=0.7))
    sent = server.bodies("/api/chat")[0]["options"]
    assert (sent["temperature"], sent["top_k"]) == (0.7, 0)


def test_stream_becomes_a_completion(client: OllamaClient) -> None:
    answer = client.chat(TALK, options=Options())
    assert answer.text == "Forty-two."
    assert answer.usage == Usage(30, 4, 1)
    assert (answer.finish_reason, answer.window, answer.truncated) == ("stop", 4096, False)
    assert answer.times == Times(wall=answer.times.wall, queue=2.0, prefill=0.5, decode=0.25)
    assert answer.times.wall > 0


def test_absent_metrics_are_zero(server: ScriptedServer, client: OllamaClient) -> None:
    server.once("/api/chat", chat(eval_count=None, load_duration=None, eval_duration=None))
    answer = client.chat(TALK, options=Options())
    assert (answer.text, answer.usage.completion_tokens, answer.times.queue) == ("", 0, 0.0)


def test_length_and_thinking(server: ScriptedServer, client: OllamaClient) -> None:
    server.once("/api/chat", chat("<think>six", "</think>\n\n42", done_reason="length"))
    answer = client.chat(TALK, options=Options())
    assert (answer.text, answer.finish_reason) == ("42", "length")


def test_info_names_digest_version_and_live_window() -> None:
    """Guards against a first cell that is recorded with the window that was only asked for."""
    with ollama_server(live=2048) as server:
        client = OllamaClient(NAME, num_ctx=4096, url=server.address)
        before = client.info()
        (load,) = server.bodies("/api/chat")
        answers = [client.chat(TALK, options=Options()) for _ in range(2)]
        after = client.info()
        client.close()
        asked = len(server.bodies("/api/ps"))
    assert (before.spec, before.digest) == (f"ollama/{NAME}", "abc123")
    assert before.server == "ollama 0.30.12"
    assert (before, before.window, before.options["num_ctx"]) == (after, 2048, 4096)
    assert (load["messages"], load["options"]["num_ctx"]) == ([], 4096)
    assert ([a.window for a in answers], asked) == ([2048, 2048], 1)


@pytest.mark.parametrize(("trained", "window"), [(40_960, 16_384), (2_000, 1_792), (8_192, 8_192)])
def test_window_is_what_was_trained_within_bounds(trained: int, window: int) -> None:
    with ollama_server(trained=trained, live=None) as server:
        client = OllamaClient(NAME, url=server.address)
        assert client.chat(TALK, options=Options()).window == window
        client.close()
        assert server.bodies("/api/chat")[0]["options"]["num_ctx"] == window


@pytest.mark.parametrize("count", [4096, 4095, 2050])
def test_silent_cut_is_flagged(server: ScriptedServer, client: OllamaClient, count: int) -> None:
    server.once("/api/chat", chat("42", prompt_eval_count=count, eval_count=1))
    long = [Message("user", "abcdefgh" * 2_000)]
    assert client.chat(long, options=Options()).truncated


def test_shift_while_answering_is_flagged(server: ScriptedServer, client: OllamaClient) -> None:
    server.once("/api/chat", chat("42", prompt_eval_count=4000, eval_count=97))
    assert client.chat(TALK, options=Options()).truncated


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (chat("Forty", done=False), "aborted"),
        (Reply([{"message": {"content": "Forty"}, "done": False}]), "aborted"),
        (
            Reply([{"message": {"content": "a"}}, {"error": "an error was encountered"}]),
            "encounter",
        ),
        (chat("42", done_reason="load"), "'load'"),
        (chat("42", prompt_eval_count=None), "prompt_eval_count"),
        (Reply([{"message": {"tool_calls": [{"function": {"name": "f"}}]}}]), "tool call"),
        (Reply("not json\n"), "not a JSON object"),
        (Reply({"error": "llama runner process has terminated"}, status=500), "500.*terminated"),
        (Reply([{"message": {"content": "Forty"}, "done": False}], cut=True), "broke off"),
    ],
)
def test_answer_that_is_none(
    server: ScriptedServer, client: OllamaClient, reply: Reply, says: str
) -> None:
    server.once("/api/chat", reply)
    with pytest.raises(ProtocolError, match=says):
        client.chat(TALK, options=Options())


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "the input length exceeds the context length"),
        (400, '{"error":{"type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}'),
        (200, "request (5000 tokens) exceeds the available context size (4096 tokens)"),
    ],
)
def test_refused_prompt(
    server: ScriptedServer, client: OllamaClient, status: int, text: str
) -> None:
    server.once("/api/chat", Reply([{"error": text}], status=status))
    with pytest.raises(PromptTooLong) as caught:
        client.chat(TALK, options=Options())
    assert caught.value.prompt_tokens == (5000 if "5000" in text else None)


def test_a_line_ends_only_at_a_line_feed(server: ScriptedServer, client: OllamaClient) -> None:
    """Guards against an answer that is cut at a NEL, which Ollama sends as it is."""
    (last,) = chat().body
    line = {"message": {"content": "Forty\x85two"}}
    body = "\n".join(json.dumps(each, ensure_ascii=False) for each in (line, last))
    server.once("/api/chat", Reply(body))
    assert client.chat(TALK, options=Options()).text == "Forty\x85two"


def test_call_ends_with_its_seconds(server: ScriptedServer, client: OllamaClient) -> None:
    server.once("/api/chat", Reply(chat("42").body, delay=5))
    with pytest.raises(CallTimeout, match=r"within 0\.2 s"):
        client.chat(TALK, options=Options(seconds=0.2))


def test_busy_server_is_asked_again(server: ScriptedServer, client: OllamaClient) -> None:
    server.once("/api/chat", Reply({"error": "server busy, please try again"}, status=503))
    answer = client.chat(TALK, options=Options())
    assert (answer.text, answer.retries) == ("Forty-two.", ("HTTP 503",))
    assert len(server.bodies("/api/chat")) == 2


def test_call_that_fails_after_a_new_try_says_so(
    server: ScriptedServer, client: OllamaClient
) -> None:
    server.once("/api/chat", Reply("", mute=True), chat("Forty", done=False))
    with pytest.raises(ProtocolError, match="aborted") as caught:
        client.chat(TALK, options=Options())
    assert caught.value.retries == ("hung up",)


def test_missing_model_says_how_to_get_it(server: ScriptedServer) -> None:
    server.standing["/api/show"] = Reply({"error": "model 'nope' not found"}, status=404)
    with pytest.raises(ModelNotFound, match="ollama pull nope"):
        OllamaClient("nope", url=server.address)


def test_model_that_vanishes_says_how_to_get_it(
    server: ScriptedServer, client: OllamaClient
) -> None:
    server.once("/api/chat", Reply({"error": "model not found"}, status=404))
    with pytest.raises(ModelNotFound, match=f"ollama pull {NAME}"):
        client.chat(TALK, options=Options())


def test_ollama_that_is_not_running_says_how_to_start_it(server: ScriptedServer) -> None:
    server.__exit__()
    with pytest.raises(ServerUnreachable, match=f"{server.address}.*ollama serve"):
        OllamaClient(NAME, url=server.address)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        (" '1.2.3.4' ", "http://1.2.3.4:11434"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com:1234/ollama/", "https://example.com:1234/ollama"),
        ("example.com", "http://example.com:11434"),
        ("example.com/", "http://example.com:11434"),
        ("example.com:66000", "http://example.com:11434"),
        ("example.com:word", "http://example.com:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("[::]:1234", "http://[::1]:1234"),
    ],
)
def test_host_variable_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert base_url(host) == url


@pytest.mark.parametrize("host", ["exa mple", "ftp://x", "http://x?y", "[z]", "http://a..b", "é"])
def test_host_variable_that_is_no_address(host: str) -> None:
    with pytest.raises(UsageError, match="is no address of a server; set OLLAMA_HOST to HOST:PORT"):
        base_url(host)


@pytest.mark.parametrize(
    "host",
    ["http://me:SECRET@127.0.0.1:9", "me:SECRET@127.0.0.1:9", "http://me:SECRET@127.0.0.1"],
)
def test_password_in_the_host_variable_is_refused_and_not_shown(host: str) -> None:
    with pytest.raises(UsageError, match=r"'\*\*\*@127\.0\.0\.1(:9)?'; set OLLAMA_HOST") as caught:
        base_url(host)
    assert "SECRET" not in str(caught.value)
