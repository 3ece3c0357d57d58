"""What a run is said to take, against what it takes and against the card of the study."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import tiny_folder
from training import memory
from training.lora import Adapter, adapter_state, add_adapter, open_base
from training.memory import Memory

QWEN_1_5B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_weights_and_adapter_are_what_they_take(quantization: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "tiny")
    told = memory.estimate(
        folder,
        Adapter(rank=4),
        quantization,  # type: ignore[arg-type]
        tokens=1,
        learned=1,
        moments=2,
        checkpointing=False,
    )
    base = open_base(folder, quantization)  # type: ignore[arg-type]
    largest = 64 * 128 * 4 if quantization == "nf4" else 0
    assert told.weights - largest == pytest.approx(base.get_memory_footprint(), rel=0.05)
    state = adapter_state(add_adapter(base, Adapter(rank=4), seed=0))
    assert told.adapter == sum(p.numel() for p in state.values()) * 4 * 4


def qwen(tmp_path: Path, *, quantization: str, checkpointing: bool, rank: int = 16) -> Memory:
    from transformers import Qwen2Config

    Qwen2Config(**QWEN_1_5B).save_pretrained(tmp_path)
    return memory.estimate(
        tmp_path,
        Adapter(rank=rank),
        quantization,  # type: ignore[arg-type]
        tokens=2048,
        learned=512,
        moments=2,
        checkpointing=checkpointing,
        device="cuda:0",
    )


def test_a_card_of_six_gigabytes_is_enough_for_the_study(tmp_path: Path) -> None:
    """Rank 16, rows of 2,048 tokens; not so without NF4 and without checkpointing together."""
    told = qwen(tmp_path, quantization="nf4", checkpointing=True)
    assert told.total < 6e9
    assert told.adapter == 18_464_768 * 16
    memory.require(told, 6_000_000_000, "cuda:0")
    for options in (("nf4", False), ("none", False)):
        more = qwen(tmp_path, quantization=options[0], checkpointing=options[1])
        with pytest.raises(MemoryError, match=r"this run takes .* GiB \(weights .*cuda:0 has 5.59"):
            memory.require(more, 6_000_000_000, "cuda:0")


def test_what_nobody_knows_is_not_refused(tmp_path: Path) -> None:
    memory.require(Memory(10**15, 0, 0, 0, 0), None, "cpu")


def test_this_machine_has_some_memory() -> None:
    free = memory.available("cpu")
    assert free is None or 2**26 < free < 2**50
