"""One cell → one `Record`. Knows neither pytest nor how results are kept."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rlm import architectures, prompts
from rlm.bench import records, tasks
from rlm.bench.grid import Cell
from rlm.bench.records import Doc, Failure, Model, Record, Seconds, Tokens, Verdict
from rlm.bench.tasks.base import SUITE_VERSION, Item, Split
from rlm.bench.tasks.stream import cell_seed
from rlm.clients.base import Client, ModelInfo
from rlm.errors import BudgetExceeded, CallTimeout, PromptTooLong, RLMError
from rlm.limits import Budget, SandboxLimits
from rlm.loop import ROOT_OPTIONS, SUB_OPTIONS, Prompt
from rlm.policy import Policy
from rlm.sandbox.base import Sandbox
from rlm.trajectory import Answer
from rlm.vanilla import VANILLA_OPTIONS

CELL_SECONDS: Final = 900.0
"""Wall time after which the loop is asked for its answer."""
MAX_ITERATIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all cells of a session.

    Attributes:
        run: the run's folder.
        spec: of the model.
        prompt: which system prompt the loop uses.
        seed: of the suite.
        split: whose entities, values and wordings the documents use.
        environment: ``host``, ``versions`` and ``git`` of the record.
    """

    run: Path
    spec: str = "embedded"
    prompt: Prompt = "auto"
    seed: int = 0
    split: Split = "eval"
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell.

    Attributes:
        key: of the cell.
        verdict: of this run, or of an earlier one.
        record: ``None`` if the cell was done before and did not run.
        bug: an exception that nobody foresaw; the verdict is ``error``.
    """

    key: str
    verdict: Verdict
    record: Record | None
    bug: Exception | None = None


def measure(
    cell: Cell,
    settings: Settings,
    *,
    client: Callable[[], Client],
    sandbox: Callable[[], Sandbox],
    done: Mapping[str, Verdict] | None = None,
) -> Outcome:
    """Run one cell, unless it is done. A failure becomes a verdict, never an exception.

    Args:
        cell: which.
        settings: of the session.
        client: opens the model, or gives the open one; may raise `RLMError`.
        sandbox: the same for the sandbox.
        done: verdicts of finished cells, by key.
    """
    record, bug = replace(blank(cell, settings), started=_now()), None
    try:
        model = client()
        item = make_item(cell, settings.seed, settings.split)
        record = prepare(record, settings, model.info(), item)
        if done and record.key in done:
            return Outcome(record.key, done[record.key], None)
        session = sandbox()
        answer = architectures.get(cell.architecture)(item, _setup(settings, model, session))
        record = _judge(record, settings, item, answer)
        if answer.trajectory.turns:
            record = replace(record, isolation=asdict(session.isolation))
    except Exception as error:
        bug = None if isinstance(error, RLMError) else error
        failure = Failure(type(error).__name__, str(error))
        verdict = _verdict_of(error)
        failed = verdict in records.FAILED
        record = replace(record, verdict=verdict, error=failure if failed else None)
    record = replace(record, finished=_now())
    return Outcome(record.key, record.verdict, record, bug)


def blank(cell: Cell, settings: Settings) -> Record:
    """The record of a cell of which nothing is known but that it did not end: ``crashed``."""
    model = Model(settings.spec, "", None, "", {}, settings.prompt, prompts.VERSION, "")
    record = Record(
        run=settings.run.name,
        key="",
        **{name: getattr(cell, name) for name in Cell.__dataclass_fields__},
        draw=0,
        seed=settings.seed,
        split=settings.split,
        verdict="crashed",
        model=model,
        limits=_limits(),
        **settings.environment,
    )
    return replace(record, key=record.bare_key)


def prepare(record: Record, settings: Settings, info: ModelInfo, item: Item) -> Record:
    """`record` with its document, its model, and the key that these make."""
    doc = Doc(hashlib.sha256(item.document.encode()).hexdigest(), len(item.document))
    model = model_of(info, record.architecture, settings.prompt)
    return replace(
        record,
        key=_key(record, doc, model),
        doc=doc,
        model=model,
        question=item.question,
        gold=item.gold,
        realised_depth=item.depth,
    )


def model_of(info: ModelInfo, architecture: str, prompt: Prompt) -> Model:
    """What a record says about the model and what it is asked with."""
    return Model(
        spec=info.spec,
        digest=info.digest,
        window=info.window,
        server=info.server,
        options=dict(info.options),
        prompt=_prompt_name(architecture, prompt, info),
        prompt_version=prompts.VERSION,
        prompt_sha256=prompts.version_sha256(),
    )


def unmeasured(
    cell: Cell, settings: Settings, info: ModelInfo | None, verdict: Verdict, failure: Failure
) -> Record:
    """The record of a cell that ended outside `measure`: its process died, or its fixtures failed.

    Args:
        cell: which.
        settings: of the session.
        info: of the model, if it could be asked.
        verdict: ``crashed`` or ``error``.
        failure: what is known.
    """
    now = _now()
    record = replace(blank(cell, settings), verdict=verdict, error=failure, finished=now)
    if info is None:
        return record
    return prepare(record, settings, info, make_item(cell, settings.seed, settings.split))


def places(found: Iterable[Record], settings: Settings, info: ModelInfo | None) -> frozenset[Cell]:
    """Cells that have a record under these settings; cheap, since no document is made.

    What decides whether a cell runs is its key: this is for counting beforehand.
    """
    if info is None:
        return frozenset()
    return frozenset(
        Cell(r.task, r.length, r.depth, r.sample, r.architecture, r.unit)
        for r in found
        if (r.seed, r.split) == (settings.seed, settings.split)
        and r.model == model_of(info, r.architecture, settings.prompt)
    )


@lru_cache(2)
def make_item(cell: Cell, seed: int, split: Split) -> Item:
    """The document and question of a cell; the same for all architectures.

    Raises:
        UsageError: no such task, or the document is too short for it.
    """
    numbers = (cell.task, cell.chars, cell.depth)
    return tasks.get(cell.task).generate(
        cell.chars, cell.depth, cell_seed(seed, split, *numbers, cell.sample), split=split
    )


def environment() -> dict[str, Any]:
    """``host``, ``versions`` and ``git`` of a record."""
    packages = ("rlm-bench", "xllamacpp", "httpx", "pytest", "pytest-xdist")
    found = {name: _version(name) for name in packages}
    return {
        "host": {"platform": platform.platform(), "processors": os.cpu_count() or 0},
        "versions": {"python": platform.python_version()} | {k: v for k, v in found.items() if v},
        "git": _git(),
    }


def _setup(settings: Settings, client: Client, sandbox: Sandbox) -> architectures.Setup:
    return architectures.Setup(
        client=client,
        sandbox=sandbox,
        budget=lambda: Budget(seconds=CELL_SECONDS),
        prompt=settings.prompt,
        limits=SandboxLimits(),
        max_iterations=MAX_ITERATIONS,
    )


def _judge(record: Record, settings: Settings, item: Item, answer: Answer) -> Record:
    """`record` with what came out, and the trajectory written."""
    scores = tasks.get(record.task).score(item, answer.answer)
    verdict: Verdict = "correct" if scores.exact else "wrong"
    if answer.truncated:
        verdict = "truncated"
    elif answer.ended_by == "seconds" and not answer.answer.strip():
        verdict = "timeout"
    usage, times = answer.usage, answer.times
    return replace(
        record,
        verdict=verdict,
        scores=scores,
        prediction=answer.answer,
        usage=Tokens(usage.prompt_tokens, usage.completion_tokens, usage.calls, answer.sub_calls),
        iterations=answer.iterations,
        ended_by=answer.ended_by,
        time=Seconds(
            wall=answer.wall,
            model=times.wall,
            queue=times.queue,
            prefill=times.prefill,
            decode=times.decode,
            sandbox=answer.sandbox_seconds,
        ),
        trace=records.write_trace(settings.run, record.key, answer.trajectory.to_dict()),
    )


def _verdict_of(error: Exception) -> Verdict:
    if isinstance(error, PromptTooLong):
        return "truncated"
    spent = isinstance(error, BudgetExceeded) and error.resource == "seconds"
    return "timeout" if spent or isinstance(error, CallTimeout) else "error"


def _key(record: Record, doc: Doc, model: Model) -> str:
    """Hash of everything that could change the result."""
    return records.digest(
        {
            "suite": SUITE_VERSION,
            "package": _version("rlm-bench"),
            **{name: getattr(record, name) for name in records.COORDINATES},
            "doc": asdict(doc),
            "model": {k: v for k, v in asdict(model).items() if k != "spec"},
            "sampling": {
                "root": asdict(ROOT_OPTIONS),
                "sub": asdict(SUB_OPTIONS),
                "vanilla": asdict(VANILLA_OPTIONS),
            },
            "policy": asdict(Policy()),
            "limits": record.limits,
        }
    )


def _limits() -> dict[str, Any]:
    loop = {"cell_seconds": CELL_SECONDS, "max_iterations": MAX_ITERATIONS}
    return loop | {"sandbox": asdict(SandboxLimits())}


def _prompt_name(architecture: str, asked: Prompt, info: ModelInfo) -> str:
    """Which system prompt it is (see `rlm.loop.RLM`)."""
    if architecture == "vanilla":
        return "vanilla"
    if asked != "auto":
        return asked
    return "compact" if info.spec.startswith("embedded") else "full"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git() -> str:
    """The commit of this code, ``-dirty`` if it was changed since; empty outside a checkout."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
