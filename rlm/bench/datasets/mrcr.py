"""MRCR as OpenAI publishes it (https://huggingface.co/datasets/openai/mrcr).

A long conversation with the same request 2, 4 or 8 times in it; the last message asks to repeat the
reply to the n-th of them, behind a given random word. (The task is from arXiv:2409.12640.) The
document is the conversation without its last message, each message behind ``User:`` or
``Assistant:``; the last message is the question.

Scored as the dataset's card says: 0 unless the answer begins with the random word, else
`difflib.SequenceMatcher.ratio` of what stands behind it and of the reply. Exact is the very reply,
whatever space is at the end of either: that of an answer is lost where it is read. An answer ten
times as long as the reply, whose ratio cannot be above 0.19, is given 0 without being compared,
which could take hours.
"""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from rlm.bench.tasks import given
from rlm.bench.tasks.base import Item, Scores, Span
from rlm.bench.tasks.given import Format, Row
from rlm.errors import UsageError

COLUMNS: Final = ("prompt", "answer", "random_string_to_prepend")
ANSWER_TOKENS: Final = 2_048
"""Room for a whole reply of the conversation."""
TOO_LONG: Final = 10
"""An answer is not compared from so many times the length of the right one on."""

_NAMES: Final = {"user": "User", "assistant": "Assistant", "system": "System"}


def _row(raw: bytes, file: Path) -> Row:
    del file
    fields = given.fields_of(raw)
    given.require(fields, COLUMNS)
    *before, last = _messages(fields["prompt"])
    answer = given.text_of("answer", fields["answer"])
    word = given.text_of("random_string_to_prepend", fields["random_string_to_prepend"])
    if not answer.startswith(word) or answer == word:
        raise UsageError("field 'answer' must be 'random_string_to_prepend' and more behind it")
    needles = fields.get("n_needles")
    document = "\n\n".join(f"{_NAMES[each['role']]}: {each['content']}" for each in before)
    return Row(
        document=given.text_of("prompt", document),
        query=given.text_of("prompt", last["content"]),
        answers=(answer,),
        scorer=f"mrcr/{len(word)}",
        part=f"{needles}needle" if type(needles) is int else "",
    )


def _messages(prompt: object) -> list[dict[str, Any]]:
    """The conversation, which stands in a row as JSON within JSON, or as it is."""
    if isinstance(prompt, str):
        try:
            prompt = json.loads(prompt)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"field 'prompt' is no JSON: {error}") from error
    if not isinstance(prompt, list) or len(prompt) < 2 or not all(map(_is_message, prompt)):
        raise UsageError(
            'field \'prompt\' must be a list of two messages or more, {"role": …, "content": …}, '
            f"whose role is one of {', '.join(_NAMES)}"
        )
    return prompt


def _is_message(each: object) -> bool:
    return (
        isinstance(each, dict)
        and each.get("role") in _NAMES
        and isinstance(each.get("content"), str)
    )


def _evidence(row: Row) -> tuple[Span, ...]:
    """The reply that is to be repeated, where it stands as it is."""
    reply = row.answers[0][_word(row.scorer) :]
    before = f"{_NAMES['assistant']}: "
    at = row.document.find(before + reply)
    return (Span(at + len(before), at + len(before) + len(reply)),) if at >= 0 else ()


def _word(scorer: str) -> int:
    """The length of the random word."""
    return int(scorer.partition("/")[2])


def score(item: Item, text: str) -> Scores:
    """How like the right reply an answer is, behind the random word."""
    size = _word(item.scorer)
    word, reply = item.gold[:size], item.gold[size:]
    said = text.removeprefix(word)
    if not text.startswith(word) or len(said) >= TOO_LONG * len(reply):
        return Scores(exact=False, graded=0.0)
    ratio = SequenceMatcher(None, said, reply).ratio()
    return Scores(exact=said.rstrip() == reply.rstrip(), graded=ratio)


FORMAT: Final = Format(
    parse=_row,
    evidence=_evidence,
    score=score,
    remedy="get MRCR with: hf download openai/mrcr --repo-type dataset --local-dir mrcr, and give "
    "the folder, or one of its .parquet files",
    answer_tokens=ANSWER_TOKENS,
)
