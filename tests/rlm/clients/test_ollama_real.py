"""The Ollama client against real answers: of the protocol server, and with ``-m ollama`` of yours.

`rlm_ollama` is a person's own server; see `rlm.bench.plugin`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing

import pytest
from rich.console import Console

from rlm import clients
from rlm.bench.report import pulling
from rlm.clients._retries import Backoff
from rlm.clients.base import Client
from rlm.clients.ollama import OllamaClient
from rlm.clients.pulling import Pulling, pull
from rlm.errors import ModelNotFound, PromptTooLong, ServerUnreachable
from rlm.messages import Message, Options
from tests.servers.ollama_real import DIGEST, NAME, VERSIONS, RealModel, RealOllama

TALK = [Message("user", "The code of the vault is 40213.\n\nWhat is the code of the vault?")]
WINDOW = 1024


@pytest.fixture(scope="module")
def model() -> Iterator[RealModel]:
    with closing(RealModel()) as running:
        yield running


@pytest.fixture
def server(model: RealModel) -> Iterator[RealOllama]:
    with RealOllama(model) as running:
        yield running


@pytest.fixture
def own(server: RealOllama) -> Iterator[OllamaClient]:
    with closing(OllamaClient(NAME, num_ctx=WINDOW, url=server.address)) as opened:
        yield opened


@pytest.fixture(params=["own", pytest.param("rlm_ollama", marks=pytest.mark.ollama)])
def ollama(request: pytest.FixtureRequest) -> Client:
    """Each server in turn; what takes this holds for any Ollama that refuses long prompts."""
    client: Client = request.getfixturevalue(request.param)
    return client


def test_info_is_that_of_a_loaded_model(ollama: Client) -> None:
    info = ollama.info()
    assert info.digest
    assert not info.digest.startswith("unverified")
    assert info.window
    assert info.server.startswith("ollama ")


def test_an_answer_has_its_counts(ollama: Client) -> None:
    answer = ollama.chat(TALK, options=Options(max_tokens=64))
    assert answer.usage.prompt_tokens > len(TALK[0].content.split())
    assert 0 < answer.usage.completion_tokens <= 64
    assert answer.window == ollama.info().window
    assert (answer.truncated, answer.retries) == (False, ())
    assert 0 < answer.times.decode < answer.times.wall


def test_greedy_answers_repeat(ollama: Client) -> None:
    answers = [ollama.chat(TALK, options=Options(max_tokens=32)) for _ in range(2)]
    assert answers[0].text == answers[1].text


def test_max_tokens_is_a_limit(ollama: Client) -> None:
    answer = ollama.chat(TALK, options=Options(max_tokens=2))
    assert (answer.usage.completion_tokens, answer.finish_reason) == (2, "length")


def test_prompt_that_does_not_fit_is_refused(ollama: Client) -> None:
    window = ollama.info().window
    assert window
    with pytest.raises(PromptTooLong):
        ollama.chat([Message("user", "word " * 2 * window)], options=Options())


def test_canary_is_refused(ollama: Client) -> None:
    found = clients.canary(ollama)
    assert found
    assert (found.outcome, found.seen) == ("refused", 0)
    assert found.sent > (ollama.info().window or 0)


@pytest.mark.parametrize(
    ("version", "seen"),
    [
        ("0.12.5", WINDOW),
        ("0.20.3", 0),
        ("0.30.5", 0),
        ("0.30.12", 0),
        ("0.20.3 deaf", WINDOW),
        ("0.30.5 deaf", WINDOW - 1),
        ("0.30.12 deaf", WINDOW - 510),
    ],
)
def test_canary_tells_how_each_version_cuts(model: RealModel, version: str, seen: int) -> None:
    with (
        RealOllama(model, version) as server,
        closing(OllamaClient(NAME, num_ctx=WINDOW, url=server.address)) as client,
    ):
        found = client.canary()
    assert (found.outcome, found.seen) == ("cut" if seen else "refused", seen)
    assert found.sent == WINDOW + 1
    assert bool(found.said) is not bool(seen)


def test_every_version_is_tried() -> None:
    """Guards the table above against a version that is added and not tried."""
    (mark,) = test_canary_tells_how_each_version_cuts.pytestmark
    assert [version for version, _ in mark.args[1]] == list(VERSIONS)


@pytest.mark.parametrize("version", ["0.12.5", "0.20.3 deaf", "0.30.5 deaf", "0.30.12 deaf"])
def test_cut_of_a_prompt_of_few_words_is_known_by_its_count(model: RealModel, version: str) -> None:
    """Guards dense text, where words do not tell how many tokens there must be."""
    with (
        RealOllama(model, version) as server,
        closing(OllamaClient(NAME, num_ctx=WINDOW, url=server.address)) as client,
    ):
        answer = client.chat([Message("user", "0123456789" * 900)], options=Options(max_tokens=1))
    assert server.lost > 0
    assert answer.usage.prompt_tokens == server.version.kept(WINDOW)
    assert answer.truncated


def test_older_messages_that_the_server_leaves_out_are_missed(model: RealModel) -> None:
    """What is kept fits the window, without the mark of a cut: the words alone tell."""
    talk = [Message("user", "word " * 900), Message("assistant", "word " * 100), *TALK]
    with (
        RealOllama(model, "0.30.12 deaf") as server,
        closing(OllamaClient(NAME, num_ctx=WINDOW, url=server.address)) as client,
    ):
        answer = client.chat(talk, options=Options(max_tokens=1))
    assert server.lost >= 900
    assert answer.usage.prompt_tokens < 900
    assert answer.truncated


def test_canary_follows_the_live_window(model: RealModel) -> None:
    """Guards a canary that fits, since the server gave the model more than was asked for."""
    with (
        RealOllama(model, live=2048) as server,
        closing(OllamaClient(NAME, num_ctx=WINDOW, url=server.address)) as client,
    ):
        found = client.canary()
    assert (found.outcome, found.sent) == ("refused", 2049)


def test_canary_that_dies_says_of_what(server: RealOllama, own: OllamaClient) -> None:
    server.fail("crash")
    found = own.canary()
    assert found.outcome == "unknown"
    assert "ProtocolError" in found.said
    assert "terminated" in found.said


def test_canary_is_no_question_elsewhere() -> None:
    with closing(clients.connect("embedded")) as embedded:
        assert clients.canary(embedded) is None


def test_each_call_forbids_cuts_and_shifts(server: RealOllama, own: OllamaClient) -> None:
    own.canary()
    own.chat(TALK, options=Options(max_tokens=1))
    chats = [body for path, body in server.asked if path == "/api/chat"]
    assert len(chats) == 3  # the first one only loads
    assert {(body["truncate"], body["shift"]) for body in chats} == {(False, False)}


def test_queue_that_empties_is_waited_for(model: RealModel) -> None:
    with RealOllama(model) as server:
        server.fail("queue full", times=2)
        server.fail("hung up", times=1)
        backoff = Backoff(first=0.01)
        client = OllamaClient(NAME, num_ctx=WINDOW, url=server.address, backoff=backoff)
        answer = client.chat(TALK, options=Options(max_tokens=4))
        client.close()
    assert answer.retries == ("HTTP 503", "HTTP 503", "hung up")
    assert answer.usage.completion_tokens > 0


def test_pull_tells_each_step_and_the_model_is_there(model: RealModel) -> None:
    with RealOllama(model, pulled=False) as server:
        with pytest.raises(ModelNotFound, match=f"`ollama pull {NAME}`.*--rlm-pull"):
            OllamaClient(NAME, url=server.address)
        steps = list(pull(NAME, url=server.address))
        with closing(OllamaClient(NAME, url=server.address)) as client:
            digest = client.info().digest
    assert digest == DIGEST
    assert [step.status for step in steps if not step.total] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert Pulling("pulling 8eeb52dfb3bb", 4000, 1100) in steps


@pytest.mark.parametrize(
    ("name", "says"),
    [("unknown", "file does not exist"), ("broken", "broke off at 'pulling 8eeb52dfb3bb'")],
)
def test_pull_that_fails(server: RealOllama, name: str, says: str) -> None:
    with pytest.raises(ModelNotFound, match=f"could not pull '{name}'.*{says}"):
        list(pull(name, url=server.address))


def test_pull_without_a_server(server: RealOllama) -> None:
    server.stop()
    with pytest.raises(ServerUnreachable, match="ollama serve"):
        list(pull(NAME, url=server.address))


def test_pull_as_plain_lines_and_as_bars(server: RealOllama) -> None:
    plain, terminal = io.StringIO(), io.StringIO()
    pulling.show(pull("new", url=server.address), Console(file=plain, width=100))
    pulling.show(
        pull("new", url=server.address),
        Console(file=terminal, width=100, force_terminal=True, legacy_windows=False),
    )
    assert plain.getvalue().splitlines() == [
        "pulling manifest",
        "pulling 8eeb52dfb3bb: 0 bytes of 4.0 kB",
        "pulling 8eeb52dfb3bb: 1.0 kB of 4.0 kB",
        "pulling 8eeb52dfb3bb: 4.0 kB of 4.0 kB",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert "4.0/4.0 kB" in terminal.getvalue()
    assert "━" in terminal.getvalue()
