"""How an item is answered: a name for each way, the same arguments for all.

To add one, write a function like those below and enter it in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rlm.clients.base import Client
from rlm.errors import UsageError
from rlm.limits import Budget, SandboxLimits
from rlm.loop import RLM, SUB_OPTIONS, Prompt
from rlm.messages import Options
from rlm.sandbox import Sandbox
from rlm.trajectory import Answer, Turn
from rlm.vanilla import VANILLA_OPTIONS, Vanilla


class Span(Protocol):
    """Characters ``[start, end)`` of a document."""

    @property
    def start(self) -> int:
        """First character."""
        ...

    @property
    def end(self) -> int:
        """Behind the last character."""
        ...


class Item(Protocol):
    """What is asked; `rlm.bench.tasks` makes them."""

    @property
    def document(self) -> str:
        """The text."""
        ...

    @property
    def question(self) -> str:
        """What is asked about it."""
        ...

    @property
    def spans(self) -> Sequence[Span]:
        """Where the evidence stands, for controls that may know it."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What an architecture works with.

    Attributes:
        client: the model; for `rlm`, both root and sub-model.
        sandbox: a backend's name, or an open sandbox to use.
        budget: see `rlm.RLM`; the loop's own, in place of one of `seconds`.
        seconds: wall time for an item, after which a call is given up and the loop asked for its
            answer; ``None`` is no bound.
        prompt: which system prompt the loop uses.
        limits: what one code cell may use.
        options: sampling. Temperature and seed hold for every call, `Options.max_tokens` for a
            vanilla answer or a root turn; ``None`` is each architecture's own default. Their
            `Options.seconds` are those of `seconds`.
        max_iterations: root turns before the last call.
        concurrency: sub-calls of one batch that run at once.
        on_turn: called after each root turn.
    """

    client: Client
    sandbox: str | Sandbox = "auto"
    budget: Budget | Callable[[], Budget] | None = None
    seconds: float | None = None
    prompt: Prompt = "auto"
    limits: SandboxLimits | None = None
    options: Options | None = None
    max_iterations: int = 20
    concurrency: int = 1
    on_turn: Callable[[Turn], None] | None = None


Architecture = Callable[[Item, Setup], Answer]


def get(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        UsageError: there is none; lists those that are.
    """
    if name not in _TABLE:
        raise UsageError(f"there is no architecture {name!r}; there are: {', '.join(names())}")
    return _TABLE[name]


def names() -> tuple[str, ...]:
    """All names."""
    return tuple(_TABLE)


def _vanilla(item: Item, setup: Setup) -> Answer:
    options = replace(setup.options or VANILLA_OPTIONS, seconds=setup.seconds)
    return Vanilla(setup.client, options=options).completion(item.document, item.question)


def _rlm(item: Item, setup: Setup) -> Answer:
    given = setup.options or SUB_OPTIONS
    loop = RLM(
        setup.client,
        max_iterations=setup.max_iterations,
        prompt=setup.prompt,
        budget=setup.budget or (lambda: Budget(seconds=setup.seconds)),
        limits=setup.limits,
        sandbox=setup.sandbox,
        root_options=setup.options,
        sub_options=replace(SUB_OPTIONS, temperature=given.temperature, seed=given.seed),
        concurrency=setup.concurrency,
        on_turn=setup.on_turn,
    )
    return loop.completion(item.document, item.question)


_TABLE: dict[str, Architecture] = {"vanilla": _vanilla, "rlm": _rlm}
