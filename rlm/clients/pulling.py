"""Ollama pulls a model: the stream of ``/api/pull``, read as it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from rlm.clients.ollama import ABSENT, base_url
from rlm.errors import ModelNotFound, ProtocolError


@dataclass(frozen=True, slots=True)
class Pulling:
    """One line of the stream.

    Attributes:
        status: what the server does: ``pulling 8eeb52dfb3bb``, ``verifying sha256 digest``.
        total: bytes of the part that is fetched; 0 where none is.
        completed: how many of them are there.
    """

    status: str
    total: int = 0
    completed: int = 0


def pull(name: str, *, url: str | None = None) -> Iterator[Pulling]:
    """Let an Ollama server pull a model; yields what it tells, to the end.

    A pull that broke off is continued by the next one.

    Args:
        name: the model, such as ``qwen3.5:2b``.
        url: the server; ``None`` reads ``OLLAMA_HOST`` as Ollama does.

    Raises:
        UsageError: the address is none.
        ServerUnreachable: Ollama is not running.
        ModelNotFound: there is no such model, or the pull broke off.
    """
    from rlm.clients._http import Http

    http = Http(base_url(url or os.environ.get("OLLAMA_HOST", "")), absent=ABSENT)
    last = ""
    try:
        for line in http.stream("/api/pull", {"model": name, "stream": True}):
            last = str(line.get("status", ""))
            yield Pulling(last, int(line.get("total") or 0), int(line.get("completed") or 0))
    except ProtocolError as error:
        raise ModelNotFound(f"Ollama could not pull {name!r}: {error}") from error
    finally:
        http.close()
    if last != "success":
        raise ModelNotFound(f"Ollama could not pull {name!r}: it broke off at {last!r}, try again")
