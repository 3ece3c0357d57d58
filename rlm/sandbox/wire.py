"""Frames between host and worker: four bytes of length (big-endian), then JSON in UTF-8.

The worker is not trusted: a frame has a maximum, and its JSON is decoded into these types only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from rlm.errors import SandboxError

MAX_FRAME = 64 * 2**20
MAX_CALL_CHARS = MAX_FRAME // 6 - 1024  # one character takes up to six bytes in JSON

_HEADER = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The worker is ready; which measures it found in force."""

    measures: tuple[str, ...]


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Code in a cell asks for something.

    Attributes:
        id: repeated in the reply.
        count: how many texts were meant.
        chars: length of the longest text, or of all where they are too many for a frame.
        texts: empty where the worker saw that `chars` is over the limit.
    """

    id: int
    kind: Literal["llm_query", "llm_query_batched", "rlm_query"]
    count: int
    chars: int
    texts: tuple[str, ...]


class Answered(msgspec.Struct, frozen=True, tag="final"):
    """FINAL or FINAL_VAR was called."""

    value: str
    source: Literal["FINAL", "FINAL_VAR"]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The cell has ended; fields as in `rlm.sandbox.base.CellResult`."""

    stdout: str
    stdout_chars: Annotated[int, msgspec.Meta(ge=0)]
    error: str
    variables: tuple[str, ...]
    rebound: tuple[str, ...]


Message = Hello | Call | Answered | Done

_decoder = msgspec.json.Decoder(Message)


def decode(body: bytes) -> Message:
    """Read one message of the worker.

    Raises:
        SandboxError: it is not one.
    """
    try:
        message: Message = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as problem:
        raise SandboxError(f"the worker sent no message: {problem}") from None
    return message


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
