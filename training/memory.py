"""How much memory a QLoRA run takes, by calculation, and whether that much is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.lora import Adapter, Quantization

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""For each weight: itself, a byte for each block of 64, a float for each 256 of these."""
OVERHEAD = 0.6 * 2**30
"""Bytes of a CUDA context, kernels and the allocator's fragments."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a run takes, by part."""

    weights: int
    adapter: int
    activations: int
    logits: int
    overhead: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.adapter + self.activations + self.logits + self.overhead

    def __str__(self) -> str:
        parts = ("weights", "adapter", "activations", "logits", "overhead")
        told = ", ".join(f"{part} {getattr(self, part) / 2**30:.2f}" for part in parts)
        return f"{self.total / 2**30:.2f} GiB ({told})"


def estimate(
    folder: Path,
    adapter: Adapter,
    quantization: Quantization,
    *,
    tokens: int,
    learned: int,
    moments: int,
    checkpointing: bool,
    device: str = "cpu",
) -> Memory:
    """What a run takes at its peak.

    Args:
        folder: a Hugging Face folder; only its config is read.
        adapter: its shape.
        quantization: of the base.
        tokens: of the longest row; rows go through one by one.
        learned: most supervised tokens of a row.
        moments: that the optimizer keeps for each parameter: 2 of AdamW, 1 of Muon.
        checkpointing: whether activations are made again in the backward pass.
        device: ``cpu`` computes in float32, a card in bfloat16.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    width = 4 if device == "cpu" else 2
    inner = sum(m.weight.numel() for m in linear)
    outer = sum(p.numel() for p in model.parameters()) - inner
    bits = NF4_BITS if quantization == "nf4" else 8 * width
    factors = sum(adapter.rank * (m.in_features + m.out_features) for m in linear)
    layers = config.num_hidden_layers
    kept = sum(2 * m.in_features + 2 * m.out_features for m in linear) // layers
    one_layer, stream = tokens * kept * width, tokens * config.hidden_size * width
    activations = layers * stream + one_layer if checkpointing else layers * one_layer
    largest = max(m.weight.numel() for m in linear) * width  # dequantised for a product
    return Memory(
        weights=round(inner * bits / 8) + outer * width + (largest if quantization == "nf4" else 0),
        adapter=factors * 4 * (2 + moments),
        activations=activations,
        logits=learned * config.vocab_size * 4 * 3,
        overhead=0 if device == "cpu" else round(OVERHEAD),
    )


def available(device: str) -> int | None:
    """Free bytes of a card or of this machine; ``None`` where nobody says."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info(device)[0])
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text(encoding="ascii").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def require(needed: Memory, free: int | None, where: str) -> None:
    """Raise `MemoryError` when `needed` is more than `free` bytes; says what takes less."""
    if free is not None and needed.total > free:
        raise MemoryError(
            f"this run takes {needed}, but {where} has {free / 2**30:.2f} GiB free: use "
            "--quantization nf4, --checkpointing on, shorter rows (--max-seq of training.samples) "
            "or a smaller --rank"
        )
