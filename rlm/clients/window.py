"""Prompts that do not fit: what servers say about them, and the marks of a silent cut.

The facts were read from the sources of Ollama 0.12 to 0.30, vLLM, SGLang and llama.cpp's server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rlm.errors import PromptTooLong
from rlm.messages import Message

_REFUSALS: Final = re.compile(
    r"exceed_context_size_error|exceeds the available context size|exceeds the context length"
    r"|longer than the context length|context_length_exceeded|maximum context length"
    r"|model's context length|maximum model length|context window",
    re.IGNORECASE,
)
_PROMPT: Final = (
    r"n_prompt_tokens\W+(\d+)",
    r"request \((\d+) tokens\)",
    r"\((\d+) in the messages",
    r"(\d+) input tokens",
    r"input \((\d+) tokens\)",
    r"prompt \(length (\d+)\)",
    r"requested (\d+) tokens",
)
_WINDOW: Final = (
    r"n_ctx\W+(\d+)",
    r"context size \((\d+) tokens\)",
    r"context length is (\d+)",
    r"context length \((\d+)",
    r"model length of (\d+)",
)

# What Ollama keeps of the head of a cut prompt (`num_keep`), without and with a BOS token.
_KEPT_HEADS: Final = (4, 5)
# Tokens that a chat template may add: one set around each message, one around the whole.
_FRAME_OF_MESSAGE, _FRAME_OF_PROMPT = 16, 512
_PIECE: Final = 2**16  # characters whose words are counted at once
_LONGEST_TOKEN: Final = 128  # bytes: 128 spaces, in the vocabularies of Qwen and Llama 3


def overflow(text: str) -> PromptTooLong | None:
    """The refusal in a server's error text, with the numbers it gives; ``None`` if it is none."""
    if not _REFUSALS.search(text):
        return None
    return PromptTooLong(
        f"the server refused the prompt: {text}",
        prompt_tokens=_first_number(_PROMPT, text),
        window=_first_number(_WINDOW, text),
    )


def was_cut(
    messages: Sequence[Message], *, prompt_tokens: int, completion_tokens: int, window: int
) -> bool:
    """Whether Ollama cut the prompt, or shifted it out while it answered, without a word.

    Args:
        messages: what was sent.
        prompt_tokens: `prompt_eval_count` of the answer.
        completion_tokens: `eval_count` of the answer.
        window: the live window in tokens.

    A count equal to a cut's signature says nothing about a prompt that surely fits.
    """
    if prompt_tokens + completion_tokens > window or prompt_tokens < least_tokens(messages):
        return True
    return prompt_tokens in cut_signatures(window) and most_tokens(messages) >= window


def cut_signatures(window: int) -> frozenset[int]:
    """Prompt counts that Ollama reports after a cut: before 0.30, to 0.30.10, and since."""
    halves = {window - max((window - head) // 2, 1) for head in _KEPT_HEADS}
    return frozenset({window, window - 1} | halves)


def least_tokens(messages: Sequence[Message], enough: int | None = None) -> int:
    """Tokens the text must take: no tokenizer in use joins two words into one token.

    Args:
        messages: the prompt.
        enough: stop counting here or a little later, since nobody asks how much longer it is.
    """
    counted = 0
    for text in (message.content for message in messages):
        for start in range(0, len(text), _PIECE):
            if enough is not None and counted >= enough:
                return counted
            counted += len(text[start : start + _PIECE].split())
            inside = start > 0 and not (text[start - 1].isspace() or text[start].isspace())
            counted -= inside  # a word across two pieces was counted in both
    return counted


def most_tokens(messages: Sequence[Message]) -> int:
    """Tokens the text can take: one for every byte, and the template's frame."""
    text = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
    return text + _FRAME_OF_MESSAGE * len(messages) + _FRAME_OF_PROMPT


def refuse_hopeless(messages: Sequence[Message], window: int) -> None:
    """Refuse what no tokenizer could fit: to count megabytes exactly takes seconds.

    Raises:
        PromptTooLong: the text of the messages takes more tokens than `window`, however it is cut.
    """
    size = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
    if size > window * _LONGEST_TOKEN:
        raise PromptTooLong(
            f"the prompt of {size} bytes takes at least {size // _LONGEST_TOKEN} tokens "
            f"(a lower bound, not counted); the window is {window}",
            window=window,
        )


def _first_number(patterns: Sequence[str], text: str) -> int | None:
    found = (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
    return next((int(match[1]) for match in found if match), None)
