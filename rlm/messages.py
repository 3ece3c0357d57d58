"""The frozen dataclasses that every client speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How a completion is sampled: sent explicitly to every server, all but `seconds`.

    Attributes:
        max_tokens: most tokens of the answer.
        temperature: 0 is greedy.
        seed: sampler seed; matters only at a temperature above 0.
        seconds: most wall seconds of one call, then `CallTimeout`; ``None`` is the client's own
            limit. It is no sampling: no server is told, and no record keeps it as such.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls, as counted by the server; adds up with ``+``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. `wall` is measured here; the others are the server's, 0.0 where it is silent.

    Attributes:
        wall: from sending to the last byte.
        queue: what the server did not spend on this call: waiting for others, loading, transport.
        prefill: reading the prompt.
        decode: writing the answer.
    """

    wall: float = 0.0
    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0

    @classmethod
    def told(cls, wall: float, *, prefill: float, decode: float) -> Times:
        """Of a server that says how long it worked; zeros are silence."""
        queue = max(0.0, wall - prefill - decode) if prefill or decode else 0.0
        return cls(wall, queue, prefill, decode)

    def __add__(self, other: Times) -> Times:
        return Times(
            self.wall + other.wall,
            self.queue + other.queue,
            self.prefill + other.prefill,
            self.decode + other.decode,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer, and what the model really saw.

    Attributes:
        text: the answer, without thinking blocks.
        usage: counted by the server; ``calls`` is 1.
        finish_reason: ``length`` when the answer ran into `Options.max_tokens` or the window.
        window: the window in tokens in which this call ran; ``None`` where nobody says.
        truncated: part of the prompt was cut before the model read it.
        times: see `Times`.
        prompt_ids: token ids of the prompt, where the server gives them.
        completion_ids: token ids of the answer, where the server gives them.
        retries: for each time the call was sent again before it was answered, why.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    window: int | None
    truncated: bool = False
    times: Times = field(default_factory=Times)
    prompt_ids: tuple[int, ...] | None = None
    completion_ids: tuple[int, ...] | None = None
    retries: tuple[str, ...] = ()
