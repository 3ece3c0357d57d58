"""Texts of strangers, made fit to be shown: on a terminal, in a page, in a line of a table."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """The text with control characters, invisible ones and half characters as ``⟨U+001B⟩``."""
    return "".join(
        c if c in "\n\t" or not _is_hidden(c) else f"\u27e8U+{ord(c):04X}\u27e9" for c in text
    )


def line(text: str) -> str:
    """The same on one line: a line break is shown by its number, too."""
    return visible(text).replace("\n", "\u27e8U+000A\u27e9")


def short(text: str, most: int) -> str:
    """The text as one line of at most `most` characters, with ``…`` where its end is left out."""
    found = visible(" ".join(text[: 8 * most].split()))
    return found if len(found) <= most else f"{found[: most - 1]}…"


def _is_hidden(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
