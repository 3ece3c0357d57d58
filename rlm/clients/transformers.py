"""A Hugging Face folder, with a PEFT adapter or without, in this process: needs the training extra.

Only local files are read and no hub is ever asked. One call runs at a time: a lock makes the others
wait. Every process that connects has a copy of the weights of its own.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rlm.clients._chat_template import ChatTemplate
from rlm.clients._thinking import without_thinking
from rlm.clients.base import ModelInfo
from rlm.clients.window import refuse_hopeless
from rlm.errors import CallTimeout, ModelNotFound, PromptTooLong, ProtocolError, UsageError
from rlm.messages import Completion, Message, Options, Times, Usage

# What decides an answer: weights, tokenizer, template, settings. No logs, no optimizer.
_FILES: Final = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*",
    "adapter_model.bin",
)
# A GPU has an exception of its own for it; torch on a CPU says it in one of these ways.
_NO_MEMORY: Final = re.compile("not enough memory|can't allocate memory")
_LOCAL: Final = {"local_files_only": True, "trust_remote_code": False}


class TransformersClient:
    """A causal language model of transformers. Thread-safe: one call at a time.

    On a GPU that torch sees the weights have the type that the folder says. On a CPU they are f32,
    and torch has one thread unless ``OMP_NUM_THREADS`` is set. Greedy at temperature 0, else drawn
    from the whole distribution with the call's seed: sampling settings of the folder do not count.

    Args:
        folder: holds ``config.json``, weights and tokenizer.
        adapter: folder of a PEFT adapter of this model.
        spec: what `info` repeats.
        num_ctx: most tokens of a window; the model's own trained length if that is less.

    Raises:
        UsageError: torch, transformers or peft is not installed, or there is no chat template.
        ModelNotFound: a folder is not there, cannot be loaded, or the adapter is another model's.
    """

    def __init__(self, folder: Path, adapter: Path | None, *, spec: str, num_ctx: int) -> None:
        _check(folder, adapter)
        self._spec, self._folder, self._lock = spec, folder, threading.Lock()
        with _quiet():
            self._tokenizer = _tokenizer(folder)
            self._template = ChatTemplate(self._tokenizer, str(folder))
            self._model: Any = _load(folder)
            self._ends = _ends(self._model, self._tokenizer, folder)
            if adapter is not None:
                self._model = adapted(self._model, folder, adapter)
        trained = getattr(self._model.config.get_text_config(), "max_position_embeddings", num_ctx)
        self.window = min(trained, num_ctx)
        self._info = self._describe(_digest(folder, adapter))

    def info(self) -> ModelInfo:
        """Describe the model."""
        return self._info

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer the last message; see `Client.chat`.

        `Options.seconds` is looked at after each token: the reading of a prompt is not broken off.

        Raises:
            PromptTooLong: the prompt leaves no room in the window.
            CallTimeout: the seconds are over.
            ProtocolError: the template refuses the messages, or memory does not suffice.
        """
        started = time.monotonic()
        refuse_hopeless(messages, self.window)
        ids = self.prompt_ids(messages)
        if len(ids) >= self.window:
            raise PromptTooLong(
                f"the prompt of {len(ids)} tokens leaves no room in the window of {self.window}",
                prompt_tokens=len(ids),
                window=self.window,
            )
        if not self._lock.acquire(timeout=_left(options, started)):
            raise _late(options)
        try:
            if _left(options, started) == 0.0:
                raise _late(options)
            answer, prefill, decode = self._generate(ids, options, started)
        finally:
            self._lock.release()
        text = self._tokenizer.decode(
            answer, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return Completion(
            text=without_thinking(text, is_open=True),
            usage=Usage(len(ids), len(answer), 1),
            finish_reason="stop" if answer[-1] in self._ends else "length",
            window=self.window,
            times=Times.told(time.monotonic() - started, prefill=prefill, decode=decode),
            prompt_ids=ids,
            completion_ids=answer,
        )

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the prompt.

        Raises:
            ProtocolError: the template refuses the messages.
        """
        return self._template.ids(messages)

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt, without a call; see `prompt_ids`."""
        return len(self.prompt_ids(messages))

    def close(self) -> None:
        """Release the weights. Idempotent."""
        import torch

        with self._lock:
            self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _generate(
        self, ids: Sequence[int], options: Options, started: float
    ) -> tuple[tuple[int, ...], float, float]:
        """Ids of the answer, its end included, and the seconds of reading and of writing."""
        import torch
        from transformers import StoppingCriteriaList

        if self._model is None:
            raise ProtocolError(f"this client of {self._folder} is closed: connect again")
        prompt = torch.tensor([ids], device=self._model.device)
        begun, tokens = time.monotonic(), [0.0]

        def watch(_ids: Any, _scores: Any, **_: Any) -> Any:
            now = time.monotonic()
            tokens[0] = tokens[0] or now
            if options.seconds is not None and now - started > options.seconds:
                raise _late(options)
            return torch.zeros(1, dtype=torch.bool, device=prompt.device)

        devices = [prompt.device] if prompt.is_cuda else []
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(options.seed)
                out = self._model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    generation_config=self._settings(options, len(ids)),
                    stopping_criteria=StoppingCriteriaList([watch]),
                )
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(str(error))):
                raise
            raise ProtocolError(
                f"no memory for a prompt of {len(ids)} tokens: take a smaller window (num_ctx, "
                f"--rlm-num-ctx) or a smaller model: {error}"
            ) from error
        ended = time.monotonic()
        return tuple(out[0, len(ids) :].tolist()), tokens[0] - begun, ended - tokens[0]

    def _settings(self, options: Options, prompt_tokens: int) -> Any:
        from transformers import GenerationConfig

        drawn = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(
            max_new_tokens=min(options.max_tokens, self.window - prompt_tokens),
            eos_token_id=list(self._ends),
            pad_token_id=self._ends[0],
            **(drawn if options.temperature > 0 else {"do_sample": False}),
        )

    def _describe(self, digest: str) -> ModelInfo:
        import torch

        device = self._model.device.type
        return ModelInfo(
            spec=self._spec,
            digest=f"sha256:{digest}",
            window=self.window,
            server=f"transformers {version('transformers')}, torch {version('torch')}",
            options={
                "prompt": "ids",
                "device": device,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                **({"threads": torch.get_num_threads()} if device == "cpu" else {}),
            },
        )


