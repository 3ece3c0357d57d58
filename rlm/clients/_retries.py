"""When a call is sent again: only if nothing of an answer arrived, ever more slowly, and noted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rlm.errors import ClientError


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


@contextmanager
def noted_retries() -> Iterator[list[str]]:
    """A list for the reasons of a call's new tries; a `ClientError` of the block is given them."""
    reasons: list[str] = []
    try:
        yield reasons
    except ClientError as error:
        error.retries = tuple(reasons)
        raise
