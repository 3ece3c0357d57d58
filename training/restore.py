"""A GGUF that `training.export` wrote, back as a Hugging Face folder: what fine-tuning starts from.

``python -m training.restore rlm/models/nano/embedded-base.gguf OUT`` makes the folder, which
``hf/OUT`` then opens.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.export import TENSORS
from training.pretrain.tokenizer import PRE_TOKENIZER, gguf_tokenizer


def main() -> None:
    """Read the arguments and restore."""
    parser = argparse.ArgumentParser(prog="python -m training.restore", description=__doc__)
    parser.add_argument("gguf", type=Path, help="file that training.export wrote, in f32")
    parser.add_argument("out", type=Path, help="folder to write to")
    args = parser.parse_args()
    try:
        print(hf_folder(args.gguf, args.out))
    except (OSError, ValueError) as error:
        parser.error(f"{args.gguf} cannot be restored: {error}")


def hf_folder(path: Path, out: Path) -> Path:
    """Write weights, tokenizer, template and settings of a GGUF to the folder `out`.

    Args:
        path: a Qwen3 in f32 with tied embeddings, such as ``rlm/models/nano/embedded-base.gguf``.
        out: is made if it is not there.

    Returns:
        `out`.

    Raises:
        ValueError: the file is another architecture, not in f32, or has another split rule.
    """
    reader = gguf.GGUFReader(path)
    told = {name: field.contents() for name, field in reader.fields.items()}
    _refuse_other(path, told, reader)
    tokenizer = _tokenizer(path, told)
    model = Qwen3ForCausalLM(_config(told, len(tokenizer)))
    lacking, odd = model.load_state_dict(_state(reader), strict=False)
    if odd or set(lacking) - {"lm_head.weight"}:  # the output matrix is the embedding
        raise ValueError(f"{path} lacks {lacking} and has {odd}")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _refuse_other(path: Path, told: dict[str, Any], reader: gguf.GGUFReader) -> None:
    found = (told.get("general.architecture"), told.get("tokenizer.ggml.pre"))
    types = {tensor.tensor_type.name for tensor in reader.tensors}
    if found != ("qwen3", PRE_TOKENIZER) or types != {"F32"}:
        raise ValueError(
            f"{path} is a {found[0]} with the split rule {found[1]} in {', '.join(sorted(types))}; "
            f"only a qwen3 with {PRE_TOKENIZER} in F32 can be restored"
        )


def _config(told: dict[str, Any], vocabulary: int) -> Qwen3Config:
    sizes = {
        key.removeprefix("qwen3."): value for key, value in told.items() if key.startswith("qwen3.")
    }
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=sizes["embedding_length"],
        num_hidden_layers=sizes["block_count"],
        num_attention_heads=sizes["attention.head_count"],
        num_key_value_heads=sizes["attention.head_count_kv"],
        head_dim=sizes["attention.key_length"],
        intermediate_size=sizes["feed_forward_length"],
        max_position_embeddings=sizes["context_length"],
        rms_norm_eps=sizes["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": sizes["rope.freq_base"]},
        tie_word_embeddings=True,
        eos_token_id=told["tokenizer.ggml.eos_token_id"],
        pad_token_id=told["tokenizer.ggml.padding_token_id"],
    )


def _tokenizer(path: Path, told: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokens = told["tokenizer.ggml.tokens"]
    return PreTrainedTokenizerFast(
        tokenizer_object=gguf_tokenizer(path),
        eos_token=tokens[told["tokenizer.ggml.eos_token_id"]],
        pad_token=tokens[told["tokenizer.ggml.padding_token_id"]],
        chat_template=told["tokenizer.chat_template"],
        clean_up_tokenization_spaces=False,
    )


def _state(reader: gguf.GGUFReader) -> dict[str, torch.Tensor]:
    """State dict of a `Qwen3ForCausalLM`; the tied output matrix is left out."""
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    parts = {target: part for part, target in TENSORS.items()}
    state = {}
    for tensor in reader.tensors:
        key = names.get(tensor.name)
        if key is None:
            _, layer, target, _ = tensor.name.split(".")
            key = f"model.layers.{layer}.{parts[target]}.weight"
        state[key] = torch.from_numpy(tensor.data.copy())
    return state


if __name__ == "__main__":
    main()
