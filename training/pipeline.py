"""The whole circle, by the commands a person runs: train both arms, merge, evaluate, compare.

It starts from trajectories that are kept, and collects a few fresh ones as a check that this still
works. ``pytest -m training`` runs it in full, a test in tests/training/ with few steps and cells.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rlm.bench import records
from rlm.bench.pairs import between_runs
from rlm.bench.records import FAILED, Record
from rlm.bench.report import compare
from rlm.bench.statistics import wilson

ROOT: Final = Path(__file__).parent.parent
KEPT: Final = ROOT / "training" / "kept" / "base500.jsonl.gz"
"""Samples of ``embedded/base``, made by `training.samples` from about 500 good trajectories."""
BASE_FILE: Final = ROOT / "rlm" / "models" / "nano" / "embedded-base.gguf"
RATES: Final = {"adamw": 0.002, "muon": 0.005}
"""The arms, each at the learning rate that `training.compare` found best on ``embedded/base``."""
SAME: Final = ("initial_adapter", "samples", "validation", "order", "base")
"""Hashes in ``result.json`` that show that two arms are matched."""
COLLECT: Final = (
    *("--rlm-split=train", "--rlm-temperature=0.7", "--rlm-arch=rlm"),
    *("--rlm-tasks=long_doc_qa", "--rlm-lengths=1k"),
)
WIDTH: Final = 100


class PipelineError(Exception):
    """A command of the circle failed."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done.

    Attributes:
        fresh: trajectories to collect as a check.
        steps: of both arms.
        lengths: of the documents to evaluate on, such as ``1k,4k``.
        depths: where their evidence stands, in percent.
        documents: to evaluate on, for each length and depth.
    """

    fresh: int
    steps: int
    lengths: str
    depths: str
    documents: int


FULL: Final = Sizes(fresh=40, steps=200, lengths="1k,4k", depths="10,50,90", documents=10)
"""Eight minutes on two cores beside other work."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One optimizer's run: its ``result.json``, losses of all steps, ``merge.json``."""

    result: dict[str, Any]
    losses: tuple[float, ...]
    merged: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out.

    Attributes:
        fresh: what `training.samples` told about the fresh trajectories.
        arms: by name of the optimizer.
        cells: records of ``base`` and of each arm, on the same cells.
    """

    fresh: str
    arms: dict[str, Arm]
    cells: dict[str, list[Record]]


def circle(out: Path, sizes: Sizes, model: Path | None = None, kept: Path = KEPT) -> Outcome:
    """Run the whole circle.

    Args:
        out: folder for all that is made.
        sizes: how much is done.
        model: Hugging Face folder; ``None`` is ``embedded/base``.
        kept: samples to train on, of `training.samples`.

    Raises:
        PipelineError: a command failed; holds what it printed.
        SamplesError: `kept` holds no samples, or they are not of ``embedded/base`` where `model`
            is ``None``.
    """
    epochs, is_given = _epochs(kept, sizes.steps), model is not None
    spec = f"hf/{model}" if model else "embedded/base"
    if model is None:
        _refuse_other_samples(kept)
        model = out / "base_model"
        _command("training.restore", BASE_FILE, model)
    fresh = _collect(out, spec, sizes.fresh)
    shared = ("--model", model, "--samples", kept, "--epochs", epochs)
    _side_by_side(
        ("training.sft", *shared, "--out", out / arm, "--optimizer", arm, "--lr", rate)
        for arm, rate in RATES.items()
    )
    _side_by_side(
        ("training.merge", model, out / arm / "adapter", out / f"{arm}_merged") for arm in RATES
    )
    kind = "hf" if is_given else "gguf"
    specs = {"base": spec, **{arm: _spec_of(kind, out / f"{arm}_merged") for arm in RATES}}
    cells = _ask(out / "cells", specs, sizes, as_embedded=not is_given)
    return Outcome(fresh, {arm: _arm(out, arm) for arm in RATES}, cells)


def faults(outcome: Outcome) -> list[str]:
    """What must hold whatever the accuracy, and does not."""
    found = [
        f"{name} of the arms differ"
        for name in SAME
        if len({arm.result[name] for arm in outcome.arms.values()}) > 1
    ]
    for name, arm in outcome.arms.items():
        found += [f"{name}: {fault}" for fault in _faults_of(arm)]
    keys = {name: sorted(map(_cell, cells)) for name, cells in outcome.cells.items()}
    found += [f"{name}: other cells than base" for name in keys if keys[name] != keys["base"]]
    asked = {name: _asked_with(cells) for name, cells in outcome.cells.items()}
    found += [
        f"{name}: asked with {asked[name]}, base with {asked['base']}"
        for name in asked
        if asked[name] != asked["base"]
    ]
    for name, cells in outcome.cells.items():
        failed = [f"{name}: {r.verdict} in {r.key[:12]}" for r in cells if r.verdict in FAILED]
        found += failed if cells else [f"{name}: no cell ran"]
    return found


def _faults_of(arm: Arm) -> Iterator[str]:
    if not arm.losses or not all(math.isfinite(loss) for loss in arm.losses):
        yield f"losses {arm.losses}"
    first, last = (arm.result["evaluations"][i]["loss"] for i in (0, -1))
    if not last < first:
        yield f"the validation's loss went from {first} to {last}"
    told = arm.merged
    if not told["difference"] <= told["bound"] * told["largest"]:
        yield f"the merged model's logits differ by {told['difference']}"
    if not told["effect"] > told["bound"] * told["largest"]:
        yield f"the adapter moves no logit by more than {told['effect']}"


def told(outcome: Outcome) -> str:
    """The arms beside each other, and the base, in lines."""
    parts = [outcome.fresh.rstrip(), _table(outcome)]
    for before, after in (("base", "adamw"), ("base", "muon"), ("adamw", "muon")):
        found = between_runs(outcome.cells[before], outcome.cells[after])
        parts.append(compare.render(found, width=WIDTH, color=False))
    return "\n\n".join(parts)


def _table(outcome: Outcome) -> str:
    lines = [
        f"{'':8}{'steps':>6}{'tokens':>9}{'s':>7}{'|dW|':>8}  {'validation loss':16} "
        f"{'replies right':>15}  cells right [95 %]"
    ]
    for name, cells in outcome.cells.items():
        right = sum(record.verdict == "correct" for record in cells)
        low, high = wilson(right, len(cells))
        share = f"{right}/{len(cells)} [{low:.2f}, {high:.2f}]"
        row = _learned(outcome.arms[name].result) if name in outcome.arms else " " * 64
        lines.append(f"{name:8}{row}  {share}")
    return "\n".join(lines)


def _learned(result: dict[str, Any]) -> str:
    first, last = result["evaluations"][0], result["evaluations"][-1]
    replies = f"{first['right']:.0%} to {last['right']:.0%}"
    return (
        f"{result['steps']:6}{result['tokens']:9,}{result['seconds']:7.0f}{result['delta']:8.3f}  "
        f"{first['loss']:.4f} to {last['loss']:.4f} {replies:>15}"
    )


def _collect(out: Path, spec: str, count: int) -> str:
    """Collect fresh trajectories, at one place in their documents, and tell how many are kept."""
    run = out / "fresh"
    draws = (*COLLECT, "--rlm-depths=50", f"--rlm-samples={count}")
    _command(*_pytest("long_doc_qa"), *draws, f"--rlm-model={spec}", f"--rlm-run={run}")
    return _command("training.samples", run, "-o", out / "fresh.jsonl.gz")


def _epochs(kept: Path, steps: int) -> float:
    """How often the samples are seen in so many steps."""
    from training import samples
    from training.trainer import Settings, split

    own = Settings("")
    train, _ = split(samples.read(kept)[1], own.validation)
    return math.nextafter(steps * own.accumulation / len(train), 0)


def _refuse_other_samples(kept: Path) -> None:
    """Refuse token ids that another base than the shipped one wrote.

    Raises:
        SamplesError: says whose they are.
    """
    from training import samples

    header, _ = samples.read(kept)
    own = f"sha256:{hashlib.sha256(BASE_FILE.read_bytes()).hexdigest()}"
    if not header.tokenizer and header.models != (own,):
        raise samples.SamplesError(
            f"{kept} was written by {', '.join(header.models) or 'an unknown model'}, but "
            f"embedded/base is {own}: collect with --rlm-model embedded/base, or give the model "
            "that wrote it with --rlm-train-model"
        )


def _pytest(module: str) -> tuple[str, ...]:
    quick = ("-q", "-pno:cacheprovider", "-pno:hypothesispytest", "-pno:benchmark")
    return ("pytest", f"benchmarks/test_{module}.py", *quick, f"--rlm-tasks={module}")


def _spec_of(kind: str, merged: Path) -> str:
    """How the benchmark opens what `training.merge` wrote: by the engine that the base has."""
    return f"gguf/{merged / 'merged.gguf'}" if kind == "gguf" else f"hf/{merged}"


def _ask(
    out: Path, specs: dict[str, str], sizes: Sizes, *, as_embedded: bool
) -> dict[str, list[Record]]:
    """The same cells of each model, with the prompt and window of an embedded base or its own."""
    from training.compare.bench import EMBEDDED

    grid = (f"--rlm-lengths={sizes.lengths}", f"--rlm-depths={sizes.depths}")
    cells = (*_pytest("long_doc_qa"), "--rlm-arch=rlm", *grid, f"--rlm-samples={sizes.documents}")
    if as_embedded:
        cells += tuple(f"{name}={value}" for name, value in EMBEDDED.items())
    _side_by_side(
        (*cells, f"--rlm-model={spec}", f"--rlm-run={out / name}") for name, spec in specs.items()
    )
    return {name: records.load(out / name) for name in specs}


def _arm(out: Path, name: str) -> Arm:
    lines = (out / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Arm(
        json.loads((out / name / "result.json").read_text(encoding="utf-8")),
        tuple(row["loss"] for row in rows if "loss" in row),
        json.loads((out / f"{name}_merged" / "merge.json").read_text(encoding="utf-8")),
    )


def _cell(record: Record) -> str:
    told = (record.task, record.length, record.depth, record.sample, record.seed)
    return f"{told} {record.doc and record.doc.sha256}"


def _asked_with(cells: Sequence[Record]) -> set[tuple[str, str, int | None, str]]:
    """Prompt, its texts, window and engine; a cell whose model failed does not know them."""
    models = [cell.model for cell in cells if cell.verdict not in FAILED]
    return {(model.prompt, model.prompt_sha256, model.window, model.server) for model in models}


def _side_by_side(commands: Iterator[Sequence[object]]) -> None:
    """Two at a time: each is a process of one thread."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda command: _command(*command), commands))


def _command(module: str, *args: object) -> str:
    """Run ``python -m module args``; what it printed.

    Raises:
        PipelineError: it did not end well.
    """
    line = [sys.executable, "-m", module, *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        printed = done.stdout + done.stderr
        raise PipelineError(f"{' '.join(line)} ended with {done.returncode}:\n{printed}")
    return done.stdout
