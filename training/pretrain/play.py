"""What a teacher works on: a document with a question, its plan, and what its sub-model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlm.bench.scoring import is_correct
from rlm.bench.tasks import get
from rlm.bench.tasks.base import Item
from rlm.bench.tasks.stream import Stream
from training.pretrain.pages import ABSENT, Level, make_page
from training.pretrain.teacher import CLEAN, Errors, Plan, ScriptedClient, make_plan, sub_client

LENGTHS = (*(1_000, 2_000, 4_000, 6_000, 12_000, 16_000, 24_000, 48_000) * 4, 120_000, 400_000)
"""Characters; only the preview, the windows and the stated length reach the root model."""
BLIND = 0.15
"""Share of the pages on which the first sub-call misses what it was passed."""


@dataclass(frozen=True)
class Play:
    """One document to be worked on in the loop.

    Attributes:
        text: the document.
        question: what is asked.
        plan: the root model's replies.
        sub: answers sub-calls.
        is_right: judges the answer; of what a good teacher did, only right ends are kept.
        in_vain: a turn that shows nothing is an example to follow, too.
        recursive: whether code may ask the sub-model; where not, the prompt is another.
    """

    text: str
    question: str
    plan: Plan
    sub: ScriptedClient
    is_right: Callable[[str], bool]
    in_vain: bool = False
    recursive: bool = True


Draw = Callable[[Stream], Play]
LEVEL = Level()


def page_play(stream: Stream, level: Level = LEVEL, errors: Errors = CLEAN) -> Play:
    """A page with one question; what a teacher does that errs on purpose is right, whatever it is.

    A good teacher fails where a window cuts the fact in two: no example to follow.
    """
    page = make_page(stream, stream.choice(LENGTHS), stream.between(1, 4), level)
    asked = page.missing if stream.random() < level.absent / 2 else stream.choice(page.facts)
    wanted = ABSENT if asked is page.missing else asked.value
    return Play(
        text=page.text,
        question=asked.question,
        plan=make_plan(stream, page, asked, errors),
        sub=sub_client(asked, blind=stream.random() < BLIND),
        is_right=lambda answer: errors != CLEAN or is_correct(wanted, answer),
        in_vain=asked is page.missing or errors != CLEAN,
    )


def item_play(item: Item, plan: Plan, sub: ScriptedClient) -> Play:
    """Work on an item of a task family; its own scorer judges."""
    task = get(item.task)
    return Play(
        text=item.document,
        question=item.question,
        plan=plan,
        sub=sub,
        is_right=lambda text: task.score(item, text).exact,
        in_vain=item.absent,
    )


def some_chars(stream: Stream, least: int) -> int:
    """The length of a document."""
    return max(least, stream.choice(LENGTHS) + stream.below(500))


def some_seed(stream: Stream) -> int:
    """That of an item."""
    return stream.below(1 << 62)
