"""HTTP to one model server: pooled, with time limits, and every failure a `ClientError`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from rlm.clients.window import overflow
from rlm.errors import CallTimeout, ClientError, ModelNotFound, ProtocolError, ServerUnreachable

Json = dict[str, Any]

BUSY: Final = (429, 503)
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 1800.0
# Servers drop a connection that idles for 5 s; a request sent at that moment would be lost.
IDLE_SECONDS: Final = 2.0


class Http:
    """Connections to one server. Thread-safe.

    Args:
        url: base address, without a final slash.
        absent: what to do when nothing answers, told with the address.
        remedies: what to do about an HTTP status, told with it.
        key: bearer key; replaced by ``***`` where a server's error repeats it.
        connections: most connections at a time; more calls wait for one.
        seconds: longest wait for a byte. Servers queue without bound, so it is long.
        waits: seconds before each new try while the server says that it is busy.
    """

    def __init__(
        self,
        url: str,
        *,
        absent: str,
        remedies: Mapping[int, str] | None = None,
        key: str | None = None,
        connections: int = 16,
        seconds: float = READ_SECONDS,
        waits: Sequence[float] = (1.0, 2.0, 4.0),
    ) -> None:
        self.url = url
        self._absent, self._remedies, self._key = absent, dict(remedies or {}), key
        self._seconds, self._waits = seconds, tuple(waits)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=IDLE_SECONDS,
            ),
            trust_env=not _is_loopback(url),  # a proxy does not know this machine's loopback
        )

    def get(self, path: str) -> Json:
        """Fetch one JSON object."""
        with self._answer("GET", path, None) as response:
            return _object(response.read())

    def post(self, path: str, body: Mapping[str, object]) -> Json:
        """Send one JSON object and fetch another."""
        with self._answer("POST", path, body) as response:
            return _object(response.read())

    def lines(self, path: str, body: Mapping[str, object]) -> list[Json]:
        """Send one JSON object and fetch a stream of them, one a line, to its end.

        A line ``{"error": …}`` is a failure, since the good status was sent before it.
        """
        found: list[Json] = []
        with self._answer("POST", path, body) as response:
            for line in filter(str.strip, response.iter_lines()):
                found.append(_object(line.encode()))
                if "error" in found[-1]:
                    raise self.failure(line, response.status_code)
        return found

    def failure(self, text: str, status: int) -> ClientError:
        """The error that a server's error text stands for."""
        message = _message(text)[:1000]
        if self._key:
            message = message.replace(self._key, "***")
        told = f"{self.url} answered with HTTP {status}: {message}"
        if status in self._remedies:
            told += f"; {self._remedies[status]}"
        if status == httpx.codes.NOT_FOUND:
            return ModelNotFound(told)
        return overflow(message) or ProtocolError(told)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._client.close()

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> Iterator[httpx.Response]:
        """An open response of good status; asks again while the server is busy."""
        content, headers = _encode(body), {"Content-Type": "application/json"}
        with self._failures():
            for wait in (*self._waits, None):
                stream = self._client.stream(
                    method, self.url + path, content=content, headers=headers
                )
                with stream as response:
                    if response.is_success:
                        yield response
                        return
                    text = response.read().decode(errors="replace")
                if wait is None or response.status_code not in BUSY:
                    raise self.failure(text, response.status_code)
                time.sleep(wait)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerUnreachable(f"no server answers at {self.url}; {self._absent}") from error
        except httpx.TimeoutException as error:
            raise CallTimeout(f"{self.url} sent nothing for {self._seconds:g} s") from error
        except httpx.HTTPError as error:
            raise ProtocolError(f"{self.url} broke off the call: {error}") from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _encode(body: Mapping[str, object] | None) -> bytes | None:
    """JSON in UTF-8; half a surrogate pair, which UTF-8 cannot hold, becomes ``?``."""
    if body is None:
        return None
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _object(text: bytes) -> Json:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"the answer is not JSON: {text[:200]!r}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"the answer is not a JSON object: {text[:200]!r}")
    return value


def _message(text: str) -> str:
    """The words of an error: ``{"error": "…"}``, ``{"error": {"message": "…"}}`` or as it is.

    The numbers that llama.cpp's server puts beside its message are kept.
    """
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text
    return error if isinstance(error, str) else json.dumps(error)
