"""What a comparison will take: its runs, their tokens, and the time of a few real steps."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from training.compare import lots
from training.compare.arms import ARMS, Design
from training.compare.bench import Exam
from training.compare.place import duration
from training.compare.runs import Run, line
from training.samples import Sample
from training.sft import settings_of
from training.trainer import Settings, Trainer

STEPS = 3
"""Taken of each arm to see how long one takes, after a first one that is not counted."""


def validate_every(train: int, settings: Settings, validations: int) -> int:
    """Steps between validations."""
    return max(1, math.ceil(_steps(train, settings) / validations))


def told(design: Design, exam: Exam, rows: Sequence[Sample], args: argparse.Namespace) -> str:
    """The plan in lines; takes a few steps of each arm in a folder that is gone afterwards."""
    train, _, reported = lots.divide(rows, args.select, args.report)
    settings = settings_of([*design.options, "--samples", "-", "--out", "-"])
    steps = _steps(len(train), settings)
    per_run = round(sum(len(s.ids) for s in train) / len(train) * steps * settings.accumulation)
    least = sum(len(design.rates[arm]) for arm in ARMS) * design.grid_seeds
    most = least + len(ARMS) * design.grid_seeds * design.extensions
    final = len(ARMS) * design.seeds
    seconds = _seconds(design, rows, args, steps, per_run, len(reported))
    low, high = least + final, most + final
    took = [duration(count * seconds / args.jobs) for count in (low, high)]
    asked = len(ARMS) * (1 if exam.adapters == "best" else design.seeds) + 1 + exam.quantised
    lines = [
        f"grid: {least} runs, up to {most} if the best rates are on an edge",
        f"seeds: {final} runs, {', '.join(map(str, design.fresh))} of each arm",
        f"a run: {steps} steps, about {per_run:,} tokens, {duration(seconds)} by {STEPS} steps",
        f"all: {low} to {high} runs, {low * per_run:,} to {high * per_run:,} tokens, {took[0]} to "
        f"{took[1]}",
    ]
    if exam.options:
        lines.append(
            f"benchmark: {asked} models, not in these times: pytest benchmarks --rlm-plan with "
            "the options of --eval tells its cells"
        )
    return "\n".join(lines)


def _seconds(
    design: Design,
    rows: Sequence[Sample],
    args: argparse.Namespace,
    steps: int,
    per_run: int,
    held: int,
) -> float:
    """Of one run, mean of the arms; by tokens, as the first samples may be short ones."""
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for arm in ARMS:
            run = Run(arm, design.rates[arm][0], 0)
            lot = lots.Lot(args.samples, args.report, (), ())
            out = Path(folder) / arm
            trainer = Trainer(out, settings_of(line(run, lot, out, design.options)), rows)
            trainer.step()
            before, started = trainer.progress.tokens, time.monotonic()
            for _ in range(min(STEPS, steps - 1)):
                trainer.step()
            took = time.monotonic() - started
            total += took / max(trainer.progress.tokens - before, 1) * per_run
            some = trainer.held[: max(1, held // 10)]
            trainer.held, started = some, time.monotonic()
            trainer.evaluate()
            validation = (time.monotonic() - started) * held / len(some)
            total += validation * (args.validations + 1)
    return total / len(ARMS)


def _steps(train: int, settings: Settings) -> int:
    return math.ceil(train * settings.epochs / settings.accumulation)
