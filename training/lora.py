"""A Hugging Face folder as a frozen base, in NF4 where asked, with a LoRA adapter in float32."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Quantization = Literal["nf4", "none"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """The shape of a LoRA adapter (arXiv 2106.09685); all linear layers but the head get one."""

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.05


def require_folder(path: Path) -> Path:
    """`path`, if it is a Hugging Face folder.

    Raises:
        FileNotFoundError: it is not; says how to get one.
    """
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"there is no Hugging Face folder {path} (with a config.json): "
            "python -m training.restore GGUF FOLDER makes one of an embedded model, "
            "hf download NAME --local-dir FOLDER fetches one"
        )
    return path


def open_base(path: Path, quantization: Quantization, device: str = "cpu") -> PreTrainedModel:
    """Open a causal language model, frozen: float32 on a CPU, bfloat16 on a card.

    NF4 is that of QLoRA (arXiv 2305.14314), with double quantization; embeddings, norms and head
    stay as they are. No hub is ever asked.

    Args:
        path: a Hugging Face folder.
        quantization: ``nf4`` or ``none``.
        device: such as ``cpu`` or ``cuda:0``.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # Without the package kernels it warns that inference could be faster, which is not done here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "device_map": device}
    if quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(require_folder(path), **options)
    keep_weights_unpacked(model)
    model.config.use_cache = False
    return model.requires_grad_(False)


def keep_weights_unpacked(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on a CPU with avx512_bf16.

    Version 0.50.2 does so in place at the first forward in eval mode; from then on gradients of the
    adapter are wrong, without a word, and merges return garbage. A test holds this.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def add_adapter(base: PreTrainedModel, adapter: Adapter, seed: int) -> PeftModel:
    """Put a fresh adapter on `base`; the same seed gives the same one.

    Its weights are float32 whatever the base is: bfloat16 would swallow most of a small step.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
    with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5 for what that has renamed
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(base, config)


def adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """The adapter's tensors by name, those that are trained."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def load_adapter_state(model: PeftModel, state: Mapping[str, Tensor]) -> None:
    """The inverse of `adapter_state`."""
    own = adapter_state(model)
    if own.keys() != state.keys():
        raise ValueError(f"the adapter has other parts: {sorted(own.keys() ^ state.keys())[:3]}")
    for name, tensor in own.items():
        tensor.copy_(state[name])


def delta_norm(model: PeftModel) -> float:
    """Frobenius norm of the change of all weights together, by the factors' small Gram matrices."""
    from peft.tuners.lora import LoraLayer

    total = 0.0
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, scale in module.scaling.items():
                a, b = (half[name].weight.detach() for half in (module.lora_A, module.lora_B))
                total += scale**2 * ((a @ a.T) * (b.T @ b)).sum().item()
    return math.sqrt(max(total, 0.0))


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Hash of named tensors: what proves that two runs began alike."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