def _check(folder: Path, adapter: Path | None) -> None:
    """Refuse what cannot be opened, before anything heavy is imported."""
    if folder.is_file():
        kind = "a GGUF is gguf/PATH" if folder.suffix == ".gguf" else "name the folder it lies in"
        raise ModelNotFound(f"{folder} is a file, hf/ takes a folder with config.json: {kind}")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelNotFound(
                f"{folder} is an adapter alone: name its model too, hf/PATH+{folder}"
            )
        lack = "holds no config.json" if folder.is_dir() else "does not exist"
        raise ModelNotFound(
            f"the model folder {folder} {lack}; to download one: "
            f"hf download Qwen/Qwen3-0.6B --local-dir {folder}"
        )
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise ModelNotFound(
            f"there is no adapter in {adapter}: it needs a folder with adapter_config.json, as "
            "PEFT's save_pretrained writes it (a GGUF adapter goes with gguf/PATH+LORA.gguf)"
        )
    for name in ("torch", "transformers", *(["peft"] if adapter else [])):
        try:
            with _no_kernels():
                import_module(name)
        except ImportError as error:
            raise UsageError(
                f"hf/ needs {name} ({error}): pip install 'rlm-bench[training]'"
            ) from error


@contextmanager
def _no_kernels() -> Iterator[None]:
    """Hide the package `kernels`: bitsandbytes, which PEFT imports, has it fetch code from a hub.

    Without it bitsandbytes goes on, with a warning that is of no use here.
    """
    hidden = "kernels" not in sys.modules
    level = logging.root.manager.disable
    if hidden:
        sys.modules["kernels"] = None  # type: ignore[assignment]
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        if hidden:
            del sys.modules["kernels"]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of the libraries; what matters is checked and raised."""
    from transformers.utils import logging as told

    bars, level = told.is_progress_bar_enabled(), told.get_verbosity()
    told.disable_progress_bar()
    told.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return _loaded(folder, lambda: AutoTokenizer.from_pretrained(str(folder), **_LOCAL))


def _load(folder: Path) -> Any:
    """The weights, every one of them from the folder, on the device that will use them."""
    import torch
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available()
    if not gpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    model, report = _loaded(
        folder,
        lambda: AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype="auto" if gpu else torch.float32,
            output_loading_info=True,
            **_LOCAL,
        ),
    )
    lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lacking:
        raise ModelNotFound(
            f"{folder} does not hold all weights of its model (such as {lacking[0]}, of "
            f"{len(lacking)}): download it again, all files"
        )
    return _loaded(folder, lambda: model.to("cuda" if gpu else "cpu").eval())


def _loaded(folder: Path, load: Callable[[], Any]) -> Any:
    """What `load` gives; whatever it raises becomes an error that names the folder."""
    try:
        return load()
    except Exception as error:  # each file format and each library has errors of its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelNotFound(f"transformers cannot load {folder}: {reason}") from error


def _ends(model: Any, tokenizer: Any, folder: Path) -> tuple[int, ...]:
    """The tokens that end an answer: those of the generation settings, and the tokenizer's own.

    The rest of the folder's generation settings (penalties, nuclei) is dropped: transformers would
    add it to what a call asks for.
    """
    from transformers import GenerationConfig

    told = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig()
    ids = told if isinstance(told, list) else [told]
    ends = tuple(dict.fromkeys(i for i in [*ids, tokenizer.eos_token_id] if i is not None))
    if not ends:
        raise ModelNotFound(
            f"{folder} names no token that ends an answer: give eos_token_id in "
            "generation_config.json"
        )
    return ends


def adapted(model: Any, folder: Path, adapter: Path) -> Any:
    """The model with the adapter beside its weights, each of whose tensors must have its place.

    Raises:
        ModelNotFound: the adapter of the folder `adapter` is none of the model of `folder`.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    wrong = f"the adapter {adapter} does not fit {folder}; take the model it was trained on"
    try:
        both = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        saved = load_peft_weights(str(adapter), device="cpu", local_files_only=True)
        placed = get_peft_model_state_dict(both, save_embedding_layers=False)
    except Exception as error:  # see `_loaded`
        reason = str(error).strip().replace("\n", " ")[:300] or type(error).__name__
        raise ModelNotFound(f"{wrong}: {reason}") from error
    # An adapter may bring whole weights of the model, such as embeddings of new tokens.
    odd = sorted((saved.keys() ^ placed.keys()) - both.state_dict().keys())
    if odd:
        raise ModelNotFound(f"{wrong}: {len(odd)} tensors have no counterpart, such as {odd[0]}")
    return both.eval()


def _digest(folder: Path, adapter: Path | None) -> str:
    """sha256 of the list of hashes and names that ``sha256sum`` prints for the files that count.

    Files are read piece by piece, and again only once they change.
    """
    lines = []
    for place in filter(None, (folder, adapter)):
        found = {file for pattern in _FILES for file in place.glob(pattern)}
        for file in sorted(file for file in found if file.is_file()):
            state = file.stat()
            lines.append(f"{_sha256(file, state.st_size, state.st_mtime_ns)}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=256)
def _sha256(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _left(options: Options, started: float) -> float:
    """What is left of the call's seconds, for a lock: 0 if none are, -1 without a bound."""
    if options.seconds is None:
        return -1.0
    return max(options.seconds - (time.monotonic() - started), 0.0)


def _late(options: Options) -> CallTimeout:
    return CallTimeout(f"the model gave no answer within {options.seconds:g} s")
