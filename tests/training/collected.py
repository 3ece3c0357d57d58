"""A small real run of the train split, for whoever needs trajectories."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rlm.bench import records
from rlm.bench.records import Record, Store
from rlm.trajectory import Trajectory

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "rlm" / "models" / "nano" / "embedded-base.gguf"

Change = Callable[[Record, Trajectory], tuple[Record, Trajectory]]


def collect(run: Path, *args: str) -> None:
    """Three documents of 1k tokens, two draws each, by ``embedded/base``."""
    grid = ("--rlm-tasks=long_doc_qa", "--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=3")
    draws = ("--rlm-draws=2", "--rlm-temperature=0.7", "--rlm-split=train", "--rlm-arch=rlm")
    quick = ("-pno:cacheprovider", "-pno:hypothesispytest", "-pno:benchmark", "-q")
    command = [sys.executable, "-m", "pytest", "benchmarks", *quick]
    done = subprocess.run(
        [*command, "--rlm-model=embedded/base", *grid, *draws, f"--rlm-run={run}", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def trajectory(run: Path, record: Record) -> Trajectory:
    assert record.trace is not None
    return Trajectory.from_dict(json.loads((run / record.trace.path).read_text()))


def edited(run: Path, target: Path, *changes: Change) -> Path:
    """A run whose cells are the first correct one of `run`, each with its change."""
    first = next(r for r in records.load(run) if r.verdict == "correct")
    store = Store(target)
    for number, change in enumerate(changes):
        record, told = change(replace(first, key=f"{number:064x}"), trajectory(run, first))
        trace = records.write_trace(target, record.key, told.to_dict())
        store.append(replace(record, trace=trace))
    store.close()
    return target
