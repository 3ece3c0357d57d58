"""What one code cell may use (`SandboxLimits`) and what one run may spend (`Budget`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from rlm.errors import BudgetExceeded
from rlm.messages import Options, Usage


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds on one code cell, enforced by the host.

    Attributes:
        seconds: wall time of one cell; the clock stands still while the host serves a call.
        memory: bytes of address space beyond what the context itself takes.
        output_chars: characters of output kept of one cell; the rest is counted, not kept.
        calls: calls one cell may make: of the model, or of a loop below.
        prompt_chars: characters of one sub-call's prompt, or of the query to a loop below.
        batch: prompts in one `llm_query_batched`.
    """

    seconds: float = 10.0
    memory: int = 512 * 2**20
    output_chars: int = 100_000
    calls: int = 256
    prompt_chars: int = 1_000_000
    batch: int = 256


MAX_DEPTH: Final = 8
"""Levels of loops that there can be: each keeps a sandbox open while those below it run."""


class Budget:
    """What one run of the loop may spend, shared by every call and loop below it. Thread-safe.

    Args:
        calls: model calls, root turns included; ``None`` is no bound, here and below.
        tokens: prompt and completion tokens together.
        seconds: wall time from the making of the budget.
        depth: levels of loops, the first included; `rlm.RLM.max_depth` may allow fewer.
    """

    def __init__(
        self,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        seconds: float | None = None,
        depth: int | None = None,
    ) -> None:
        self.calls, self.tokens, self.seconds, self.depth = calls, tokens, seconds, depth
        self._spent = Usage()
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Usage:
        """What was charged so far."""
        return self._spent

    @property
    def seconds_left(self) -> float | None:
        """Wall time left, or ``None`` without a bound."""
        if self.seconds is None:
            return None
        return self.seconds - (time.monotonic() - self._started)

    def reserve_call(self, *, keep: int = 0, over: Collection[str] = ()) -> None:
        """Take one call, leaving at least `keep` calls for later.

        Args:
            keep: so many calls are left.
            over: what this call may pass: ``tokens``, ``seconds``.

        Raises:
            BudgetExceeded: another bound is reached; nothing was taken.
        """
        with self._lock:
            self._check(keep, over)
            self._spent += Usage(calls=1)

    def check(self, *, keep: int = 0) -> None:
        """See whether a call could be taken that leaves at least `keep` calls for later.

        Raises:
            BudgetExceeded: a bound is reached.
        """
        with self._lock:
            self._check(keep)

    def charge(self, usage: Usage) -> None:
        """Add the tokens of a call that `reserve_call` has already counted."""
        with self._lock:
            self._spent += Usage(usage.prompt_tokens, usage.completion_tokens, 0)

    def within(self, options: Options, *, least: float = 0.0) -> Options:
        """`options` for a call that may take as many seconds as are left, or `least`."""
        left = self.seconds_left
        if left is None:
            return options
        left = max(left, least)
        most = left if options.seconds is None else min(options.seconds, left)
        return replace(options, seconds=most)

    def check_seconds(self) -> None:
        """Look at the clock.

        Raises:
            BudgetExceeded: no time is left.
        """
        left = self.seconds_left
        if left is not None and left <= 0:
            raise BudgetExceeded(f"all {self.seconds:g} seconds are used", resource="seconds")

    def _check(self, keep: int, over: Collection[str] = ()) -> None:
        spent_tokens = self._spent.prompt_tokens + self._spent.completion_tokens
        if self.calls is not None and self._spent.calls + keep >= self.calls:
            raise BudgetExceeded(f"all {self.calls} model calls are used", resource="calls")
        if self.tokens is not None and spent_tokens >= self.tokens and "tokens" not in over:
            raise BudgetExceeded(f"all {self.tokens} tokens are used", resource="tokens")
        if "seconds" not in over:
            self.check_seconds()
