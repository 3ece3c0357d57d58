"""Any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama-server, LM Studio."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rlm.clients._counting import by_messages, by_template
from rlm.clients._retries import noted_retries
from rlm.clients._thinking import without_thinking
from rlm.clients.address import parse_address
from rlm.clients.base import ModelInfo
from rlm.clients.window import least_tokens
from rlm.errors import ModelNotFound, PromptTooLong, ProtocolError, UsageError
from rlm.messages import Completion, FinishReason, Message, Options, Times, Usage

if TYPE_CHECKING:
    from rlm.clients._counting import Body
    from rlm.clients._http import Http, Json

CONNECTIONS: Final = 64
KEY_VARIABLE: Final = "OPENAI_API_KEY"
NO_THINKING: Final = "chat_template_kwargs"
"""The field that turns thinking off in vLLM, SGLang and llama-server; OpenAI's own has no such."""
_FINISH: Final[dict[object, FinishReason]] = {"stop": "stop", "length": "length"}
_UNKNOWN_FIELD: Final = (400, 422)
_IN_TROUBLE: Final = (429, 500, 502, 503, 504)


class OpenAIClient:
    """One model behind ``/v1/chat/completions``.

    The key comes from the environment variable ``OPENAI_API_KEY`` and appears nowhere else. A
    server that refuses the field `NO_THINKING` is asked without it from then on.

    Args:
        name: the model, as the server calls it.
        url: the server's address, with or without ``/v1``.
        spec: what `info` repeats; ``openai/NAME@URL`` if not given.
        num_ctx: the window in tokens, used where the server tells none or a larger one.

    Raises:
        UsageError: `url` is no HTTP address, or holds a password; or the key is none.
    """

    def __init__(
        self, name: str, url: str, *, spec: str | None = None, num_ctx: int | None = None
    ) -> None:
        from rlm.clients._http import Http

        self.name, self.url = name, base_url(url)
        self._spec, self._num_ctx = spec or f"openai/{name}@{self.url}", num_ctx
        self._http = Http(
            self.url.removesuffix("/v1"),
            absent=f"start one, for example with `vllm serve {name}`",
            remedies={
                401: f"set {KEY_VARIABLE}",
                403: f"set {KEY_VARIABLE}",
                404: f"is {name!r} the name this server knows? See {self.url}/models",
            },
            key=_key(),
            connections=CONNECTIONS,
        )
        self._takes_all_fields = True
        self._counters: tuple[Callable[[Http, Body], int | None], ...] = (by_messages, by_template)

    def info(self) -> ModelInfo:
        """Describe the model; the weights cannot be verified from here."""
        return ModelInfo(
            spec=self._spec,
            digest=f"unverified:{self.name}",
            window=self._window(),
            server=f"{self._card.get('owned_by') or 'openai-compatible'} at {self.url}",
            options={"top_p": 1.0, "enable_thinking": False},
        )

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer the last message; see `Client.chat`."""
        window, started = self._window(), time.monotonic()
        with noted_retries() as retries:
            answer = self._post(request(self.name, messages, options), options, retries)
            wall = time.monotonic() - started
            return replace(
                completion(answer, messages, window=window, wall=wall), retries=tuple(retries)
            )

    def count(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the prompt, by vLLM or llama-server; see `rlm.clients.base.Counts`.

        Raises:
            ClientError: the server cannot be asked now; says nothing about whether it can count.
        """
        for counter in self._counters:
            try:
                counted = counter(self._http, request(self.name, messages, Options()))
            except (ModelNotFound, PromptTooLong, ProtocolError) as error:
                if isinstance(error, ProtocolError) and error.status in _IN_TROUBLE:
                    raise
                continue
            if counted:
                self._counters = (counter,)
                return counted
        self._counters = ()
        return None

    def close(self) -> None:
        """Release the connections. Idempotent."""
        self._http.close()

    def _post(self, body: Json, options: Options, retries: list[str]) -> Json:
        """Make a call, once more without `NO_THINKING` where the server does not know it."""
        deadline = None if options.seconds is None else time.monotonic() + options.seconds
        path, seconds = "/v1/chat/completions", options.seconds
        if self._takes_all_fields:
            try:
                return self._http.post(path, body, seconds=seconds, retries=retries)
            except ProtocolError as error:
                if error.status not in _UNKNOWN_FIELD or NO_THINKING not in str(error):
                    raise
                retries.append(f"HTTP {error.status}: {NO_THINKING} is not known")
                self._takes_all_fields = False
        body = {name: value for name, value in body.items() if name != NO_THINKING}
        seconds = None if deadline is None else deadline - time.monotonic()
        return self._http.post(path, body, seconds=seconds, retries=retries)

    def _window(self) -> int | None:
        """The server's own, or the user's where that is smaller or the only one."""
        return min(filter(None, (self._live, self._num_ctx)), default=None)

    @cached_property
    def _live(self) -> int | None:
        """What vLLM tells in its card, llama-server there (since 2026) or in ``/props``, and LM
        Studio of a model that is loaded.

        The length a model was trained for says nothing about the window it runs with.
        """
        told = self._card.get("max_model_len") or (self._card.get("meta") or {}).get("n_ctx")
        if not told:
            told = (self._page("/props").get("default_generation_settings") or {}).get("n_ctx")
        if not told:
            told = self._listed("/api/v0/models").get("loaded_context_length")
        return int(told) if told else None

    @property
    def slots(self) -> int | None:
        """How many calls llama-server answers at once; ``None`` from a server that says nothing."""
        told = self._page("/props").get("total_slots")
        return told if isinstance(told, int) and told > 0 else None

    @cached_property
    def _card(self) -> Json:
        """The model's entry in ``/v1/models``."""
        return self._listed("/v1/models")

    def _listed(self, path: str) -> Json:
        """The model's entry in a list; empty where the server keeps no such list."""
        listed = self._page(path).get("data") or []
        return next((card for card in listed if card.get("id") == self.name), {})

    def _page(self, path: str) -> Json:
        """What only some servers tell; empty where this one does not."""
        try:
            return self._http.get(path)
        except (ModelNotFound, ProtocolError):
            return {}


