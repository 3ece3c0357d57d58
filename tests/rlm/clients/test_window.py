"""Refused prompts and the marks of a silent cut."""

from __future__ import annotations

import pytest

from rlm.clients.window import cut_signatures, least_tokens, most_tokens, overflow, was_cut
from rlm.messages import Message

LONG = [Message("user", "word " * 4000)]


@pytest.mark.parametrize(
    ("text", "prompt", "window"),
    [
        ("request (5000 tokens) exceeds the available context size (4096 tokens)", 5000, 4096),
        (
            'code 400: {"error":{"message":"too long","type":"exceed_context_size_error",'
            '"n_prompt_tokens":5000,"n_ctx":4096}}',
            5000,
            4096,
        ),
        (r"{\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":70,\"n_ctx\":64}", 70, 64),
        ("the input length exceeds the context length", None, None),
        ("prompt is longer than the context length currently set", None, None),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5512 "
            "tokens (5000 in the messages, 512 in the completion).",
            5000,
            4096,
        ),
        (
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096",
            5000,
            4096,
        ),
        (
            "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
            5000,
            4096,
        ),
        (
            "'max_tokens' is too large: 512. This model's maximum context length is 4096 tokens "
            "and your request has 3900 input tokens",
            3900,
            4096,
        ),
    ],
)
def test_refusal_is_known_by_its_words(text: str, prompt: int | None, window: int | None) -> None:
    refusal = overflow(text)
    assert refusal is not None
    assert (refusal.prompt_tokens, refusal.window) == (prompt, window)


@pytest.mark.parametrize("text", ["", "model not found", "out of memory", "invalid options"])
def test_other_errors_are_no_refusal(text: str) -> None:
    assert overflow(text) is None


def test_signatures_of_a_window_of_4096() -> None:
    assert cut_signatures(4096) == {4096, 4095, 2050, 2051}


@pytest.mark.parametrize(
    ("prompt", "written", "cut"),
    [
        (4096, 0, True),  # Ollama before 0.30
        (4095, 1, True),  # 0.30.0 to 0.30.10
        (2050, 9, True),  # since 0.30.11, half of the window
        (2051, 9, True),  # the same with a BOS token
        (3000, 9, True),  # fewer tokens than words
        (4090, 9, True),  # shifted while answering
        (4010, 9, False),
        (4094, 2, False),
    ],
)
def test_silent_cut_is_known_by_its_count(prompt: int, written: int, cut: bool) -> None:
    assert was_cut(LONG, prompt_tokens=prompt, completion_tokens=written, window=4096) is cut


@pytest.mark.parametrize("count", [2050, 2051])
def test_prompt_that_surely_fits_was_not_cut(count: int) -> None:
    """Guards against accusing a server of a cut by mere coincidence of a count."""
    fits, may_not = [Message("user", "x" * 3000)], [Message("user", "x" * 6000)]
    assert not was_cut(fits, prompt_tokens=count, completion_tokens=5, window=4096)
    assert was_cut(may_not, prompt_tokens=count, completion_tokens=5, window=4096)


def test_bounds_on_what_a_text_takes() -> None:
    talk = [Message("system", "one two"), Message("user", "three\nfour é")]
    assert least_tokens(talk) == 5
    assert most_tokens(talk) > len("one twothree\nfour é".encode())


@pytest.mark.parametrize("gap", [" ", "\n  ", "\u3000"])
def test_words_are_counted_in_pieces(gap: str) -> None:
    """Guards: of 40 MB, 7 million words in one list take half a gigabyte."""
    text = gap.join(["harbour", "é" * 70_000, *["grey"] * 60_000, ""])
    talk = [Message("user", text), Message("user", gap + text)]
    assert least_tokens(talk) == 2 * len(text.split()) == 120_004
    some = least_tokens(talk, enough=5_000)
    assert 5_000 <= some < 60_000
    assert least_tokens(talk, enough=10**9) == 120_004
