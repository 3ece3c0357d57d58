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
from training.pretrain.pages import ABSENT, Asked, Level, Page, as_quote, make_fact, make_page
from training.pretrain.teacher import SUB_PROMPTS
from training.pretrain.tokenizer import Chat

Row = tuple[list[int], list[list[int]]]
"""Ids of one conversation, and per answer the positions of its tokens."""


@dataclass(frozen=True)
class Batch:
    """Conversations of one kind.

    Attributes:
        kind: ``recall``, ``page``, ``sub`` or ``demo``.
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


def recall_row(stream: Stream, chat: Chat, level: Level) -> Row:
    """Pairs of a key and a value, asked for in another order: the densest practice of looking up.

    A small model learns to find a key by its content on this (associative recall, arXiv
    2312.04927; induction heads, arXiv 2209.11895) long before it does on questions about a page.
    Merely repeating a list is not enough: that is solved by counting positions.
    """
    taken: set[str] = set()
    made = [make_fact(stream, level, taken) for _ in range(stream.between(2, 9))]
    listed = stream.choice((", ", "\n", ". "))
    pairs = [f"{fact.key}: {fact.value}" for fact in made]
    asked = stream.sample(made, len(made))
    if stream.random() < 0.6:
        order = ", ".join(fact.key for fact in asked)
        text = listed.join(f"{fact.key}: {fact.value}" for fact in asked)
        messages = [
            Message("user", f"{listed.join(pairs)}\nIn this order: {order}"),
            Message("assistant", text),
        ]
    else:
        messages = [Message("user", f"{listed.join(pairs)}\n{asked[0].key}?")]
        for fact, following in zip(asked, [*asked[1:], None], strict=True):
            messages.append(Message("assistant", fact.value))
            if following is not None:
                messages.append(Message("user", f"{following.key}?"))
    return chat.render(messages)


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
