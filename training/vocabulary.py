"""A byte-level BPE of Hugging Face's tokenizers as llama.cpp keeps it in a GGUF.

llama.cpp knows a split rule by name only. Two are known here: ``qwen2`` (single digits) and
``llama-bpe`` (digits in groups of up to three). Token types and the names of rows without a token:
``get_vocab_base`` of llama.cpp's ``convert_hf_to_gguf.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import gguf
from tokenizers import Tokenizer

from rlm.clients.llamacpp import CHATML_TEMPLATE
from training.pretrain.tokenizer import END, END_OF_TEXT, PRE_TOKENIZER, SPLIT

QWEN2_SPLIT: Final = SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
"""llama.cpp's ``LLAMA_VOCAB_PRE_TYPE_QWEN2``, as Hugging Face writes it."""
SPLITS: Final = {SPLIT: PRE_TOKENIZER, QWEN2_SPLIT: "qwen2"}


@dataclass(frozen=True, slots=True)
class Speech:
    """What a file says of a conversation; the defaults are those of the embedded models.

    Attributes:
        template: chat template in Jinja; ``None`` leaves it out, as with each of the others.
        eos: token that ends an answer.
        pad: token that fills a batch.
        bos: token that opens a text. Never put there unasked: ``add_bos_token`` is false.
    """

    template: str | None = CHATML_TEMPLATE
    eos: str | None = END
    pad: str | None = END_OF_TEXT
    bos: str | None = None


def split_rule(tokenizer: Tokenizer) -> str | None:
    """llama.cpp's name of the split rule; ``None`` if it is neither of the two, to the letter."""
    match json.loads(tokenizer.to_str())["pre_tokenizer"]:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": str(pattern)},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return SPLITS.get(pattern)
    return None


def tokenizer_misfits(tokenizer: Tokenizer) -> list[str]:
    """What this tokenizer does that llama.cpp would not; empty if `write_tokenizer` can write it.

    NFC is let pass, as llama.cpp's own converter does: llama.cpp normalises nothing, so a text that
    is not in NFC has other ids there.
    """
    written = json.loads(tokenizer.to_str())
    model, normalizer = written["model"], written["normalizer"]
    if model["type"] != "BPE":
        return [f"a tokenizer of the kind {model['type']}"]
    affixes = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout")
    flags = ("lstrip", "rstrip", "single_word")
    rule = split_rule(tokenizer)
    found = {
        "another split rule": rule is None,
        "another normalizer": normalizer not in (None, {"type": "NFC"}),
        "a BPE that is not of plain bytes": any(model.get(key) for key in affixes),
        "tokens that take spaces or whole words": any(
            token[flag] for token in written["added_tokens"] for flag in flags
        ),
        "tokens that are put around each text": tokenizer.num_special_tokens_to_add(False) > 0,
        "tokens that merges do not reach": rule is not None and _merges_matter(written, rule),
    }
    return [what for what, is_so in found.items() if is_so]


def _merges_matter(written: dict[str, Any], rule: str) -> bool:
    """Whether some word is another token for llama.cpp, which takes words whole by rule alone."""
    if bool(written["model"].get("ignore_merges")) == (rule == PRE_TOKENIZER):
        return False
    merging = {**written, "model": {**written["model"], "ignore_merges": False}}
    model = Tokenizer.from_str(json.dumps(merging)).model
    added = {token["content"] for token in written["added_tokens"]}
    words = written["model"]["vocab"].keys() - added
    return any(len(model.tokenize(word)) != 1 for word in words)


def write_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int, speech: Speech
) -> None:
    """Add tokens, types, merges and the template; rows without a token become ``[PADn]``, unused.

    Args:
        writer: of the file.
        tokenizer: one without `tokenizer_misfits`.
        rows: of the embedding, at least as many as tokens.
        speech: template and tokens with a role.

    Raises:
        ValueError: its split rule is unknown, or it lacks a token that `speech` names.
    """
    vocabulary, rule = tokenizer.get_vocab(), split_rule(tokenizer)
    if rule is None:
        raise ValueError(f"the tokenizer's split rule is none of {', '.join(SPLITS.values())}")
    kinds = gguf.TokenType
    tokens, types = [f"[PAD{row}]" for row in range(rows)], [kinds.UNUSED] * rows
    for token, row in vocabulary.items():
        tokens[row], types[row] = token, kinds.NORMAL
    for row, added in tokenizer.get_added_tokens_decoder().items():
        types[row] = kinds.CONTROL if added.special else kinds.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    _write_speech(writer, vocabulary, speech)


def _write_speech(writer: gguf.GGUFWriter, vocabulary: dict[str, int], speech: Speech) -> None:
    roles = (
        (speech.bos, writer.add_bos_token_id),
        (speech.eos, writer.add_eos_token_id),
        (speech.pad, writer.add_pad_token_id),
    )
    for token, add in roles:
        if token is not None:
            if token not in vocabulary:
                raise ValueError(f"the tokenizer has no token {token}")
            add(vocabulary[token])
    writer.add_add_bos_token(False)
    if speech.template is not None:
        writer.add_chat_template(speech.template)
