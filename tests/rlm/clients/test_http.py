"""What the clients share: connections, time limits, new tries."""

from __future__ import annotations

import math
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from rlm.clients._http import Http
from rlm.clients._retries import Backoff, seconds_told
from rlm.clients._thinking import without_thinking
from rlm.errors import CallTimeout, ProtocolError, ServerUnreachable
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
        http = Http(server.address, absent="x", backoff=Backoff(tries=2, first=0.01))
        with pytest.raises(ProtocolError, match="busy"):
            http.get("/x")
        http.close()
        assert len(server.asked) == 3


def quick(tries: int = 5) -> Backoff:
    return Backoff(tries=tries, first=0.01, longest=1.5, jitter=lambda: 0.0)


@pytest.mark.parametrize(
    ("failures", "reasons"),
    [
        ([Reply({"error": "busy"}, status=503)] * 2, ["HTTP 503", "HTTP 503"]),
        ([Reply({"error": "slow down"}, status=429, headers={"Retry-After": "0"})], ["HTTP 429"]),
        ([Reply("", mute=True), Reply({"error": "busy"}, status=503)], ["hung up", "HTTP 503"]),
    ],
)
def test_what_brought_nothing_is_sent_again_and_noted(
    failures: list[Reply], reasons: list[str]
) -> None:
    with ScriptedServer({"/x": Reply({"a": 1})}) as server:
        server.once("/x", *failures)
        http, noted = Http(server.address, absent="x", backoff=quick()), []
        assert http.post("/x", {}, retries=noted) == {"a": 1}
        http.close()
    assert noted == reasons


@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"a"', cut=True),
        Reply("", cut=True),
        Reply({"error": "crash"}, status=500),
        Reply({"error": "busy"}, status=503, cut=True),
    ],
)
def test_what_brought_something_is_not_sent_again(reply: Reply) -> None:
    """Guards against two answers to one call: the first may have been paid for, or cached."""
    with ScriptedServer({"/x": reply}) as server:
        http, noted = Http(server.address, absent="x", backoff=quick()), []
        with pytest.raises(ProtocolError):
            http.post("/x", {}, retries=noted)
        http.close()
        assert (len(server.asked), noted) == (1, [])


def test_server_that_was_there_is_waited_for_and_one_that_was_not_is_absent() -> None:
    with ScriptedServer({"/x": Reply({"a": 1})}) as server:
        http = Http(server.address, absent="x", backoff=quick(3))
        http.get("/x")
    tries = []
    for _ in range(2):  # once given up, it is gone until it answers again
        with pytest.raises(ServerUnreachable):
            http.post("/x", {}, retries=(noted := []))
        tries.append(noted)
    http.close()
    assert tries == [["no connection"] * 3, []]


@pytest.mark.parametrize(
    ("header", "again"),
    [("1", True), ("3600", False), ("soon", True), ("Wed, 21 Oct 2015 07:28:00 GMT", True)],
)
def test_the_server_says_when_to_come_back(header: str, again: bool) -> None:
    busy = Reply({"error": "busy"}, status=429, headers={"Retry-After": header})
    with ScriptedServer({"/x": Reply({"a": 1})}) as server:
        server.once("/x", busy)
        http, started = Http(server.address, absent="x", backoff=quick()), time.monotonic()
        if again:
            assert http.get("/x") == {"a": 1}
        else:
            with pytest.raises(ProtocolError, match="429: busy"):
                http.get("/x")
        http.close()
        assert time.monotonic() - started >= (1 if header == "1" else 0)


NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"Retry-After": "Sat, 21 Nov 2026 14:00:20 +0200"}, 20.0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:20 -0000"}, 20.0),
        ({"Retry-After": "Sat, 21 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "1"}, 1.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m"}, 3720.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12"}, 12.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": ""}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "later"}, 0.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1m3s",
            },
            63.0,
        ),
        ({"Retry-After": "2", "x-ratelimit-remaining-tokens": "0"}, 2.0),
    ],
)
def test_what_a_busy_server_says(headers: dict[str, str], seconds: float) -> None:
    assert seconds_told(httpx.Headers(headers), NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "again"),
    [
        ({"Retry-After": format_datetime(datetime.now(UTC) - timedelta(days=1))}, True),
        ({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(days=1))}, False),
        ({"retry-after-ms": "300"}, True),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}, True),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, False),
    ],
)
def test_limits_are_kept_over_a_socket(status: int, headers: dict[str, str], again: bool) -> None:
    """As long as it was told, and not at all where that is beyond the cap."""
    busy = Reply({"error": "busy"}, status=status, headers=headers)
    waits = "300" in "".join(headers.values())
    with ScriptedServer({"/x": Reply({"a": 1})}) as server:
        server.once("/x", busy)
        http, started = Http(server.address, absent="x", backoff=quick()), time.monotonic()
        noted: list[str] = []
        if again:
            assert http.post("/x", {}, retries=noted) == {"a": 1}
        else:
            with pytest.raises(ProtocolError, match=f"{status}: busy"):
                http.post("/x", {}, retries=noted)
        http.close()
        assert time.monotonic() - started >= (0.3 if waits else 0)
        assert len(server.asked) == 1 + again
    assert noted == [f"HTTP {status}"] * again


def test_waits_double_up_to_a_cap_and_differ() -> None:
    low, high = (Backoff(tries=9, longest=20, jitter=lambda j=j: j) for j in (0.0, 1.0))
    assert [low.wait(n) for n in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert [high.wait(n) for n in range(7)] == [1, 2, 4, 8, 16, 20, 20]
    assert (low.wait(9), low.wait(0, told=21)) == (None, None)
    assert (low.wait(3, told=5), high.wait(3, told=5), high.wait(3, told=20)) == (5, 6, 20)


@pytest.mark.parametrize("status", [200, 404, 502])
def test_page_of_a_proxy_is_no_missing_model(status: int) -> None:
    page = Reply("<!DOCTYPE html><html><body>Bad gateway</body></html>", status=status)
    with ScriptedServer({"/x": page}) as server:
        http = Http(server.address, absent="x")
        with pytest.raises(ProtocolError, match=f"HTTP {status} and a page of HTML.*proxy"):
            http.get("/x")
        http.close()


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
    assert without_thinking(text, is_open=True) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so it is six</think>\n\n42", "42"),
        ("</think>42", "42"),
        ("six</think><think>seven</think>42", "42"),
        ("so it is six", "so it is six"),
        ("a <think>b</think> c", "a <think>b</think> c"),
    ],
)
def test_thinking_that_the_template_began_is_taken_off_where_that_may_be(
    text: str, answer: str
) -> None:
    assert without_thinking(text, is_open=True) == answer
    assert without_thinking(text) == text
