"""A model server that thinks for a while: in a process of its own, many calls at once.

    with LatencyServer(0.05) as server:
        client = connect(server.spec)

Run as ``python -m tests.servers.latency SECONDS`` it prints its address and ends with its standard
input. Python's own HTTP server costs a thread a call, which a measure of 200 ms would see.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.servers.openai import NAME

_CARD = {"data": [{"id": NAME, "owned_by": "vllm", "max_model_len": 4096}]}
_ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 4},
}


class LatencyServer:
    """OpenAI's protocol with `seconds` before each answer, whatever else is asked meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.latency", str(seconds)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self.spec = f"openai/{NAME}@{self._process.stdout.readline().strip()}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate("", timeout=10)


async def _serve(seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(size[1]) if size else 0)
                is_call = head.startswith("POST")
                await asyncio.sleep(seconds if is_call else 0)
                body = json.dumps(_ANSWER if is_call else _CARD).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 0)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
