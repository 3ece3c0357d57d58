"""The benchmark, asked of the base and of each adapter: merged, exported, served by one engine."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

from rlm.bench import records
from rlm.bench.records import COORDINATES, FAILED, Record
from rlm.clients import EMBEDDED_WINDOW
from training.compare.arms import ARMS, Arms
from training.compare.lots import CompareError
from training.compare.place import Place, Progress, last_words
from training.compare.runs import Outcome
from training.lora import Adapter, add_adapter, open_base
from training.merge import FACTS, MERGED, Onto, hashes_of
from training.samples import Sample
from training.trainer import ADAPTER

Adapters = Literal["best", "all"]
OPTIONS: Final = "--rlm-arch rlm --rlm-lengths 4k,32k,128k --rlm-samples 12"
OURS: Final = ("--rlm-model", "--rlm-run", "--rlm-split", "--rlm-plan", "--rlm-replay")
BASE, NF4 = "base", "base-nf4"
ZERO: Final = "zero-adapter"
EMBEDDED: Final = {"--rlm-prompt": "compact", "--rlm-num-ctx": str(EMBEDDED_WINDOW)}
"""What an embedded base is asked with by default, and a GGUF merged from it is not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is asked.

    Attributes:
        name: ``base``, ``base-nf4`` or that of the run.
        arm: ``adamw`` or ``muon``; a base has its name.
        seed: ``None`` of a base.
        spec: as ``--rlm-model`` takes it.
        adapter: sha256 of what was merged; empty of a base as it is shipped.
    """

    name: str
    arm: str
    seed: int | None
    spec: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model and its cells."""

    subject: Subject
    cells: tuple[Record, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Exam:
    """What is asked, and of whom.

    Attributes:
        options: of ``pytest benchmarks``.
        adapters: ``best`` takes of each arm the seed of the lowest validation loss.
        shipped: specification of the base as it is shipped; empty for a GGUF made of `model`.
        model: Hugging Face folder that was trained.
        quantised: whether that was done in NF4.
    """

    options: tuple[str, ...]
    adapters: Adapters
    shipped: str
    model: Path
    quantised: bool

    @property
    def all_options(self) -> tuple[str, ...]:
        """With the prompt and window of an embedded base, which its adapters would not have."""
        if not self.shipped.startswith("embedded"):
            return self.options
        given = {option.partition("=")[0] for option in self.options}
        more = (pair for pair in EMBEDDED.items() if pair[0] not in given)
        return (*self.options, *chain.from_iterable(more))

    @property
    def name(self) -> str:
        """Of its folder: other options are another exam."""
        text = shlex.join([*self.all_options, self.shipped])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def exam_options(text: str) -> tuple[str, ...]:
    """The options that a person wrote in one string.

    Raises:
        CompareError: one of them is given here, or a quote does not end.
    """
    options = split_options("--eval", text)
    for option in options:
        if option.partition("=")[0] in OURS:
            raise CompareError(f"--eval cannot have {option}: the comparison sets or needs that")
    return options


def split_options(name: str, text: str) -> tuple[str, ...]:
    """Words of the option `name`, as a shell finds them.

    Raises:
        CompareError: a quote does not end.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise CompareError(f"{name} {text!r} is no list of options: {error}") from error


def examine(exam: Exam, arms: Arms, place: Place, progress: Progress) -> list[Asked]:
    """Merge what is to be asked, and ask.

    Raises:
        CompareError: a merge or a run failed, or two runs were not asked the same.
    """
    chosen = _chosen(arms, exam.adapters)
    bases = [name for name in (BASE, NF4) if exam.quantised or name == BASE]
    progress.begin("eval", len(bases) + len(chosen))
    folder = place.out / "eval" / exam.name
    folder.mkdir(parents=True, exist_ok=True)
    told = shlex.join(exam.all_options) + "\n"
    (folder / "options.txt").write_text(told, encoding="utf-8")
    _write_zero(exam.model, place.out / ZERO)
    made = [partial(_base, name, exam, place) for name in bases]
    made += [partial(_tuned, outcome, exam, place) for outcome in chosen]
    tasks = [partial(_ask, subject, exam, folder, place) for subject in made]
    found = place.each([progress.timed(task, _told) for task in tasks])
    require_same_questions(found)
    return found


def require_same_questions(asked: Sequence[Asked]) -> None:
    """Refuse runs of other cells, prompts or windows than the first has, and one of two models.

    Raises:
        CompareError: says which differ, and in what.
    """
    for each in asked:
        if len({r.model.digest for r in _measured(each)}) > 1:
            raise CompareError(f"{each.folder} holds the answers of two models: delete it")
    facts: dict[str, Callable[[Asked], object]] = {
        "cells": lambda a: {tuple(getattr(r, name) for name in COORDINATES) for r in a.cells},
        "prompt": lambda a: {(r.model.prompt, r.model.prompt_sha256) for r in _measured(a)},
        "window": lambda a: {r.model.window for r in _measured(a)},
    }
    for other in asked[1:]:
        for name, fact in facts.items():
            if fact(other) != fact(asked[0]):
                seen = f": {fact(asked[0])} and {fact(other)}" if name != "cells" else ""
                raise CompareError(
                    f"{asked[0].folder} and {other.folder} have other {name}s{seen}; set "
                    "--rlm-prompt and --rlm-num-ctx in --eval, and delete the two"
                )


def _measured(asked: Asked) -> list[Record]:
    """A cell whose model could not be asked does not know its window."""
    return [cell for cell in asked.cells if cell.verdict not in FAILED]


def require_unseen(asked: Sequence[Asked], trained: Sequence[Sample]) -> None:
    """Refuse cells whose document was trained on.

    Raises:
        CompareError: names one.
    """
    known = {sample.document for sample in trained}
    for each in asked:
        for cell in each.cells:
            if cell.doc is not None and cell.doc.sha256 in known:
                raise CompareError(f"cell {cell.key[:12]} of {each.folder} was trained on")


def _chosen(arms: Arms, adapters: Adapters) -> list[Outcome]:
    converged = {arm: [o for o in arms.seeds[arm] if not o.diverged] for arm in ARMS}
    if adapters == "best":
        return [min(found, key=lambda o: o.loss) for found in converged.values() if found]
    return [outcome for found in converged.values() for outcome in found]


def _write_zero(model: Path, out: Path) -> None:
    """An adapter as it begins, whose second half is zero: merged, it changes no weight."""
    if not out.exists():
        partial = out.with_name(f"{out.name}.part")
        fresh = add_adapter(open_base(model, "none"), Adapter(rank=1), 0)
        fresh.save_pretrained(partial)
        partial.replace(out)


def _base(name: str, exam: Exam, place: Place) -> Subject:
    if name == BASE and exam.shipped:
        return Subject(name, name, None, exam.shipped)
    onto: Onto = "original" if name == BASE else "dequantised"
    return Subject(name, name, None, *_merged(name, place.out / ZERO, onto, exam, place))


def _tuned(outcome: Outcome, exam: Exam, place: Place) -> Subject:
    onto: Onto = "dequantised" if exam.quantised else "original"
    run = outcome.run
    merged = _merged(run.name, outcome.folder / ADAPTER, onto, exam, place)
    return Subject(run.name, run.arm, run.seed, *merged)


def _merged(name: str, adapter: Path, onto: Onto, exam: Exam, place: Place) -> tuple[str, str]:
    """Merge unless it is done; what to call it, by its GGUF where there is one, and its adapter."""
    out, hashes = place.out / "merged" / name, hashes_of(adapter)
    out.parent.mkdir(exist_ok=True)
    if out.exists() and _facts_of(out).get("adapter") != hashes:  # it was trained anew
        shutil.rmtree(out)
    if not out.exists():
        said = out.with_name(f"{name}.txt")
        arguments = ["training.merge", str(exam.model), str(adapter), str(out), "--onto", onto]
        if code := place.process(arguments, said):
            raise CompareError(f"merging {adapter} ended with {code}: {last_words(said)}")
    spec = f"gguf/{out / MERGED}" if (out / MERGED).exists() else f"hf/{out}"
    return spec, hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _facts_of(merged: Path) -> dict[str, Any]:
    return dict(json.loads((merged / FACTS).read_text(encoding="utf-8")))


def _ask(made: Callable[[], Subject], exam: Exam, folder: Path, place: Place) -> Asked:
    """Run the cells, or go on, or read what is done; the marker says that all were run."""
    subject = made()
    run, marker = folder / subject.name, folder / f"{subject.name}.done.json"
    if not _was_asked(run, marker, subject):
        said = folder / f"{subject.name}.txt"
        arguments = ["pytest", "benchmarks", "-q", "-pno:cacheprovider", *exam.all_options]
        code = place.process([*arguments, "--rlm-model", subject.spec, "--rlm-run", str(run)], said)
        if code not in (0, 1):  # 1: a cell could not be measured, which its verdict says
            raise CompareError(f"asking {subject.name} ended with {code}: {last_words(said)}")
        told = {"spec": subject.spec, "adapter": subject.adapter, "code": code}
        marker.write_text(json.dumps(told) + "\n", encoding="utf-8")
    return Asked(subject, tuple(records.load(run)), run)


def _was_asked(run: Path, marker: Path, subject: Subject) -> bool:
    """Whether all cells are there; those of another adapter are deleted.

    An older marker names no adapter, and is taken as it is.
    """
    if not marker.exists():
        return False
    told = json.loads(marker.read_text(encoding="utf-8"))
    if told.get("adapter", subject.adapter) != subject.adapter:
        shutil.rmtree(run, ignore_errors=True)
        marker.unlink()
    return run.exists()


def _told(asked: Asked) -> str:
    right = sum(cell.verdict == "correct" for cell in asked.cells)
    return f"{asked.subject.name}: {right} of {len(asked.cells)} correct"
