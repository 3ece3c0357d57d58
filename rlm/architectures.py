"""How an item is answered: a name for each way, the same arguments for all.

``vanilla`` and ``rlm`` are the pair; the others are controls, which say what recursion itself adds.
To add one, `register` an `Architecture` before the options of the command line are read:
``python -m pytest benchmarks -p MODULE --rlm-arch NAME``, where MODULE does it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from rlm import controls, prompts
from rlm.clients.base import Client, ModelInfo
from rlm.errors import UsageError
from rlm.events import Watch, unwatched
from rlm.limits import Budget, SandboxLimits
from rlm.loop import RLM, ROOT_OPTIONS, SUB_OPTIONS, Prompt, prompt_name
from rlm.messages import Options, Usage
from rlm.overflow import Overflow
from rlm.prompts import say
from rlm.sandbox import Sandbox
from rlm.trajectory import Answer, CallKind, Trajectory
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

    @property
    def absent(self) -> bool:
        """Whether there is no evidence, and to see that is the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What an architecture works with.

    Attributes:
        client: the model; in the loop both root and sub-model.
        sandbox: a backend's name, or an open sandbox to use.
        budget: see `rlm.RLM`; the loop's own, in place of one of `seconds`.
        seconds: wall time for an item, after which a call is given up and the loop asked for its
            answer; ``None`` is no bound.
        prompt: which system prompt the loop uses.
        limits: what one code cell may use.
        options: sampling. Temperature and seed hold for every call, `Options.max_tokens` for a
            single call or a root turn; ``None`` is each architecture's own default. Their
            `Options.seconds` are those of `seconds`.
        answer_tokens: room for the reply to a loop's last call; see `rlm.RLM`.
        max_iterations: root turns before the last call.
        concurrency: sub-calls of one batch that run at once.
        max_depth: levels of loops; see `rlm.RLM`.
        overflow: what becomes of a document that does not fit; see `rlm.Vanilla`. Only an
            architecture that `Architecture.overflows` obeys it.
        watch: called with each event of the loop; see `rlm.RLM`.
    """

    client: Client
    sandbox: str | Sandbox = "auto"
    budget: Budget | Callable[[], Budget] | None = None
    seconds: float | None = None
    prompt: Prompt = "auto"
    limits: SandboxLimits | None = None
    options: Options | None = None
    answer_tokens: int = 0
    max_iterations: int = 20
    concurrency: int = 1
    max_depth: int = 1
    overflow: Overflow = "refuse"
    watch: Watch = unwatched


@dataclass(frozen=True, slots=True)
class Architecture:
    """A way of answering.

    Attributes:
        name: lower-case letters, digits and ``_``; used in cell ids and records.
        about: what it is, in a few words.
        answer: does it. May raise `RLMError`.
        calls: the kinds of model call it makes, each with its default options; empty if it asks no
            model. `Setup.options` stand in the place of the first.
        prompt: which system prompt it uses; part of a cell's key.
        runs_code: whether a model's code runs in the sandbox.
        limits: what else decides its answers; part of a cell's key.
        reads: about how many characters of the document stand in its prompt, to predict its cost;
            ``None`` is all of it. Nobody asks where code runs, which reads piece by piece.
        overflows: whether it obeys `Setup.overflow`, which is then part of a cell's key. Those that
            choose by themselves what they show do not.
    """

    name: str
    about: str
    answer: Callable[[Item, Setup], Answer]
    calls: Mapping[CallKind, Options]
    prompt: Callable[[Prompt, ModelInfo], str]
    runs_code: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    reads: int | None = None
    overflows: bool = False


def register(architecture: Architecture) -> None:
    """Make `architecture` known by its name; one of the same name is replaced.

    Raises:
        UsageError: its name cannot stand in a cell's id.
    """
    if not re.fullmatch(r"[a-z0-9_]+", architecture.name):
        raise UsageError(
            f"an architecture cannot be called {architecture.name!r}: "
            "use lower-case letters, digits and _"
        )
    _ALL[architecture.name] = architecture


def get(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        UsageError: there is none; lists those that are.
    """
    if name not in _ALL:
        raise UsageError(f"there is no architecture {name!r}; there are: {', '.join(names())}")
    return _ALL[name]


def names() -> tuple[str, ...]:
    """All names, in the order of their registration."""
    return tuple(_ALL)


def _vanilla(item: Item, setup: Setup) -> Answer:
    return _read(item.document, item, setup, setup.overflow)


