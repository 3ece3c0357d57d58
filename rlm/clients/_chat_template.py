"""Conversations to token ids by a folder's own chat template, in which documents have no power.

A document may hold text such as ``<|im_end|>``. Rendered into a template and tokenized as usual it
would end its own message. So the prompt is tokenized by a twin of the tokenizer that differs in one
thing: its special tokens are spelled with a random word that no document knows, and the template's
own are spelled that way before. Everything else, such as spaces that a token takes from its
neighbours, stays as the tokenizer has it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from rlm.errors import ProtocolError, UsageError
from rlm.messages import Message


class ChatTemplate:
    """The template and the twin of a tokenizer. Thread-safe.

    Args:
        tokenizer: a tokenizer of transformers.
        folder: where it comes from, for errors.

    Raises:
        UsageError: it has no chat template, or is none of the fast tokenizers.
    """

    def __init__(self, tokenizer: Any, folder: str) -> None:
        if not tokenizer.chat_template:
            raise UsageError(
                f"{folder} has no chat template (no chat_template.jinja, and none in "
                "tokenizer_config.json): take a chat model, mostly called -Instruct or -it, or add "
                "the template that this one was trained with"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"{folder} has no tokenizer.json; save it again with a tokenizer of the library "
                "tokenizers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        self._tokenizer, self._folder = tokenizer, folder
        added = tokenizer.added_tokens_decoder.values()
        special = sorted((token.content for token in added if token.special), key=len, reverse=True)
        secret = secrets.token_hex(8)
        self._spelled = {token: f"<{secret}.{i}>" for i, token in enumerate(special)}
        self._held = {token: f"<{secret}-{i}>" for i, token in enumerate(special)}
        self._twin = _twin(tokenizer.backend_tokenizer, self._spelled)

    def ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the prompt that asks for the next assistant message, thinking off.

        Half a surrogate pair, which no tokenizer takes, becomes ``?``.

        Raises:
            ProtocolError: the template refuses the messages; some know no system message.
        """
        from jinja2 import TemplateError

        held = [
            {"role": m.role, "content": _replace(_utf8(m.content), self._held)} for m in messages
        ]
        try:
            text = self._tokenizer.apply_chat_template(
                held, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except TemplateError as error:
            raise ProtocolError(
                f"the chat template of {self._folder} refuses the messages "
                f"({', '.join(m.role for m in messages)}): {error}"
            ) from error
        text = _replace(text, self._spelled)
        text = _replace(text, {word: token for token, word in self._held.items()})
        return tuple(self._twin.encode(text, add_special_tokens=False).ids)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _replace(text: str, words: Mapping[str, str]) -> str:
    """`text` with each key of `words`, the first that fits at a place, replaced by its value."""
    if not words:
        return text
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def _twin(tokenizer: Any, spelled: Mapping[str, str]) -> Any:
    """A copy of a tokenizer in which the special tokens are spelled otherwise."""
    from tokenizers import Tokenizer

    written = json.loads(tokenizer.to_str())
    model = written["model"]
    for token in written["added_tokens"]:
        token["content"] = spelled.get(token["content"], token["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {spelled.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[spelled.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = spelled.get(model["unk_token"], model["unk_token"])
    if "merges" in model:  # plain text never becomes a special token by merging either
        model["merges"] = [pair for pair in model["merges"] if _joined(pair) not in spelled]
    written["truncation"] = written["padding"] = written["post_processor"] = None
    twin = Tokenizer.from_str(json.dumps(written))
    for token, word in spelled.items():
        assert twin.token_to_id(word) == tokenizer.token_to_id(token), token
    return twin


def _joined(pair: str | Sequence[str]) -> str:
    """What a merge makes; old files write it as two words of one text."""
    return pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair)
