"""A loopback HTTP server that records what it is asked and answers as told."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        body: an object is sent as JSON, a list as one JSON line each, text as it is.
        delay: seconds before the answer.
        drip: seconds after each byte of the body.
        cut: hang up after the body, though more was announced.
        mute: hang up without a word.
        headers: sent before the body.
    """

    body: Any
    status: int = 200
    delay: float = 0.0
    drip: float = 0.0
    cut: bool = False
    mute: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if isinstance(self.body, str):
            return self.body.encode()
        if isinstance(self.body, list):
            return b"".join(json.dumps(line).encode() + b"\n" for line in self.body)
        return json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ScriptedServer:
    """Serves `standing[path]`, or before it the replies queued with `once`; 404 elsewhere."""

    standing: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queued: defaultdict[str, list[Reply]] = defaultdict(list)
        self._lock, self.closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False  # so that closing waits for the last answer
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def once(self, path: str, *replies: Reply) -> None:
        """Queue `replies` for the next requests to `path`."""
        self._queued[path] += replies

    def bodies(self, path: str) -> list[Any]:
        """What was sent to `path` so far."""
        return [asked.body for asked in self.asked if asked.path == path]

    def reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            queued = self._queued[asked.path]
            missing = Reply({"error": f"no route {asked.path}"}, status=404)
            reply = queued.pop(0) if queued else self.standing.get(asked.path, missing)
        self.closing.wait(reply.delay)
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            reply = server.reply(Asked(self.path, dict(self.headers), body))
            if reply.mute:
                return
            content = reply.encoded()
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content) + (100 if reply.cut else 0)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self._write(content, reply.drip)

        def _write(self, content: bytes, drip: float) -> None:
            if not drip:
                self.wfile.write(content)
                return
            for byte in content:
                self.wfile.write(bytes([byte]))
                if server.closing.wait(drip):
                    return

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # the client gave up on a slow answer, as some tests want

    return Handler
