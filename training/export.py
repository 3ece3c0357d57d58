"""A trained Qwen3, or a LoRA adapter of one alone, as GGUF in f32: llama.cpp and Ollama load both.

Tensor names and metadata keys: llama.cpp's ``gguf-py/gguf/constants.py`` (architecture ``qwen3``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen3Config

from rlm.clients.llamacpp import CHATML_TEMPLATE
from training.pretrain.tokenizer import END, END_OF_TEXT, PRE_TOKENIZER, SPECIAL

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
    config: Qwen3Config,
    tokenizer: Tokenizer,
    *,
    name: str,
) -> None:
    """Write weights, tokenizer and chat template to `path`, by way of a temporary name.

    Args:
        path: where the file goes.
        state: state dict of a `Qwen3ForCausalLM` with tied embeddings.
        config: its sizes.
        tokenizer: byte-level BPE of `training.pretrain.tokenizer`.
        name: the model's name in the file.

    Raises:
        ValueError: model and tokenizer differ in their number of tokens.
    """
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the model {config.vocab_size}"
        )
    with _written(path) as writer:
        writer.add_name(name)
        writer.add_license("apache-2.0")
        _write_sizes(writer, config)
        _write_tokenizer(writer, tokenizer)
        for target, tensor in _tensors(state):
            writer.add_tensor(target, _array(tensor))


def export_lora(path: Path, adapter: Path, *, name: str) -> None:
    """Write a PEFT adapter of a Qwen3 as GGUF adapter to `path`, by way of a temporary name.

    llama.cpp scales each tensor by alpha / rank. Rank-stabilised LoRA (arXiv 2312.03732) divides
    by the root of the rank: it is written with an alpha that comes to the same.

    Args:
        path: where the file goes.
        adapter: folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        name: the adapter's name in the file.

    Raises:
        ValueError: the adapter has parts that such a file cannot hold: another kind than LoRA,
            DoRA, trained biases or embeddings, or ranks and alphas that differ between tensors.
    """
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    _refuse_unwritable(settings, adapter)
    tensors = _lora_tensors(load_file(adapter / "adapter_model.safetensors"))
    alpha = settings["lora_alpha"] * (settings["r"] ** 0.5 if settings["use_rslora"] else 1.0)
    with _written(path) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_name(name)
        writer.add_float32("adapter.lora.alpha", alpha)
        for target, tensor in tensors:
            writer.add_tensor(target, _array(tensor))


@contextmanager
def _written(path: Path) -> Iterator[gguf.GGUFWriter]:
    """A writer whose file stands at `path` once all is well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, "qwen3")
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


def _write_sizes(writer: gguf.GGUFWriter, config: Qwen3Config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML_TEMPLATE)


def _tensors(state: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """GGUF name and tensor of each weight; the tied output matrix is left out."""
    named = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
    ]
    for key, tensor in state.items():
        if key.startswith("model.layers."):
            number, _, part = key.removeprefix("model.layers.").partition(".")
            target = TENSORS[part.removesuffix(".weight")]
            named.append((f"blk.{number}.{target}.weight", tensor))
    return named
