"""`connect`: a text becomes a client, or an error that helps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlm import clients
from rlm.clients import connect, needs_engine, open_engine
from rlm.clients.llamacpp import Engine, LlamaCppClient
from rlm.errors import ModelNotFound, ServerUnreachable, UsageError
from rlm.messages import Message, Options
from tests.servers import ollama, openai

TALK = [Message("user", "Hello")]


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path) -> Path:
    """A folder of embedded models that holds only `embedded` and `embedded/sft`."""
    for name in ("embedded.gguf", "embedded-sft.gguf"):
        shutil.copy(tiny_gguf, tmp_path / name)
    monkeypatch.setattr(clients, "_NANO", tmp_path)
    return tmp_path


def test_embedded_starts_its_own_engine_and_stops_it(nano: Path) -> None:
    client = connect("embedded")
    assert client.chat(TALK, options=Options(max_tokens=3)).window == 4096
    assert client.info().spec == "embedded"
    client.close()
    client.close()


@pytest.mark.parametrize(
    ("spec", "number", "in_turn"),
    [
        ("embedded", 1, True),
        ("gguf/a.gguf", 1, True),
        ("ollama/a", 1, False),
        ("openai/a@http://h/v1", 8, False),
    ],
)
def test_calls_at_once_suit_the_server(spec: str, number: int, in_turn: bool) -> None:
    assert (clients.concurrency(spec), clients.in_turn(spec)) == (number, in_turn)


def test_num_ctx_sets_the_window(nano: Path) -> None:
    client = connect("embedded/sft", num_ctx=256)
    assert client.info().window == 256
    client.close()


def test_shared_engine_is_used_and_left_alone(nano: Path, engine: Engine) -> None:
    for _ in range(2):
        client = connect("embedded", engine=engine.address)
        assert client.info().window == 512
        client.close()


def test_open_engine_serves_several_clients(tiny_gguf: Path) -> None:
    engine = open_engine(f"gguf/{tiny_gguf}", num_ctx=256, clients=2)
    assert engine is not None
    with engine:
        pair = [connect(f"gguf/{tiny_gguf}", engine=engine.address) for _ in range(2)]
        answers = [client.chat(TALK, options=Options(max_tokens=3)) for client in pair]
        for client in pair:
            client.close()
    assert answers[0].completion_ids == answers[1].completion_ids


def test_gguf_opens_any_file(tiny_gguf: Path) -> None:
    client = connect(f"gguf/{tiny_gguf}", num_ctx=256)
    assert isinstance(client, LlamaCppClient)
    assert client.info().spec == f"gguf/{tiny_gguf}"
    client.close()


def test_engine_of_a_forgotten_client_ends_with_the_program(tiny_gguf: Path) -> None:
    code = f"from rlm.clients import connect; c = connect('gguf/{tiny_gguf}', num_ctx=256)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_needs_engine(nano: Path) -> None:
    assert needs_engine("embedded") == nano / "embedded.gguf"
    assert needs_engine("gguf/a/b.gguf") == Path("a/b.gguf")
    assert needs_engine("ollama/x") is None
    assert open_engine("ollama/x") is None


def test_missing_embedded_model_names_those_that_are_there(nano: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"embedded-base\.gguf.*: embedded, embedded/sft$"):
        connect("embedded/base")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"nothing\.gguf"):
        connect(f"gguf/{tmp_path}/nothing.gguf")


def test_ollama_reads_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with ollama.ollama_server() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        client = connect(f"ollama/{ollama.NAME}", num_ctx=4096)
        assert client.chat(TALK, options=Options()).text == "Forty-two."
        client.close()
    with pytest.raises(ServerUnreachable, match="ollama serve"):
        connect(f"ollama/{ollama.NAME}")


def test_openai_takes_name_and_address() -> None:
    with openai.openai_server() as server:
        spec = f"openai/{openai.NAME}@{server.address}/v1"
        client = connect(spec)
        assert client.chat(TALK, options=Options()).text == "Forty-two."
        assert client.info().spec == spec
        client.close()


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("", "embedded"),
        ("embeded", "embedded"),
        ("embedded/", "embedded"),
        ("embedded/bse", "embedded/base"),
        ("olama/qwen3.5:2b", "ollama/qwen3.5:2b"),
        ("ollama/", "ollama/NAME"),
        ("qwen3.5:2b", "ollama/qwen3.5:2b"),
        ("models/a.gguf", "gguf/models/a.gguf"),
        ("openai/gpt", "openai/gpt@http://localhost:8000/v1"),
        ("openai/@http://h/v1", "openai/NAME@http://h/v1"),
    ],
)
def test_unknown_spec_is_told_what_exists(spec: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        connect(spec)
    told = str(caught.value)
    assert told.startswith(f"no model {spec!r}; did you mean {meant!r}?")
    for form in ("embedded/base", "ollama/qwen3.5:2b", "@http://", "gguf/models"):
        assert form in told


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/v1",
        "http://localhost:abc/v1",
        "foo",
        "http://exa mple",
        "http://me:SECRET@host/v1",
        "http://me:SEC/RET@host/v1",
    ],
)
def test_bad_address_is_told_before_anything_runs(url: str) -> None:
    """Guards against a traceback of urllib or httpx, some of which show the password."""
    for use in (needs_engine, open_engine, connect):
        with pytest.raises(UsageError, match="openai/NAME@http://localhost:8000/v1") as caught:
            use(f"openai/m@{url}")
        assert "SEC" not in str(caught.value)
        assert url.rpartition("@")[2] in str(caught.value)


def test_bad_host_of_ollama_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://user:SECRET@127.0.0.1:9")
    with pytest.raises(UsageError, match="OLLAMA_HOST") as caught:
        needs_engine("ollama/x")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("spec", ["openi/m@http://u:SECRET@h/v1", "openi/http://u:SECRET@h/v1"])
def test_unknown_spec_is_told_without_its_password(spec: str) -> None:
    with pytest.raises(UsageError, match=r"no model 'openi/.*\*\*\*@h/v1'") as caught:
        connect(spec)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(("num_ctx", "use"), [(1000, 1024), (0, 256), (-5, 256)])
def test_window_must_be_a_multiple_of_256(num_ctx: int, use: int) -> None:
    """Guards against a window that the engine pads without saying so."""
    with pytest.raises(UsageError, match=f"use {use}"):
        connect("ollama/x", num_ctx=num_ctx)


def test_importing_clients_is_light() -> None:
    code = (
        "import sys, rlm.clients; print(sorted({'httpx', 'xllamacpp', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
