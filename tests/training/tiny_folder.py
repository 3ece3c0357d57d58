"""A random Qwen3 as Hugging Face folder and as GGUF, and adapters of it in both forms."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from rlm.clients import needs_engine
from training.export import export_gguf, export_lora
from training.restore import hf_folder

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_tiny(out: Path, *, seed: int = 0, layers: int = 2, width: int = 64) -> tuple[Path, Path]:
    """Folder and GGUF of the same weights, with the embedded models' tokenizer and template."""
    shipped = needs_engine("embedded/base")
    assert shipped is not None
    tokenizer = AutoTokenizer.from_pretrained(hf_folder(shipped, out / "shipped"))
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            intermediate_size=128,
            max_position_embeddings=1024,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            rms_norm_eps=1e-6,
            initializer_range=0.3,
            tie_word_embeddings=True,
        )
    )
    file = out / "tiny.gguf"
    export_gguf(file, model.state_dict(), model.config, tokenizer.backend_tokenizer, name="tiny")
    return hf_folder(file, out / "tiny"), file


def write_adapter(folder: Path, out: Path, *, stabilised: bool = False) -> tuple[Path, Path]:
    """A random PEFT adapter of all linear layers of `folder`, and the same as GGUF."""
    torch.manual_seed(7)
    settings = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=list(LINEAR),
        init_lora_weights=False,
        use_rslora=stabilised,
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings)
    model.save_pretrained(out)
    kind = model.config.model_type
    export_lora(out.with_suffix(".gguf"), out, name="random", architecture=kind)
    return out, out.with_suffix(".gguf")