def _read(text: str, item: Item, setup: Setup, overflow: Overflow = "refuse") -> Answer:
    """One call, with `text` in the place of the document."""
    options = replace(setup.options or VANILLA_OPTIONS, seconds=setup.seconds)
    reader = Vanilla(setup.client, options=options, overflow=overflow)
    return reader.completion(text, item.question)


def _loop(item: Item, setup: Setup, *, recursive: bool) -> Answer:
    given = setup.options or SUB_OPTIONS
    loop = RLM(
        setup.client,
        max_iterations=setup.max_iterations,
        recursive=recursive,
        prompt=setup.prompt,
        budget=setup.budget or (lambda: Budget(seconds=setup.seconds)),
        limits=setup.limits,
        sandbox=setup.sandbox,
        root_options=setup.options,
        answer_tokens=setup.answer_tokens,
        sub_options=replace(SUB_OPTIONS, temperature=given.temperature, seed=given.seed),
        concurrency=setup.concurrency,
        max_depth=setup.max_depth if recursive else 1,
        watch=setup.watch,
    )
    return loop.completion(item.document, item.question)


def _rag(item: Item, setup: Setup) -> Answer:
    started = time.monotonic()
    found = controls.relevant(item.document, item.question)
    pieces = (item.document[passage.start : passage.stop].strip() for passage in found)
    answer = _read(say("rag", "gap").join(pieces), item, setup)
    return replace(answer, wall=time.monotonic() - started)


def _grep(item: Item, setup: Setup) -> Answer:
    del setup
    started = time.monotonic()
    return Answer(
        answer=controls.grep(item.document, item.question),
        iterations=0,
        sub_calls=0,
        trajectory=Trajectory(prompts.VERSION),
        usage=Usage(),
        ended_by="answered",
        wall=time.monotonic() - started,
    )


def _oracle(item: Item, setup: Setup) -> Answer:
    if not item.spans and not item.absent:
        raise UsageError(
            "oracle shows the evidence alone, but nobody says where it stands in this document: "
            "leave oracle out of the architectures"
        )
    spans = sorted(item.spans, key=lambda span: span.start)
    pieces = (item.document[span.start : span.end] for span in spans)
    return _read(say("oracle", "joint").join(pieces), item, setup)


def _closedbook(item: Item, setup: Setup) -> Answer:
    return _read(say("closedbook", "document"), item, setup)


def _repl_prompt(asked: Prompt, info: ModelInfo) -> str:
    return f"{prompt_name(asked, info, recursive=False)}@{prompts.CONTROLS}"


def _fixed(name: str) -> Callable[[Prompt, ModelInfo], str]:
    return lambda *_: name


_ALL: dict[str, Architecture] = {}

for _architecture in (
    Architecture(
        "vanilla",
        "the whole document in the prompt, one call",
        _vanilla,
        calls={"vanilla": VANILLA_OPTIONS},
        prompt=_fixed("vanilla"),
        overflows=True,
    ),
    Architecture(
        "rlm",
        "the loop: code searches the document and asks the model about pieces of it",
        partial(_loop, recursive=True),
        calls={"root": ROOT_OPTIONS, "sub": SUB_OPTIONS},
        prompt=prompt_name,
        runs_code=True,
    ),
    Architecture(
        "repl",
        "the same loop without sub-calls",
        partial(_loop, recursive=False),
        calls={"root": ROOT_OPTIONS},
        prompt=_repl_prompt,
        runs_code=True,
    ),
    Architecture(
        "rag",
        "the passages that BM25 finds in the prompt, one call",
        _rag,
        calls={"vanilla": VANILLA_OPTIONS},
        prompt=_fixed(f"vanilla@{prompts.CONTROLS}"),
        limits={
            "passages": controls.PASSAGES,
            "passage_chars": controls.PASSAGE_CHARS,
            "overlap_chars": controls.OVERLAP_CHARS,
        },
        reads=controls.PASSAGES * controls.PASSAGE_CHARS,
    ),
    Architecture("grep", "a regular expression, no model", _grep, calls={}, prompt=_fixed("")),
    Architecture(
        "oracle",
        "the evidence alone in the prompt, one call",
        _oracle,
        calls={"vanilla": VANILLA_OPTIONS},
        prompt=_fixed(f"vanilla@{prompts.CONTROLS}"),
        reads=200,
    ),
    Architecture(
        "closedbook",
        "the question without the document, one call",
        _closedbook,
        calls={"vanilla": VANILLA_OPTIONS},
        prompt=_fixed(f"vanilla@{prompts.CONTROLS}"),
        reads=0,
    ),
):
    register(_architecture)
