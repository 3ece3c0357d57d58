"""What the model practises: pages, sub-calls and demonstrations, as padded batches of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlm import prompts
from rlm.bench.tasks.stream import Stream
from rlm.messages import Message
from training.pretrain.asking import any_goal
from training.pretrain.demos import Demo
from training.pretrain.pages import Asked, Level, Page, make_fact, make_page, reply
from training.pretrain.passages import PROMPTS
from training.pretrain.teacher import SUB_PROMPTS, is_told
from training.pretrain.tokenizer import SPECIAL, VOCABULARY, Chat

Row = tuple[list[int], list[list[int]]]
"""Ids of one conversation, and per answer the positions of its tokens."""

KINDS = ("recall", "repeat", "page", "sub", "demo", "solve", "goal", *PROMPTS)
"""What is practised; accuracy is counted for each."""


@dataclass(frozen=True)
class Batch:
    """Conversations of about one length.

    Attributes:
        ids: (rows, tokens) int64, padded on the right.
        rows: row of each supervised target.
        positions: position of each supervised target in its row; predicted from the one before.
        answers: which answer each target belongs to, numbered through the batch.
        kinds: of each answer: one of `KINDS`.
    """

    ids: Tensor
    rows: Tensor
    positions: Tensor
    answers: Tensor
    kinds: tuple[str, ...]


def collate(rows: Sequence[tuple[str, Row]], pad: int) -> Batch:
    """Pad `rows`, each with its kind, to the longest and list their targets."""
    width = max(len(ids) for _, (ids, _) in rows)
    padded = torch.full((len(rows), width), pad)
    targets: list[tuple[int, int, int]] = []
    kinds: list[str] = []
    for i, (kind, (ids, answers)) in enumerate(rows):
        padded[i, : len(ids)] = torch.tensor(ids)
        for positions in answers:
            targets += [(i, position, len(kinds)) for position in positions]
            kinds.append(kind)
    columns = torch.tensor(targets).T
    return Batch(padded, columns[0], columns[1], columns[2], tuple(kinds))


def by_length(rows: Sequence[tuple[str, Row]], tokens: int, pad: int) -> list[Batch]:
    """All `rows` in batches of up to `tokens` tokens, rows of like length together."""
    batches: list[list[tuple[str, Row]]] = []
    for row in sorted(rows, key=lambda row: len(row[1][0]), reverse=True):
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0][1][0]) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return [collate(batch, pad) for batch in batches]


def recall_row(stream: Stream, chat: Chat, level: Level) -> Row:
    """Pairs of a key and a value, asked for one by one: the densest practice of reading."""
    taken: set[str] = set()
    made = [make_fact(stream, level, taken) for _ in range(stream.between(2, 12))]
    pairs = [f"{fact.key}: {fact.value}" for fact in made]
    text = stream.choice((", ", "\n", ". ")).join(pairs)
    messages = []
    for fact in stream.sample(made, len(made)):
        messages += [
            Message("user", f"{text}\n{fact.key}?".lstrip("\n")),
            Message("assistant", f"<think> {fact.key}: {fact.value}</think>{fact.value}"),
        ]
        text = ""
    return chat.render(messages)


TWINS = 0.6
"""Share of the strings of `repeat_row` that share their middle with the string before."""


def repeat_row(stream: Stream, chat: Chat) -> Row:
    """Strings of random tokens, then the same strings in another order; the first token is given.

    Practice in copying for every token of the vocabulary, those of rare names too. Where strings
    share a middle, only how they begin tells how they end: so it is with two sentences that say
    the same of two names, and a copier that looks one or two tokens back takes the wrong value.
    """
    made: list[list[int]] = []
    middle: list[int] = []
    for _ in range(stream.between(3, 16)):
        if not made or stream.random() >= TWINS:
            middle = _random_ids(stream, 0, 5)
        made.append([*_random_ids(stream, 1, 3), *middle, *_random_ids(stream, 1, 3)])
    ids = [chat.start]
    for string in made:
        ids += [*_random_ids(stream, 0, 2), *string]
    ids += [chat.end, *chat.opening]
    answers = []
    for string in stream.sample(made, len(made)):
        answers.append(list(range(len(ids) + 1, len(ids) + len(string))))
        ids += string
    return ids, answers


def _random_ids(stream: Stream, fewest: int, most: int) -> list[int]:
    count = stream.between(fewest, most)
    return [stream.between(len(SPECIAL), VOCABULARY - 1) for _ in range(count)]


def page_row(stream: Stream, chat: Chat, level: Level, chars: int) -> Row:
    """A page in the vanilla prompt with several questions, one of them maybe unanswerable."""
    facts = stream.between(1, 8)
    page = make_page(stream, max(chars, 75 * facts + 80), facts, level)
    asked = stream.sample(page.facts, min(len(page.facts), stream.between(3, 8)))
    if stream.random() < level.absent * 2:
        asked.insert(stream.below(len(asked) + 1), page.missing)
    messages = [Message("system", prompts.system("vanilla"))]
    for i, fact in enumerate(asked):
        document = page.text if i == 0 else ""
        user = prompts.say("vanilla", "user", document=document, question=fact.question)
        messages += [Message("user", user.lstrip("\n")), Message("assistant", _reply(page, fact))]
    return chat.render(messages)


def sub_row(stream: Stream, chat: Chat, level: Level, chars: int) -> Row:
    """A passage cut out of a page, as a search hands it to the sub-model, and its answer."""
    facts = stream.between(1, 4)
    page = make_page(stream, max(chars * 2, 400), facts, level)
    fact = page.missing if stream.random() < 2 * level.absent else stream.choice(page.facts)
    where = stream.choice(page.facts) if stream.random() < 0.3 else fact
    centre = stream.below(chars) if where is page.missing else page.text.index(where.sentence)
    middle = centre + len(where.sentence) // 2
    half = max(chars // 2, len(where.sentence) // 2 + 1)
    shift = stream.between(-half // 3, half // 3)
    passage = page.text[max(middle + shift - half, 0) : middle + shift + half]
    prompt = stream.choice(SUB_PROMPTS).format(passage=passage, question=fact.question)
    answer = reply(fact, told=is_told(fact, passage))
    return chat.render([Message("user", prompt), Message("assistant", answer)])


def prompt_row(stream: Stream, chat: Chat, kind: str) -> Row:
    """One sub-call of the task families, with its reply."""
    prompt, answer = PROMPTS[kind](stream)
    return chat.render([Message("user", prompt), Message("assistant", answer)])


def goal_row(stream: Stream, chat: Chat) -> Row:
    """Questions, each with the line of code it calls for: the densest practice of that choice."""
    messages = []
    for _ in range(stream.between(2, 6)):
        question, line = any_goal(stream)
        messages += [Message("user", f"Question: {question}"), Message("assistant", line)]
    return chat.render(messages)


def demo_row(demo: Demo, chat: Chat) -> Row:
    """A demonstration; only the replies that are to be learned are supervised."""
    ids, answers = chat.render(demo.messages)
    return ids, [a for a, learn in zip(answers, demo.targets, strict=True) if learn]


def _reply(page: Page, fact: Asked) -> str:
    return reply(fact, told=fact.key != page.missing.key)
