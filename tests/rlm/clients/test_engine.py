"""Life and death of the engine's process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from rlm.clients.llamacpp import Engine, EngineAddress, LlamaCppClient, start_engine
from rlm.errors import ClientError, ModelNotFound, ServerUnreachable
from rlm.messages import Message, Options

OWNER = """
import sys, time
from rlm.clients.llamacpp import start_engine
engine = start_engine(sys.argv[1], n_ctx=256)
print(engine.address.url, flush=True)
time.sleep(float(sys.argv[2]))
"""


def answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def ends(url: str, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while answers(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def owner(model: Path, lives: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(model), str(lives)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_close_ends_the_process_and_can_be_repeated(tiny_gguf: Path) -> None:
    engine = start_engine(tiny_gguf, n_ctx=256)
    assert answers(engine.address.url)
    engine.close()
    engine.close()
    assert not answers(engine.address.url)


def test_close_does_not_wait_for_a_call_in_flight(tiny_gguf: Path) -> None:
    engine = start_engine(tiny_gguf, n_ctx=4096)
    client = LlamaCppClient(engine.address, spec="embedded")
    outcome: list[ClientError] = []
    long = [Message("user", "x " * 1900)]

    def call() -> None:
        with pytest.raises(ClientError) as caught:
            client.chat(long, options=Options(max_tokens=200))
        outcome.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 2
    thread.join()
    client.close()
    assert len(outcome) == 1


def test_engine_dies_with_a_killed_owner(tiny_gguf: Path) -> None:
    with owner(tiny_gguf, lives=60) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert answers(url)
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    assert ends(url)


def test_engine_ends_with_an_owner_that_forgot_it(tiny_gguf: Path) -> None:
    with owner(tiny_gguf, lives=0) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert ends(out.strip())


def test_engine_survives_the_interrupt_of_its_terminal(tiny_gguf: Path) -> None:
    with start_engine(tiny_gguf, n_ctx=256) as engine:
        os.kill(engine.pid, signal.SIGINT)
        time.sleep(0.1)
        assert answers(engine.address.url)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_key_is_not_on_the_command_line(engine: Engine) -> None:
    command = Path(f"/proc/{engine.pid}/cmdline").read_text()
    assert "rlm.clients.llamacpp" in command
    assert engine.address.api_key not in command


def test_engine_refuses_calls_without_its_key(engine: Engine) -> None:
    reply = httpx.post(f"{engine.address.url}/tokenize", json={"content": "x"}, trust_env=False)
    assert reply.status_code == 401


def test_address_travels_as_json_and_hides_its_key(engine: Engine) -> None:
    address = EngineAddress.from_dict(json.loads(json.dumps(engine.address.to_dict())))
    assert address == engine.address
    assert address.api_key not in repr(address)


def test_closing_a_guest_leaves_the_engine_running(engine: Engine) -> None:
    LlamaCppClient(engine.address, spec="embedded").close()
    assert answers(engine.address.url)


def test_client_of_a_dead_engine_says_so(tiny_gguf: Path) -> None:
    with start_engine(tiny_gguf, n_ctx=256) as engine:
        pass
    with pytest.raises(ServerUnreachable, match=f"{engine.address.url}.*has ended"):
        LlamaCppClient(engine.address, spec="embedded")


def test_window_is_lowered_to_the_trained_length(tiny_gguf: Path) -> None:
    with start_engine(tiny_gguf, n_ctx=8192) as engine:
        client = LlamaCppClient(engine.address, spec="embedded")
        assert client.info().window == 4096
        client.close()


@pytest.mark.parametrize(
    ("keep", "reason"),
    [(None, "there is no model file"), (0, "magic|read"), (200_000, "corrupted or incomplete")],
)
def test_load_error_names_the_file_and_the_reason(
    tiny_gguf: Path, tmp_path: Path, keep: int | None, reason: str
) -> None:
    path = tmp_path / "broken.gguf"
    if keep is not None:
        path.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises(ModelNotFound, match=reason) as caught:
        start_engine(path)
    assert str(path) in str(caught.value)
