"""A trained Qwen2 or Qwen3, or its LoRA adapter alone, as GGUF in f32 for llama.cpp and Ollama.

Tensor names and metadata keys: llama.cpp's ``gguf-py/gguf/constants.py`` (architectures ``qwen2``
and ``qwen3``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import gguf
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import PreTrainedConfig

from training.vocabulary import Speech, tokenizer_misfits, write_tokenizer

ARCHITECTURES: Final = ("qwen2", "qwen3")
"""Of Hugging Face's ``model_type``; llama.cpp calls them the same."""
EMBEDDED: Final = Speech()
TENSORS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LORA = re.compile(
    r"base_model\.model\.model\.layers\.(?P<layer>\d+)\.(?P<part>.+)\.lora_(?P<half>[AB])\.weight"
)


def export_gguf(
    path: Path,
    state: dict[str, torch.Tensor],
    config: PreTrainedConfig,
    tokenizer: Tokenizer,
    *,
    name: str,
    speech: Speech = EMBEDDED,
    licence: str | None = "apache-2.0",
) -> None:
    """Write weights, tokenizer and chat template to `path`, by way of a temporary name.

    Args:
        path: where the file goes.
        state: state dict of a `Qwen2ForCausalLM` or `Qwen3ForCausalLM`.
        config: its sizes.
        tokenizer: byte-level BPE, with at most as many tokens as the model has rows.
        name: the model's name in the file.
        speech: chat template and tokens with a role.
        licence: of the weights; ``None`` says nothing.

    Raises:
        ValueError: `misfits` finds something, or the tokenizer lacks a token that `speech` names.
    """
    if odd := misfits(config, tokenizer):
        raise ValueError(f"{path.name} cannot hold {', '.join(odd)}")
    with _written(path, config.model_type) as writer:
        writer.add_name(name)
        if licence is not None:
            writer.add_license(licence)
        _write_sizes(writer, config)
        write_tokenizer(writer, tokenizer, config.vocab_size, speech)
        for target, tensor in _tensors(state, tied=config.tie_word_embeddings):
            writer.add_tensor(target, _array(tensor))


def misfits(config: PreTrainedConfig, tokenizer: Tokenizer) -> list[str]:
    """What of a model `export_gguf` cannot write; empty if it can."""
    rope = getattr(config, "rope_parameters", None) or {}
    tokens = max(tokenizer.get_vocab().values()) + 1
    found = {
        f"a {config.model_type}": config.model_type not in ARCHITECTURES,
        "scaled positions": rope.get("rope_type") != "default",
        "a sliding window": getattr(config, "sliding_window", None) is not None,
        "biases": config.model_type == "qwen3" and config.attention_bias,
        "another activation": getattr(config, "hidden_act", "silu") != "silu",
        f"{tokens} tokens in {config.vocab_size} rows": tokens > config.vocab_size,
    }
    return [what for what, is_so in found.items() if is_so] + tokenizer_misfits(tokenizer)


def export_lora(path: Path, adapter: Path, *, name: str, architecture: str = "qwen3") -> None:
    """Write a PEFT adapter of a Qwen2 or Qwen3 as GGUF adapter, by way of a temporary name.

    llama.cpp scales each tensor by alpha / rank. Rank-stabilised LoRA (arXiv 2312.03732) divides
    by the root of the rank: it is written with an alpha that comes to the same.

    Args:
        path: where the file goes.
        adapter: folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        name: the adapter's name in the file.
        architecture: its base's, of `ARCHITECTURES`; llama.cpp refuses an adapter of another.

    Raises:
        ValueError: the adapter has parts that such a file cannot hold: another kind than LoRA,
            DoRA, trained biases or embeddings, or ranks and alphas that differ between tensors.
    """
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    _refuse_unwritable(settings, adapter)
    tensors = _lora_tensors(load_file(adapter / "adapter_model.safetensors"))
    alpha = settings["lora_alpha"] * (settings["r"] ** 0.5 if settings["use_rslora"] else 1.0)
    with _written(path, architecture) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_name(name)
        writer.add_float32("adapter.lora.alpha", alpha)
        for target, tensor in tensors:
            writer.add_tensor(target, _array(tensor))


@contextmanager
def _written(path: Path, architecture: str) -> Iterator[gguf.GGUFWriter]:
    """A writer whose file stands at `path` once all is well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, architecture)
    yield writer
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().float().contiguous().numpy()


def _refuse_unwritable(settings: dict[str, Any], adapter: Path) -> None:
    plain = {"peft_type": "LORA", "bias": "none"}
    odd = [key for key, value in plain.items() if settings[key] != value]
    extras = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out")
    odd += [key for key in extras if settings.get(key)]
    if odd:
        told = ", ".join(f"{key} = {settings[key]!r}" for key in odd)
        raise ValueError(f"{adapter} cannot become a GGUF adapter: {told}; merge it instead")


def _lora_tensors(state: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """GGUF name and tensor of each half: A of (rank, in), B of (out, rank)."""
    named = []
    for key, tensor in state.items():
        found = LORA.fullmatch(key)
        if found is None or found["part"] not in TENSORS:
            raise ValueError(f"a GGUF adapter has no place for the tensor {key}")
        target = f"blk.{found['layer']}.{TENSORS[found['part']]}.weight"
        named.append((f"{target}.lora_{found['half'].lower()}", tensor))
    return named


def _write_sizes(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _tensors(state: dict[str, torch.Tensor], *, tied: bool) -> list[tuple[str, torch.Tensor]]:
    """GGUF name and tensor of each weight and bias; a tied output matrix is left out."""
    named = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
    ]
    for key, tensor in state.items():
        if key.startswith("model.layers."):
            number, _, part = key.removeprefix("model.layers.").partition(".")
            module, _, kind = part.rpartition(".")
            named.append((f"blk.{number}.{TENSORS[module]}.{kind}", tensor))
    return named if tied else [*named, ("output.weight", state["lm_head.weight"])]
