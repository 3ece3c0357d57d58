"""What the clients share: connections, time limits, new tries."""

from __future__ import annotations

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
