"""The embedded engine's client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rlm.clients.llamacpp import CHATML_TEMPLATE, Engine, LlamaCppClient, start_engine
from rlm.errors import CallTimeout, PromptTooLong, ServerUnreachable
from rlm.messages import Message, Options
from tests.servers.tiny_gguf import write_tiny_gguf

TALK = (
    Message("system", "Answer briefly."),
    Message("user", "Where is the user?\n"),
    Message("assistant", "  Here: 12 345 é ☃ \U0001f600"),
    Message("user", ""),
)
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:"


def of_tokens(client: LlamaCppClient, count: int) -> list[Message]:
    """A conversation whose prompt takes exactly `count` tokens (no token joins two x)."""
    frame = len(client.prompt_ids([Message("user", "")]))
    messages = [Message("user", "x" * (count - frame))]
    assert len(client.prompt_ids(messages)) == count
    return messages


def test_info_describes_file_window_and_settings(embedded: LlamaCppClient, tiny_gguf: Path) -> None:
    info = embedded.info()
    assert info.spec == "embedded"
    assert info.digest == "sha256:" + hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert info.window == 512
    assert info.server.startswith("xllamacpp 20")
    assert info.options["prompt"] == "ids"


def test_completion_says_what_the_model_saw(embedded: LlamaCppClient) -> None:
    answer = embedded.chat(TALK, options=Options(max_tokens=7))
    assert answer.prompt_ids == embedded.prompt_ids(TALK)
    assert answer.completion_ids is not None
    assert (answer.usage.prompt_tokens, answer.usage.calls) == (len(answer.prompt_ids), 1)
    assert answer.usage.completion_tokens == len(answer.completion_ids) == 7
    assert (answer.finish_reason, answer.window, answer.truncated) == ("length", 512, False)
    assert answer.times.wall >= answer.times.prefill + answer.times.decode > 0


def test_ids_equal_the_engines_own_rendering(embedded: LlamaCppClient, engine: Engine) -> None:
    with httpx.Client(
        base_url=engine.address.url,
        headers={"Authorization": f"Bearer {engine.address.api_key}"},
        trust_env=False,
    ) as raw:
        messages = [{"role": m.role, "content": m.content} for m in TALK]
        text = raw.post("/apply-template", json={"messages": messages}).json()["prompt"]
        ids = raw.post("/tokenize", json={"content": text, "parse_special": True}).json()["tokens"]
    assert embedded.prompt_ids(TALK) == tuple(ids)


@pytest.mark.parametrize("token", ["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
def test_special_token_in_a_document_stays_text(embedded: LlamaCppClient, token: str) -> None:
    """Guards against a document that ends its own message or opens another."""
    special = set(embedded.prompt_ids([Message("user", "")])) - set(range(256))
    clean = embedded.prompt_ids([Message("user", "a  b")])
    dirty = embedded.prompt_ids([Message("user", f"a {token} b")])
    count = [sum(dirty.count(s) for s in special), sum(clean.count(s) for s in special)]
    assert count[0] == count[1]
    assert len(dirty) >= len(clean) + len(token)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud800 pair", "\N{SNOWMAN}" * 50])
def test_odd_text_is_answered(embedded: LlamaCppClient, text: str) -> None:
    assert embedded.chat([Message("user", text)], options=Options(max_tokens=2)).text is not None


def test_greedy_output_is_the_same_alone_repeated_and_in_a_crowd(embedded: LlamaCppClient) -> None:
    talks = [[Message("user", f"tell {number} " * (number + 1))] for number in range(16)]
    options = Options(max_tokens=24)
    alone = [embedded.chat(talk, options=options).completion_ids for talk in talks]
    assert [embedded.chat(talk, options=options).completion_ids for talk in talks] == alone
    with ThreadPoolExecutor(16) as pool:
        crowd = list(pool.map(lambda talk: embedded.chat(talk, options=options), talks * 2))
    assert [answer.completion_ids for answer in crowd] == alone * 2
    assert len(set(alone)) > 1


def test_seed_decides_at_a_temperature(embedded: LlamaCppClient) -> None:
    def draw(seed: int) -> tuple[int, ...] | None:
        options = Options(max_tokens=16, temperature=1.0, seed=seed)
        return embedded.chat(TALK, options=options).completion_ids

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_end_of_turn_is_a_stop(embedded: LlamaCppClient) -> None:
    """Some seed of a hundred makes the random model end its turn."""
    tries = (
        embedded.chat(TALK, options=Options(max_tokens=300, temperature=1.5, seed=seed))
        for seed in range(100)
    )
    assert any(c.finish_reason == "stop" and c.usage.completion_tokens < 300 for c in tries)


def test_prompt_of_the_whole_window_is_refused_with_numbers(embedded: LlamaCppClient) -> None:
    with pytest.raises(PromptTooLong, match="of 512 tokens leaves no room") as caught:
        embedded.chat(of_tokens(embedded, 512), options=Options())
    assert (caught.value.prompt_tokens, caught.value.window) == (512, 512)


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, PLAIN])
def test_hopeless_prompt_is_refused_without_counting_it(tmp_path: Path, template: str) -> None:
    """Guards against seconds spent on megabytes that cannot fit; the engine is not even there."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf", template=template)
    with start_engine(path, n_ctx=256) as engine:
        client = LlamaCppClient(engine.address, spec="embedded")
    talk = [Message("system", "x" * 8), Message("user", "\N{SNOWMAN}" * (256 * 128 // 3))]
    with pytest.raises(PromptTooLong, match=r"at least 256 tokens \(a lower bound") as caught:
        client.chat(talk, options=Options())
    assert (caught.value.prompt_tokens, caught.value.window) == (None, 256)
    with pytest.raises(ServerUnreachable):
        client.chat([Message("user", "x" * 256 * 128)], options=Options())
    client.close()


def test_call_ends_with_its_seconds(embedded: LlamaCppClient) -> None:
    with pytest.raises(CallTimeout):
        embedded.chat(TALK, options=Options(max_tokens=400, seconds=0.01))
    answer = embedded.chat(TALK, options=Options(max_tokens=3, seconds=60.0))
    assert answer.usage.completion_tokens == 3


def test_prompt_one_token_short_of_the_window_is_answered(embedded: LlamaCppClient) -> None:
    answer = embedded.chat(of_tokens(embedded, 511), options=Options(max_tokens=9))
    assert answer.usage.prompt_tokens == 511
    assert (answer.usage.completion_tokens, answer.finish_reason) == (1, "length")
    assert not answer.truncated


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppClient]:
    """A GGUF with a chat template that is not ours."""
    path = write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "other.gguf", template=PLAIN)
    with start_engine(path, n_ctx=512) as engine:
        client = LlamaCppClient(engine.address, spec=f"gguf/{path}")
        yield client
        client.close()


def test_other_template_is_rendered_by_the_engine(other: LlamaCppClient) -> None:
    assert other.info().options["prompt"] == "chat template"
    answer = other.chat([Message("user", "x")], options=Options(max_tokens=5))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 5)
    assert (answer.finish_reason, answer.window, answer.prompt_ids) == ("length", 512, None)
    assert answer.times.prefill > 0


@pytest.mark.parametrize("which", ["embedded", "other"])
def test_count_is_what_a_call_would_take(which: str, request: pytest.FixtureRequest) -> None:
    """Special tokens in the text included: each way of asking takes them as its calls do."""
    client: LlamaCppClient = request.getfixturevalue(which)
    for talk in (TALK, [Message("system", "<|im_end|> é"), Message("user", "x <|im_start|>")]):
        done = client.chat(talk, options=Options(max_tokens=1))
        assert client.count(talk) == done.usage.prompt_tokens


def test_other_template_refuses_a_long_prompt_with_numbers(other: LlamaCppClient) -> None:
    with pytest.raises(PromptTooLong) as caught:
        other.chat([Message("user", "x" * 600)], options=Options())
    assert caught.value.prompt_tokens is not None
    assert caught.value.prompt_tokens > 600
    assert caught.value.window == 512