def request(name: str, messages: Sequence[Message], options: Options) -> Json:
    """The body of one call; everything that changes an answer is in it."""
    return {
        "model": name,
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "stream": False,
        "temperature": options.temperature,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": options.seed,
        "max_tokens": options.max_tokens,
        NO_THINKING: {"enable_thinking": False},
    }


def completion(
    answer: Json, messages: Sequence[Message], *, window: int | None, wall: float
) -> Completion:
    """Read the answer of one call.

    Args:
        answer: the server's JSON; ``timings`` (milliseconds) are llama.cpp's.
        messages: what was sent, to see whether the count of tokens can be true.
        window: in tokens, where known.
        wall: seconds the call took.

    Raises:
        ProtocolError: a part is missing, or the answer was broken off.
    """
    usage = answer.get("usage") or {}
    if not usage.get("prompt_tokens"):
        raise ProtocolError(
            "the answer has no `usage.prompt_tokens`: what the model saw is unknown"
        )
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"].get("content") or "", choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ProtocolError(f"no message in the answer, only {', '.join(answer)}") from error
    if reason not in _FINISH:
        raise ProtocolError(f"the answer ended with finish_reason {reason!r}")
    timings = answer.get("timings") or {}
    return Completion(
        text=without_thinking(text, is_open=True),
        usage=Usage(usage["prompt_tokens"], usage.get("completion_tokens") or 0, 1),
        finish_reason=_FINISH[reason],
        window=window,
        truncated=usage["prompt_tokens"] < least_tokens(messages),
        times=Times.told(
            wall,
            prefill=timings.get("prompt_ms", 0.0) / 1e3,
            decode=timings.get("predicted_ms", 0.0) / 1e3,
        ),
    )


def base_url(url: str) -> str:
    """`url` with its ``/v1``.

    Raises:
        UsageError: it is no address, or holds a password.
    """
    remedy = f"write openai/NAME@http://localhost:8000/v1, and a key into {KEY_VARIABLE}"
    return parse_address(url, remedy=remedy).removesuffix("/v1") + "/v1"


def _key() -> str | None:
    """The key of the environment, if there is one.

    Raises:
        UsageError: no HTTP header can hold it; does not repeat it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{KEY_VARIABLE} has a character that no key has; set it to the key alone, in ASCII"
        )
    return key or None
