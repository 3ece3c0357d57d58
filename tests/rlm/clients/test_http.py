"""What the clients share: connections, time limits, new tries."""

from __future__ import annotations

import math
import socket
import sys
import time

import pytest

from rlm.clients._http import Http
from rlm.clients._thinking import without_thinking
from rlm.errors import CallTimeout, ProtocolError
from tests.servers.scripted import Reply, ScriptedServer


def test_slow_answer_is_a_timeout() -> None:
    with ScriptedServer({"/x": Reply({}, delay=5)}) as server:
        http = Http(server.address, absent="x", seconds=0.1)
        with pytest.raises(CallTimeout, match=r"0\.1 s"):
            http.get("/x")
        http.close()


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"a": 1}, delay=5),
        Reply({"a": 1}, drip=0.1),
        Reply({"error": "busy"}, status=503),
    ],
)
@pytest.mark.parametrize("seconds", [0.3, 0.0, -1.0])
def test_call_ends_with_its_seconds(reply: Reply, seconds: float) -> None:
    """Guards against a slow, a dripping and a busy server that outlast the limit of a call."""
    with ScriptedServer({"/x": reply}) as server:
        http, started = Http(server.address, absent="x"), time.monotonic()
        for ask in (http.post, http.lines):
            with pytest.raises(CallTimeout, match=rf"within {seconds:g} s"):
                ask("/x", {}, seconds=seconds)
        http.close()
    assert time.monotonic() - started < 2


@pytest.mark.skipif(sys.platform != "linux", reason="fills the queue of a listening socket")
def test_server_that_does_not_take_the_call_in_its_seconds_is_late_not_absent() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address):
            http = Http(f"http://127.0.0.1:{address[1]}", absent="x")
            with pytest.raises(CallTimeout):
                http.post("/x", {}, seconds=0.2)
            http.close()


def test_endless_limit_is_none() -> None:
    with ScriptedServer({"/x": Reply({"a": 1})}) as server:
        http = Http(server.address, absent="x")
        assert http.post("/x", {}, seconds=math.inf) == {"a": 1}
        http.close()


def test_busy_server_is_asked_a_bounded_number_of_times() -> None:
    with ScriptedServer({"/x": Reply({"error": "busy"}, status=503)}) as server:
        http = Http(server.address, absent="x", waits=(0.01, 0.01))
        with pytest.raises(ProtocolError, match="busy"):
            http.get("/x")
        http.close()
        assert len(server.asked) == 3


def test_proxy_of_the_environment_is_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against sending documents meant for a local server to a proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ScriptedServer({"/x": Reply({"fine": True})}) as server:
        http = Http(server.address, absent="x")
        assert http.get("/x") == {"fine": True}
        http.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        ("<think>\n\n</think>\n\n42", "42"),
        ("\n<think>a</think><think>b</think>42", "42"),
        ("<think>never closed", ""),
        ("42 is in <think>this</think>", "42 is in <think>this</think>"),
    ],
)
def test_thinking_is_taken_off_the_start(text: str, answer: str) -> None:
    assert without_thinking(text) == answer
