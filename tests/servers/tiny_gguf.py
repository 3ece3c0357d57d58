"""A random Qwen3 in GGUF, a few hundred kilobytes: it has the real shape and says nonsense."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, TRAINED = 2, 64, 4, 2, 16, 128, 4096
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "Ġ t", "u s", "us e", "use r")


def write_tiny_gguf(path: Path, *, template: str | None, seed: int = 0) -> Path:
    """Write the model to `path`.

    Args:
        template: chat template to store; ``None`` stores none.
        seed: of the weights.
    """
    writer = gguf.GGUFWriter(path, "qwen3")
    _write_keys(writer)
    tokens = _write_tokenizer(writer)
    if template is not None:
        writer.add_chat_template(template)
    _write_tensors(writer, len(tokens), np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_keys(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(TRAINED)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_tokenizer(writer: gguf.GGUFWriter) -> list[str]:
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*_byte_letters(), *merged, *SPECIALS]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    types = [normal] * (len(tokens) - len(SPECIALS)) + [control] * len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    return tokens


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary (GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def _write_tensors(writer: gguf.GGUFWriter, vocabulary: int, rng: np.random.Generator) -> None:
    def matrix(name: str, rows: int, columns: int, scale: float = 0.3) -> None:
        values = rng.normal(0.0, scale, (rows, columns)).astype(np.float32)
        writer.add_tensor(f"{name}.weight", values)

    def norm(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    matrix("token_embd", vocabulary, WIDTH, 1.0)
    norm("output_norm", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm", WIDTH)
        norm(f"{block}.ffn_norm", WIDTH)
        norm(f"{block}.attn_q_norm", HEAD)
        norm(f"{block}.attn_k_norm", HEAD)
        matrix(f"{block}.attn_q", HEADS * HEAD, WIDTH)
        matrix(f"{block}.attn_k", KV_HEADS * HEAD, WIDTH)
        matrix(f"{block}.attn_v", KV_HEADS * HEAD, WIDTH)
        matrix(f"{block}.attn_output", WIDTH, HEADS * HEAD)
        matrix(f"{block}.ffn_gate", FEED_FORWARD, WIDTH)
        matrix(f"{block}.ffn_up", FEED_FORWARD, WIDTH)
        matrix(f"{block}.ffn_down", WIDTH, FEED_FORWARD)


def write_tiny_lora(path: Path, *, rank: int = 4, width: int = WIDTH, seed: int = 1) -> Path:
    """Write a random LoRA adapter of the tiny model to `path`.

    Args:
        width: of the model it is for; another than `WIDTH` fits no tiny model.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    for layer in range(LAYERS):
        name = f"blk.{layer}.attn_q.weight"
        for end, shape in (("a", (rank, width)), ("b", (HEADS * HEAD, rank))):
            values = rng.normal(0.0, 0.3, shape).astype(np.float32)
            writer.add_tensor(f"{name}.lora_{end}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
