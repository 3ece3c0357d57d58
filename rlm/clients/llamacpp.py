"""The embedded engine: llama.cpp's own server, in a child process, and a client for it.

Run as ``python -m rlm.clients.llamacpp --model FILE`` this module IS the child: it prints one JSON
line with its address and ends as soon as its standard input does, so it dies with its owner,
however that one dies. Plain deletion of a busy server deadlocks and plain exit crashes, hence
`os._exit`. Settings: f32 without flash attention and one slot give the same tokens alone, repeated
and beside other calls.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from rlm.clients._counting import by_template
from rlm.clients._retries import Backoff, noted_retries
from rlm.clients._thinking import without_thinking
from rlm.clients.base import ModelInfo
from rlm.clients.openai import completion, request
from rlm.clients.window import refuse_hopeless
from rlm.errors import ModelNotFound, PromptTooLong, ProtocolError
from rlm.messages import Completion, FinishReason, Message, Options, Times, Usage

if TYPE_CHECKING:
    from rlm.clients._http import Json

CONNECTIONS: Final = 16
# The one template of the embedded models; the exporter writes it into their files.
CHATML_TEMPLATE: Final = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}"
)
_ADAPTER_REMEDY: Final = (
    "an adapter is a LoRA of this very model as GGUF, such as llama.cpp's convert_lora_to_gguf.py "
    "makes of a PEFT folder"
)
_KEY_VARIABLE: Final = "RLM_ENGINE_KEY"
_SMALL_FILE: Final = 100 * 2**20
_LRU_ENTRIES, _LRU_CHARS = 256, 20_000
_STOPS: Final[dict[object, FinishReason]] = {"eos": "stop", "word": "stop", "limit": "length"}


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where a running engine answers; plain data, so that another process can use it.

    Attributes:
        url: base address on the loopback.
        api_key: the key of this one engine.
        model: path of the model file.
        digest: sha256 of the model file; with an adapter see `digest_of`.
        adapter: path of the LoRA adapter that every call uses; empty if there is none.
    """

    url: str
    api_key: str = field(repr=False)
    model: str
    digest: str
    adapter: str = ""

    def to_dict(self) -> dict[str, str]:
        """Strings only, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> Self:
        """Undo `to_dict`."""
        return cls(**data)


class Engine:
    """A running engine process. Ends with `close`, with this object, or with its owner."""

    def __init__(self, child: subprocess.Popen[str], address: EngineAddress) -> None:
        self.address = address
        self.pid = child.pid
        self._end = weakref.finalize(self, _stop, child)

    def close(self) -> None:
        """Stop the process and wait for its end. Idempotent."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def start_engine(
    path: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    n_ctx: int = 4096,
    threads: int | None = None,
    connections: int = CONNECTIONS,
) -> Engine:
    """Start an engine on a GGUF file and wait until it answers.

    Args:
        path: the file.
        adapter: a LoRA adapter of this model, in a GGUF file of its own.
        n_ctx: window in tokens; the engine lowers it to the length the model was trained for.
        threads: ``None`` is one for a file below 100 MiB (more only get in each other's way),
            else one for each processor.
        connections: most connections of all clients together; 16 for each client.

    Raises:
        ModelNotFound: there is no such file, or the engine cannot load it; says why.
    """
    file, lora = Path(path).absolute(), Path(adapter).absolute() if adapter else None
    if not file.is_file():
        raise ModelNotFound(f"there is no model file {file}")
    if lora is not None and not lora.is_file():
        raise ModelNotFound(f"there is no adapter file {lora}; {_ADAPTER_REMEDY}")
    if threads is None:
        threads = 1 if file.stat().st_size < _SMALL_FILE else os.cpu_count() or 1
    key = secrets.token_hex(16)
    numbers = {"--n-ctx": n_ctx, "--threads": threads, "--connections": connections}
    with tempfile.TemporaryFile() as log:
        child = _spawn(file, lora, key, log, numbers)
        try:
            digest = digest_of(file, lora)
            line = _read_line(child)
        except BaseException:
            _stop(child)
            raise
        if not line:
            _stop(child)
            raise ModelNotFound(_failed(file, lora, log))
    address = EngineAddress(
        json.loads(line)["url"], key, str(file), digest, "" if lora is None else str(lora)
    )
    return Engine(child, address)


