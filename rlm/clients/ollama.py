"""Ollama, through ``/api/chat``: the only route that can set the window and forbid silent cuts."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from rlm.clients._retries import Backoff, noted_retries
from rlm.clients._thinking import without_thinking
from rlm.clients.address import parse_address
from rlm.clients.base import ModelInfo
from rlm.clients.window import least_tokens, was_cut
from rlm.errors import ClientError, PromptTooLong, ProtocolError
from rlm.messages import Completion, FinishReason, Message, Options, Times, Usage

if TYPE_CHECKING:
    from rlm.clients._http import Json

AUTO_WINDOW: Final = 16_384
WINDOW_STEP: Final = 256  # llama.cpp pads a window up to a multiple of this
CONNECTIONS: Final = 64
ABSENT: Final = "start one with `ollama serve`"
OR_LET_IT: Final = "or add --rlm-pull (pytest) or --pull (rlm ask)"
CANARY_SECONDS: Final = 300.0
_FINISH: Final[dict[object, FinishReason]] = {"stop": "stop", "length": "length"}


class OllamaClient:
    """One model of an Ollama server. Thread-safe.

    Args:
        name: the model, such as ``qwen3.5:2b``.
        num_ctx: window in tokens, a multiple of 256; ``None`` takes what the model was trained
            for, at most 16,384. The host's own default depends on its graphics memory.
        url: the server; ``None`` reads ``OLLAMA_HOST`` as Ollama does.
        backoff: the waits before a call is sent again.

    Raises:
        UsageError: the address is none.
        ServerUnreachable: Ollama is not running.
        ModelNotFound: the model was not pulled.
    """

    def __init__(
        self,
        name: str,
        *,
        num_ctx: int | None = None,
        url: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        from rlm.clients._http import Http

        self.name = name
        self._http = Http(
            base_url(url or os.environ.get("OLLAMA_HOST", "")),
            absent=ABSENT,
            remedies={404: f"get it with `ollama pull {name}` {OR_LET_IT}"},
            connections=CONNECTIONS,
            backoff=backoff,
        )
        try:
            self._version = str(self._http.get("/api/version").get("version"))
            trained = _trained_window(self._http.post("/api/show", {"model": name}))
            self._digest = self._entry("/api/tags").get("digest") or f"unverified:{name}"
        except BaseException:
            self.close()
            raise
        self.num_ctx = num_ctx or min(trained, AUTO_WINDOW) // WINDOW_STEP * WINDOW_STEP
        self._live: int | None = None

    def info(self) -> ModelInfo:
        """Describe the model; loads it, since only a loaded model has a live window."""
        if self._live is None:  # a call without messages loads the model and generates nothing
            self._http.lines("/api/chat", self._request([], Options()))
        return ModelInfo(
            spec=f"ollama/{self.name}",
            digest=self._digest,
            window=self._live_window(),
            server=f"ollama {self._version}",
            options={"num_ctx": self.num_ctx, "think": False, "truncate": False, "shift": False},
        )

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer the last message; see `Client.chat`."""
        started = time.monotonic()
        body = self._request(messages, options)
        with noted_retries() as retries:
            lines = self._http.lines("/api/chat", body, seconds=options.seconds, retries=retries)
            return self._read(messages, lines, time.monotonic() - started, tuple(retries))

    def canary(self) -> Canary:
        """Send a prompt that cannot fit the live window, and see what the server does."""
        window = self.info().window or self.num_ctx
        messages = [Message("user", " ".join(["canary"] * (window + 1)))]
        sent = least_tokens(messages)
        try:
            done = self.chat(messages, options=Options(max_tokens=1, seconds=CANARY_SECONDS))
        except PromptTooLong as error:
            return Canary("refused", sent, 0, str(error))
        except ClientError as error:
            return Canary("unknown", sent, 0, f"{type(error).__name__}: {error}")
        return Canary("cut", sent, done.usage.prompt_tokens, "")

    def close(self) -> None:
        """Release the connections. Idempotent."""
        self._http.close()

    def _read(
        self,
        messages: Sequence[Message],
        lines: Sequence[Json],
        wall: float,
        retries: tuple[str, ...],
    ) -> Completion:
        """What a whole stream says."""
        text, last = _collect(lines)
        window = self._live_window()
        prompt, written = last.get("prompt_eval_count"), last.get("eval_count", 0)
        if not prompt:
            raise ProtocolError("no `prompt_eval_count`: what the model saw is unknown")
        reason = last.get("done_reason", "stop")
        if reason not in _FINISH:
            raise ProtocolError(f"the answer ended with done_reason {reason!r}")
        return Completion(
            text=without_thinking(text),
            usage=Usage(prompt, written, 1),
            finish_reason=_FINISH[reason],
            window=window,
            truncated=was_cut(
                messages, prompt_tokens=prompt, completion_tokens=written, window=window
            ),
            times=_times(last, wall),
            retries=retries,
        )

    def _request(self, messages: Sequence[Message], options: Options) -> Json:
        """Every option, since the model's own parameters stand in for those left out."""
        return {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "stream": True,
            "think": False,
            "truncate": False,
            "shift": False,
            "keep_alive": "30m",
            "options": {
                "num_ctx": self.num_ctx,
                "num_predict": options.max_tokens,
                "temperature": options.temperature,
                "seed": options.seed,
                "top_k": 1 if options.temperature == 0 else 0,
                "top_p": 1.0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "repeat_last_n": 0,
            },
        }

    def _live_window(self) -> int:
        """The window the model was loaded with, asked once; it must be loaded by now."""
        if self._live is None:
            self._live = int(self._entry("/api/ps").get("context_length") or self.num_ctx)
        return self._live

    def _entry(self, path: str) -> Json:
        """What a list of models says about this one; empty where it is not listed."""
        names = {self.name.lower(), f"{self.name}:latest".lower()}
        listed = self._http.get(path).get("models") or []
        return next((entry for entry in listed if entry.get("name", "").lower() in names), {})


