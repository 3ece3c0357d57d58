"""Sessions on an Ollama server: what is told of it, and a model that is pulled first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlm.cli import main
from tests.rlm.bench.plugin_session import BOTH, Session
from tests.servers.ollama_real import NAME, RealModel, RealOllama

ONE = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=1", "--rlm-num-ctx=2048")


@pytest.fixture(scope="module")
def model() -> Iterator[RealModel]:
    with closing(RealModel()) as running:
        yield running


def serve(
    session: Session, monkeypatch: pytest.MonkeyPatch, model: RealModel, *args: str, **more: object
) -> tuple[pytest.RunResult, RealOllama]:
    """One session against a server of its own."""
    session.model = f"--rlm-model=ollama/{NAME}"
    with RealOllama(model, **more) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        return session.run(*ONE, "--rlm-run=a", *args), server


def header(session: Session) -> dict[str, object]:
    rows = (session.path / "runs" / "a" / "results.jsonl").read_text().splitlines()
    return json.loads(rows[0])


@BOTH
def test_session_says_what_became_of_the_canary(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    model: RealModel,
    workers: tuple[str, ...],
) -> None:
    result, server = serve(session, monkeypatch, model, "--rlm-arch=vanilla", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f"model: ollama/{NAME} (*), window 2048, ollama 0.30.12",
            "prompts that do not fit: the server refuses them",
        ]
    )
    canary = header(session)["canary"]
    assert (canary["outcome"], canary["sent"], canary["seen"]) == ("refused", 2049, 0)
    long = [body for _, body in server.asked if "canary" * 2 in _text(body).replace(" ", "")]
    assert len(long) == 1  # one for the session, not one for each worker


def test_session_says_that_the_server_cuts(
    session: Session, monkeypatch: pytest.MonkeyPatch, model: RealModel
) -> None:
    result, _ = serve(session, monkeypatch, model, "--rlm-arch=vanilla", version="0.30.12 deaf")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["prompts that do not fit: CUT BY THE SERVER *of 2,049 tokens*saw 1,026*truncated"]
    )
    assert header(session)["canary"] == {"outcome": "cut", "sent": 2049, "seen": 1026, "said": ""}


def test_model_that_is_missing_is_pulled_on_demand_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch, model: RealModel
) -> None:
    result, server = serve(session, monkeypatch, model, "--rlm-arch=vanilla", pulled=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *`ollama pull {NAME}`*--rlm-pull*"])
    assert "/api/pull" not in [path for path, _ in server.asked]

    args = ("--rlm-arch=vanilla", "--rlm-pull")
    result, server = serve(session, monkeypatch, model, *args, pulled=False)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pulling manifest", "success", f"model: ollama/{NAME} *"])
    assert [path for path, _ in server.asked].count("/api/pull") == 1


def test_a_question_pulls_a_missing_model_on_demand_alone(
    monkeypatch: pytest.MonkeyPatch,
    model: RealModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    book = tmp_path / "book.txt"
    book.write_text("The vault combination is 48213.")
    question = ["ask", str(book), "What is the vault combination?", f"--model=ollama/{NAME}"]
    with RealOllama(model, pulled=False) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        assert main([*question, "--vanilla"]) == 1
        assert "--pull (rlm ask)" in capsys.readouterr().err
        assert main([*question, "--vanilla", "--pull"]) == 0
    told = capsys.readouterr()
    assert told.out == "48213\n"
    assert "success" in told.err
    assert [path for path, _ in server.asked].count("/api/pull") == 1


def test_pull_of_an_unknown_model_ends_the_session(
    session: Session, monkeypatch: pytest.MonkeyPatch, model: RealModel
) -> None:
    session.model = "--rlm-model=ollama/unknown:1b"
    with RealOllama(model) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        result = session.run(*ONE, "--rlm-pull")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Ollama could not pull 'unknown:1b'*does not exist*"])


def _text(body: dict[str, object]) -> str:
    return " ".join(message["content"] for message in body.get("messages", ()))
