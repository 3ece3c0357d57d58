"""Frames between host and worker: four bytes of length (big-endian), then JSON in UTF-8.

The worker is not trusted: a frame has a maximum, and its JSON is decoded into these types only.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from json import decoder
from typing import Annotated, Any, Literal

import msgspec

from rlm.errors import SandboxError

MAX_FRAME = 16 * 2**20
MAX_CALL_CHARS = MAX_FRAME // 6 - 1024  # one character takes up to six bytes in JSON
MAX_TEXTS = 2**14
FINAL_CHARS = 1_000_000
VARIABLES, VARIABLE_CHARS = 200, 100

Name = Annotated[str, msgspec.Meta(max_length=VARIABLE_CHARS)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=VARIABLES)]

_SPACES = re.compile(r"[ \t\r\n]*")
_HEADER = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The worker is ready; see `rlm.sandbox.base.Isolation`."""

    measures: tuple[str, ...]
    refused: tuple[str, ...]


class Unfit(msgspec.Struct, frozen=True, tag="unfit"):
    """The worker could not confine itself, and has ended."""

    reason: str


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Code in a cell asks for something.

    Attributes:
        id: repeated in the reply.
        count: how many texts were meant.
        chars: length of the longest text, or of all where they are too many for a frame.
        texts: a JSON list of strings, see `texts_of`; empty where the worker saw that `chars` or
            `count` is over the limit.
    """

    id: int
    kind: Literal["llm_query", "llm_query_batched", "rlm_query"]
    count: int
    chars: int
    texts: msgspec.Raw


class Answered(msgspec.Struct, frozen=True, tag="final"):
    """FINAL or FINAL_VAR was called."""

    value: Annotated[str, msgspec.Meta(max_length=FINAL_CHARS)]
    source: Literal["FINAL", "FINAL_VAR"]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Cell `number` has ended; the other fields as in `rlm.sandbox.base.CellResult`."""

    number: int
    stdout: str
    stdout_chars: Annotated[int, msgspec.Meta(ge=0)]
    error: str
    variables: Names
    rebound: Names


Result = Hello | Unfit | Done
"""What may come on the socket of the cells."""
Question = Call | Answered
"""What may come on the socket of the calls."""
Message = Result | Question

Channel = Literal["cells", "calls"]
_decoders = {"cells": msgspec.json.Decoder(Result), "calls": msgspec.json.Decoder(Question)}


def decode(body: bytes, channel: Channel) -> Message:
    """Read one message of the worker.

    Raises:
        SandboxError: it is not one of this channel.
    """
    try:
        message: Message = _decoders[channel].decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise SandboxError(f"the worker sent no message: {problem}") from None
    return message


def texts_of(call: Call) -> tuple[str, ...]:
    """The texts of a call, one by one: a list of millions would take a hundred times its bytes.

    Raises:
        SandboxError: they are no list of strings, or too many.
    """
    try:
        body = str(call.texts, "utf-8").strip()
        if not (body.startswith("[") and body.endswith("]")):
            raise ValueError("no list")
        texts: list[str] = []
        at = _after_spaces(body, 1)
        while at < len(body) - 1:
            if body[at] != '"' or len(texts) == MAX_TEXTS:
                raise ValueError("no string, or too many")
            text, at = decoder.scanstring(body, at + 1)  # type: ignore[attr-defined]
            texts.append(text.encode().decode())  # a lone surrogate is an error
            at = _after_spaces(body, at)
            if body[at] == ",":
                at = _after_spaces(body, at + 1)
    except (ValueError, IndexError) as problem:
        raise SandboxError(f"the worker sent no texts: {problem}") from None
    return tuple(texts)


def _after_spaces(body: str, at: int) -> int:
    found = _SPACES.match(body, at)  # not a loop: a frame can hold millions
    return found.end() if found else at


def frame(message: Mapping[str, Any]) -> bytes:
    """Encode one message to the worker. Lone surrogates travel as JSON escapes."""
    body = json.dumps(dict(message)).encode()
    return _HEADER.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into the bodies of its frames.

    Args:
        maximum: bytes that one body may have.
    """

    def __init__(self, maximum: int = MAX_FRAME) -> None:
        self._maximum = maximum
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; return the bodies that are complete now.

        Raises:
            SandboxError: a frame announces more than the maximum.
        """
        self._buffer += data
        bodies = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > self._maximum:
                raise SandboxError(f"a frame of {length} bytes, more than {self._maximum}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_HEADER.size : end]))
            del self._buffer[:end]
        return bodies
