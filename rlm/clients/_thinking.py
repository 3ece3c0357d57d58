"""Thinking blocks that a server leaves in the text of an answer."""

from __future__ import annotations

import re
from typing import Final

_LEADING_BLOCKS: Final = re.compile(r"\A(?:\s*<think>.*?(?:</think>\s*|\Z))+", re.DOTALL)


def without_thinking(text: str) -> str:
    """`text` without the ``<think>…</think>`` blocks at its start; an unclosed one is all of it."""
    return _LEADING_BLOCKS.sub("", text)
