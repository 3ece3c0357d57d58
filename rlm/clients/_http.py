"""HTTP to one model server: pooled, with time limits, and every failure a `ClientError`."""

from __future__ import annotations

import json
import math
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
        key: bearer key in printable ASCII; ``***`` stands for it in every error.
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
        return self._object(self._ask("GET", path))

    def post(self, path: str, body: Mapping[str, object], *, seconds: float | None = None) -> Json:
        """Send one JSON object and fetch another, in at most `seconds`, new tries included."""
        return self._object(self._ask("POST", path, body, seconds))

    def lines(
        self, path: str, body: Mapping[str, object], *, seconds: float | None = None
    ) -> list[Json]:
        """Send one JSON object and fetch a stream of them, one a line, to its end.

        A line ``{"error": …}`` is a failure, since the good status was sent before it.
        """
        found: list[Json] = []
        for line in filter(bytes.strip, self._ask("POST", path, body, seconds).splitlines()):
            found.append(self._object(line))
            if "error" in found[-1]:
                raise self.failure(line.decode(errors="replace"), httpx.codes.OK)
        return found

    def failure(self, text: str, status: int) -> ClientError:
        """The error that a server's error text stands for."""
        message = self._masked(_message(text))[:1000]
        told = f"{self.url} answered with HTTP {status}: {message}"
        if status in self._remedies:
            told += f"; {self._remedies[status]}"
        if status == httpx.codes.NOT_FOUND:
            return ModelNotFound(told)
        return overflow(message) or ProtocolError(told)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """The body of an answer of good status; asks again while the server is busy."""
        content, headers = _encode(body), {"Content-Type": "application/json"}
        deadline = time.monotonic() + (math.inf if seconds is None else seconds)
        waits = iter(self._waits)
        while True:
            with self._failures(deadline, seconds):
                timeout = self._timeout(deadline)
                with self._client.stream(
                    method, self.url + path, content=content, headers=headers, timeout=timeout
                ) as response:
                    answer = _read(response, deadline)
            if response.is_success:
                return answer
            wait = next(waits, None)
            if wait is None or response.status_code not in BUSY:
                raise self.failure(answer.decode(errors="replace"), response.status_code)
            time.sleep(min(wait, max(0.0, deadline - time.monotonic())))

    def _timeout(self, deadline: float) -> httpx.Timeout:
        left = _left(deadline)
        return httpx.Timeout(min(self._seconds, left), connect=min(CONNECT_SECONDS, left))

    @contextmanager
    def _failures(self, deadline: float, seconds: float | None) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            late = isinstance(error, httpx.TimeoutException)
            if late and time.monotonic() >= deadline:
                told = f"{self.url} gave no whole answer within {seconds:g} s"
                raise CallTimeout(told) from error
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                told = f"no server answers at {self.url}; {self._absent}"
                raise ServerUnreachable(told) from error
            if late:
                raise CallTimeout(f"{self.url} sent nothing for {self._seconds:g} s") from error
            told = f"{self.url} broke off the call: {self._masked(str(error))}"
            raise ProtocolError(told) from None  # the cause may show the key

    def _object(self, content: bytes) -> Json:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        shown = self._masked(content.decode(errors="replace"))[:200]
        raise ProtocolError(f"the answer is not a JSON object: {shown!r}")

    def _masked(self, text: str) -> str:
        """`text` without the key, as it is or as JSON writes it."""
        for form in filter(None, (self._key, json.dumps(self._key or "")[1:-1])):
            text = text.replace(form, "***")
        return text


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _encode(body: Mapping[str, object] | None) -> bytes | None:
    """JSON in UTF-8; half a surrogate pair, which UTF-8 cannot hold, becomes ``?``."""
    if body is None:
        return None
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _read(response: httpx.Response, deadline: float) -> bytes:
    parts = []
    for part in response.iter_bytes():
        parts.append(part)
        _left(deadline)
    return b"".join(parts)


def _left(deadline: float) -> float:
    """Seconds until `deadline`; raises when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpx.TimeoutException("the time of the call is over")
    return left


def _message(text: str) -> str:
    """The words of an error: ``{"error": "…"}``, ``{"error": {"message": "…"}}`` or as it is.

    The numbers that llama.cpp's server puts beside its message are kept.
    """
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text
    return error if isinstance(error, str) else json.dumps(error)