def digest_of(file: Path, adapter: Path | None = None) -> str:
    """sha256 of a model file; with an adapter that of both hashes, each with a newline after it.

    ``sha256sum MODEL ADAPTER | cut -c-64 | sha256sum`` prints the same.
    """
    hashes = []
    for part in filter(None, (file, adapter)):
        with part.open("rb") as content:
            hashes.append(hashlib.file_digest(content, "sha256").hexdigest())
    if adapter is None:
        return hashes[0]
    return hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()


class LlamaCppClient:
    """A model in an engine. Thread-safe.

    For a model whose chat template is `CHATML_TEMPLATE` the prompt is sent as token ids: text of a
    message can then never become a special token, and a prompt that does not fit is refused here.
    Any other model is asked through the engine's own rendering of its template.

    Args:
        address: a running engine.
        spec: what `info` repeats.
        engine: the engine itself, if this client owns it and shall close it.

    Raises:
        ClientError: the engine does not answer.
    """

    def __init__(self, address: EngineAddress, *, spec: str, engine: Engine | None = None) -> None:
        from rlm.clients._http import Http

        self._address, self._spec, self._engine = address, spec, engine
        self._http = Http(
            address.url,
            absent=f"the engine of {address.model} has ended, connect again",
            key=address.api_key,
            connections=CONNECTIONS,
            backoff=Backoff(tries=1, first=0.1),  # a child that has ended does not come back
        )
        self._cached_ids = lru_cache(_LRU_ENTRIES)(self._tokenize)
        try:
            props = self._http.get("/props")
            self.window = int(props["default_generation_settings"]["n_ctx"])
            self.is_chatml = props.get("chat_template") == CHATML_TEMPLATE
        except BaseException:
            self.close()
            raise

    def info(self) -> ModelInfo:
        """Describe the model."""
        return ModelInfo(
            spec=self._spec,
            digest=f"sha256:{self._address.digest}",
            window=self.window,
            server=f"xllamacpp {version('xllamacpp')}",
            options={
                "prompt": "ids" if self.is_chatml else "chat template",
                "flash_attention": False,
                "cache_type": "f32",
                "cache_prompt": False,
                "n_ubatch": 256,
                **({"lora_scale": 1.0} if self._address.adapter else {}),
            },
        )

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer the last message; see `Client.chat`."""
        refuse_hopeless(messages, self.window)
        ask = self._chat_ids if self.is_chatml else self._chat_text
        with noted_retries() as retries:
            return replace(ask(messages, options, retries), retries=tuple(retries))

    def count(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the prompt; see `rlm.clients.base.Counts`."""
        if self.is_chatml:
            return len(self.prompt_ids(messages))
        return by_template(self._http, request(self._address.model, messages, Options()))

    def close(self) -> None:
        """Release the connections, and the engine if it is this client's own. Idempotent."""
        self._http.close()
        if self._engine is not None:
            self._engine.close()

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the prompt, as the embedded models were trained to see it."""
        start, end = self._special("<|im_start|>"), self._special("<|im_end|>")
        newline, ids = self._cached_ids("\n"), []
        for message in messages:
            ids += [*start, *self._ids(f"{message.role}\n{message.content}"), *end, *newline]
        return (*ids, *start, *self._cached_ids("assistant\n"))

    def _chat_ids(
        self, messages: Sequence[Message], options: Options, retries: list[str]
    ) -> Completion:
        started = time.monotonic()
        ids = self.prompt_ids(messages)
        if len(ids) >= self.window:
            raise PromptTooLong(
                f"the prompt of {len(ids)} tokens leaves no room in the window of {self.window}",
                prompt_tokens=len(ids),
                window=self.window,
            )
        answer = self._http.post(
            "/completion",
            {
                "prompt": ids,
                "n_predict": options.max_tokens,
                "return_tokens": True,
                "stream": False,
                **_sampling(options),
                **self._lora(),
            },
            seconds=_left(options, started),
            retries=retries,
        )
        return _read(answer, ids, window=self.window, wall=time.monotonic() - started)

    def _chat_text(
        self, messages: Sequence[Message], options: Options, retries: list[str]
    ) -> Completion:
        started = time.monotonic()
        body = {
            **request(self._address.model, messages, options),
            **_sampling(options),
            **self._lora(),
        }
        answer = self._http.post(
            "/v1/chat/completions", body, seconds=options.seconds, retries=retries
        )
        return completion(answer, messages, window=self.window, wall=time.monotonic() - started)

    def _lora(self) -> Json:
        """The engine loads an adapter at scale 0; each request turns it on."""
        return {"lora": [{"id": 0, "scale": 1.0}]} if self._address.adapter else {}

    def _ids(self, text: str) -> tuple[int, ...]:
        return self._cached_ids(text) if len(text) <= _LRU_CHARS else self._tokenize(text)

    def _special(self, token: str) -> tuple[int, ...]:
        return self._cached_ids(token, special=True)

    def _tokenize(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        body = {"content": text, "parse_special": special, "add_special": False}
        return tuple(self._http.post("/tokenize", body)["tokens"])


def _left(options: Options, started: float) -> float | None:
    """What is left of the call's seconds."""
    if options.seconds is None:
        return None
    return options.seconds - (time.monotonic() - started)


