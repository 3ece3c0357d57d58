"""``python -m training.merge MODEL ADAPTER OUT``: an adapter becomes part of its model's weights.

OUT is a Hugging Face folder in float32 (``hf/OUT``). Beside its files: ``merged.gguf`` and
``adapter.gguf`` for llama.cpp and Ollama, a ``Modelfile`` for ``ollama create``, and ``merge.json``
with the hash of each file that was read or merged. The folder is there only once its logits have
been found equal to those of the adapter on its base. It is never merged into 4-bit weights: these
would be rounded once more, and part of what was learned lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import torch
from torch import Tensor

from rlm.clients.transformers import adapted
from rlm.errors import ModelNotFound
from training.export import export_gguf, export_lora, misfits
from training.lora import open_base, require_folder
from training.modelfile import WINDOW, modelfile
from training.trainer import ADAPTER, RESULT, hash_of_files
from training.vocabulary import Speech

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Onto = Literal["dequantised", "original"]
BOUND: Final = 1e-4
"""Largest difference of a logit, as a share of the largest logit. Seen: see docs/training.md."""
MERGED, LORA, MODELFILE, FACTS = "merged.gguf", "adapter.gguf", "Modelfile", "merge.json"
_TOKENIZER: Final = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
)


class MergeError(Exception):
    """An adapter that cannot be merged."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and merge."""
    parser = argparse.ArgumentParser(prog="python -m training.merge", description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder that was trained on")
    parser.add_argument("adapter", type=Path, help="folder that training.sft or PEFT wrote")
    parser.add_argument("out", type=Path, help="folder to write to; must not be there")
    parser.add_argument(
        "--onto",
        choices=get_args(Onto),
        help="the weights to merge into: what NF4 made of the model's, or the model's own "
        "(default: those that training.sft trained on)",
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        facts = merge(args.model, args.adapter, args.out, args.onto)
    except (MergeError, ModelNotFound, FileNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(_told(facts, args.out))


def merge(model: Path, adapter: Path, out: Path, onto: Onto | None = None) -> dict[str, Any]:
    """Merge, compare, export; returns what ``merge.json`` holds.

    Args:
        model: Hugging Face folder of the base, not quantised.
        adapter: PEFT folder.
        out: folder that is not there yet.
        onto: what to merge into; ``None`` is what ``result.json`` beside the adapter says.

    Raises:
        FileNotFoundError: there is no such model or adapter.
        MergeError: `out` is there, the model is quantised or not the one that was trained on, it
            is not known what was trained on, or the logits differ by more than `BOUND`.
        ModelNotFound: the adapter does not fit the model.
    """
    onto = _checked(model, adapter, out, onto)
    with _written(out) as partial:
        wanted, bare = _write_merged(model, adapter, partial, onto)
        merged = open_base(partial, "none")
        facts: dict[str, Any] = {
            "onto": onto,
            **_compared(_logits(merged), wanted, bare),
            "bound": BOUND,
        }
        facts["notes"] = _export(merged, model, adapter, partial, out)
        facts["model"] = _hashes(model, ("config.json", "*.safetensors", *_TOKENIZER))
        facts["adapter"] = hashes_of(adapter)
        facts["out"] = _hashes(partial, ("*",))
        (partial / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` once all is well, and else goes."""
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _checked(model: Path, adapter: Path, out: Path, onto: Onto | None) -> Onto:
    """What to merge into, once nothing speaks against it."""
    if out.exists():
        raise MergeError(f"{out} is there already: choose another OUT, or delete it")
    config = json.loads((require_folder(model) / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise MergeError(f"{model} is quantised itself: give the folder that it was made from")
    if not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(
            f"there is no adapter {adapter} (with an adapter_config.json): "
            f"python -m training.sft writes it to {ADAPTER}/ of its --out"
        )
    result = adapter.parent / RESULT
    if not result.is_file():
        if onto is None:
            raise MergeError(f"there is no {result}, which says what was trained on: give --onto")
        return onto
    told = json.loads(result.read_text(encoding="utf-8"))
    if told["base"] != hash_of_files(model):
        raise MergeError(
            f"{adapter} was trained on other weights than those of {model}, on those that were in "
            f"{told['settings']['model']}"
        )
    return onto or ("dequantised" if told["settings"]["quantization"] == "nf4" else "original")


def _write_merged(model: Path, adapter: Path, out: Path, onto: Onto) -> tuple[Tensor, Tensor]:
    """Write the merged folder; the logits of the base with the adapter beside it, and without."""
    plain = open_base(model, "none").eval()
    base = open_base(model, "nf4").eval() if onto == "dequantised" else plain
    bare = _logits(base)
    beside = _adapted(base, model, adapter)
    wanted = _logits(beside)
    if base is not plain:
        _dequantise(beside.unload(), plain)
        beside = _adapted(plain, model, adapter)
    merged = beside.merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    merged.save_pretrained(out)
    for file in {file for pattern in _TOKENIZER for file in model.glob(pattern)}:
        shutil.copy2(file, out)
    return wanted, bare


def _adapted(base: PreTrainedModel, model: Path, adapter: Path) -> Any:
    with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5 for what that has renamed
        warnings.simplefilter("ignore")
        return adapted(base, model, adapter)


def _dequantise(quantised: torch.nn.Module, plain: torch.nn.Module) -> None:
    """Write into `plain` what the 4-bit weights stand for, which is what their products use."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    for name, module in quantised.named_modules():
        if isinstance(module, Linear4bit):
            weight = module.weight
            plain.get_submodule(name).weight.copy_(dequantize_4bit(weight.data, weight.quant_state))


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    """(4, 64, vocabulary) logits of tokens drawn from the whole vocabulary, always the same."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (4, 64), generator=generator)
    logits: Tensor = model.eval()(input_ids=ids).logits
    return logits.float()


def _compared(found: Tensor, wanted: Tensor, bare: Tensor) -> dict[str, float]:
    """Largest difference of the merged model, largest change that the adapter makes, their scale.

    Raises:
        MergeError: the difference is no finite number, or above `BOUND` times the scale.
    """
    difference, effect = ((logits - wanted).abs().max().item() for logits in (found, bare))
    largest = wanted.abs().max().item()
    if not difference <= BOUND * largest:
        raise MergeError(
            f"the merged model's logits differ from the adapter's by up to {difference:.2g}, more "
            f"than {BOUND:g} of the largest, {largest:.3g}: nothing was written; the adapter moves "
            f"them by up to {effect:.2g}"
        )
    return {"difference": difference, "effect": effect, "largest": largest}


def _export(
    merged: PreTrainedModel, model: Path, adapter: Path, partial: Path, out: Path
) -> list[str]:
    """Write the GGUFs and the Modelfile; what the user has to do for those that were not."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(partial, local_files_only=True)
    notes = _notes(merged, tokenizer, model, adapter, out)
    if not notes:
        _write_gguf(partial / MERGED, merged, tokenizer, out.name)
        try:
            kind = merged.config.model_type
            export_lora(partial / LORA, adapter, name=out.name, architecture=kind)
        except ValueError as error:
            notes.append(f"no {LORA}: {error}")
    trained = getattr(merged.config, "max_position_embeddings", WINDOW)
    text = modelfile(MERGED, tokenizer, trained)
    if text is None:
        notes.append(f"no {MODELFILE}: the chat template is not ChatML, or there is none")
    else:
        (partial / MODELFILE).write_text(text, encoding="utf-8")
    return notes


def _write_gguf(
    path: Path, merged: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    """With the folder's own template and tokens; of its licence nothing is known."""
    speech = Speech(
        tokenizer.chat_template, tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token
    )
    backend = tokenizer.backend_tokenizer
    export_gguf(
        path,
        merged.state_dict(),
        merged.config,
        backend,
        name=name,
        speech=speech,
        licence=None,
    )


def _notes(
    merged: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    model: Path,
    adapter: Path,
    out: Path,
) -> list[str]:
    """Why `training.export` cannot write this model, and what can; empty if it can."""
    odd = misfits(merged.config, tokenizer.backend_tokenizer)
    if isinstance(tokenizer.chat_template, dict):
        odd.append("several chat templates")
    if not odd:
        return []
    convert = ["python", "llama.cpp/convert_hf_to_gguf.py", str(out)]
    convert += ["--outfile", str(out / MERGED), "--outtype", "f32"]
    lora = ["python", "llama.cpp/convert_lora_to_gguf.py", str(adapter), "--base", str(model)]
    lora += ["--outfile", str(out / LORA), "--outtype", "f32"]
    told = f"no GGUF, as training.export cannot write {', '.join(odd)}; llama.cpp's scripts can:"
    return [told, shlex.join(convert), shlex.join(lora)]


def hashes_of(adapter: Path) -> dict[str, str]:
    """sha256 of the files of an adapter, as ``merge.json`` holds them."""
    return _hashes(adapter, ("adapter_config.json", "adapter_model.*"))


def _hashes(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """sha256 of files by name."""
    found = {}
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        with file.open("rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def _told(facts: dict[str, Any], out: Path) -> str:
    """What was done, in lines."""
    weights = "what NF4 made of the weights" if facts["onto"] == "dequantised" else "the weights"
    lines = [
        f"merged into {weights}, in float32; largest difference of a logit from the adapter's "
        f"{facts['difference']:.1e} (bound {facts['bound'] * facts['largest']:.1e}; the adapter "
        f"moves them by up to {facts['effect']:.2g})",
        f"{out}: {', '.join(sorted([*facts['out'], FACTS]))}",
        *facts["notes"],
    ]
    if MODELFILE in facts["out"]:
        lines.append(
            f"for Ollama: {shlex.join(['ollama', 'create', out.name, '-f', str(out / MODELFILE)])}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
