"""A Qwen3 of a few thousand weights as a Hugging Face folder, and samples for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from training import samples
from training.samples import Header, Sample

VOCABULARY = 96


def tiny_folder(path: Path) -> Path:
    """Random weights; wide enough that NF4 has whole blocks."""
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(11)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


def tiny_samples(count: int = 24) -> list[Sample]:
    """Counting on from a start: two replies each, of unlike lengths."""
    made = []
    for n in range(count):
        ids = tuple((n + 3 * i) % VOCABULARY for i in range(20 + n % 7))
        targets = ((4, 6 + n % 5), (14, len(ids)))
        document = hashlib.sha256(str(n // 2).encode()).hexdigest()
        made.append(Sample(f"{n:064x}", document, "niah", ids, targets, (1, 2)))
    return made


def tiny_file(path: Path) -> Path:
    """The samples as a file, of no model's prompts."""
    made = tiny_samples()
    samples.write(path, made, samples.part_of(Header((), (), "", {}, 0, ""), made))
    return path
