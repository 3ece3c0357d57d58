"""HTTP to one model server: pooled, with time limits, and every failure a `ClientError`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from rlm.clients._retries import Backoff, seconds_told
from rlm.clients.window import overflow
from rlm.errors import CallTimeout, ClientError, ModelNotFound, ProtocolError, ServerUnreachable

Json = dict[str, Any]

BUSY: Final = (429, 503)
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 1800.0
# Keys of hosted services are longer; servers at home are given words such as EMPTY.
SECRET_CHARS: Final = 12
# Servers drop a connection that idles for 5 s; a request sent at that moment would be lost.
IDLE_SECONDS: Final = 2.0


class Http:
    """Connections to one server. Thread-safe.

    Args:
        url: base address, without a final slash.
        absent: what to do when nothing answers, told with the address.
        remedies: what to do about an HTTP status, told with it.
        key: bearer key in printable ASCII; ``***`` stands for it in every error, and in every
            answer, unless it is so short (``EMPTY``) that a model may write it.
        connections: most connections at a time; more calls wait for one.
        seconds: longest wait for a byte. Servers queue without bound, so it is long.
        backoff: the waits before a request is sent again. That is done only where nothing of an
            answer arrived: the server is busy, it hung up, or it answered before and is gone.
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
        backoff: Backoff | None = None,
    ) -> None:
        self.url = url
        self._absent, self._remedies, self._key = absent, dict(remedies or {}), key
        self._forms = _forms(key) if key else ()
        self._seconds, self._backoff = seconds, backoff or Backoff()
        self._seen = False
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

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        seconds: float | None = None,
        retries: list[str] | None = None,
    ) -> Json:
        """Send one JSON object and fetch another, in at most `seconds`, new tries included.

        Args:
            path: below the server's address.
            body: the object.
            seconds: most seconds of the call.
            retries: the reason of each new try is added here.
        """
        return self._object(self._ask("POST", path, body, seconds, retries))

    def lines(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        seconds: float | None = None,
        retries: list[str] | None = None,
    ) -> list[Json]:
        """Send one JSON object and fetch a stream of them, one a line, to its end; see `post`.

        A line ``{"error": …}`` is a failure, since the good status was sent before it.
        """
        answer = self._ask("POST", path, body, seconds, retries)
        return [self._line(line) for line in filter(bytes.strip, answer.splitlines())]

    def stream(self, path: str, body: Mapping[str, object]) -> Iterator[Json]:
        """Send one JSON object and yield each line of the answer as it comes; never sent again."""
        rest, deadline = b"", math.inf
        try:
            with self._client.stream(
                "POST",
                self.url + path,
                content=_encode(body),
                headers={"Content-Type": "application/json"},
            ) as response:
                if not response.is_success:
                    text = _read(response, deadline).decode(errors="replace")
                    raise self.failure(text, response.status_code)
                for part in response.iter_bytes():
                    *lines, rest = (rest + part).split(b"\n")
                    yield from map(self._line, filter(bytes.strip, lines))
        except httpx.HTTPError as error:
            raise self._failure_of(error, deadline, None) from None
        if rest.strip():
            yield self._line(rest)

    def failure(self, text: str, status: int) -> ClientError:
        """The error that a server's error text stands for."""
        if _is_page(text):
            return ProtocolError(
                f"{self.url} answered with HTTP {status} and a page of HTML: is a proxy in between?"
            )
        message = self._masked(_message(text))[:1000]
        told = f"{self.url} answered with HTTP {status}: {message}"
        if status in self._remedies:
            told += f"; {self._remedies[status]}"
        if status == httpx.codes.NOT_FOUND:
            return ModelNotFound(told)
        return overflow(message) or ProtocolError(told, status=status)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        seconds: float | None = None,
        retries: list[str] | None = None,
    ) -> bytes:
        """The body of an answer of good status; asks again where that is safe."""
        reasons = [] if retries is None else retries
        deadline = time.monotonic() + (math.inf if seconds is None else seconds)
        content = _encode(body)
        while isinstance(outcome := self._try(method, path, content, deadline, seconds), _Again):
            wait = self._backoff.wait(len(reasons), outcome.told)
            if wait is None:
                self._seen = False  # it is not waited for again until it answers
                raise outcome.error
            reasons.append(outcome.reason)
            time.sleep(min(wait, max(0.0, deadline - time.monotonic())))
        return outcome

    def _try(
        self,
        method: str,
        path: str,
        content: bytes | None,
        deadline: float,
        seconds: float | None,
    ) -> bytes | _Again:
        """One request.

        Raises:
            ClientError: it failed, and a new try is not safe or would not help.
        """
        has_begun = False
        try:
            with self._client.stream(
                method,
                self.url + path,
                content=content,
                headers={"Content-Type": "application/json"},
                timeout=self._timeout(deadline),
            ) as response:
                has_begun = self._seen = True
                answer = _read(response, deadline)
        except httpx.HTTPError as error:
            failure = self._failure_of(error, deadline, seconds)
            absent = isinstance(failure, ServerUnreachable)
            if has_begun or isinstance(failure, CallTimeout) or (absent and not self._seen):
                raise failure from None  # the cause may show the key
            return _Again(failure, "no connection" if absent else "hung up")
        if response.is_success:
            return self._without_key(answer)
        refusal = self.failure(answer.decode(errors="replace"), response.status_code)
        if response.status_code not in BUSY:
            raise refusal
        told = seconds_told(response.headers, datetime.now(UTC))
        return _Again(refusal, f"HTTP {response.status_code}", told)

    def _timeout(self, deadline: float) -> httpx.Timeout:
        left = _left(deadline)
        return httpx.Timeout(min(self._seconds, left), connect=min(CONNECT_SECONDS, left))

    def _failure_of(
        self, error: httpx.HTTPError, deadline: float, seconds: float | None
    ) -> ClientError:
        late = isinstance(error, httpx.TimeoutException)
        if late and time.monotonic() >= deadline:
            return CallTimeout(f"{self.url} gave no whole answer within {seconds:g} s")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServerUnreachable(f"no server answers at {self.url}; {self._absent}")
        if late:
            return CallTimeout(f"{self.url} sent nothing for {self._seconds:g} s")
        return ProtocolError(f"{self.url} broke off the call: {self._masked(str(error))}")

    def _line(self, content: bytes) -> Json:
        """One line of a stream."""
        found = self._object(content)
        if "error" in found:
            raise self.failure(content.decode(errors="replace"), httpx.codes.OK)
        return found

    def _object(self, content: bytes) -> Json:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        text = content.decode(errors="replace")
        if _is_page(text):
            raise self.failure(text, httpx.codes.OK)
        raise ProtocolError(f"the answer is not a JSON object: {self._masked(text)[:200]!r}")

    def _masked(self, text: str) -> str:
        """`text` without the key."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def _without_key(self, answer: bytes) -> bytes:
        """An answer of good status without the key, if that is no word that a model may write."""
        if len(self._key or "") < SECRET_CHARS:
            return answer
        for form in self._forms:
            answer = answer.replace(form.encode(), b"***")
        return answer


@dataclass(frozen=True, slots=True)
class _Again:
    """A request that failed before anything of an answer arrived.

    Attributes:
        error: what it is if it was the last try.
        reason: in few words.
        told: seconds that the server asked to wait; 0 if it did not.
    """

    error: ClientError
    reason: str
    told: float = 0.0


def _forms(key: str) -> tuple[str, ...]:
    """The key as it is, and as JSON may write it."""
    quoted = json.dumps(key)[1:-1]
    return tuple(dict.fromkeys((key, quoted, quoted.replace("/", r"\/"))))


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


def _is_page(text: str) -> bool:
    """Whether it is HTML, which no model server sends."""
    return text.lstrip()[:9].lower().startswith(("<!doctype", "<html"))


def _message(text: str) -> str:
    """The words of an error: ``{"error": "…"}``, ``{"error": {"message": "…"}}`` or as it is.

    The numbers that llama.cpp's server puts beside its message are kept.
    """
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text
    return error if isinstance(error, str) else json.dumps(error)
