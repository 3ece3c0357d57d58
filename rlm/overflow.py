"""Documents cut on purpose: which characters stay, and how many of them fit.

Nothing here asks a model; `rlm.fitting` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from rlm.prompts import say

Keep = Literal["head", "middle", "tail"]
Overflow = Literal["refuse", "head", "middle", "tail"]
Counted = Literal["server", "estimate"]
Evidence = Literal["", "kept", "part", "lost"]
Spans = tuple[tuple[int, int], ...]

REACH: Final = 80
"""Characters within which a cut looks for the end of a word."""
FIRST_GUESS: Final = 4.0
"""Characters of a token, before anything was counted."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What of a document a prompt holds, when the rest was left out on purpose.

    Attributes:
        method: what was kept: ``head``, ``tail``, or with ``middle`` both ends without the middle.
        kept: characters ``[start, end)`` of the document that stand in the prompt, in its order.
        chars: of the whole document.
        counted: whether ``tokens`` is the server's own count of this prompt, or an estimate.
        tokens: of the whole prompt, question and frame included.
        limit: most tokens the prompt might have: the window less the room for the answer.
        chars_per_token: what an estimate rests on; ``None`` where the server counted.
    """

    method: Keep
    kept: Spans
    chars: int
    counted: Counted
    tokens: int
    limit: int
    chars_per_token: float | None = None

    @property
    def kept_chars(self) -> int:
        """Characters of the document that stand in the prompt."""
        return sum(end - start for start, end in self.kept)

    @property
    def left_out(self) -> Spans:
        """Characters ``[start, end)`` that do not."""
        starts = (0, *(end for _, end in self.kept))
        ends = (*(start for start, _ in self.kept), self.chars)
        return tuple(gap for gap in zip(starts, ends, strict=True) if gap[0] < gap[1])

    def evidence(self, spans: Iterable[tuple[int, int]]) -> Evidence:
        """Whether what was kept holds all of some ``[start, end)``; empty where none are given.

        A span that was cut through is not kept.
        """
        held = [any(a <= start and end <= b for a, b in self.kept) for start, end in spans]
        if not held:
            return ""
        return "kept" if all(held) else "part" if any(held) else "lost"


def keep(document: str, method: Keep, most: int) -> Spans:
    """The characters that stay when at most `most` may; no word is cut through.

    Words without a gap for `REACH` characters are. Of ``middle``, each end has half of `most`.
    """
    size = len(document)
    if most >= size:
        return ((0, size),)
    head = {"head": most, "middle": most - most // 2, "tail": 0}[method]
    ends = (0, _back(document, head)), (_forward(document, size - most + head), size)
    return tuple((start, end) for start, end in ends if start < end)


def shown(document: str, kept: Spans) -> str:
    """The text of the characters that stay, with a mark on a line of its own where some do not."""
    mark, parts, at = say("overflow", "gap"), [], 0
    for start, end in kept:
        parts += [mark] * (start > at) + [document[start:end]]
        at = end
    return "\n".join(parts + [mark] * (at < len(document)))


def most_that_fit(size: int, limit: int, count: Callable[[int], int]) -> tuple[int, int] | None:
    """How many characters of a document may stay, and the tokens of the prompt with them.

    Args:
        size: characters of the document.
        limit: most tokens of the prompt.
        count: tokens of the prompt when at most so many characters stay; grows with them.

    Returns:
        ``None`` if the prompt is too long even without the document. All of `size` if that fits.
    """
    low, low_tokens = 0, count(0)
    if low_tokens > limit:
        return None
    high, high_tokens, steps = size + 1, 0, 0  # no tokens: nothing is known not to fit
    while high - low > 1 and (low_tokens < limit or not high_tokens):
        steps += 1
        if high_tokens and steps % 3 == 0:  # a line alone may creep towards its end
            guess = (low + high) // 2
        elif high_tokens:
            guess = low + (limit - low_tokens) * (high - low) // (high_tokens - low_tokens)
        else:
            chars = low / low_tokens if low else FIRST_GUESS
            guess = low + int((limit - low_tokens) * chars) + REACH
        guess = min(max(guess, low + 1), high - 1)
        tokens = count(guess)
        if tokens <= limit:
            low, low_tokens = guess, tokens
        else:
            high, high_tokens = guess, tokens
    return low, low_tokens


def _back(text: str, at: int) -> int:
    """The end of the last whole word of ``text[:at]``, else `at`; the text begins with a gap."""
    if at == 0 or text[at].isspace():
        return at
    near = range(at, max(at - REACH, -1), -1)
    return next((i for i in near if i == 0 or text[i - 1].isspace()), at)


def _forward(text: str, at: int) -> int:
    """The start of the first whole word of ``text[at:]``, else `at`; the text ends with a gap."""
    if at == len(text) or text[at - 1].isspace():
        return at
    near = range(at, min(at + REACH, len(text) + 1))
    return next((i for i in near if i == len(text) or text[i].isspace()), at)