def _sampling(options: Options) -> Json:
    return {
        "temperature": options.temperature,
        "top_k": 1 if options.temperature == 0 else 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": options.seed,
        "cache_prompt": False,
    }


def _read(answer: Json, ids: tuple[int, ...], *, window: int, wall: float) -> Completion:
    try:
        reason, evaluated = _STOPS[answer["stop_type"]], int(answer["tokens_evaluated"])
        text, tokens, timings = answer["content"], tuple(answer["tokens"]), answer["timings"]
    except KeyError as error:
        raise ProtocolError(f"the engine's answer lacks {error}: {str(answer)[:200]}") from error
    return Completion(
        text=without_thinking(text),
        usage=Usage(evaluated, int(answer["tokens_predicted"]), 1),
        finish_reason=reason,
        window=window,
        truncated=evaluated != len(ids),
        times=Times.told(
            wall, prefill=timings["prompt_ms"] / 1e3, decode=timings["predicted_ms"] / 1e3
        ),
        prompt_ids=ids,
        completion_ids=tokens,
    )


def _spawn(
    file: Path, lora: Path | None, key: str, log: IO[bytes], numbers: Mapping[str, int]
) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "rlm.clients.llamacpp", "--model", str(file)]
        + ([] if lora is None else ["--lora", str(lora)])
        + [part for name, value in numbers.items() for part in (name, str(value))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "PYTHONPATH": search, _KEY_VARIABLE: key},
    )


def _read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


def _stop(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _failed(file: Path, lora: Path | None, log: IO[bytes]) -> str:
    """What could not be loaded, and why: the engine's exception does not say."""
    log.seek(0)
    text = log.read().decode(errors="replace")
    errors = re.findall(r"^[\d.]+ E +(?:\w+: )?(.+)$", text, re.MULTILINE)
    reason = errors[0] if errors else text.strip().rpartition("\n")[2]
    if "load lora adapter" not in text:
        return f"the engine cannot load {file}: {reason}"
    return f"the engine cannot load the adapter {lora} on {file}: {reason}; {_ADAPTER_REMEDY}"


def main() -> None:
    """Serve one model until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m rlm.clients.llamacpp", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--n-ctx", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    arguments = parser.parse_args()
    # Ctrl-C in a terminal reaches the whole group; the owner decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the engine prints is no answer
    watch = threading.Thread(target=_end_with_owner, daemon=True)
    watch.start()
    server = _serve(arguments)
    print(json.dumps({"url": server.listening_address}), file=out, flush=True)
    watch.join()


def _end_with_owner() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _serve(arguments: argparse.Namespace) -> Any:
    import xllamacpp as engine

    params = engine.CommonParams()
    params.model.path = arguments.model
    if arguments.lora:
        params.lora_adapters = [engine.CommonAdapterLoraInfo(arguments.lora, 0.0)]
    params.n_ctx, params.n_parallel, params.n_ubatch = arguments.n_ctx, 1, 256
    params.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.cache_ram_mib, params.kv_unified, params.fit_params = 0, False, False
    params.n_threads_http, params.verbosity, params.port = arguments.connections, 1, 0
    params.api_keys = [os.environ[_KEY_VARIABLE]]
    return engine.Server(params)


if __name__ == "__main__":
    main()
