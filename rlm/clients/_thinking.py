"""Thinking blocks that a server leaves in the text of an answer."""

from __future__ import annotations

import re
from typing import Final

_LEADING_BLOCKS: Final = re.compile(r"\A(?:\s*<think>.*?(?:</think>\s*|\Z))+", re.DOTALL)
_OPEN_BLOCK: Final = re.compile(r"\A(?:(?!<think>).)*?</think>\s*", re.DOTALL)


def without_thinking(text: str, *, is_open: bool = False) -> str:
    """`text` without the ``<think>…</think>`` blocks at its start; an unclosed one is all of it.

    With `is_open` the model's template may have opened a block already, as those of models do that
    always think: what stands before a ``</think>`` without a beginning is one, too.
    """
    if is_open:
        text = _OPEN_BLOCK.sub("", text)
    return _LEADING_BLOCKS.sub("", text)
