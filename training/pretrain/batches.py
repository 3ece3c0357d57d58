"""What the model practises: pages, sub-calls and demonstrations, as padded batches of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlm import prompts
from rlm.bench.tasks.stream import Stream
from rlm.messages import Message
from training.pretrain.demos import Demo
from training.pretrain.pages import ABSENT, Asked, Level, Page, as_quote, make_page, pool_of
from training.pretrain.teacher import SUB_PROMPTS
from training.pretrain.tokenizer import Chat

Row = tuple[list[int], list[list[int]]]
"""Ids of one conversation, and per answer the positions of its tokens."""


@dataclass(frozen=True)
class Batch:
    """Conversations of one kind.

    Attributes:
        kind: ``copy``, ``page``, ``sub`` or ``demo``.
        ids: (rows, tokens) int64, padded on the right.
        rows: row of each supervised target.
        positions: position of each supervised target in its row; predicted from the one before.
        answers: which answer each target belongs to, numbered through the batch.
    """

    kind: str
    ids: Tensor
    rows: Tensor
    positions: Tensor
    answers: Tensor

    @property
    def tokens(self) -> int:
        """Tokens of the batch, padding included."""
        return self.ids.numel()


def collate(kind: str, rows: Sequence[Row], pad: int) -> Batch:
    """Pad `rows` to the longest and list their targets."""
    width = max(len(ids) for ids, _ in rows)
    padded = torch.full((len(rows), width), pad)
    targets: list[tuple[int, int, int]] = []
    answer = 0
    for i, (ids, answers) in enumerate(rows):
        padded[i, : len(ids)] = torch.tensor(ids)
        for positions in answers:
            targets += [(i, position, answer) for position in positions]
            answer += 1
    columns = torch.tensor(targets).T
    return Batch(kind, padded, columns[0], columns[1], columns[2])


def copy_row(stream: Stream, chat: Chat, level: Level) -> Row:
    """A few words to repeat: the densest practice of looking back, which reading is built on.

    Induction heads (arXiv 2209.11895) form on this within a few million tokens and hardly at all
    on questions alone.
    """
    pool = pool_of(level)
    text = " ".join(stream.choice(pool) for _ in range(stream.between(3, 14)))
    return chat.render([Message("user", f"Repeat: {text}"), Message("assistant", text)])


def page_row(stream: Stream, chat: Chat, level: Level, chars: int) -> Row:
    """A page in the vanilla prompt with several questions, one of them maybe unanswerable."""
    facts = stream.between(1, 6)
    page = make_page(stream, max(chars, 75 * facts + 80), facts, level)
    asked = stream.sample(page.facts, min(len(page.facts), stream.between(2, 5)))
    if stream.random() < level.absent * 2:
        asked.insert(stream.below(len(asked) + 1), page.missing)
    asked = [as_quote(stream, f) if stream.random() < level.quotes else f for f in asked]
    messages = [Message("system", prompts.system("vanilla"))]
    for i, fact in enumerate(asked):
        document = page.text if i == 0 else ""
        user = prompts.say("vanilla", "user", document=document, question=fact.question)
        messages += [Message("user", user.lstrip("\n")), Message("assistant", _answer(page, fact))]
    return chat.render(messages)


def sub_row(stream: Stream, chat: Chat, level: Level, chars: int) -> Row:
    """A passage cut out of a page, as a search hands it to the sub-model, and its answer."""
    facts = stream.between(1, 4)
    page = make_page(stream, max(chars * 2, 400), facts, level)
    fact = page.missing if stream.random() < level.absent else stream.choice(page.facts)
    centre = stream.choice(page.facts if fact is page.missing else (fact,))
    middle = page.text.index(centre.sentence) + len(centre.sentence) // 2
    half = max(chars // 2, len(centre.sentence) // 2 + 1)
    shift = stream.between(-half // 3, half // 3)
    passage = page.text[max(middle + shift - half, 0) : middle + shift + half]
    present = fact.sentence in passage
    prompt = stream.choice(SUB_PROMPTS).format(passage=passage, question=fact.question)
    answer = fact.value if present else ABSENT
    return chat.render([Message("user", prompt), Message("assistant", answer)])


def demo_row(demo: Demo, chat: Chat) -> Row:
    """A demonstration; only the replies that are to be learned are supervised."""
    ids, answers = chat.render(demo.messages)
    return ids, [a for a, learn in zip(answers, demo.targets, strict=True) if learn]


def _answer(page: Page, fact: Asked) -> str:
    return ABSENT if fact.key == page.missing.key else fact.value
