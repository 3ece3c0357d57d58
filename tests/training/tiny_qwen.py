"""Hugging Face folders in the shape of Qwen2.5 and Qwen3: small, random, with their tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WRITTEN: Final = "<tool_call>"
"""Added, but not special: it is a token in any text."""
ROWS: Final = 1024
TEMPLATE: Final = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are tiny.<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KINDS: Final = ("qwen2 tied", "qwen2 untied", "qwen3 untied")


def qwen_tokenizer(texts: list[str]) -> Qwen2Tokenizer:
    """Trained on `texts`; the split rule and NFC are those of transformers."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        extra_special_tokens=list(SPECIAL),
    )
    tokenizer.add_tokens([WRITTEN])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_qwen(kind: str, texts: list[str], out: Path) -> Path:
    """A folder of one of `KINDS`, with more rows than tokens; no bias is 0, no norm is 1."""
    tokenizer = qwen_tokenizer(texts)
    sizes = {
        "vocab_size": ROWS,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "initializer_range": 0.3,
        "tie_word_embeddings": kind.endswith(" tied"),
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(7)
    model: PreTrainedModel
    if kind.startswith("qwen2"):
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(head_dim=32, **sizes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".bias") or "norm" in name:
                weight.add_(torch.randn_like(weight), alpha=0.3)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out