@dataclass(frozen=True, slots=True)
class Canary:
    """What a server did with a prompt that cannot fit its window.

    Attributes:
        outcome: ``refused``, as it was asked to; ``cut``, it answered as if nothing were missing;
            ``unknown``, the call failed.
        sent: tokens that the prompt has at least.
        seen: tokens that the model saw, by the server's count; 0 where it saw none.
        said: the server's error.
    """

    outcome: Literal["refused", "cut", "unknown"]
    sent: int
    seen: int
    said: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What an Ollama server has.

    Attributes:
        url: its address.
        version: such as ``0.30.12``.
        pulled: names of the models on its disk.
        loaded: those in memory, each with its live window in tokens (``None``: it does not say).
    """

    url: str
    version: str
    pulled: tuple[str, ...]
    loaded: tuple[tuple[str, int | None], ...]


def survey(url: str, *, seconds: float) -> Survey:
    """Ask a server what it has; loads nothing.

    Args:
        url: see `base_url`.
        seconds: longest wait for a byte of an answer.

    Raises:
        ServerUnreachable: nothing answers.
        ClientError: something answers, but not as Ollama does.
    """
    from rlm.clients._http import Http

    http = Http(url, absent=ABSENT, seconds=seconds, backoff=Backoff(tries=0))
    try:
        version = http.get("/api/version")
        tags, ps = http.get("/api/tags"), http.get("/api/ps")
        return Survey(
            url=url,
            version=str(version["version"]),
            pulled=tuple(str(entry["name"]) for entry in tags["models"] or ()),
            loaded=tuple(
                (str(entry["name"]), entry.get("context_length")) for entry in ps["models"] or ()
            ),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ProtocolError(f"{url} answers, but not as Ollama does") from error
    finally:
        http.close()


def base_url(host: str) -> str:
    """The address a value of ``OLLAMA_HOST`` stands for, by the rules of Ollama's own client.

    ``0.0.0.0`` and ``::`` mean every interface to a server and this machine to a client.

    Raises:
        UsageError: it stands for none, or holds a password.
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default = {"http": "80", "https": "443"}.get(scheme, "11434") if separator else "11434"
    where, _, path = rest.partition("/")
    name, port = _split_port(where, default)
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    name = f"[{name}]" if ":" in name else name
    return parse_address(
        f"{scheme}://{name}:{port}{'/' + path if path else ''}",
        remedy="set OLLAMA_HOST to HOST:PORT or to http://HOST:PORT",
        given=host,
    )


def _split_port(where: str, default: str) -> tuple[str, str]:
    """``host:port``, ``[v6]:port``, ``host`` or bare v6; a port that is none gives `default`."""
    try:
        return str(ipaddress.ip_address(where.strip("[]"))), default
    except ValueError:
        name, colon, port = where.rpartition(":")
    if not colon or "@" in port:
        return where, default
    usable = port.isdecimal() and int(port) <= 65_535
    return name.strip("[]"), str(int(port)) if usable else default


def _collect(lines: Sequence[Json]) -> tuple[str, Json]:
    """The text of a stream, and its last line.

    Raises:
        ProtocolError: the model was aborted, or the server took text for a tool call.
    """
    messages = [line.get("message") or {} for line in lines]
    if called := [m["tool_calls"] for m in messages if m.get("tool_calls")]:
        raise ProtocolError(f"the server took text for a tool call: {called[0]}")
    if not lines or not lines[-1].get("done"):
        raise ProtocolError(f"the answer was aborted after {len(lines)} parts, without `done`")
    return "".join(m.get("content") or "" for m in messages), lines[-1]


def _trained_window(shown: Json) -> int:
    lengths = [
        value
        for key, value in (shown.get("model_info") or {}).items()
        if key.endswith(".context_length")
    ]
    return int(lengths[0]) if lengths else AUTO_WINDOW


def _times(last: Json, wall: float) -> Times:
    """Nanoseconds to seconds; a duration of zero is absent."""
    load, prefill, decode = (
        last.get(f"{part}_duration", 0) / 1e9 for part in ("load", "prompt_eval", "eval")
    )
    times = Times.told(wall, prefill=prefill, decode=decode)
    return replace(times, queue=max(load, times.queue))
