"""Talking to models: `connect` turns a short text into a client.

- ``embedded``: the model that comes with this package; also ``embedded/base``, ``embedded/sft``,
  and each ``+LORA.gguf`` with an adapter, such as ``embedded/base+out/lora.gguf``
- ``ollama/NAME``: a model of an Ollama server (see ``OLLAMA_HOST``)
- ``openai/NAME@URL``: any server with OpenAI's protocol (key: ``OPENAI_API_KEY``)
- ``gguf/PATH[+LORA.gguf]``: a GGUF file, in the engine that comes with this package; with an
  adapter that is a GGUF of its own
- ``hf/PATH[+ADAPTER]``: a Hugging Face folder, with the folder of a PEFT adapter; needs the
  training extra

A path that exists as it stands may have a ``+`` in its name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlm.errors import ModelNotFound, UsageError

if TYPE_CHECKING:
    from rlm.clients.base import Client
    from rlm.clients.llamacpp import Engine, EngineAddress
    from rlm.clients.ollama import Canary
    from rlm.clients.pulling import Pulling

EMBEDDED_WINDOW: Final = 4096
GGUF_WINDOW: Final = 16_384
FORMS: Final = {
    "embedded": "embedded (also embedded/base, embedded/sft; each also +LORA.gguf)",
    "ollama": "ollama/NAME, such as ollama/qwen3.5:2b",
    "openai": "openai/NAME@URL, such as openai/Qwen/Qwen3-8B@http://localhost:8000/v1",
    "gguf": "gguf/PATH[+LORA.gguf], such as gguf/models/qwen3-0.6b.gguf",
    "hf": "hf/PATH[+ADAPTER], such as hf/models/Qwen3-0.6B",
}
_NANO: Final = Path(__file__).parents[1] / "models" / "nano"
_EMBEDDED: Final = {
    "": "embedded.gguf",
    "base": "embedded-base.gguf",
    "sft": "embedded-sft.gguf",
}


def connect(
    spec: str,
    *,
    num_ctx: int | None = None,
    engine: EngineAddress | None = None,
    record: str | os.PathLike[str] | None = None,
    replay: str | os.PathLike[str] | None = None,
) -> Client:
    """Open a client for the model that `spec` names; close it after use.

    Args:
        spec: see this module's text.
        num_ctx: window in tokens, a multiple of 256. ``None`` is 4,096 for the embedded models,
            else at most 16,384. A server of ``openai/`` has its own: what is smaller holds.
        engine: a running engine to share, for specs that need one; else the client starts its own
            and stops it with `close` or at exit.
        record: a folder in which every call is kept (see `rlm.clients.cassette`).
        replay: such a folder, from which every call is answered: no model is needed.

    Raises:
        UsageError: `spec`, `num_ctx` or a folder is not usable; says what is.
        ModelNotFound: there is no such model.
        ServerUnreachable: the server is not running.
    """
    kind, name = _parse(spec)
    _check_window(num_ctx)
    if record is not None and replay is not None:
        raise UsageError("a call is either recorded or replayed: leave one of the two out")
    if replay is not None:
        from rlm.clients.cassette import Player

        return Player(replay, spec, num_ctx=num_ctx)
    client = _open(kind, name, spec, num_ctx, engine)
    if record is None:
        return client
    from rlm.clients.cassette import Recorder

    try:
        return Recorder(client, record, num_ctx=num_ctx)
    except UsageError:
        client.close()
        raise


def _open(
    kind: str, name: str, spec: str, num_ctx: int | None, engine: EngineAddress | None
) -> Client:
    if kind == "ollama":
        from rlm.clients.ollama import OllamaClient

        return OllamaClient(name, num_ctx=num_ctx)
    if kind == "openai":
        from rlm.clients.openai import OpenAIClient

        name, _, url = name.partition("@")
        return OpenAIClient(name, url, spec=spec, num_ctx=num_ctx)
    if kind == "hf":
        from rlm.clients.transformers import TransformersClient

        folder, adapter = _split(name)
        return TransformersClient(folder, adapter, spec=spec, num_ctx=num_ctx or GGUF_WINDOW)
    from rlm.clients.llamacpp import LlamaCppClient

    if engine is not None:
        return LlamaCppClient(engine, spec=spec)
    own = open_engine(spec, num_ctx=num_ctx)
    assert own is not None
    return LlamaCppClient(own.address, spec=spec, engine=own)


def needs_engine(spec: str) -> Path | None:
    """The model file for which `spec` needs an engine; ``None`` if it needs none.

    Raises:
        UsageError: `spec` is not usable.
        ModelNotFound: the embedded model is not there; names those that are.
    """
    kind, name = _parse(spec)
    if kind not in ("embedded", "gguf"):
        return None
    path, _ = _files(kind, name)
    if kind == "gguf" or path.is_file():
        return path
    there = [
        f"embedded/{key}".rstrip("/") for key, file in _EMBEDDED.items() if (_NANO / file).is_file()
    ]
    raise ModelNotFound(
        f"{spec!r} needs {path}, which is not there; embedded models that are: "
        f"{', '.join(there) or 'none'}"
    )


def open_engine(spec: str, *, num_ctx: int | None = None, clients: int = 1) -> Engine | None:
    """Start the engine `spec` needs, to be shared as ``connect(spec, engine=engine.address)``.

    Args:
        spec: as for `connect`.
        num_ctx: as for `connect`.
        clients: how many clients will share it, over all processes.

    Returns:
        ``None`` if `spec` needs no engine.

    Raises:
        UsageError: `spec` or `num_ctx` is not usable.
        ModelNotFound: the file is not there, or cannot be loaded.
    """
    path = needs_engine(spec)
    _check_window(num_ctx)
    if path is None:
        return None
    from rlm.clients.llamacpp import CONNECTIONS, start_engine

    default = GGUF_WINDOW if spec.startswith("gguf/") else EMBEDDED_WINDOW
    _, adapter = _files(*_parse(spec))
    connections = CONNECTIONS * clients
    return start_engine(path, adapter=adapter, n_ctx=num_ctx or default, connections=connections)


def in_turn(spec: str) -> bool:
    """Whether calls can never meet in one batch: the engine here has one slot, ``hf/`` one lock.

    Their tokens are the same, bit for bit, however many calls wait. Other servers may compute calls
    of the same moment as one batch, which adds floats in another order: a near tie of two tokens
    can then fall out otherwise, even at temperature 0.

    Raises:
        UsageError: `spec` is not usable.
    """
    return _parse(spec)[0] in ("embedded", "gguf", "hf")


def is_shared(spec: str) -> bool:
    """Whether all processes call one model; of ``hf/`` each process loads a copy of its own.

    Raises:
        UsageError: `spec` is not usable.
    """
    return _parse(spec)[0] != "hf"


def concurrency(spec: str) -> int:
    """How many sub-calls of one batch to have at once, where nobody says.

    One on the engine here, with ``hf/`` and on Ollama, which answer one after another by default
    (``OLLAMA_NUM_PARALLEL`` is 1, and always for some models): more would only queue there. Eight
    on other servers, which are made to answer many.

    Raises:
        UsageError: `spec` is not usable.
    """
    return 8 if _parse(spec)[0] == "openai" else 1


def parallel(spec: str) -> int | None:
    """How many calls the model answers at once; ``None`` where nobody says.

    The engine here and each copy of ``hf/`` answer one after another. Ollama does so too unless
    ``OLLAMA_NUM_PARALLEL`` says otherwise, which a client sees only if the server runs in the same
    environment. Of the servers of ``openai/`` llama-server tells its slots.

    Raises:
        UsageError: `spec` is not usable.
        ClientError: the server cannot be asked.
    """
    kind, name = _parse(spec)
    if kind == "ollama":
        told = os.environ.get("OLLAMA_NUM_PARALLEL", "")
        return int(told) if told.isdecimal() and int(told) else 1
    if kind != "openai":
        return 1
    from rlm.clients.openai import OpenAIClient

    name, _, url = name.partition("@")
    with closing(OpenAIClient(name, url, spec=spec)) as client:
        return client.slots


def can_pull(spec: str) -> bool:
    """Whether the server of the model can fetch it; see `pull`."""
    return _parse(spec)[0] == "ollama"


def pull(spec: str) -> Iterator[Pulling]:
    """Let the server fetch the model that `can_pull`; see `rlm.clients.pulling.pull`."""
    from rlm.clients import pulling

    return pulling.pull(_parse(spec)[1])


def canary(client: Client) -> Canary | None:
    """What the server does with a prompt that cannot fit; ``None`` where that is no question.

    The engine here counts every prompt itself, and the servers of ``openai/`` refuse.
    """
    from rlm.clients.ollama import OllamaClient

    return client.canary() if isinstance(client, OllamaClient) else None


def _parse(spec: str) -> tuple[str, str]:
    """Kind and name; an address is judged here, before anything runs."""
    from rlm.clients import ollama, openai

    plain, plus, adapter = spec.partition("+")
    kind, slash, name = plain.partition("/")
    is_whole = bool(slash) == bool(name) and bool(plus) == bool(adapter)
    if kind == "embedded" and name in _EMBEDDED and is_whole:
        return kind, f"{name}{plus}{adapter}"
    kind, _, name = spec.partition("/")
    if kind in ("gguf", "hf") and name:
        return kind, name
    if kind == "ollama" and name:
        ollama.base_url(os.environ.get("OLLAMA_HOST", ""))
        return kind, name
    if kind == "openai" and all(name.partition("@")):
        openai.base_url(name.partition("@")[2])
        return kind, name
    forms = "".join(f"\n  {form}" for form in FORMS.values())
    shown = re.sub(r"(://|@).*@", r"\1***@", spec, flags=re.DOTALL)  # may hold a password
    raise UsageError(
        f"no model {shown!r}; did you mean {_nearest(shown)!r}? A model is one of{forms}"
    )


def _files(kind: str, name: str) -> tuple[Path, Path | None]:
    """Model file and adapter of a spec that needs an engine."""
    if kind == "gguf":
        return _split(name)
    variant, _, adapter = name.partition("+")
    return _NANO / _EMBEDDED[variant], Path(adapter) if adapter else None


def _split(name: str) -> tuple[Path, Path | None]:
    """``PATH+ADAPTER`` in two, at the last ``+`` before which something exists, else the last."""
    places = [i for i, letter in enumerate(name) if letter == "+" and 0 < i < len(name) - 1]
    if not places or Path(name).exists():
        return Path(name), None
    there = [i for i in places if Path(name[:i]).exists()]
    place = (there or places)[-1]
    return Path(name[:place]), Path(name[place + 1 :])


def _nearest(spec: str) -> str:
    """The spec that was probably meant."""
    plain, plus, adapter = spec.partition("+")
    kind, _, name = plain.partition("/")
    close = difflib.get_close_matches(kind, FORMS, n=1)
    if spec.endswith(".gguf") and not (plus and close == ["embedded"]):
        return f"gguf/{spec.removeprefix('gguf/')}"
    if spec and Path(spec, "config.json").is_file():
        return f"hf/{spec}"
    if not close:
        return f"ollama/{spec}" if spec else "embedded"
    if close[0] == "embedded":
        variant = difflib.get_close_matches(name, ["base", "sft"], n=1)
        lora = f"+{adapter or 'LORA.gguf'}" if plus else ""
        return "/".join(["embedded", *variant]) + lora
    name = spec.partition("/")[2]
    if close[0] == "openai":
        model, _, url = name.partition("@")
        return f"openai/{model or 'NAME'}@{url or 'http://localhost:8000/v1'}"
    return f"{close[0]}/{name or 'NAME'}"


def _check_window(num_ctx: int | None) -> None:
    if num_ctx is not None and (num_ctx <= 0 or num_ctx % 256):
        nearest = max(256, -(-num_ctx // 256) * 256)
        raise UsageError(f"a window is a multiple of 256 tokens, not {num_ctx}; use {nearest}")
