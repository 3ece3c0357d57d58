"""The tokenizer: byte-level BPE with Qwen2's split rule, every digit a token of its own.

The pair of this tokenizer and llama.cpp's pre-tokenizer ``qwen2`` gives equal ids; a test compares
them on digits, code, newlines and Unicode. Source of the split expression: llama.cpp's
``LLAMA_VOCAB_PRE_TYPE_QWEN2``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from rlm.messages import Message

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, START, END)
VOCABULARY = 4096


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Train on `texts`; the special tokens take ids 0, 1 and 2."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer; text that looks like a special token stays text."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


class Chat:
    """Conversations to ids, piece by piece as `rlm.clients.llamacpp` sends them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.start, self.end = (tokenizer.token_to_id(token) for token in (START, END))
        self.newline = self.encode("\n")
        self.opening = [self.start, *self.encode("assistant\n")]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def render(self, messages: Sequence[Message]) -> tuple[list[int], list[list[int]]]:
        """All ids, and for each assistant message the positions of its tokens and its end.

        The positions are those of the targets: token ``i`` is predicted from the ids before it.
        """
        ids: list[int] = []
        answers: list[list[int]] = []
        for message in messages:
            if message.role == "assistant":
                body = [*self.encode(message.content), self.end]
                begin = len(ids) + len(self.opening)
                answers.append(list(range(begin, begin + len(body))))
                ids += [*self.opening, *body, *self.newline]
            else:
                text = self.encode(f"{message.role}\n{message.content}")
                ids += [self.start, *text, self.end, *self.newline]
        return ids, answers
