"""When a call is sent again: only if nothing of an answer arrived, ever more slowly, and noted."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from rlm.errors import ClientError

_DURATION: Final = re.compile(
    r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_UNITS: Final = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_LIMITED: Final = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits before a request is sent again.

    Attributes:
        tries: most new tries of one call.
        first: seconds of the first wait; each later one is twice as long.
        longest: cap of a wait in seconds; a server that asks for more is not asked again.
        jitter: a number from 0 to 1, so that callers who were refused together come back apart.
    """

    tries: int = 5
    first: float = 1.0
    longest: float = 60.0
    jitter: Callable[[], float] = random.random

    def wait(self, number: int, told: float = 0.0) -> float | None:
        """Seconds before the new try `number`, from 0; ``None``: give up.

        Args:
            number: how many new tries there were.
            told: seconds that the server asked for.
        """
        if number >= self.tries or told > self.longest:
            return None
        if told:
            return min(told + self.first * self.jitter(), self.longest)
        own: float = min(self.first * 2**number, self.longest)
        return own * (1 + self.jitter()) / 2


def seconds_told(headers: Mapping[str, str], now: datetime) -> float:
    """How long a busy server asks to wait; 0 where it says nothing.

    ``retry-after-ms`` (OpenAI, Azure) is finer than ``Retry-After`` (RFC 9110: seconds, a date).
    Where both are missing, the later reset of what is used up counts, such as ``6m0s`` (OpenAI,
    Groq): ``x-ratelimit-reset-requests``, ``-tokens`` beside an ``x-ratelimit-remaining-…`` of 0.

    Args:
        headers: of the answer; their names in lower case, or a mapping that does not care.
        now: with its time zone.
    """
    told = _number(headers.get("retry-after-ms", ""))
    if told is not None:
        return told / 1e3
    told = _after(headers.get("retry-after", ""), now)
    if told is not None:
        return told
    spent = (name for name in _LIMITED if headers.get(f"x-ratelimit-remaining-{name}") == "0")
    return max(
        (_duration(headers.get(f"x-ratelimit-reset-{name}", "")) for name in spent), default=0
    )


def _after(text: str, now: datetime) -> float | None:
    """A number of seconds, or a date."""
    told = _number(text)
    if told is not None:
        return told
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def _number(text: str) -> float | None:
    """A decimal number from 0; a negative one is 0."""
    if not re.fullmatch(r"\s*-?\d{1,12}(\.\d+)?\s*", text):
        return None
    return max(0.0, float(text))


def _duration(text: str) -> float:
    """``6m0s``, ``7.66s``, ``20ms`` or a plain number, in seconds; 0 for anything else."""
    plain = _number(text)
    if plain is not None:
        return plain
    match = _DURATION.fullmatch(text.strip())
    parts = match.groups() if match else ()
    return sum(float(part or 0) * unit for part, unit in zip(parts, _UNITS, strict=False))


@contextmanager
def noted_retries() -> Iterator[list[str]]:
    """A list for the reasons of a call's new tries; a `ClientError` of the block is given them."""
    reasons: list[str] = []
    try:
        yield reasons
    except ClientError as error:
        error.retries = tuple(reasons)
        raise
